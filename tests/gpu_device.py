"""The device of the tests that need a GPU: GIPPO_GPU, by default the first.

GIPPO_GPU=cpu runs what is written in them on a CPU, which tries the tests, not the GPU.
"""

import os

import pytest

DEVICE = os.environ.get("GIPPO_GPU", "cuda:0")
on_a_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="asks a GPU")
