"""Weights pulled from a hub that runs on this machine and counts, breaks off and lies."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ownward.core import BadInput, FetchFailed
from ownward.engines import fetch_from_hub, find_from_hub, parse_hub, read_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "org/tiny"


class Hub:
    """One model with its files; what was asked, with which token."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.small: set[str] = set()
        self.listed: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.tokens: list[str | None] = []
        self.breaks_after: list[int] = []
        self.lies_about: set[str] = set()
        self.url = ""

    def add(self, name: str, content: bytes, *, is_small: bool = False) -> None:
        self.files[name] = content
        git = hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
        entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git}
        if not is_small:
            entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        self.listed.append(entry)

    def listing(self) -> bytes:
        card = {"license": "apache-2.0"}
        return json.dumps({"id": REPO, "sha": COMMIT, "siblings": self.listed, "cardData": card}).encode()


@pytest.fixture
def hub() -> Iterator[Hub]:
    site = Hub()

    class Pages(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path = self.path.partition("?")[0]
            site.asked.append(path)
            site.tokens.append(self.headers["authorization"])
            if path.startswith(f"/api/models/{REPO}/revision/"):
                return self.give(200, site.listing())
            name = path.removeprefix(f"/{REPO}/resolve/{COMMIT}/")
            if name not in site.files:
                return self.give(404, b"")
            content = site.files[name]
            if name in site.lies_about:
                content = bytes(len(content))
            start = int((self.headers["range"] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
            stated = {"content-range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
            return self.give(206 if start else 200, content[start:], **stated)

        def give(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if site.breaks_after and "/resolve/" in self.path:
                body = body[: site.breaks_after.pop(0)]
                self.close_connection = True
            self.wfile.write(body)

        def log_message(self, *_args: object):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def pull(hub: Hub, cache: Path, file: str | None, **more: Any) -> Path:
    model = read_hub(REPO, revision="main", hub_url=hub.url, token=more.get("token"))
    return fetch_from_hub(model, model.choose(file), hub_url=hub.url, cache_dir=cache, **more)


def weights(number: int = 0) -> bytes:
    return bytes(range(256)) * (400 + number)


def test_a_split_file_is_fetched_with_all_its_parts_into_one_folder(hub: Hub, tmp_path: Path):
    for number in (1, 2, 3):
        hub.add(f"Q4/tiny-{number:05d}-of-00003.gguf", weights(number))
    hub.add("Q8/tiny.gguf", weights())
    told: list[tuple[int, int]] = []
    first = "Q4/tiny-00001-of-00003.gguf"
    folder = pull(hub, tmp_path, first, progress=lambda done, total: told.append((done, total)))
    assert sorted(path.name for path in (folder / "Q4").iterdir()) == [
        f"tiny-{number:05d}-of-00003.gguf" for number in (1, 2, 3)
    ]
    assert (folder / first).read_bytes() == weights(1)
    total = sum(len(weights(number)) for number in (1, 2, 3))
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert find_from_hub(REPO, revision=COMMIT, file=first, cache_dir=tmp_path) == folder / first


def test_a_second_pull_fetches_no_file(hub: Hub, tmp_path: Path):
    hub.add("tiny.gguf", weights())
    pull(hub, tmp_path, "tiny.gguf")
    hub.asked.clear()
    pull(hub, tmp_path, "tiny.gguf")
    assert [path for path in hub.asked if "/resolve/" in path] == []


def test_a_broken_download_goes_on_where_it_stopped(hub: Hub, tmp_path: Path):
    hub.add("tiny.gguf", weights())
    hub.breaks_after = [1000, 5000]
    assert (pull(hub, tmp_path, "tiny.gguf") / "tiny.gguf").read_bytes() == weights()
    assert sum("/resolve/" in path for path in hub.asked) == 3


@pytest.mark.parametrize("is_small", [True, False])
def test_bytes_that_are_not_those_of_the_published_hash_are_not_kept(hub: Hub, tmp_path: Path, *, is_small: bool):
    hub.add("model.safetensors", weights(1), is_small=is_small)
    hub.lies_about.add("model.safetensors")
    with pytest.raises(FetchFailed, match="its hash differs"):
        pull(hub, tmp_path, None)
    assert list(tmp_path.rglob("model*")) == []
    assert find_from_hub(REPO, revision="main", file=None, cache_dir=tmp_path) is None


def test_a_checkpoint_is_its_weights_and_what_is_read_beside_them(hub: Hub, tmp_path: Path):
    for name in ("model.safetensors", "pytorch_model.bin", "model-q4.gguf"):
        hub.add(name, weights())
    for name in ("config.json", "tokenizer.json", "modeling_tiny.py", "README.md", "original/params.json"):
        hub.add(name, b"{}", is_small=True)
    folder = pull(hub, tmp_path, None)
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert find_from_hub(REPO, revision="main", file=None, cache_dir=tmp_path) == folder


@pytest.mark.parametrize(
    "name",
    ["../../evil.gguf", "/etc/evil.gguf", "a/../../evil.gguf", ".ssh/evil.gguf", "a\\evil.gguf", "a//evil.gguf", ""],
)
def test_a_name_that_would_leave_the_folder_is_no_file_of_the_model(hub: Hub, name: str):
    hub.add(name, weights())
    assert read_hub(REPO, revision="main", hub_url=hub.url).files == ()


def test_a_file_without_a_published_hash_is_refused(hub: Hub, tmp_path: Path):
    hub.add("tiny.gguf", weights())
    del hub.listed[0]["lfs"], hub.listed[0]["blobId"]
    with pytest.raises(FetchFailed, match="names no hash"):
        pull(hub, tmp_path, "tiny.gguf")


def test_what_is_not_there_is_told_with_what_is(hub: Hub):
    hub.add("tiny-Q4_K_M.gguf", weights())
    model = read_hub(REPO, revision="main", hub_url=hub.url)
    with pytest.raises(BadInput, match=r"It has tiny-Q4_K_M\.gguf \(100 KiB\)"):
        model.choose("tiny-Q5.gguf")
    with pytest.raises(BadInput, match=r"Name one file: hf:org/tiny/tiny-Q4_K_M\.gguf"):
        model.choose(None)


def test_a_missing_part_is_told_before_anything_is_fetched(hub: Hub):
    hub.add("tiny-00001-of-00002.gguf", weights())
    with pytest.raises(BadInput, match=r"lacks 'tiny-00002-of-00002\.gguf'"):
        read_hub(REPO, revision="main", hub_url=hub.url).choose("tiny-00001-of-00002.gguf")


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"sha": "x", "siblings": []}', b"[" * 100_000])
def test_an_answer_that_is_no_listing_is_told_as_such(hub: Hub, answer: bytes):
    hub.listing = lambda: answer  # type: ignore[method-assign]
    with pytest.raises(FetchFailed, match="its answer"):
        read_hub(REPO, revision="main", hub_url=hub.url)


def test_the_token_goes_to_the_hub_and_into_no_message(hub: Hub, tmp_path: Path):
    hub.add("tiny.gguf", weights())
    hub.lies_about.add("tiny.gguf")
    with pytest.raises(FetchFailed) as caught:
        pull(hub, tmp_path, "tiny.gguf", token="hf_secret")
    assert set(hub.tokens) == {"Bearer hf_secret"}
    assert "hf_secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["hf:tiny", "hf:org/tiny@", "hf:org/tiny?x", "org/tiny"])
def test_a_name_that_is_none_is_refused_with_how_it_is_written(text: str):
    with pytest.raises(BadInput, match="hf:org/name"):
        parse_hub(text)


def ownward(hub: Hub, cache: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OWNWARD_HUB_URL": hub.url, "OWNWARD_ENGINE_CACHE_DIR": str(cache)}
    command = [sys.executable, "-m", "ownward", *argv]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_pull_prints_the_path_and_serves_a_second_time_without_the_hub(hub: Hub, tmp_path: Path):
    hub.add("tiny.gguf", weights())
    first = ownward(hub, tmp_path, "models", "pull", f"hf:{REPO}/tiny.gguf", "--json")
    record = json.loads(first.stdout)
    assert Path(record["path"]).read_bytes() == weights()
    assert record["bytes"] == len(weights())
    hub.url = "http://127.0.0.1:9"  # nobody listens there
    again = ownward(hub, tmp_path, "models", "pull", f"hf:{REPO}/tiny.gguf", "--json")
    assert json.loads(again.stdout) == record
    assert "Using what was fetched before" in again.stderr
    pinned = ownward(hub, tmp_path, "models", "pull", f"hf:{REPO}@{COMMIT}/tiny.gguf", "--json")
    assert json.loads(pinned.stdout)["path"] == record["path"]
    assert "Using what" not in pinned.stderr
    absent = ownward(hub, tmp_path, "models", "pull", f"hf:{REPO}/other.gguf", "--json")
    assert absent.returncode == 4
    assert json.loads(absent.stdout)["error"]["kind"] == "fetch_failed"
