"""Fixtures of the environments' tests."""

import pytest

from tests.warp_envs.usd.usd_text import HEADER
from warp_envs.usd.loader import load_robot


@pytest.fixture
def load(tmp_path):
    """Write what stands inside the default prim (or a whole layer), then read it as a robot."""
    count = 0

    def load(inside, *, up="Z", metres=1, kilograms=1, outside="", whole=None):
        nonlocal count
        count += 1
        file = tmp_path / f"robot{count}.usda"
        text = HEADER.format(up=up, metres=metres, kilograms=kilograms)
        text += f'def Xform "robot"\n{{\n{inside}\n}}\n{outside}'
        file.write_text(text if whole is None else whole)
        return load_robot(file)

    return load
