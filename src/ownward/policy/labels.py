"""Labels: sets of places that request data may travel to, ordered by inclusion and closed under meet.

A label is a union of terms; a term names a region, a provider, the owner's own
site, or several of these at once. This machine is inside every label. Meeting two labels keeps what both allow, so that
a label passed through any number of hands can only have shrunk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ownward.core import UsageError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_RESERVED = frozenset({"any", "local", "local_only", "none", "site", "this_machine"})
_MOST_TERMS = 64
_ALLOWED = (
    'A label is "local_only", "site", "any", a region such as "eu" (or "region:eu"), "provider:NAME", '
    'or alternatives: ["eu", "provider:mistral"], in one text "eu|provider:mistral"'
)

_Term = tuple[str | None, str | None, str | None]
"""What a place must have: region, provider, and `site`; None asks for nothing."""

Reach = Literal["machine", "site", "anywhere"]
"""How far a connection may go: to loopback, to private addresses as well, or to any that is not forbidden."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a tier's requests are served, as its operator attests it.

    `is_local`: on this machine. `is_on_site`: on a machine of the owner's, at a
    private address; what is local is also on site. The door checks the resolved
    address of both. An unstated region or provider matches no label that
    names one. Names are compared in lower case.
    """

    is_local: bool = False
    is_on_site: bool = False
    region: str | None = None
    provider: str | None = None

    def __post_init__(self) -> None:
        """Fold the names, so that `EU` and `eu` are one region; this machine is on its own site."""
        object.__setattr__(self, "is_on_site", self.is_on_site or self.is_local)
        object.__setattr__(self, "region", _fold(self.region))
        object.__setattr__(self, "provider", _fold(self.provider))

    def __str__(self) -> str:
        """Return the place as a person would name it.

        >>> str(Place(region="eu", provider="mistral"))
        'provider mistral, region eu'
        """
        if self.is_local:
            return "this machine"
        if self.is_on_site:
            stated = "".join(f", {word} {name}" for word, name in (("region", self.region),) if name)
            return f"a machine on your own network{stated}"
        return f"provider {self.provider or 'unstated'}, region {self.region or 'unstated'}"

    @property
    def reach(self) -> Reach:
        """The addresses that what is stated to be here may have."""
        if self.is_local:
            return "machine"
        return "site" if self.is_on_site else "anywhere"


def _term_text(term: _Term) -> str:
    region, provider, site = term
    parts = [part for part in (region, provider and f"provider:{provider}", site) if part]
    return "+".join(parts) if parts else "any"


@dataclass(frozen=True, slots=True)
class Label:
    """A set of places, in a form in which equal sets are equal values.

    Made by `parse` and `meet`; `LOCAL_ONLY` has no term, `ANY` has the term that asks for nothing.

    >>> str(Label.parse(["eu", "provider:mistral"]).meet(Label.parse("eu")))
    'eu'
    """

    _terms: frozenset[_Term]
    _text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Spell it once: every request shows its label."""
        text = "|".join(sorted(_term_text(term) for term in self._terms)) if self._terms else "local_only"
        object.__setattr__(self, "_text", text)

    @classmethod
    def parse(cls, stated: str | Sequence[str], *, where: str = "label") -> Label:
        """Return the label that a text or a list of alternatives states.

        Alternatives in one text stand between `|`; parts that must all hold
        are joined by `+` (`eu+provider:mistral`). A comma is refused: where
        proxies join repeated headers by commas it would widen instead of shrink.
        `this_machine` may be listed and adds nothing, being part of every label.

        Raises: UsageError at `where`, naming the allowed forms.
        """
        words = stated.split("|") if isinstance(stated, str) else list(stated)
        if not all(isinstance(word, str) for word in words):
            raise _refuse("has an alternative that is not text", where)
        words = [word.strip().lower() for word in words]
        if words == ["any"]:
            return ANY
        if words in (["local_only"], ["this_machine"], ["local"]):
            return LOCAL_ONLY
        if not words or words == [""]:
            raise _refuse("is empty", where)
        if len(words) > _MOST_TERMS:
            raise _refuse(f"lists {len(words)} alternatives; {_MOST_TERMS} are the most", where)
        terms = [_parse_term(word, where) for word in words if word not in {"this_machine", "local"}]
        return cls(_minimal(term for term in terms if term is not None))

    def meet(self, other: Label) -> Label:
        """Return the places that both labels allow; never more than either."""
        if self is other:
            return self
        pairs = (_join(mine, theirs) for mine in self._terms for theirs in other._terms)
        return Label(_minimal(term for term in pairs if term is not None))

    def permits(self, place: Place) -> bool:
        """Tell whether the data may travel to `place`."""
        if place.is_local:
            return True
        for region, provider, site in self._terms:
            if (
                (region is None or region == place.region)
                and (provider is None or provider == place.provider)
                and (site is None or place.is_on_site)
            ):
                return True
        return False

    def may_permit(self, place: Place) -> bool:
        """Tell whether the data may travel to `place` once the region and provider that it leaves unstated are stated.

        >>> Label.parse("eu").may_permit(Place(provider="mistral")), LOCAL_ONLY.may_permit(Place(provider="mistral"))
        (True, False)
        """
        return place.is_local or any(
            (region is None or place.region in {None, region})
            and (provider is None or place.provider in {None, provider})
            and (site is None or place.is_on_site)
            for region, provider, site in self._terms
        )

    @property
    def is_local_only(self) -> bool:
        """Whether no place but this machine is allowed."""
        return not self._terms

    def __le__(self, other: Label) -> bool:
        """Tell whether every place allowed here is allowed there."""
        return self.meet(other) == self

    def __hash__(self) -> int:
        """Return the hash of its text, which every request asks for."""
        return hash(self._text)

    def __str__(self) -> str:
        """Return the text that `parse` reads back as this label."""
        return self._text

    def __repr__(self) -> str:
        """Return the label as a call that makes it."""
        return f"Label.parse({str(self)!r})"


