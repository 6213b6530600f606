"""`ownward serve` does not start with a way that cannot be gone, or with no ledger, and says which it is."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time

import pytest

PLAN = """\
schema = "ownward.plan/1"
name = "test"

[tiers.api]
kind = "rented"
model = "m"
region = "eu"

[[tiers.api.upstreams]]
name = "a"
url = "https://llm.example"
WAY

[workloads.chat]
label = "eu"
strategy = { kind = "direct", tiers = ["api"] }
"""


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ('ca_file = "/nowhere/ca.pem"', "/nowhere/ca.pem: ca_file cannot be used: No such file"),
        ('client_cert_file = "/nowhere/me.pem"', "/nowhere/me.pem: client_cert_file cannot be used"),
        ('proxy_url_env = "NO_SUCH_PROXY_URL"', "NO_SUCH_PROXY_URL is not set"),
        ('proxy_url = "http://me:hunter2@proxy.example"', "proxy_url has credentials in it"),
    ],
)
def test_a_way_that_cannot_be_gone_ends_serve_before_it_listens(tmp_path, way, told):
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN.replace("WAY", way))
    command = [sys.executable, "-m", "ownward", "serve", "--plan", str(plan), "--ledger", str(tmp_path / "l.db")]
    environ = {key: value for key, value in os.environ.items() if key != "NO_SUCH_PROXY_URL"}
    ended = subprocess.run(
        [*command, "--port", "0"], capture_output=True, text=True, timeout=60, check=False, env=environ
    )
    assert ended.returncode == 2
    assert told in ended.stderr
    assert "hunter2" not in ended.stderr + ended.stdout


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("postgresql://me:hunter2@127.0.0.1:1/books", "postgresql://127.0.0.1:1/books: cannot open the ledger"),
        ("me:hunter2@127.0.0.1/books", "OWNWARD_TEST_DSN does not hold the address of a database"),
        ("host=127.0.0.1 password=hunter2", "the ledger is named by keywords and values"),
    ],
)
def test_the_ledger_of_a_named_config_is_used_and_no_other(tmp_path, address, told):
    pytest.importorskip("psycopg")
    plan, config = tmp_path / "plan.toml", tmp_path / "other.toml"
    plan.write_text(PLAN.replace("WAY", ""))
    config.write_text('[ledger]\npostgres_dsn_env = "OWNWARD_TEST_DSN"\n')
    ended = subprocess.run(
        [sys.executable, "-m", "ownward", "serve", "--plan", str(plan), "--config", str(config), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "OWNWARD_TEST_DSN": address, "XDG_DATA_HOME": str(tmp_path / "data")},
    )
    assert ended.returncode != 0
    assert told in ended.stderr
    assert "hunter2" not in ended.stderr + ended.stdout
    assert not list(tmp_path.rglob("*.db"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_a_folder_that_is_made_for_a_ledger_is_its_users_alone(tmp_path):
    """Bodies may be kept in it, and most systems let others read what is made."""
    there = tmp_path / "there"
    there.mkdir(mode=0o755)
    for folder, mode in ((tmp_path / "data" / "ownward", 0o700), (there, 0o755)):
        command = ["keys", "create", "ben", "--ledger", str(folder / "ledger.db")]
        subprocess.run([sys.executable, "-m", "ownward", *command], check=True, capture_output=True, umask=0o022)
        assert stat.S_IMODE(folder.stat().st_mode) == mode


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize(("workers", "least"), [(1, 32), (4, 48)])
def test_with_the_fewest_descriptors_serve_starts_and_with_fewer_it_says_how_many_it_takes(tmp_path, workers, least):
    (tmp_path / "plan.toml").write_text(PLAN.replace("WAY", ""))
    flags = ["--plan", "plan.toml", "--ledger", "l.db", "--port", "0", "--ready-file", "r.json"]
    for most in (least - 1, least):
        few = f"import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, ({most}, {most}));"
        few += " runpy.run_module('ownward', run_name='__main__')"
        process = subprocess.Popen(
            [sys.executable, "-c", few, "serve", *flags, "--workers", str(workers)],
            cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            for _ in range(400):
                if (tmp_path / "r.json").exists() or process.poll() is not None:
                    break
                time.sleep(0.05)
            if most < least:
                assert process.returncode == 2
            else:
                assert (tmp_path / "r.json").exists()
        finally:
            process.terminate()
            _, said = process.communicate(timeout=30)
        assert "Traceback" not in said
        assert (f"may have {most} file descriptors, and a gateway of" in said) == (most < least)


def test_a_gateway_that_cannot_start_leaves_no_ready_file_of_another(tmp_path):
    ready = tmp_path / "r.json"
    ready.write_text('{"base_url": "http://127.0.0.1:1"}')
    command = ["serve", "--plan", "none.toml", "--ledger", "l.db", "--port", "0", "--ready-file", "r.json"]
    ended = subprocess.run(
        [sys.executable, "-m", "ownward", *command], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert "none.toml" in ended.stderr
    assert not ready.exists()
