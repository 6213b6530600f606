"""Networks between nodes: what a device of one sends to a device of another, and how long a message waits."""

from __future__ import annotations

import re
from typing import NamedTuple

from ownward.core import BadInput


class Network(NamedTuple):
    """Bytes a second that each device sends to other nodes, and seconds before the first of them arrives."""

    bytes_per_s: float
    latency_s: float


# One adapter of that rate for each device, as in DGX nodes (DGX A100 datasheet: eight of 200 Gb/s; DGX H100 and B200:
# eight of 400 Gb/s). Of an adapter's rate messages between experts reach 0.86 to 1 (DeepEP's own measurements, 43 to
# 58 GB/s over 50). Latencies: a message of a collective over RDMA about 10 us, over TCP about 50 us. Basis: assumed.
_REACHED = 0.9
_RDMA_S = 10e-6
_TCP_S = 50e-6
_USUAL_GBIT_PER_S = {"infiniband": 400.0, "roce": 400.0, "ethernet": 100.0}
_GBIT = 1e9 / 8


def read_network(text: str | float | None, *, devices_per_node: int = 8) -> Network:
    """Return the network that `infiniband`, `infiniband 200`, `ethernet 25` or a number of Gbit/s names.

    InfiniBand and RoCE have an adapter for each device; Ethernet and a bare number one for the node. Nothing stated is
    InfiniBand at 400 Gbit/s a device.
    Raises: BadInput, for a kind that is not known.

    >>> read_network("infiniband 200").bytes_per_s, read_network("ethernet 100", devices_per_node=4).bytes_per_s
    (22500000000.0, 2812500000.0)
    """
    said = "infiniband" if text is None or text == "" else str(text).lower()
    stated = re.search(r"\d+(?:\.\d+)?", said)
    kind = next((name for name in _USUAL_GBIT_PER_S if name in said), None)
    if kind is None and (stated is None or re.search(r"[a-z]", said.replace("gbit/s", "").replace("gb/s", ""))):
        raise BadInput(f"network is {text!r}", allowed=f"{', '.join(_USUAL_GBIT_PER_S)}, with Gbit/s, or Gbit/s alone")
    gbit = float(stated[0]) if stated else _USUAL_GBIT_PER_S[kind or "infiniband"]
    if gbit <= 0:
        raise BadInput(f"network is {text!r}", allowed="more than 0 Gbit/s")
    is_shared = kind in {None, "ethernet"}
    each = gbit * _GBIT * _REACHED / (max(devices_per_node, 1) if is_shared else 1)
    return Network(each, _TCP_S if is_shared else _RDMA_S)
