"""Print the lowest versions of its dependencies that pyproject admits, as pip takes them.

torch and Warp are left as the environment has them: torch is gigabytes, and with another Warp every
kernel is built anew. With `warp` as its argument Warp's is printed, too.
"""

import re
import sys
from pathlib import Path

try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
left = {"torch"} if "warp" in sys.argv[1:] else {"torch", "warp-lang"}

for requirement in project["dependencies"]:
    found = re.match(r"([\w-]+)>=([\w.]+)", requirement)
    if found is None:
        sys.exit(f"pyproject.toml: {requirement!r} has no lower bound to begin with")
    if found[1] not in left:
        print(f"{found[1]}=={found[2]}")
