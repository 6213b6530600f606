"""What devices that share a layer pay for it: all-reduces, exchanges of tokens between experts, the hottest rank."""

from __future__ import annotations

import math

# Bytes a second that one device sends while reducing. Sources: NVLink 4 and 5 datasheets, 450 and 900 GB/s each way, of
# which all-reduces reach about 0.6; PCIe 4.0 x16 without peer access about 12 GB/s.
_LINK_BYTES_PER_S = {"hopper": 250e9, "a100": 170e9, "blackwell-datacenter": 500e9, "cdna": 150e9}
_SLOW_LINK_BYTES_PER_S = 12e9
# An exchange sends each token's copies out in 8 bits and fetches their results in 16. Source: DeepEP.
_EXCHANGED_BYTES = 3
# What popularity adds on the hottest of many ranks however many tokens there are. Basis: assumed, the low end of the
# 1.1 to 1.5 that placement tools report without rebalancing.
_POPULAR = 0.1


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
) -> float:
    """Return what a step of `tokens` tokens costs in messages between `devices` devices.

    Tensor parallelism (with experts cut or apart): two all-reduces a layer. With attention cut by sequences nothing is
    reduced; each layer of experts sends `copies` of a token to their ranks and fetches the results: two exchanges, each
    of the latency of two all-reduces.
    """
    link = _LINK_BYTES_PER_S.get(family, _SLOW_LINK_BYTES_PER_S)
    latency_s = reduce_s * math.log2(devices)
    away = (devices - 1) / devices
    if not attention_data_parallel:
        return 2 * layers * (latency_s + 2 * away * tokens * hidden * 2 / link)
    sent = tokens / devices * min(copies, devices) * hidden * _EXCHANGED_BYTES
    return max(expert_layers, 1) * (4 * latency_s + away * sent / link)
