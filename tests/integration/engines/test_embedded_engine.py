"""The embedded engine with its real weights: it loads, answers, comes back and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from embedding_model import WIDTH, write_embedding_model
from ownward.core import BadInput, EngineExited
from ownward.engines import EMBEDDED_MODEL, EmbeddedEngine, EngineOptions, EngineState, RestartPolicy, fetch
from ownward.engines.embedded import build_worker_request
from ownward.policy import LOCAL_ONLY, Place, issue_permit
from ownward.upstreams import Door
from processes import is_gone, wait_until_all_gone

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("xllamacpp")
    return fetch(EMBEDDED_MODEL, cache_dir=tmp_path_factory.mktemp("weights"))


def engine_of(path: Path, **changes) -> EmbeddedEngine:
    options = {"model_path": path, "alias": "smol", "slots": 2, "context_tokens": 512, "threads": 1}
    return EmbeddedEngine(EngineOptions(**{**options, **changes}), restart=RestartPolicy(first_delay_s=0.05))


async def send(door: Door, engine: EmbeddedEngine, target: str, payload: dict):
    body = json.dumps({"model": "smol", **payload}).encode()
    permit = issue_permit(
        label=LOCAL_ONLY, place=Place(is_local=True), upstream="smol", origin=engine.base_url, body=body
    )
    headers = [(b"content-type", b"application/json")]
    return await door.send(permit, method="POST", target=target, headers=headers, body=body)


QUESTION = {"messages": [{"role": "user", "content": "What is 2 + 2?"}], "max_tokens": 16, "temperature": 0}


def test_it_loads_answers_streams_and_stops(model_path: Path):
    async def main():
        async with engine_of(model_path) as engine, Door() as door:
            plain = await send(door, engine, "/v1/chat/completions", QUESTION)
            answer = json.loads(await plain.read(10**6))
            assert "4" in answer["choices"][0]["message"]["content"]
            assert answer["usage"]["completion_tokens"] > 0
            stream = await send(
                door,
                engine,
                "/v1/chat/completions",
                {**QUESTION, "stream": True, "stream_options": {"include_usage": True}},
            )
            body = (await stream.read(10**6)).decode()
            events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
            assert body.rstrip().endswith("data: [DONE]")
            text = "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])
            assert text == answer["choices"][0]["message"]["content"]
            assert events[-1]["usage"]["completion_tokens"] == answer["usage"]["completion_tokens"]
            assert await engine.probe() > 0
            pid = engine.status.pid
        assert is_gone(pid)

    asyncio.run(main())


def test_it_shows_its_alias_and_no_path_and_lets_no_browser_in(model_path: Path):
    async def main():
        async with engine_of(model_path) as engine, Door() as door:
            permit = issue_permit(
                label=LOCAL_ONLY, place=Place(is_local=True), upstream="smol", origin=engine.base_url, body=b""
            )
            answer = await door.send(
                permit, method="GET", target="/v1/models", headers=[(b"origin", b"https://other.example")]
            )
            body = await answer.read(10**6)
            assert [model["id"] for model in json.loads(body)["data"]] == ["smol"]
            assert str(model_path.parent).encode() not in body
            assert answer.header(b"access-control-allow-origin") not in {b"*", b"https://other.example"}

    asyncio.run(main())


def test_a_slots_context_is_what_was_asked_for(model_path: Path):
    async def main():
        async with engine_of(model_path, slots=2, context_tokens=256) as engine, Door() as door:
            long = {"prompt": "word " * 400, "max_tokens": 1}
            answer = await send(door, engine, "/v1/completions", long)
            assert answer.status == 400
            assert json.loads(await answer.read(10**6))["error"]["n_ctx"] == 256

    asyncio.run(main())


def test_one_server_makes_both_words_and_vectors(model_path: Path):
    async def main():
        async with engine_of(model_path, embedding=True) as engine, Door() as door:
            answer = await send(door, engine, "/v1/embeddings", {"input": ["a", "b"]})
            vectors = json.loads(await answer.read(10**7))["data"]
            assert len(vectors) == 2
            assert len(vectors[0]["embedding"]) == 576

    asyncio.run(main())


def test_a_model_that_only_embeds_is_ready_with_a_vector_pooled_as_its_file_says(tmp_path: Path):
    pytest.importorskip("xllamacpp")

    async def embed(pooling: str | None) -> list[float]:
        path = write_embedding_model(tmp_path / f"{pooling}.gguf", pooling=pooling)
        async with engine_of(path, embedding=True) as engine, Door() as door:
            assert engine.state is EngineState.READY
            answer = await send(door, engine, "/v1/embeddings", {"input": "a b c"})
            return json.loads(await answer.read(10**6))["data"][0]["embedding"]

    mean, first, unsaid = (asyncio.run(embed(pooling)) for pooling in ("MEAN", "CLS", None))
    assert len(mean) == WIDTH
    assert first != pytest.approx(mean, abs=1e-4)
    assert unsaid == pytest.approx(mean, abs=1e-4)


def with_template(model_path: Path, path: Path, template: str) -> Path:
    """Return a copy of a model with a chat template of its own, in the room of the one that it has."""
    shutil.copy(model_path, path)
    with path.open("r+b") as file:
        head = file.read(8 * 1024 * 1024)
        name = b"tokenizer.chat_template"
        at = head.index(name) + len(name) + 4
        (length,) = struct.unpack_from("<Q", head, at)
        file.seek(at + 8)
        file.write(template.encode().ljust(length))
    return path


def test_an_engine_says_whether_its_models_template_knows_tools(model_path: Path, tmp_path: Path):
    template = (
        "{% if tools %}{{ tools | tojson }}{% endif %}"
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )

    async def lacks(path: Path) -> frozenset[str]:
        async with engine_of(path) as engine:
            return engine.status.lacks

    assert asyncio.run(lacks(model_path)) == {"audio", "tools", "vision"}
    assert asyncio.run(lacks(with_template(model_path, tmp_path / "m.gguf", template))) == {"audio", "vision"}


def test_a_killed_worker_comes_back(model_path: Path):
    async def main():
        async with engine_of(model_path) as engine:
            first = engine.status.pid
            os.kill(first, signal.SIGKILL)
            while engine.status.restarts == 0 or engine.state is not EngineState.READY:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            assert engine.status.pid != first
            assert "SIGKILL" in engine.status.reason
            assert await engine.probe() > 0

    asyncio.run(main())


def test_stop_lets_a_running_answer_end_where_time_allows(model_path: Path):
    async def main():
        engine = engine_of(model_path)
        await engine.start()
        async with Door() as door:
            story = {"prompt": "Once upon a time", "max_tokens": 60, "ignore_eos": True}
            asked = asyncio.create_task(send(door, engine, "/v1/completions", story))
            await asyncio.sleep(0.1)
            await engine.stop(drain_s=30)
            answer = json.loads(await (await asked).read(10**6))
        assert answer["usage"]["completion_tokens"] == 60
        assert engine.state is EngineState.STOPPED

    asyncio.run(main())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_all_processes_of_a_service_cuts_no_answer(model_path: Path, number: signal.Signals):
    """As systemd sends it to a whole control group: what ends the engine is its parent."""

    async def main():
        async with engine_of(model_path) as engine, Door() as door:
            first = engine.status.pid
            story = {"prompt": "Once upon a time", "max_tokens": 60, "ignore_eos": True}
            asked = asyncio.create_task(send(door, engine, "/v1/completions", story))
            await asyncio.sleep(0.1)
            os.kill(first, number)
            answer = json.loads(await (await asked).read(10**6))
            assert answer["usage"]["completion_tokens"] == 60
            assert (engine.status.pid, engine.state) == (first, EngineState.READY)
        assert is_gone(first)

    asyncio.run(main())


def test_a_killed_parent_leaves_no_worker_behind(model_path: Path):
    code = """
