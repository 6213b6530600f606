"""`ownward serve` as a process of its own, in a folder that has its `plan.toml`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

_READY_S = 180.0


def start_serving(folder: Path, *flags: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start it on the folder's plan and `ledger.db`; return it with its base URL once it is ready.

    What it says is added to `gateway.log`. It has a port of its own unless `flags` state one.
    Raises: RuntimeError, with its log, if it does not become ready.
    """
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "ownward", "serve", "--plan", "plan.toml", "--ledger", "ledger.db"]
    command += ["--port", "0", "--ready-file", "ready.json", *flags]
    with (folder / "gateway.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        return process, wait_until_ready(ready, process, folder / "gateway.log")
    except RuntimeError:
        process.kill()
        process.wait()
        raise


def wait_until_ready(ready: Path, process: subprocess.Popen[bytes], log: Path | None = None) -> str:
    """Return the base URL that a gateway writes to `ready` once it accepts requests.

    Raises: RuntimeError, with what its `log` says, if it ends before that or takes too long.
    """
    deadline_s = time.monotonic() + _READY_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline_s:
            said = f"the gateway did not become ready (status {process.returncode})"
            raise RuntimeError(said if log is None else f"{said}: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.01)
    base_url: str = json.loads(ready.read_text(encoding="utf-8"))["base_url"]
    return base_url
