"""Licences of releases: what they allow to whom, with the clause. Whether a use is fine is not decided here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from ownward.catalog._facts import FactTable, as_text
from ownward.catalog._load import DATA, as_key, load_identified
from ownward.core import Sourced, UnknownName

Commercial = Literal["free", "conditional", "forbidden"]
Measure = Literal["monthly_active_users", "monthly_revenue_usd", "annual_revenue_usd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenceLimit:
    """A threshold: what holds for a user whose `measure` is above `above`.

    `business` narrows it to one kind of business (`model-as-a-service`,
    `ai-work-assistant`); None means every commercial use. `blocks` says that
    use is not allowed without a further agreement; otherwise a duty is added.
    """

    measure: Measure
    above: int
    then: str
    blocks: bool
    business: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """A licence and the gist of the clauses that decide; the text itself always goes before it."""

    id: str
    name: str
    commercial: Sourced[Commercial]
    gist: Sourced[str]
    clause: str = ""
    limits: tuple[LicenceLimit, ...] = ()
    excluded_regions: tuple[str, ...] = ()


def licences(extra: Sequence[Path] = ()) -> tuple[Licence, ...]:
    """Return every licence, sorted by id.

    Raises: ConfigError, with file and line of every fault in the user's files.
    """
    return tuple(_by_id(as_key(extra)).values())


def licence(licence_id: str, extra: Sequence[Path] = ()) -> Licence:
    """Return a licence by its id, as models name it.

    Raises: UnknownName, with the closest ids.
    """
    known = _by_id(as_key(extra))
    if licence_id not in known:
        raise UnknownName(licence_id, list(known), what="licence", see="ownward models licence")
    return known[licence_id]


@lru_cache(maxsize=8)
def _by_id(extra: tuple[Path, ...]) -> dict[str, Licence]:
    found = load_identified([DATA / "licences.toml"], extra, "licence", lambda table, _folder: _read(table))
    return {key: found[key] for key in sorted(found)}


def _read(table: FactTable) -> Licence:
    read = Licence(
        id=table.need_text("id"),
        name=table.need_text("name"),
        commercial=table.need_fact("commercial", _as_commercial, "forbidden"),
        gist=table.need_fact("gist", as_text, "?"),
        clause=table.text("clause"),
        limits=tuple(limit for stated in table.raw("limits") or () if (limit := _limit(table, stated))),
        excluded_regions=table.texts("excluded_regions"),
    )
    table.close()
    return read


def _limit(table: FactTable, stated: Any) -> LicenceLimit | None:
    needed, allowed = {"measure", "above", "then", "blocks"}, {"measure", "above", "then", "blocks", "business"}
    is_right = isinstance(stated, dict) and needed <= set(stated) <= allowed and stated["measure"] in get_args(Measure)
    if not is_right or not isinstance(stated["above"], int) or not isinstance(stated["blocks"], bool):
        table.fault(
            "limits", f"has {stated!r}", allowed=f"measure ({', '.join(get_args(Measure))}), above, then, blocks"
        )
        return None
    return LicenceLimit(**stated)


def _as_commercial(value: Any) -> Commercial:
    if value not in get_args(Commercial):
        raise ValueError(f"One of {', '.join(get_args(Commercial))}")
    return value  # type: ignore[no-any-return]  # checked against the closed set
