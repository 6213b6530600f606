"""Machines by what people write beside a measurement: a board with a card, a count and a host, a processor alone."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date
from typing import TypeVar

from ownward.catalog import Machine, MachineKind, machine
from ownward.core import Sourced, UnknownMachine

T = TypeVar("T")

# What the processor of an Apple chip gets of the memory's bandwidth, and FLOP a byte of that (8 cores x 3.5 GHz x 64 in
# FP16). Source: AnandTech on the M1 Max, 2021-10-25 (243 of 409 GB/s).
_APPLE_CPU_SHARE = 0.6
_APPLE_CPU_INTENSITY = 7.4

_CHECKED_ON = date(2026, 11, 21)
# Platforms that the catalogue has no row of, mostly boards and laptops that somebody measured on: kind, GB/s, GB, dense
# FP16 TFLOP/s where worked out (small processors: cores x clock x FP32 lanes x 2; Xeon 6: cores x 2 GHz x 1,024, AMX).
# Worked out from the width and speed of the memory that such a platform has, and not read in a document: `assumed`.
# Of the Ascend 910B pages disagree (0.8 to 1.6 TB/s, 256 to 376 TFLOP/s), so its compute rate is left unknown.
_PLATFORMS: tuple[tuple[str, MachineKind, float, float | None, float | None], ...] = (
    (r"ascend.?910b", "asic", 1600.0, 64.0, None),
    (r"arc pro b60 dual", "gpu-workstation", 912.0, 48.0, 196.6),
    (r"apple m1 7.core gpu", "soc-unified", 68.25, 8.0, 2.3),
    (r"iris xe|alder lake", "soc-unified", 76.8, 32.0, 3.4),
    (r"arc graphics 1[34]0v", "soc-unified", 136.5, 32.0, 32.0),
    (r"radeon 8[46]0m", "soc-unified", 89.6, 32.0, 5.0),
    (r"radeon 7[68]0m", "soc-unified", 89.6, 32.0, 17.0),
    (r"xeon.*6980p", "cpu-platform", 844.8, None, 262.0),
    (r"xeon.*6787p", "cpu-platform", 512.0, None, 176.0),
    (r"2x xeon gold 6138", "cpu-platform", 256.0, None, None),
    (r"xeon scalable|xeon gold", "cpu-platform", 307.2, None, None),
    (r"ampereone", "cpu-platform", 332.8, None, None),
    (r"7840hs|8745h|7640u|155h|ryzen ai 5 340|265k|13900", "cpu-platform", 89.6, None, None),
    (r"snapdragon 888", "cpu-platform", 51.2, None, 0.3),
    (r"minisforum ms-r1|orion o6", "cpu-platform", 88.0, None, None),
    (r"\bn150\b", "cpu-platform", 38.4, 16.0, 0.23),
    (r"hifive", "cpu-platform", 51.2, 16.0, 0.011),
    (r"dc-roma", "cpu-platform", 51.2, 32.0, 0.022),
    (r"optiplex|c2q", "cpu-platform", 10.6, 8.0, 0.085),
    (r"pi (5|500|cm5)", "cpu-platform", 17.1, 16.0, 0.15),
    (r"pi 400", "cpu-platform", 12.8, 4.0, 0.058),
)
# The host behind a card, where a row names it. Sources: as above; eight channels of DDR5-4800 for Sapphire Rapids.
_HOSTS = ((r"2x epyc 9355", 1150e9), (r"xeon gold 6454s", 307.2e9), (r"7965wx", 332.8e9))
_CARD = re.compile(
    r"\((?:nvidia |amd |intel )?((?:rtx|rx|gtx|radeon|arc|pro|ai pro|a\d|[3-7]\d\d\d)[^()]*)\)", re.IGNORECASE
)
_BOARDS = re.compile(r"^(pi|radxa|hifive|minisforum ms-r1|dc-roma|orion)\b", re.IGNORECASE)
_NOISE = re.compile(
    r"virtualized |\[maxsun\] ms-|\bdual 48g turbo|\b\d+-core gpu|\bedition\b|\(nvidia spark\)|\(395\+\)", re.IGNORECASE
)
_RENAMED = (
    (r"^rtx-pro-6000-blackwell$", "RTX PRO 6000 Blackwell Workstation"),
    (r"^h100 80gb$", "H100 SXM5 80GB"),
    (r"apple m(\d) m\1 max.*", r"Apple M\1 Max (40-core GPU)"),
    (r"apple m5 max.*", "Apple M5 Max (40-core GPU)"),
    (r"^rtx 5090 .*", "RTX 5090"),
    (r"^dell pro max with gb10.*", "DGX Spark"),
    (r"^framework (desktop )?mainboard.*", "Ryzen AI Max+ 395"),
    (r"^(amd )?pro w7700$", "Radeon PRO W7700"),
    (r"^(nvidia )?a400$", "RTX A400"),
    (r"^(intel )?arc (pro )?(a310|b\d0).*$", r"Intel Arc \2\3"),
    (r"^rtx a2000$", "RTX A2000 12GB"),
    (r"^(amd )?rx (580|6500 xt|6700 xt).*$", r"Radeon RX \2"),
    (r"^(amd )?(radeon )?ai pro r9700$", "Radeon AI PRO R9700"),
    (r"^nvidia ([345]\d{3}.*)$", r"RTX \1"),
    (r"^([345]0\d0.*)$", r"RTX \1"),
    (r"^(7900 xtx?)$", r"RX \1"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedMachine:
    """What a text names: the device that computes, and what it says of the host behind it.

    `slow_host`: the card hangs on a single-board computer, whose processor is slow to launch its work.
    """

    machine: Machine
    host_bytes_per_s: float | None = None
    slow_host: bool = False


def machine_named(text: str, *, on_cpu: bool = False) -> NamedMachine:
    """Return the machine that `text` names, in the words of whoever measured on it.

    `on_cpu` (or a leading `CPU`) takes the processor, at its memory's bandwidth.
    Raises: UnknownMachine.
    """
    host = next((rate for pattern, rate in _HOSTS if re.search(pattern, text, re.IGNORECASE)), None)
    if on_cpu or text.upper().startswith("CPU "):
        return NamedMachine(machine=_processor(re.sub(r"(?i)^cpu ", "", text)))
    is_slow = bool(_BOARDS.match(text))
    error: UnknownMachine | None = None
    for spelled in _spellings(text):
        platform = _platform(spelled)
        if platform is not None and not re.search(
            r"(?i)\b(nvidia|amd) ", spelled.split("(")[-1] if "(" in text else ""
        ):
            return NamedMachine(machine=platform, host_bytes_per_s=host)
        try:
            return NamedMachine(machine=machine(spelled), host_bytes_per_s=host, slow_host=is_slow)
        except UnknownMachine as unknown:
            error = error or unknown
    assert error is not None
    raise error


def _spellings(text: str) -> list[str]:
    """Return what to look up, the most telling first."""
    card = _CARD.search(text)
    found = [card[1]] if card else []
    if "+" in text:
        parts = [part for part in re.split(r"\s\+\s", text) if re.search(r"(?i)rtx|l20|a6000|h\d00", part)]
        found += [re.sub(r"^\d+x\s*", "", part) for part in parts]
    found += [text, _NOISE.sub(" ", text).strip(), re.sub(r"\([^()]*\)", " ", text).strip()]
    spelled: list[str] = []
    for name in found:
        for pattern, better in _RENAMED:
            if re.search(pattern, name, re.IGNORECASE):
                spelled.append(re.sub(pattern, better, name, flags=re.IGNORECASE))
        spelled.append(name)
    return spelled


def _processor(name: str) -> Machine:
    platform = _platform(name)
    if platform is not None:
        return platform
    shared = machine_named(name).machine
    bandwidth = shared.bandwidth_bytes_per_s
    is_apple = "apple" in shared.name.lower() and bandwidth is not None
    reached = None if bandwidth is None else bandwidth.value * (_APPLE_CPU_SHARE if is_apple else 1.0)
    return replace(
        shared, id=f"cpu-{shared.id}", name=f"CPU of {shared.name}", kind="cpu-platform",
        bandwidth_bytes_per_s=bandwidth if reached is None or not is_apple else _fact(reached),
        bf16_flop_per_s=_fact(reached * _APPLE_CPU_INTENSITY) if reached is not None and is_apple else None,
        fp16_flop_per_s=None, int8_op_per_s=None,
    )  # fmt: skip


def _platform(name: str) -> Machine | None:
    bare = name.lower()
    for pattern, kind, gigabytes_per_s, gigabytes, teraflop in _PLATFORMS:
        if re.search(pattern, bare):
            return Machine(
                id=re.sub(r"[^a-z0-9]+", "-", pattern.split("|", maxsplit=1)[0].replace(r"\b", "")).strip("-"),
                name=name,
                kind=kind,
                vendor="",
                memory_bytes=None if gigabytes is None else _fact(int(gigabytes * 0.97 * (1 << 30))),
                bandwidth_bytes_per_s=_fact(gigabytes_per_s * 1e9),
                bf16_flop_per_s=None if teraflop is None else _fact(teraflop * 1e12),
            )
    return None


def _fact(value: T) -> Sourced[T]:
    return Sourced(
        value=value,
        basis="assumed",
        source="worked out from the memory's width and speed; no document was read",
        checked_on=_CHECKED_ON,
    )
