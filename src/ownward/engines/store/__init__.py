"""The store of weights: pinned by hash, fetched once from the first source that has them, verified before use."""

from ownward.engines.store._addresses import HubAddress, RemoteAddress, parse_hub, parse_remote
from ownward.engines.store._hub import HubFile, HubModel, fetch_from_hub, find_from_hub, read_hub
from ownward.engines.store._remote import RemoteCheckpoint, RemoteFile, RemoteLimits
from ownward.engines.store._shelf import fetch, find, verify
from ownward.engines.store._weights import EMBEDDED_MODEL, PackageSource, Progress, WebSource, Weights

__all__ = [
    "EMBEDDED_MODEL",
    "HubAddress",
    "HubFile",
    "HubModel",
    "PackageSource",
    "Progress",
    "RemoteAddress",
    "RemoteCheckpoint",
    "RemoteFile",
    "RemoteLimits",
    "WebSource",
    "Weights",
    "fetch",
    "fetch_from_hub",
    "find",
    "find_from_hub",
    "parse_hub",
    "parse_remote",
    "read_hub",
    "verify",
]
