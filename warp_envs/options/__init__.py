"""What options of environments may be, told by the options alone: no torch, no Warp, no file.

Environments check by these when they are made, and `warp_envs.registry.check_options` before.
"""
