"""What can be wrong with a value of the plan, said once for the types and for the reader of the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple, NoReturn, TypeVar

from ownward.core import ConfigError, Fault, Sourced, closest, is_name

FigureValue = Decimal | int | float | str | bool
Option = str | int | float | bool | tuple[str, ...]
Figures = Mapping[str, Sourced[FigureValue]]

MAX_TEXT_CHARACTERS = 4096
MAX_USD = Decimal(10) ** 9
MAX_USD_DECIMALS = 18

_FIGURE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u0080-\u009f\u2028\u2029\ud800-\udfff]")
_SECRET = re.compile(
    r"""(?:^|[\s"'=:,])(?:
        (?:sk|rk|pk|gsk|xai|pplx|nvapi|r8|fw|csk|tgp|jina)[-_][A-Za-z0-9_-]{16,}
      | (?:hf|ghp|gho|ghs|glpat|xox[abpr])[-_][A-Za-z0-9_-]{10,}
      | github_pat_[A-Za-z0-9_]{20,}
      | ow-[A-Za-z0-9_-]{40,}  # our own
      | AKIA[0-9A-Z]{12,} | AIza[0-9A-Za-z_-]{20,} | ya29\.[0-9A-Za-z_-]{20,}
      | eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}
      | (?i:bearer|basic)\s+\S{6,}
    )""",
    re.VERBOSE,
)

K = TypeVar("K")
V = TypeVar("V")


class Problem(NamedTuple):
    """One broken rule: the key it concerns, relative to its object, what is wrong and what would be right."""

    key: str
    message: str
    allowed: str | None = None


def refuse(what: str, problems: Iterable[Problem]) -> None:
    """Raise ConfigError with every problem found, or do nothing.

    `what` names the object where there is no file: `tier 'local'`.
    """
    faults = [Fault(file=what, key=key, message=message, allowed=allowed) for key, message, allowed in problems]
    if faults:
        raise ConfigError(faults)


class _ReadOnly(dict[K, V]):
    """A dict that refuses to be changed; unlike a mapping proxy it can be copied and pickled."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a plan is not changed in place; make another with dataclasses.replace")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[_ReadOnly[K, V]], tuple[dict[K, V]]]:
        """Return how to make it again, which filling it would not."""
        return type(self), (dict(self),)


def freeze(mapping: Mapping[K, V]) -> Mapping[K, V]:
    """Return a read-only copy."""
    return _ReadOnly(mapping)


def looks_like_secret(text: str) -> bool:
    """Tell whether `text` has the form of an API key, a token or a credential header."""
    return _SECRET.search(text) is not None


def shown(value: object) -> str:
    """Return `value` quoted for a message, shortened; what looks like a secret is not shown."""
    if isinstance(value, str):
        if looks_like_secret(value):
            return "(hidden: it looks like a secret)"
        value = _CONTROL.sub("\ufffd", value)
        return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}..."'  # noqa: PLR2004 - a line's worth
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return f"an array of {len(value)}"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004


def suggest(name: str, known: Iterable[str]) -> str | None:
    """Return `Closest: …`, or all that is known where nothing is close; None where nothing is known."""
    names = sorted(known)
    near = closest(name, names)
    if near:
        return f"Closest: {', '.join(shown(item) for item in near)}"
    return f"Known: {', '.join(shown(item) for item in names)}" if names else None


def find_repeated(values: Iterable[str]) -> Iterable[tuple[int, str]]:
    """Yield the entries that stand earlier already, with their positions.

    >>> list(find_repeated(["a", "b", "a"]))
    [(2, 'a')]
    """
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield index, value
        seen.add(value)


def name_problems(key: str, name: str) -> Iterable[Problem]:
    """Yield what is wrong with a name that will stand in headers, logs and the ledger."""
    if not is_name(name):
        allowed = "Use up to 128 ASCII letters, digits and _ . : @ / + -, beginning with a letter or digit"
        yield Problem(key, f"is {shown(name)}, which is not a name", allowed)


