"""From torch to Warp and back: programs of launches, their gradients, threads.

Whatever of this project launches kernels imports this room, which starts Warp.
"""

from warp_envs.bridge.start import start_warp

start_warp()