import asyncio, sys
from pathlib import Path
from ownward.engines import EmbeddedEngine, EngineOptions
async def main():
    engine = EmbeddedEngine(EngineOptions(model_path=Path(sys.argv[1]), alias="smol", threads=1))
    await engine.start()
    print(engine.status.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code, str(model_path)], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        assert psutil.pid_exists(worker)
        os.kill(parent.pid, signal.SIGKILL)
        assert wait_until_all_gone([worker])


def test_a_worker_whose_parent_leaves_before_or_while_it_loads_leaves_too(model_path: Path):
    options = EngineOptions(model_path=model_path, alias="smol", threads=1)
    request = json.dumps(build_worker_request(options, threads=1, parent_pid=None)).encode() + b"\n"
    for said in (b"", request):
        with subprocess.Popen(
            [sys.executable, "-m", "ownward.engines._worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as worker:
            worker.stdin.write(said)
            worker.stdin.flush()
            time.sleep(0.15)
            worker.stdin.close()
            assert worker.wait(10) == 0


def test_a_truncated_file_is_refused_with_llama_cpps_reason(model_path: Path, tmp_path: Path):
    broken = tmp_path / "broken.gguf"
    with model_path.open("rb") as whole:
        broken.write_bytes(whole.read(1_000_000))

    async def main():
        engine = engine_of(broken)
        with pytest.raises(EngineExited) as caught:
            await engine.start()
        assert "before it was ready" in str(caught.value)
        assert "It said: " in str(caught.value)
        assert "load" in str(caught.value)
        await engine.stop()

    asyncio.run(main())


def test_a_missing_file_is_refused_without_a_process(tmp_path: Path):
    async def main():
        engine = engine_of(tmp_path / "none.gguf")
        with pytest.raises(BadInput):
            await engine.start()
        assert engine.status.pid is None
        await engine.stop()

    asyncio.run(main())
