"""The store of weights: pinned by hash, fetched once from the first source that has them, verified before use."""

from ownward.engines.store._addresses import RemoteAddress, parse_remote
from ownward.engines.store._remote import RemoteCheckpoint, RemoteFile, RemoteLimits
from ownward.engines.store._shelf import fetch, find, verify
from ownward.engines.store._weights import EMBEDDED_MODEL, PackageSource, Progress, WebSource, Weights

__all__ = [
    "EMBEDDED_MODEL",
    "PackageSource",
    "Progress",
    "RemoteAddress",
    "RemoteCheckpoint",
    "RemoteFile",
    "RemoteLimits",
    "WebSource",
    "Weights",
    "fetch",
    "find",
    "parse_remote",
    "verify",
]
