"""`python -m gippo` is `gippo`."""

import sys

from gippo.cli import main

if __name__ == "__main__":
    sys.exit(main())
