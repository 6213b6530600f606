"""Fixtures that several kinds of tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STRICT_SKIPS = bool(os.environ.get("OWNWARD_REQUIRE_SHARED_DATA"))


@pytest.fixture(scope="session", autouse=True)
def _interrupts_are_heard() -> None:
    """Also where a script started the tests in the background: what is ignored stays so in processes they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The large data folder beside the repository; the test skips visibly where it is not there."""
    folder = ROOT.parent / "shared" / "data"
    if folder.is_dir():
        return folder
    if STRICT_SKIPS:
        pytest.fail(f"{folder} is missing and OWNWARD_REQUIRE_SHARED_DATA is set")
    pytest.skip(f"the large data is not beside this clone ({folder})")
