"""``python -m tests.simulation``: see `command`, which is a module of its own so that its processes can import it."""

from __future__ import annotations

import sys

from tests.simulation.command import main

if __name__ == "__main__":
    sys.exit(main())
