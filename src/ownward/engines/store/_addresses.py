"""What people type for a checkpoint elsewhere: `hf:org/name` or an https address, as addresses to try."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit

from ownward.core import BadInput
from ownward.engines.store._following import is_this_machine

_HUB_NAME = re.compile(
    r"hf:(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w-][\w.-]*))?(?:/(?P<file>[^?#]+))?", re.ASCII
)
_HUB_PAGE = re.compile(r"/(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:/(?:resolve|blob)/(?P<revision>[^/]+)/(?P<file>.+))?/?")
_ENDINGS = (".gguf", ".safetensors", ".json")
_TOLD_BEST_BY = ("model.safetensors.index.json", "model.safetensors", "config.json")
_ALLOWED = "hf:org/name, hf:org/name@revision/file.gguf, or an https address of a .gguf, .safetensors or .json file"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteAddress:
    """A checkpoint elsewhere: what to call it, and the addresses to try, the most telling first."""

    name: str
    urls: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAddress:
    """A model on a hub: `file` None means all that it is made of."""

    repo: str
    revision: str
    file: str | None

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which cannot come to mean something else."""
        return re.fullmatch(r"[0-9a-f]{40}", self.revision) is not None


def parse_hub(text: str) -> HubAddress:
    """Return what `hf:org/name`, with a revision and a file where stated, means.

    >>> parse_hub("hf:org/tiny@v1/tiny.gguf")
    HubAddress(repo='org/tiny', revision='v1', file='tiny.gguf')

    Raises: BadInput, saying how it is written.
    """
    match = _HUB_NAME.fullmatch(text)
    if match is None:
        allowed = "hf:org/name, or hf:org/name@revision/file.gguf"
        raise BadInput(f"{text[:200]!r} is not the name of a model on a hub", allowed=allowed)
    return HubAddress(repo=match["repo"], revision=match["revision"] or "main", file=match["file"])


def parse_remote(text: str, *, hub_url: str) -> RemoteAddress:
    """Return what a hub name or an https address means; `hub_url` is where `hf:` names lie.

    >>> parse_remote("hf:org/tiny@v1/tiny.gguf", hub_url="https://hub.example").urls
    ('https://hub.example/org/tiny/resolve/v1/tiny.gguf',)

    Raises: BadInput, saying how they are written.
    """
    hub_url = hub_url.rstrip("/")
    if text.startswith("hf:"):
        match = _HUB_NAME.fullmatch(text)
        if match is None:
            raise BadInput(f"{text[:200]!r} is not the name of a model on a hub", allowed=_ALLOWED)
        return _on_hub(match, hub_url)
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        host = None
    if host is None or "@" in parts.netloc or not text.isprintable() or " " in text:
        raise BadInput("the model's address is not valid", allowed=_ALLOWED)  # not shown: it may hold a password
    if parts.scheme != "https" and not is_this_machine(host):
        raise BadInput(f"the address at {host} is not encrypted", allowed="https:// to everywhere but this machine")
    if f"{parts.scheme}://{parts.netloc}" == hub_url and (match := _HUB_PAGE.fullmatch(parts.path)):
        return _on_hub(match, hub_url)
    folder, _, file = parts.path.rpartition("/")
    if not file.endswith(_ENDINGS):
        raise BadInput(f"{file[:100]!r} at {host} is not a file that describes a model", allowed=_ALLOWED)
    stem = file.rpartition(".")[0]
    generic = stem in {"config", "model", "model.safetensors.index"} or stem.startswith("model-0")
    name = folder.rpartition("/")[2] or host if generic else stem
    return RemoteAddress(name=name, urls=(urlunsplit((*parts[:4], "")),))


def _on_hub(match: re.Match[str], hub_url: str) -> RemoteAddress:
    repo, revision, file = match["repo"], match["revision"] or "main", match["file"]
    if file is not None and not file.endswith(_ENDINGS):
        raise BadInput(f"{file[:100]!r} of {repo} is not a file that describes a model", allowed=_ALLOWED)
    files = _TOLD_BEST_BY if file is None else (quote(file, safe="/%"),)
    is_gguf = file is not None and file.endswith(".gguf")
    name = file.rpartition("/")[2].removesuffix(".gguf") if file is not None and is_gguf else repo
    return RemoteAddress(name=name, urls=tuple(f"{hub_url}/{repo}/resolve/{revision}/{item}" for item in files))