def text_problems(key: str, text: str | None, *, may_be_empty: bool = False) -> Iterable[Problem]:
    """Yield what is wrong with a free text: emptiness, control characters, excessive length."""
    if text is None:
        return
    if not text.strip() and not may_be_empty:
        yield Problem(key, "is empty", "Write a text, or leave the key out where it is optional")
    if _CONTROL.search(text):
        yield Problem(key, "has control characters", "Write plain text")
    if len(text) > MAX_TEXT_CHARACTERS:
        yield Problem(key, f"has {len(text)} characters", f"At most {MAX_TEXT_CHARACTERS} are read")


def positive_problems(key: str, value: float | None) -> Iterable[Problem]:
    """Yield a problem where `value` is stated and is not a finite number above zero."""
    if value is not None and not 0 < value < float("inf"):
        yield Problem(key, f"is {value}", "Write a number above zero")


def fraction_problems(key: str, value: float | None, *, may_be_one: bool = False) -> Iterable[Problem]:
    """Yield a problem where `value` is stated and lies outside (0, 1), or (0, 1] where one is allowed."""
    if value is None or 0 < value < 1 or (may_be_one and value == 1):
        return
    bounds = "above 0 and at most 1" if may_be_one else "between 0 and 1, both excluded"
    yield Problem(key, f"is {value}", f"Write a share {bounds}: 0.95, not 95")


def usd_problems(key: str, usd: object, *, may_be_zero: bool = True) -> Iterable[Problem]:
    """Yield what is wrong with an amount of money, which is exact and not negative."""
    if usd is None:
        return
    if not isinstance(usd, Decimal):
        yield Problem(key, f"is a {type(usd).__name__}, not a Decimal", "Money is exact: Decimal('0.15')")
    elif not usd.is_finite():
        yield Problem(key, f"is {usd}", "Write dollars, such as 0.15")
    elif usd < 0 or (usd == 0 and not may_be_zero):
        yield Problem(key, f"is {usd}", f"Write dollars {'of zero or more' if may_be_zero else 'above zero'}")
    elif usd > MAX_USD or int(usd.as_tuple().exponent) < -MAX_USD_DECIMALS:
        allowed = f"At most {MAX_USD:,} dollars with {MAX_USD_DECIMALS} decimals are read"
        yield Problem(key, f"is {shown(usd)}", allowed)


def is_money(figure_name: str) -> bool:
    """Tell whether a figure's name says dollars, so that its value is a Decimal.

    >>> is_money("cost_usd_per_task"), is_money("tasks")
    (True, False)
    """
    return "usd" in re.split(r"[^a-z0-9]+", figure_name.lower())


def figure_problems(figures: Figures) -> Iterable[Problem]:
    """Yield what is wrong with derived figures; their basis and source are checked by `Sourced` itself."""
    for name, figure in figures.items():
        key = f"figures.{name}"
        if not _FIGURE_NAME.fullmatch(name):
            yield Problem(key, "is not the name of a figure", "Use ASCII letters, digits and _ . : -")
        value = figure.value
        if is_money(name):
            if isinstance(value, Decimal):
                if not value.is_finite() or not -MAX_USD * 1000 <= value <= MAX_USD * 1000:
                    yield Problem(f"{key}.value", f"is {shown(value)}", "Write dollars, such as 0.15")
                elif int(value.as_tuple().exponent) < -MAX_USD_DECIMALS:
                    yield Problem(f"{key}.value", f"has more than {MAX_USD_DECIMALS} decimals", "Round it")
            else:
                yield Problem(f"{key}.value", f"is {shown(value)}, not exact dollars", "Money is a Decimal")
        elif isinstance(value, Decimal):
            yield Problem(f"{key}.value", "is a Decimal", "Only figures of money are; name it …_usd or use a float")
        elif isinstance(value, str):
            yield from text_problems(f"{key}.value", value)
        elif isinstance(value, float) and (value != value or abs(value) == float("inf")):  # noqa: PLR0124 - NaN
            yield Problem(f"{key}.value", f"is {value}", "Leave out a figure that is not known")
        elif isinstance(value, int) and abs(value) >= 1 << 63:
            yield Problem(f"{key}.value", "does not fit into 64 bits", "Write a smaller number")
        yield from text_problems(f"{key}.source", figure.source)
        yield from text_problems(f"{key}.note", figure.note, may_be_empty=True)
