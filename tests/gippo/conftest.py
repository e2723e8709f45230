import signal

import torch

torch.set_num_threads(1)  # the networks here are small: a second thread only waits and spins
# A shell that starts the tests in the background has them, and what they start, pass over Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
