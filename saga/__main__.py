"""``python -m saga`` is the command line."""

from __future__ import annotations

from saga.cli import main

if __name__ == "__main__":
    main()
