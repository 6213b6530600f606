"""A model's files on a hub at one commit: named with their hashes, fetched into one folder, each verified."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ownward.core import BadInput, FetchFailed, UpstreamError, format_bytes
from ownward.engines.store._copying import check_room
from ownward.engines.store._following import Astray, Headers, follow
from ownward.engines.store._locking import locked
from ownward.engines.store._web import download
from ownward.engines.store._weights import Progress
from ownward.upstreams import Door, Timeouts

_TIMEOUTS = Timeouts(connect_s=15, first_byte_s=30, stall_s=30)
_LARGEST_LISTING_BYTES = 24 * 1024**2
_STATUS_OK = 200
_SHUT = (401, 403)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLAIN_PATH = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[\w-][\w.+-]*(?:/[\w-][\w.+-]*)*", re.ASCII)
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_OF_A_FOLDER = (".safetensors", ".json", ".jinja", ".model", ".txt")
_WHOLE = ".whole"
_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """One file of a commit: `sha256` of large files, `git_sha1` (of git's blob) of small ones."""

    name: str
    bytes: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HubModel:
    """What a hub says of a model at one commit."""

    repo: str
    revision: str
    commit: str
    licence: str | None
    files: tuple[HubFile, ...]

    def choose(self, file: str | None) -> tuple[HubFile, ...]:
        """Return the named GGUF file with its other parts; or, of no name, safetensors and what is read beside them.

        Raises: BadInput, listing what is there.
        """
        by_name = {item.name: item for item in self.files}
        if file is None:
            folder = tuple(
                item for item in self.files if item.name.endswith(_OF_A_FOLDER) and "/" not in item.name
            )  # fmt: skip
            if any(item.name.endswith(".safetensors") for item in folder):
                return folder
            raise BadInput(
                f"hf:{self.repo} holds no safetensors at its top", allowed=self._told(), next_step=self._next_step()
            )
        if file not in by_name:
            raise BadInput(f"hf:{self.repo} has no file {file[:200]!r}", allowed=self._told())
        part = _PART.fullmatch(file)
        if part is None:
            return (by_name[file],)
        names = _names_of_parts(part)
        missing = [name for name in names if name not in by_name]
        if missing:
            raise BadInput(f"hf:{self.repo} lacks {missing[0]!r}, a part of {file!r}", allowed=self._told())
        return tuple(by_name[name] for name in names)

    def _told(self) -> str:
        weights = [item for item in self.files if item.name.endswith((".gguf", ".safetensors"))]
        told = ", ".join(f"{item.name} ({format_bytes(item.bytes)})" for item in weights[:_SHOWN])
        more = f" and {len(weights) - _SHOWN} more" if len(weights) > _SHOWN else ""
        return f"It has {told}{more}" if weights else "It has no weights"

    def _next_step(self) -> str | None:
        gguf = next((item.name for item in self.files if item.name.endswith(".gguf")), None)
        return None if gguf is None else f"Name one file: hf:{self.repo}/{gguf}"


def read_hub(repo: str, *, revision: str, hub_url: str, token: str | None = None) -> HubModel:
    """Return the model's files at a revision, and the commit that it means now.

    Runs an event loop of its own. `token` goes to the hub's own address alone.
    Raises: FetchFailed.
    """
    url = f"{hub_url.rstrip('/')}/api/models/{repo}/revision/{quote(revision, safe='')}?blobs=true"
    told = asyncio.run(_ask(url, token))
    commit = told.get("sha") if isinstance(told, dict) else None
    siblings = told.get("siblings") if isinstance(told, dict) else None
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit) or not isinstance(siblings, list):
        raise _failed(repo, hub_url, "its answer does not name a commit and files")
    files = tuple(sorted(filter(None, map(_read_file, siblings)), key=lambda item: item.name))
    card = told.get("cardData")
    licence = card.get("license") if isinstance(card, dict) else None
    return HubModel(
        repo=repo, revision=revision, commit=commit, licence=licence if isinstance(licence, str) else None, files=files
    )


