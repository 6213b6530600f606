"""How many devices share a layer, and what it costs them: all-reduces, exchanges of tokens, the hottest rank."""

from __future__ import annotations

import math
from collections.abc import Callable

from ownward.perf._network import Network

# Bytes a second that one device sends while reducing. Sources: NVLink 4 and 5 datasheets, 450 and 900 GB/s each way, of
# which all-reduces reach about 0.6; PCIe 4.0 x16 without peer access about 12 GB/s.
_LINK_BYTES_PER_S = {"hopper": 250e9, "a100": 170e9, "blackwell-datacenter": 500e9, "cdna": 150e9}
_SLOW_LINK_BYTES_PER_S = 12e9
# An exchange sends each token's copies out in 8 bits and fetches their results in 16. Source: DeepEP.
_EXCHANGED_BYTES = 3
# What popularity adds on the hottest of many ranks however many tokens there are. Basis: assumed, the low end of the
# 1.1 to 1.5 that placement tools report without rebalancing.
_POPULAR = 0.1
_MOST_SHARING = 8


def parallel_degrees(count: int, can_share: Callable[[int], bool] = bool) -> tuple[int, int]:
    """Return how many of `count` devices share each layer, and how many such groups take turns, where nobody says.

    Layers are shared by a power of two of devices, at most 8 and as the model's heads allow (`can_share`).

    >>> parallel_degrees(8), parallel_degrees(16), parallel_degrees(3)
    ((8, 1), (8, 2), (1, 3))
    >>> parallel_degrees(8, lambda devices: 20 % devices == 0)
    (4, 2)
    """
    sharing = 1
    while sharing < _MOST_SHARING and count % (2 * sharing) == 0 and can_share(2 * sharing):
        sharing *= 2
    return sharing, count // sharing


def has_fast_link(family: str) -> bool:
    """Return whether devices of a family talk over their own links and not over PCIe."""
    return family in _LINK_BYTES_PER_S


def hot_rank_factor(ranks: int, copies: float) -> float:
    """Return how much more than the mean the busiest of `ranks` gets when `copies` go to them at random.

    Balls into bins (Raab and Steger 1998), and a tenth for experts that are popular; 1 where experts are not apart.

    >>> hot_rank_factor(1, 8), round(hot_rank_factor(8, 8), 1), round(hot_rank_factor(8, 80_000), 2)
    (1.0, 3.1, 1.12)
    """
    if ranks <= 1:
        return 1.0
    return min(1.0 + _POPULAR + math.sqrt(2.0 * math.log(ranks) * ranks / max(copies, 1.0)), float(ranks))


def communication_s(
    *,
    devices: int,
    family: str,
    tokens: float,
    hidden: int,
    layers: int,
    expert_layers: int,
    copies: int,
    reduce_s: float,
    attention_data_parallel: bool,
    nodes: int = 1,
    network: Network | None = None,
) -> float:
    """Return what a step of `tokens` tokens costs in messages between `devices` devices.

    Tensor parallelism (with experts cut or apart): two all-reduces a layer. With attention cut by sequences nothing is
    reduced; each layer of experts sends `copies` of a token to their ranks and fetches the results: two exchanges, each
    of the latency of two all-reduces. Over several nodes an all-reduce goes first inside each node, then between the
    same devices of all nodes, each with its share; an exchange sends a token once to every node that it needs.
    """
    link = _LINK_BYTES_PER_S.get(family, _SLOW_LINK_BYTES_PER_S)
    nodes = nodes if network is not None and 1 < nodes <= devices else 1
    inside = devices / nodes
    latency_s = reduce_s * math.log2(inside)
    away = (inside - 1) / inside
    if not attention_data_parallel:
        between_s = 0.0
        if network is not None and nodes > 1:
            part = tokens * hidden * 2 / inside
            between_s = network.latency_s * math.log2(nodes) + 2 * (nodes - 1) / nodes * part / network.bytes_per_s
        return 2 * layers * (latency_s + 2 * away * tokens * hidden * 2 / link + between_s)
    sent = tokens / devices * min(copies, devices) * hidden * _EXCHANGED_BYTES
    between_s = 0.0
    if network is not None and nodes > 1:
        crossing = tokens / devices * min(copies, nodes) * (nodes - 1) / nodes * hidden * _EXCHANGED_BYTES
        between_s = 4 * network.latency_s * math.log2(nodes) + crossing / network.bytes_per_s
    return max(expert_layers, 1) * (4 * latency_s + away * sent / link + between_s)


def passing_s(*, stages: int, nodes: int, tokens: float, hidden: int, network: Network) -> float:
    """Return what a pipeline of `stages` pays to hand `tokens` tokens from node to node."""
    hops = min(nodes, stages) - 1
    return max(hops, 0) * (network.latency_s + tokens * hidden * 2 / network.bytes_per_s)
