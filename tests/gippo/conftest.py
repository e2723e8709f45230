import torch

torch.set_num_threads(1)  # the networks here are small: a second thread only waits and spins
