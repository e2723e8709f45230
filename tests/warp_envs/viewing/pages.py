"""Reading a page back: what its script is given."""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Page(NamedTuple):
    """The rollouts of a page as its script finds them, and the block of their numbers."""

    text: str
    rollouts: list[dict[str, Any]]
    numbers: np.ndarray

    def block(self, place: dict[str, int], *shape: int) -> np.ndarray:
        """The numbers at a place."""
        return self.numbers[place["at"] : place["at"] + place["count"]].reshape(shape)


def read_page(path: Path) -> Page:
    """A page's data; JSON that a browser would not read is an AssertionError."""

    def refuse(word):
        raise AssertionError(f"{word} in JSON")

    text = path.read_text(encoding="utf-8")
    rollouts = re.search(r'id="rollouts">(.*?)</script>', text, re.DOTALL)
    packed = re.search(r'id="numbers">(.*?)</script>', text, re.DOTALL)
    assert rollouts is not None and packed is not None
    numbers = np.frombuffer(gzip.decompress(base64.b64decode(packed[1])), dtype="<f4")
    return Page(text, json.loads(rollouts[1], parse_constant=refuse), numbers)
