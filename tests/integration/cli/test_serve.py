"""`ownward serve` as a real process with the embedded model: clients, Ctrl-C, kill -9."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.engine
pytest.importorskip("xllamacpp", reason="the embedded engine is not installed")

Serve = Callable[..., tuple[subprocess.Popen[bytes], str]]


def children_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def gone(processes: list[psutil.Process], *, within_s: float) -> bool:
    return not psutil.wait_procs(processes, timeout=within_s)[1]


def exported(tmp_path: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "ownward", "ledger", "export", "--ledger", str(tmp_path / "ledger.db")]
    done = subprocess.run([*command, "--format", "jsonl"], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_curl_and_the_openai_client_are_served_and_recorded(serve: Serve, tmp_path: Path) -> None:
    import openai

    process, base_url = serve()
    curl = shutil.which("curl")
    if curl is not None:
        health = subprocess.run([curl, "-sf", f"{base_url}/healthz"], capture_output=True, check=True)
        assert json.loads(health.stdout)["status"] == "ok"
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key="none") as client:
        names = [model.id for model in client.models.list()]
        assert "smollm2-135m-instruct" in names
        messages = [{"role": "user", "content": "Say hello."}]
        whole = client.chat.completions.create(model="smollm2-135m-instruct", messages=messages, max_tokens=8)
        assert whole.choices[0].message.content
        chunks = list(
            client.chat.completions.create(model="smollm2-135m-instruct", messages=messages, max_tokens=8, stream=True)
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert all(chunk.usage is None for chunk in chunks)  # it did not ask for usage
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    rows = exported(tmp_path)
    assert [row["state"] for row in rows] == ["settled", "settled"]
    assert whole.usage is not None
    assert (rows[0]["input_tokens"], rows[0]["output_tokens"]) == (
        whole.usage.prompt_tokens,
        whole.usage.completion_tokens,
    )
    assert rows[1]["usage_basis"] == "upstream"
    assert rows[0]["label"] == "local_only"


def test_ctrl_c_stops_everything(serve: Serve) -> None:
    process, _ = serve()
    children = children_of(process)
    assert children, "the engine runs in a child process"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    assert gone(children, within_s=5)


def test_kill_nine_of_the_parent_leaves_no_child(serve: Serve) -> None:
    process, _ = serve()
    children = children_of(process)
    assert children
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert gone(children, within_s=10)


def test_any_gguf_file_is_served_under_its_name(serve: Serve, tmp_path: Path) -> None:
    import openai

    from ownward import config
    from ownward.engines import EMBEDDED_MODEL, fetch

    cache = config.load().engine.cache_dir
    assert cache is not None
    link = tmp_path / "my-own-model.gguf"
    link.symlink_to(fetch(EMBEDDED_MODEL, cache_dir=cache))
    _, base_url = serve("--model", str(link))
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key="none") as client:
        answer = client.chat.completions.create(
            model="my-own-model", messages=[{"role": "user", "content": "Hi"}], max_tokens=4
        )
    assert answer.model == "my-own-model"


def test_what_is_no_gguf_file_is_refused_at_once(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.gguf"
    wrong.write_text("not weights")
    command = [sys.executable, "-m", "ownward", "serve", "--model", str(wrong), "--port", "0"]
    done = subprocess.run(
        [*command, "--ledger", str(tmp_path / "l.db")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "GGUF" in done.stderr
    assert "Traceback" not in done.stderr


def test_openais_own_client_puts_a_stream_of_responses_together(serve: Serve):
    """llama.cpp's stream lacks the indexes that it needs; the gateway asks for a chat and tells it as a response."""
    from openai import OpenAI

    _, base_url = serve()
    with (
        OpenAI(base_url=f"{base_url}/v1", api_key="none") as client,
        client.responses.stream(model="local", input="Say hello", max_output_tokens=8) as stream,
    ):
        events = list(stream)
    told = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    final = events[-1]
    assert final.type in {"response.completed", "response.incomplete"}
    assert final.response.output[0].content[0].text == told != ""
    assert 0 < final.response.usage.output_tokens <= 8
