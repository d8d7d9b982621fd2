"""``python -m psvit`` is the command ``psvit``."""

from __future__ import annotations

import sys

from psvit.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
