"""What tests of the ledger share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a ledger is whose event loop always writes itself, notes from its second call on, and posts when asked."""
    settings = {"_writer._SLOW_S": 60.0, "_writer._OFTEN": 1, "_writing_thread._POST_S": 3600.0}
    for name, value in settings.items():
        monkeypatch.setattr(f"ownward.ledger.{name}", value)
    return tmp_path / "ledger.db"