LOCAL_ONLY = Label(frozenset())
ANY = Label(frozenset({(None, None, None)}))


def effective_label(stated: Label | None, *narrowed_by: Label | None) -> Label:
    """Return the label a request travels under.

    `stated` is what the plan says for the workload (or by default); where it
    says nothing, this machine alone. Headers, keys and detectors come after it
    and can only shrink it; None leaves it as it is.

    >>> effective_label(None, ANY)
    Label.parse('local_only')
    """
    label = LOCAL_ONLY if stated is None else stated
    for other in narrowed_by:
        if other is not None:
            label = label.meet(other)
    return label


def _fold(name: str | None) -> str | None:
    return (name.strip().lower() or None) if name is not None else None


def _refuse(problem: str, where: str) -> UsageError:
    return UsageError(problem, where=where, allowed=_ALLOWED)


def _parse_term(word: str, where: str) -> _Term | None:
    region: str | None = None
    provider: str | None = None
    site: str | None = None
    for part in word.split("+"):
        kind, colon, name = part.strip().rpartition(":")
        if not colon and name == "site":
            site = name
            continue
        if not colon and name in _RESERVED:
            raise _refuse(f"has {name!r} beside other words; it stands alone", where)
        if kind not in {"", "region", "provider"} or _NAME.fullmatch(name) is None or name in _RESERVED:
            raise _refuse(f"has {part!r}, which names no place", where)
        if kind == "provider":
            if provider not in {None, name}:
                return None
            provider = name
        else:
            if region not in {None, name}:
                return None
            region = name
    return region, provider, site


def _join(mine: _Term, theirs: _Term) -> _Term | None:
    """Return the term that asks for both, or None where no place can be both."""
    region = _both(mine[0], theirs[0])
    provider = _both(mine[1], theirs[1])
    return None if region == "" or provider == "" else (region, provider, mine[2] or theirs[2])


def _both(mine: str | None, theirs: str | None) -> str | None:
    if mine is None:
        return theirs
    return mine if theirs is None or mine == theirs else ""


def _minimal(terms: Iterable[_Term]) -> frozenset[_Term]:
    """Drop terms that a wider one covers: what is left is the same for equal sets."""
    found = frozenset(terms)
    return frozenset(term for term in found if not any(other != term and _covers(other, term) for other in found))


def _covers(wide: _Term, narrow: _Term) -> bool:
    return all(asked in {None, has} for asked, has in zip(wide, narrow, strict=True))
