"""`python -m ownward` is the `ownward` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from ownward.cli import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while it is loaded; `run` has an answer of its own
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
