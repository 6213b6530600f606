"""The gateways that are compared, each started as its documentation has it, on one core, in front of one upstream.

Each says what it does for a request, for they do not all do the same: only ours keeps a ledger here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import psutil
from benchmarks.light_client import Address, OneConnection

CHAT = "/v1/chat/completions"
READY_S = 180.0
_POLL_S = 0.005
_PROCESS_CPU_CLOCK = 2  # CPUCLOCK_SCHED, see clock_getcpuclockid(3)

_PLAN = """
schema = "ownward.plan/1"
name = "benchmark"
default_label = "any"

[tiers.metered]
kind = "rented"
model = "bench"
provider = "bench"
region = "eu"
max_context_tokens = 131072
max_output_tokens = 4096

[tiers.metered.price]
input_usd_per_mtok = "3"
output_usd_per_mtok = "15"
basis = "assumed"
source = "benchmark"
checked_on = 2026-11-21

[[tiers.metered.upstreams]]
name = "light"
url = "http://127.0.0.1:{upstream}"

[workloads.bench]
label = "any"
strategy = {{ kind = "direct", tiers = ["metered"] }}
"""

_NGINX = """
daemon off;
master_process on;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 15000; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream light {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://light;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 300s;
    }}
  }}
}}
"""

_LITELLM = """
model_list:
  - model_name: bench
    litellm_params: {{model: openai/bench, api_base: "http://127.0.0.1:{upstream}/v1", api_key: none}}
general_settings: {{master_key: sk-bench}}
litellm_settings: {{telemetry: false}}
"""

_TENSORZERO = """
[gateway]
observability.enabled = false
disable_pseudonymous_usage_analytics = true

[models.bench]
routing = ["light"]

[models.bench.providers.light]
type = "openai"
model_name = "bench"
api_base = "http://127.0.0.1:{upstream}/v1/"
api_key_location = "none"
"""

_TENSORZERO_HOST = """
import sys, tensorzero
gateway = tensorzero._start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False)
print("listening at", gateway.base_url, flush=True)
sys.stdin.read()
"""


@dataclass(slots=True, kw_only=True)
class Contender:
    """A server that answers, and what it takes; `process` is None for the upstream asked directly."""

    name: str
    version: str
    does: str
    address: Address
    process: subprocess.Popen[bytes] | None = None
    start_s: float | None = None
    folder: Path | None = None
    memory_at_start_bytes: int | None = field(default=None)

    def processes(self) -> list[psutil.Process]:
        """Return its process and all below it."""
        if self.process is None:
            return []
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def cpu_s(self) -> float:
        """Return the processor time that its processes have taken so far, kernel's part included, to the nanosecond.

        Linux gives each process a clock of its own; `/proc` counts in hundredths of a second.
        """
        return sum(time.clock_gettime(((~process.pid) << 3) | _PROCESS_CPU_CLOCK) for process in self.processes())

    def memory_bytes(self) -> int:
        """Return its resident memory; pages shared by its processes count once for each of them."""
        return sum(process.memory_info().rss for process in self.processes())

    def pause(self) -> None:
        """Hold it still while another is measured."""
        for process in self.processes():
            process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        for process in self.processes():
            process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it and all below it."""
        if self.process is None:
            return
        left = self.processes()
        self.go_on()
        self.process.terminate()
        _, alive = psutil.wait_procs(left, timeout=10)
        for process in alive:
            process.kill()
        self.process.wait()


def start_direct(upstream: int) -> Contender:
    """Return the upstream itself: the zero of every comparison."""
    return Contender(
        name="direct", version="", does="nothing", address=Address(port=upstream, path=CHAT, model="bench")
    )


def start_ownward(
    upstream: int, folder: Path, core: int | None, *, name: str = "ownward", settings: str = ""
) -> Contender:
    """Start `ownward serve` with a plan, a ledger and one key, as a user would; `settings` adds to its own."""
    (folder / "plan.toml").write_text(_PLAN.format(upstream=upstream))
    (folder / "ownward.toml").write_text(f"[gateway]\nrequires_keys = true\n{settings}")
    ready, ledger = folder / "ready.json", folder / "ledger.db"
    command = [sys.executable, "-m", "ownward"]
    created = subprocess.run(
        [*command, "keys", "create", "bench", "--ledger", ledger, "--json"], capture_output=True, text=True, check=True
    )
    secret = json.loads(created.stdout)["secret"]
    command += ["serve", "--plan", folder / "plan.toml", "--ledger", ledger, "--config", folder / "ownward.toml"]
    command += ["--port", "0", "--ready-file", ready]
    started = time.perf_counter()
    process = _launch(command, core, folder)
    _wait(ready.exists, process, folder)
    port = int(json.loads(ready.read_text())["base_url"].rpartition(":")[2])
    address = Address(port=port, path=CHAT, model="bench", headers={"authorization": f"Bearer {secret}"})
    return _started(
        Contender(
            name=name,
            version=version("ownward"),
            does="key check, policy, pricing, one committed intent and one settlement a request in SQLite",
            address=address,
            process=process,
            folder=folder,
        ),
        started,
    )


