"""A command line into one call, the result into text or JSON.

It does not compute: what it prints can be had from Python too.
"""

from ownward.cli._app import run

__all__ = ["run"]