def fetch_from_hub(
    model: HubModel,
    files: tuple[HubFile, ...],
    *,
    hub_url: str,
    cache_dir: Path,
    token: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Return the folder that holds these files of the model's commit, fetching what is not there yet.

    Every file is verified by its hash, is at its name only when whole, and goes on where a broken
    download left it. `progress` hears the bytes here of the bytes of all files.
    Raises: FetchFailed, also where a file has no hash; OSError from a disk that cannot be written.
    """
    folder = hub_folder(model.repo, model.commit, cache_dir)
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(item.bytes for item in files)
    with locked(folder / ".lock"):
        missing = [item for item in files if not _is_here(folder, item)]
        here = total - sum(item.bytes for item in missing)
        check_room(folder, sum(item.bytes for item in missing))
        for item in missing:
            _fetch_file(model, item, folder, hub_url=hub_url, token=token, tell=_shifted(progress, here, total))
            here += item.bytes
        if any(item.name.endswith(".safetensors") for item in files):
            (folder / _WHOLE).touch()
    note = _note_of(model.repo, model.revision, cache_dir)
    note.parent.mkdir(exist_ok=True)
    note.write_text(model.commit)
    return folder


def find_from_hub(repo: str, *, revision: str, file: str | None, cache_dir: Path) -> Path | None:
    """Return what `fetch_from_hub` fetched for a commit, or last for a branch or tag; None where it is not whole.

    Asks nobody. A file's path where one was chosen, else the folder's.
    """
    commit = revision
    if not _COMMIT.fullmatch(revision):
        try:
            commit = _note_of(repo, revision, cache_dir).read_text().strip()
        except OSError:
            return None
    folder = hub_folder(repo, commit, cache_dir)
    if file is None:
        return folder if (folder / _WHOLE).is_file() else None
    part = _PART.fullmatch(file)
    names = [file] if part is None else _names_of_parts(part)
    return folder / file if all((folder / name).is_file() for name in names) else None


def hub_folder(repo: str, commit: str, cache_dir: Path) -> Path:
    """Return where a commit's files lie."""
    return cache_dir / "hub" / repo.replace("/", "--") / commit


def _names_of_parts(part: re.Match[str]) -> list[str]:
    return [f"{part['stem']}-{number:05d}-of-{part['count']}.gguf" for number in range(1, int(part["count"]) + 1)]


def _note_of(repo: str, revision: str, cache_dir: Path) -> Path:
    """Return the file that says which commit a branch or tag last meant."""
    return cache_dir / "hub" / repo.replace("/", "--") / "revisions" / quote(revision, safe="")


def _is_here(folder: Path, item: HubFile) -> bool:
    """Return whether a file is here; it got its name only once its hash was right."""
    try:
        return (folder / item.name).stat().st_size == item.bytes
    except FileNotFoundError:
        return False


def _fetch_file(
    model: HubModel, item: HubFile, folder: Path, *, hub_url: str, token: str | None, tell: Progress | None
) -> None:
    target = folder / item.name
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    name = f"hf:{model.repo}@{model.commit[:12]}/{item.name}"
    if item.sha256 is None and item.git_sha1 is None:
        raise _failed(model.repo, hub_url, f"it names no hash of {item.name!r}, so the file could not be verified")
    url = f"{hub_url.rstrip('/')}/{model.repo}/resolve/{model.commit}/{quote(item.name, safe='/')}"
    download(url, name=name, size=item.bytes, part=part, progress=tell, secret=_secret(token))
    if part.stat().st_size != item.bytes or not _is_right(part, item):
        part.unlink()
        raise FetchFailed(
            f"{name} is not what the hub says it is: its hash differs",
            next_step="Nothing of it was kept. Fetch it again; if it stays wrong, do not use it",
        )
    part.replace(target)


def _is_right(path: Path, item: HubFile) -> bool:
    digest = hashlib.sha256() if item.sha256 else hashlib.sha1(f"blob {item.bytes}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1024 * 1024):
            digest.update(block)
    return digest.hexdigest() == (item.sha256 or item.git_sha1)


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    if progress is None:
        return None
    tell = progress
    return lambda done, _size: tell(before + done, total)


def _read_file(told: Any) -> HubFile | None:
    """Return a file of the listing; None for what has no name or size that can be taken."""
    if not isinstance(told, dict):
        return None
    name, size, lfs, blob = told.get("rfilename"), told.get("size"), told.get("lfs"), told.get("blobId")
    if not isinstance(name, str) or not _PLAIN_PATH.fullmatch(name) or not isinstance(size, int) or size < 0:
        return None
    sha256 = lfs.get("sha256") if isinstance(lfs, dict) else None
    return HubFile(
        name=name,
        bytes=size,
        sha256=sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else None,
        git_sha1=blob if lfs is None and isinstance(blob, str) and _COMMIT.fullmatch(blob) else None,
    )


async def _ask(url: str, token: str | None) -> Any:
    hub = urlsplit(url).netloc
    repo = "/".join(urlsplit(url).path.split("/")[3:5])
    async with Door() as door:
        try:
            response, _ = await follow(door, url, upstream="hub", headers=[], timeouts=_TIMEOUTS, secret=_secret(token))
            async with response:
                if response.status in _SHUT or response.status == 404:  # noqa: PLR2004 - not found
                    raise _failed(
                        repo,
                        hub,
                        f"it answered {response.status}: the model may be gated, private or missing",
                        next_step="Check the name. If it is gated or private, name the variable that holds your token: "
                        "token_env under [hub] in ownward.toml",
                    )
                if response.status != _STATUS_OK:
                    raise _failed(repo, hub, f"it answered {response.status}")
                return json.loads(await response.read(_LARGEST_LISTING_BYTES))
        except (UpstreamError, Astray) as error:
            raise _failed(repo, hub, str(error)) from error
        except (ValueError, RecursionError):
            raise _failed(repo, hub, "its answer is not JSON") from None


def _secret(token: str | None) -> Headers | None:
    return [(b"authorization", b"Bearer " + token.encode("ascii"))] if token else None


def _failed(repo: str, hub: str, why: str, *, next_step: str = "Try again later") -> FetchFailed:
    return FetchFailed(f"hf:{repo} could not be fetched from {hub}: {why}", next_step=next_step)