def start_nginx(upstream: int, folder: Path, core: int) -> Contender:
    """Start nginx as a pure proxy: no log, no buffering, connections kept."""
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        raise FileNotFoundError("nginx")
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
    port = _free_port()
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, upstream=upstream, port=port))
    started = time.perf_counter()
    process = _launch([program, "-c", folder / "nginx.conf", "-p", folder, "-e", folder / "error.log"], core, folder)
    _wait(lambda: _listens(port), process, folder)
    return _started(
        Contender(
            name="nginx",
            version=said.strip().rpartition("/")[2],
            does="passes bytes",
            address=Address(port=port, path=CHAT, model="bench"),
            process=process,
        ),
        started,
    )


def start_pipe(upstream: int, folder: Path, core: int) -> Contender:
    """Start what copies bytes on uvloop and does nothing else."""
    started = time.perf_counter()
    root = os.fspath(Path(__file__).parents[1])
    process = _launch(
        [sys.executable, "-m", "benchmarks.byte_pipe", upstream], core, folder, more_environment={"PYTHONPATH": root}
    )
    found: list[str] = []

    def is_up() -> bool:
        found[:] = re.findall(r"listening at (\d+)", (folder / "log.txt").read_text(errors="replace"))
        return bool(found)

    _wait(is_up, process, folder)
    return _started(
        Contender(
            name="uvloop pipe",
            version=version("uvloop"),
            does="copies bytes, reads nothing",
            address=Address(port=int(found[0]), path=CHAT, model="bench"),
            process=process,
        ),
        started,
    )


def start_litellm(upstream: int, folder: Path, core: int, python: Path) -> Contender:
    """Start LiteLLM's proxy with a master key and no database."""
    (folder / "config.yaml").write_text(_LITELLM.format(upstream=upstream))
    port = _free_port()
    command = [python.with_name("litellm"), "--config", folder / "config.yaml", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1"]
    started = time.perf_counter()
    local = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "DO_NOT_TRACK": "1"}
    process = _launch(command, core, folder, more_environment=local)
    _wait(lambda: _listens(port), process, folder)
    headers = {"authorization": "Bearer sk-bench"}
    return _started(
        Contender(
            name="LiteLLM",
            version=_version_in(python, "litellm"),
            does="master key check; no database, no spend log",
            address=Address(port=port, path=CHAT, model="bench", headers=headers),
            process=process,
        ),
        started,
    )


def start_tensorzero(upstream: int, folder: Path, core: int, python: Path) -> Contender:
    """Start TensorZero's gateway, which its PyPI package carries inside its extension module."""
    (folder / "tensorzero.toml").write_text(_TENSORZERO.format(upstream=upstream))
    (folder / "host.py").write_text(_TENSORZERO_HOST)
    started = time.perf_counter()
    process = _launch([python, folder / "host.py", folder / "tensorzero.toml"], core, folder)
    found: list[str] = []

    def is_up() -> bool:
        found[:] = re.findall(r"listening at http://[^:]+:(\d+)", (folder / "log.txt").read_text(errors="replace"))
        return bool(found)

    _wait(is_up, process, folder)
    address = Address(port=int(found[0]), path="/openai/v1/chat/completions", model="tensorzero::model_name::bench")
    return _started(
        Contender(
            name="TensorZero",
            version=_version_in(python, "tensorzero"),
            does="routing; no key check, observability off",
            address=address,
            process=process,
        ),
        started,
    )


def prepare_peer(folder: Path, name: str, requirement: str) -> Path:
    """Return the interpreter of an environment that has `requirement`, made on first use."""
    python = folder / name / "bin" / "python"
    if not python.exists():
        print(f"making an environment for {requirement} in {folder / name} (minutes)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", requirement], check=True)
    return python


def _launch(
    command: Sequence[object], core: int | None, folder: Path, *, more_environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(
            [*pinned, *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, **(more_environment or {})},
        )


def _wait(is_up: Callable[[], bool], process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline_s = time.monotonic() + READY_S
    while not is_up():
        if process.poll() is not None or time.monotonic() > deadline_s:
            process.kill()
            raise RuntimeError(f"{process.args} did not start: {(folder / 'log.txt').read_text(errors='replace')}")
        time.sleep(_POLL_S)


def _started(contender: Contender, started_s: float) -> Contender:
    contender.start_s = time.perf_counter() - started_s
    contender.memory_at_start_bytes = contender.memory_bytes()
    connection = OneConnection(contender.address.port)
    deadline_s = time.monotonic() + READY_S
    while True:
        try:
            connection.ask(contender.address.request())
            break
        except (RuntimeError, OSError):
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.2)
            connection = OneConnection(contender.address.port)
    connection.close()
    return contender


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _version_in(python: Path, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
