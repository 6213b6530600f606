"""The machines of the catalogue and of the user, found by the names people type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from ownward.catalog._load import DATA, as_key, load_identified
from ownward.catalog._machine import UNDATED, Machine, read_machine
from ownward.catalog._names import NameIndex, listed
from ownward.core import Sourced, UnknownMachine, closest

# Words that do not tell one machine from another.
_BRANDS = frozenset(
    {
        *("nvidia", "geforce", "rtx", "gtx", "amd", "radeon", "rx", "instinct", "intel", "apple", "tesla", "google"),
        *("aws", "gpu", "card", "graphics", "generation", "edition", "core", "chip", "per", "mac", "studio", "mini"),
        *("macbook", "imac"),
        *("hbm2", "hbm2e", "hbm3", "hbm3e", "gddr6", "gddr6x", "gddr7", "lpddr5x"),
    }
)
_SIZE = re.compile(r"\b(\d+) ?G(?:i?B)?\b|\b(\d{1,3})$", re.IGNORECASE)
# What somebody noted behind a name: `RTX 3090 24GB (PCIe3 x16, 220W cap)`.
_REMARK = re.compile(r"\([^()]*\)")
_SUGGESTED, _MOST_SPELLINGS = 4, 16
# `7900 XTX` and `6700xt` are cards, and no counts.
_COUNTED = re.compile(r'^\s*(\d+)\s*(?!xtx?\b)[x×*]\s*"?(.+?)"?\s*$', re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineGroup:
    """Several equal machines, as in `2x"RTX 3090"`."""

    count: int
    machine: Machine


def machines(extra: Sequence[Path] = ()) -> tuple[Machine, ...]:
    """Return every machine, sorted by id; `extra` are the user's files or folders, which replace by id.

    Raises: ConfigError, with file and line of every fault in the user's files.
    """
    return tuple(_by_id(as_key(extra)).values())


def machine(name: str, extra: Sequence[Path] = ()) -> Machine:
    """Return the machine that `name` (an id, a name, an alias, or enough words of one) means.

    Chips sold in several memory sizes (Apple, Ryzen AI Max) may name one: `M4 Pro 24GB`.
    Raises: UnknownMachine, with the closest names, or with the choices where several fit.
    """
    known = _by_id(as_key(extra))
    index = _index(as_key(extra))
    found = index.find(name)
    if len(found) == 1:
        return known[found[0]]
    sized = None if found else _with_stated_memory(name, known, index)
    if sized is not None:
        return sized
    remark = _REMARK.search(name)
    if remark is not None and not found:
        return machine(name.replace(remark[0], " "), extra)
    if found:
        raise ambiguous_machine(name, found)
    raise _unknown_machine(name, known)


def parse_machines(text: str, extra: Sequence[Path] = ()) -> MachineGroup:
    """Return count and machine of `RTX 3090`, `2x"RTX 3090"` or `8xH100-SXM`.

    Raises: UnknownMachine, as `machine`; also for a count of zero.
    """
    counted = _COUNTED.match(text)
    if counted is None:
        return MachineGroup(count=1, machine=machine(text.strip().strip('"'), extra))
    if int(counted[1]) == 0:
        none = UnknownMachine(text, [])
        none.allowed = "Write how many there are, 1 or more"
        raise none
    return MachineGroup(count=int(counted[1]), machine=machine(counted[2], extra))


def search_machines(text: str = "", extra: Sequence[Path] = ()) -> tuple[Machine, ...]:
    """Return the machines of which one name contains every word of `text`; all of them for none."""
    known = _by_id(as_key(extra))
    return tuple(known[key] for key in _index(as_key(extra)).search(text))


def _unknown_machine(name: str, known: dict[str, Machine]) -> UnknownMachine:
    """Return the error for a name that no machine carries, with the closest machines, each once."""
    error = UnknownMachine(name, ())
    spelled = {spelling: item.id for item in known.values() for spelling in (item.name, item.id, *item.aliases)}
    near = dict.fromkeys(spelled[spelling] for spelling in closest(name, spelled, limit=_MOST_SPELLINGS))
    error.closest = tuple(near)[:_SUGGESTED]
    error.allowed = f"Closest: {listed(error.closest)}" if error.closest else None
    if not near and re.search(r"\bi?mac", name.lower()):
        error.allowed = "Name a Mac by its chip and memory, such as 'M4 Max 64GB' or 'M3 Ultra 512GB'"
    return error


def ambiguous_machine(name: str, choices: Sequence[str]) -> UnknownMachine:
    """Return the error for a name that several machines carry, naming them all."""
    error = UnknownMachine(name, choices)
    error.message = f"{name!r} can mean {len(choices)} machines"
    error.allowed = f"One of {listed(choices)}"
    error.closest = tuple(choices)
    return error


@lru_cache(maxsize=8)
def _by_id(extra: tuple[Path, ...]) -> dict[str, Machine]:
    own = [DATA / "machines"]
    found = load_identified(own, extra, "machine", lambda table, _folder: read_machine(table))
    return {key: found[key] for key in sorted(found)}


@lru_cache(maxsize=8)
def _index(extra: tuple[Path, ...]) -> NameIndex:
    names: dict[str, tuple[str, ...]] = {}
    for key, item in _by_id(extra).items():
        spelled = (item.name, *item.aliases)
        label = None if item.memory_label is None else item.memory_label.value.replace(" ", "")
        sized = tuple(f"{name} {label}" for name in spelled if label and label not in name.replace(" ", ""))
        names[key] = (*spelled, *sized)
    return NameIndex(names, filler=_BRANDS)


def _with_stated_memory(name: str, known: dict[str, Machine], index: NameIndex) -> Machine | None:
    """Return a chip sold in several sizes with the size that `name` states, up to its largest; None if it is not so."""
    size = _SIZE.search(name)
    if size is None:
        return None
    stated_gb = size[1] or size[2]
    found = index.find(name.replace(size[0], " "))
    if len(found) > 1 and all(known[key].label_is_largest for key in found):
        raise ambiguous_machine(name, found)
    if len(found) != 1:
        return None
    chip = known[found[0]]
    largest = chip.memory_label
    if not chip.label_is_largest or (largest is not None and int(stated_gb) > (chip.memory_label_gb or 0)):
        return None
    label = Sourced(
        value=f"{stated_gb} GB",
        basis="assumed" if largest is None else largest.basis,
        source=f"the name {name!r}" if largest is None else largest.source,
        checked_on=UNDATED if largest is None else largest.checked_on,
        note=f"size stated in the name {name!r}; the largest is {'not known' if largest is None else largest.value}",
    )
    return replace(chip, memory_label=label, memory_bytes=None, label_is_largest=False)
