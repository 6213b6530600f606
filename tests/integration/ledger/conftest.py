"""A real PostgreSQL server for the session, and an empty ledger target of either kind for a test."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SERVER_SETTINGS = ("listen_addresses=", "max_connections=60", "fsync=off")
STRICT_SKIPS = bool(os.environ.get("OWNWARD_REQUIRE_POSTGRES"))


def _folder_of_binaries() -> Path | None:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    for folder in versions:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).parent if found and shutil.which("postgres") else None


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a server's maintenance database, reached through a socket in a temporary folder."""
    binaries = _folder_of_binaries()
    if binaries is None:
        message = "no PostgreSQL server is installed (initdb and postgres, in PATH or /usr/lib/postgresql)"
        if STRICT_SKIPS:
            pytest.fail(message)
        pytest.skip(message)
    user = _unprivileged_user()
    home = Path(tempfile.mkdtemp(prefix="owpg"))
    process: subprocess.Popen[bytes] | None = None
    try:
        if user is not None:
            shutil.chown(home, user)
        home.chmod(0o700 if user is None else 0o711)
        data, log = home / "data", home / "log"
        environment = {"PATH": f"{binaries}:/usr/bin:/bin", "LC_ALL": "C", "HOME": str(home)}
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "owner", "-A", "trust", "--no-sync", "-E", "UTF8"],
            check=True,
            capture_output=True,
            user=user,
            env=environment,
            cwd="/",
        )
        with log.open("wb") as output:
            process = subprocess.Popen(
                [binaries / "postgres", "-D", data, "-k", home, *(f"-c{setting}" for setting in SERVER_SETTINGS)],
                stdout=output,
                stderr=subprocess.STDOUT,
                user=user,
                env=environment,
                cwd="/",
            )
        address = f"postgresql://owner@/postgres?host={home}"
        _wait_until_it_answers(address, process, log)
        yield address
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # fast shutdown
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _wait_until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    psycopg = pytest.importorskip("psycopg")
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(address, connect_timeout=2).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def new_postgres(postgres_server: str) -> Callable[[], str]:
    """Returns the address of a new, empty database each time it is called."""
    import psycopg

    def make() -> str:
        name = f"ledger_{secrets.token_hex(4)}"
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return postgres_server.replace("/postgres?", f"/{name}?")

    return make


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new ledger can be: a path, then a PostgreSQL address."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.db")
    make: Callable[[], str] = request.getfixturevalue("new_postgres")
    return make()
