# usd-core ships no types: without this, pyright takes its modules for empty ones.
from typing import Any

def __getattr__(name: str) -> Any: ...
