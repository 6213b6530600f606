"""Bytes into a file, hashed on the way, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ownward.core import FetchFailed, format_bytes
from ownward.engines.store._weights import Weights

_BLOCK_BYTES = 1024 * 1024
_SPARE_BYTES = 64 * 1024 * 1024


def check_room(folder: Path, needed_bytes: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises: FetchFailed.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes + _SPARE_BYTES:
        raise FetchFailed(
            f"the disk has {format_bytes(free_bytes)} free and the weights need {format_bytes(needed_bytes)}",
            where=str(folder),
            next_step="Make room, or name another folder for weights",
        )


def compute_file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's contents, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def write_verified(weights: Weights, blocks: Iterable[bytes], part: Path, target: Path) -> None:
    """Write `blocks` to `part` and move it to `target` if they are exactly the weights.

    Raises: FetchFailed, if they are not; nothing is left then.
    """
    digest = hashlib.sha256()
    done = 0
    try:
        with part.open("wb") as file:
            for block in blocks:
                done += len(block)
                if done > weights.bytes:
                    break
                digest.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        if done != weights.bytes or digest.hexdigest() != weights.sha256:
            raise wrong_bytes(weights, done, digest.hexdigest())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def wrong_bytes(weights: Weights, size: int, sha256: str) -> FetchFailed:
    """Return the error for a file that is not what its source promised."""
    return FetchFailed(
        f'"{weights.file_name}" has {size:,} bytes and the hash {sha256[:16]}…, '
        f"not the {weights.bytes:,} bytes and {weights.sha256[:16]}… of {weights.id}",
        next_step="Nothing of it was kept. Fetch it again; if it stays wrong, its source was changed",
    )
