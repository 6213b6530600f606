"""Checkpoints elsewhere: their headers and no more, from a server on this machine that counts, lies or dawdles."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ownward import anatomy
from ownward.core import BadInput, FetchFailed, OwnwardError
from ownward.engines import RemoteCheckpoint, RemoteLimits, parse_remote

QUICK = RemoteLimits(connect_s=2, first_byte_s=1, stall_s=1, request_s=1.5)
HEADER = 200_000


class Site:
    """A folder on the web, and what was asked of it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.asked: list[tuple[str, str | None]] = []
        self.tokens: list[str | None] = []
        self.served_bytes = 0
        self.answer: Callable[[BaseHTTPRequestHandler], bool] = lambda _request: False
        self.is_stopped = threading.Event()
        self.url = ""


@contextmanager
def web(folder: Path) -> Iterator[Site]:
    site = Site(folder)

    class Pages(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path = self.path.partition("?")[0]
            site.asked.append((path.rpartition("/")[2], self.headers["range"]))
            site.tokens.append(self.headers["authorization"])
            if site.answer(self):
                return
            file = site.folder / path.rpartition("/")[2]
            if not file.is_file():
                reply(self, 404)
                return
            body, asked = file.read_bytes(), self.headers["range"]
            if asked is None:
                site.served_bytes += len(body)
                reply(self, 200, body)
                return
            start, end = (int(part) for part in asked.removeprefix("bytes=").split("-"))
            part = body[start : end + 1]
            site.served_bytes += len(part)
            reply(self, 206, part, content_range=f"bytes {start}-{start + len(part) - 1}/{len(body)}")

        def log_message(self, *_args: object):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        site.is_stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()


def reply(request: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> bool:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("content-length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
    return True


def read(url: str, *, limits: RemoteLimits = QUICK) -> anatomy.Anatomy:
    with RemoteCheckpoint(limits=limits) as checkpoint:
        return anatomy.read_source(checkpoint.open(url), name="it")


def write_shards(folder: Path, *, shards: int = 12, tensors: int = 40) -> Path:
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        named = {
            f"model.layers.{shard}.mlp.experts.{number}.up_proj.weight": np.zeros((64, 64), np.float16)
            for number in range(tensors)
        }
        save_file(named, folder / file)
        weight_map |= dict.fromkeys(named, file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def header_bytes(folder: Path) -> int:
    return sum(8 + int.from_bytes(file.read_bytes()[:8], "little") for file in folder.glob("*.safetensors"))


def write_gguf(path: Path, *, tokens: int, values: int = 1000) -> int:
    """Write a GGUF file with one tensor and a vocabulary; return where its data begins."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_token_list([f"token {number}" for number in range(tokens)])
    writer.add_token_scores([0.0] * tokens)
    writer.add_tensor("token_embd.weight", np.zeros((values, 64), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.stat().st_size - values * 64 * 2


def test_a_gguf_file_elsewhere_is_what_it_is_here_and_little_more_than_its_header_is_read(tmp_path: Path):
    header = write_gguf(tmp_path / "m.gguf", tokens=30_000, values=100_000)
    here = anatomy.read(tmp_path / "m.gguf")
    with web(tmp_path) as site:
        there = read(f"{site.url}/m.gguf")
        assert anatomy.as_contract(there) == {**anatomy.as_contract(here), "name": "it"}
        assert header <= site.served_bytes < header + 2**20
        assert site.served_bytes < (tmp_path / "m.gguf").stat().st_size / 5


@pytest.mark.engine
def test_the_embedded_model_elsewhere_takes_its_header_alone(tmp_path: Path):
    from ownward.config import load
    from ownward.engines import EMBEDDED_MODEL, find

    cache = load().engine.cache_dir
    assert cache is not None
    weights = find(EMBEDDED_MODEL, cache_dir=cache)
    if weights is None:
        pytest.skip("the embedded weights are not in the store; fetch them with: ownward models pull")
    here = anatomy.read(weights)
    with web(weights.parent) as site:
        there = read(f"{site.url}/{weights.name}")
        assert there.total_live_params == here.total_live_params
        assert there.weights_bytes() == here.weights_bytes()
        assert site.served_bytes < 4 * 2**20


def test_of_shards_one_request_each_reads_the_header(tmp_path: Path):
    index = write_shards(tmp_path, shards=12, tensors=400)
    here = anatomy.read(index)
    with web(tmp_path) as site:
        there = read(f"{site.url}/{index.name}")
        assert anatomy.as_contract(there) == {**anatomy.as_contract(here), "name": "it"}
        ranged = [name for name, asked in site.asked if asked is not None]
        assert len(ranged) == len(set(ranged)) == 12
        assert site.served_bytes < 1.5 * header_bytes(tmp_path) + index.stat().st_size + 12 * 16_384


def test_what_is_not_there_is_said(tmp_path: Path):
    index = write_shards(tmp_path, shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with web(tmp_path) as site:
        with pytest.raises(BadInput, match="1 of 3 files are missing, first 'model-00002"):
            read(f"{site.url}/{index.name}")
        with pytest.raises(BadInput, match="there is no such file"):
            read(f"{site.url}/other.gguf")


def test_a_config_lends_what_tensors_do_not_tell(tmp_path: Path):
    write_gguf(tmp_path / "m.gguf", tokens=10)
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
              "intermediate_size": 128, "vocab_size": 1000, "num_key_value_heads": 2}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    with web(tmp_path) as site:
        assert read(f"{site.url}/config.json").total_live_params == anatomy.from_config(config).total_live_params


def lies(status: int = 206, body: bytes = b"GGUF" + b"\0" * 16_380, **headers: str) -> Callable[..., bool]:
    return lambda request: reply(request, status, body, **headers)


def endless(request: BaseHTTPRequestHandler) -> bool:
    request.send_response(206)
    request.send_header("content-range", "bytes 0-16383/99999999999")
    request.end_headers()
    try:
        while True:
            request.wfile.write(b"x" * 65_536)
    except OSError:
        request.close_connection = True
        return True


def dripping(request: BaseHTTPRequestHandler) -> bool:
    request.send_response(206)
    request.send_header("content-range", "bytes 0-16383/99999999999")
    request.send_header("content-length", "16384")
    request.end_headers()
    try:
        while True:
            request.wfile.write(b"x")
            time.sleep(0.1)
    except OSError:
        request.close_connection = True
        return True


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lies(200), "does not give parts of a file"),
        (lies(206), "does not say which part"),
        (lies(206, content_range="bytes 0-16383/*"), "does not say which part"),
        (lies(206, content_range="bytes 5-16388/99999999"), "sent bytes 5 to 16388"),
        (lies(206, content_range="bytes 0-99/99999999"), "sent bytes 0 to 99"),
        (lies(206, content_range="bytes 0-16383/16384", body=b"GGUF"), "sent 4 of 16384 bytes"),
        (lies(206, content_range="bytes 0-16383/99999", body=b"x" * 20_000), "answered more than 16384 bytes"),
        (lies(302, location="file:///etc/passwd"), "redirects to file://"),
        (lies(302, location="http://example.invalid/m.gguf"), "not encrypted"),
        (lies(302, location="gopher://localhost/m.gguf"), "redirects to gopher://"),
        (lies(302, location="http://[oops/m.gguf"), "leads to something that is not an address"),
        (lies(302, location="/m.gguf"), "redirects more than"),
        (lies(403), "gated, private or missing"),
        (lies(500), "answered 500"),
        (endless, "answered more than 16384 bytes"),
        (dripping, r"took more than 1\.5 s"),
    ],
)
def test_hostile_servers_give_an_error_soon_and_in_little_memory(tmp_path: Path, answer, why: str):
    with web(tmp_path) as site:
        site.answer = answer
        tracemalloc.start()
        begun = time.perf_counter()
        with pytest.raises(FetchFailed, match=why):
            read(f"{site.url}/m.gguf?signature=hidden")
        took_s, (_, most) = time.perf_counter() - begun, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert took_s < 3
    assert most < 20 * 2**20


def test_a_json_file_without_end_is_left(tmp_path: Path):
    def flood(request: BaseHTTPRequestHandler) -> bool:
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                request.wfile.write(b" " * 2**20)
        except OSError:
            request.close_connection = True
            return True

    with web(tmp_path) as site:
        site.answer = flood
        with pytest.raises(FetchFailed, match="answered more than 25165824 bytes"):
            read(f"{site.url}/config.json", limits=RemoteLimits(request_s=20))


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path):
    write_gguf(tmp_path / "m.gguf", tokens=30_000)

    def grow(_request: BaseHTTPRequestHandler) -> bool:
        if len(site.asked) == 2:
            with (tmp_path / "m.gguf").open("ab") as file:
                file.write(b"more" * 99)
        return False

    with web(tmp_path) as site:
        site.answer = grow
        with pytest.raises(FetchFailed, match="its size changed"):
            read(f"{site.url}/m.gguf")


def test_the_token_goes_to_the_hub_alone(tmp_path: Path):
    write_gguf(tmp_path / "m.gguf", tokens=10)
    with web(tmp_path) as elsewhere, web(tmp_path) as hub:
        hub.answer = lambda request: reply(request, 302, location=f"{elsewhere.url}/m.gguf")
        with RemoteCheckpoint(token="hf_secret", token_origin=hub.url) as checkpoint:
            anatomy.read_source(checkpoint.open(f"{hub.url}/m.gguf"), name="it")
        assert hub.tokens == ["Bearer hf_secret"]
        assert set(elsewhere.tokens) == {None}
        with RemoteCheckpoint(token="hf_secret", token_origin=hub.url) as checkpoint:
            checkpoint.open(f"{elsewhere.url}/m.gguf")
        assert set(elsewhere.tokens) == {None}
        hub.answer = lambda request: reply(request, 403)
        with (
            RemoteCheckpoint(token="hf_secret", token_origin=hub.url) as checkpoint,
            pytest.raises(OwnwardError) as caught,
        ):
            checkpoint.open(f"{hub.url}/m.gguf")
        assert "hf_secret" not in str(caught.value)
        assert "has no access" in str(caught.value)


HUB = "https://hub.example"


@pytest.mark.parametrize(
    ("text", "name", "first"),
    [
        ("hf:Org/Tiny-1.5", "Org/Tiny-1.5", f"{HUB}/Org/Tiny-1.5/resolve/main/model.safetensors.index.json"),
        ("hf:Org/Tiny@v2", "Org/Tiny", f"{HUB}/Org/Tiny/resolve/v2/model.safetensors.index.json"),
        ("hf:Org/Tiny/sub/a b.gguf", "a b", f"{HUB}/Org/Tiny/resolve/main/sub/a%20b.gguf"),
        (f"{HUB}/Org/Tiny", "Org/Tiny", f"{HUB}/Org/Tiny/resolve/main/model.safetensors.index.json"),
        (f"{HUB}/Org/Tiny/blob/v1/x.gguf", "x", f"{HUB}/Org/Tiny/resolve/v1/x.gguf"),
        ("https://a.example/b/tiny/config.json", "tiny", "https://a.example/b/tiny/config.json"),
        ("http://localhost:8/t.gguf?s=1#x", "t", "http://localhost:8/t.gguf?s=1"),
    ],
)
def test_what_is_typed_means_these_addresses(text: str, name: str, first: str):
    address = parse_remote(text, hub_url=HUB)
    assert (address.name, address.urls[0]) == (name, first)


@pytest.mark.parametrize(
    "text",
    ["hf:", "hf:one", "hf:a/b/readme.md", "hf:../../x/y", "http://a.example/m.gguf", "https://a.example/m.bin",
     "https://user:pass@a.example/m.gguf", "https:///m.gguf", "https://a.example/m\n.gguf"],
)  # fmt: skip
def test_what_means_nothing_is_refused_without_showing_a_password(text: str):
    with pytest.raises(BadInput) as caught:
        parse_remote(text, hub_url=HUB)
    assert "pass@" not in str(caught.value)
