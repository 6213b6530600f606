"""A config.json's fields, read with their types checked and their defaults stated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ownward.core import BadInput, UnsupportedModel

_LARGEST_COUNT = 2**44
_MOST_LAYERS = 4096


class Fields:
    """The fields of one JSON object of a config.

    An absent field has the default of the architecture's reference configuration;
    a null field has no value, even where a default is known.
    """

    __slots__ = ("_defaults", "_parent", "_raw", "where")

    def __init__(
        self,
        raw: Mapping[str, Any],
        *,
        where: str,
        defaults: Mapping[str, Any] | None = None,
        parent: Fields | None = None,
    ) -> None:
        """Read from `raw`, then `defaults`; from `parent` what `inherited` asks for; `where` names the file."""
        self._raw = raw
        self._defaults = defaults or {}
        self._parent = parent
        self.where = where

    def with_defaults(self, defaults: Mapping[str, Any]) -> Fields:
        """Return the same fields over other defaults; what was defaulted before stays below them."""
        return Fields(self._raw, where=self.where, defaults={**self._defaults, **defaults}, parent=self._parent)

    def get(self, *names: str) -> Any:
        """Return the first of `names` (one field's names over time) that is stated, else its default, else None."""
        is_stated = False
        for name in names:
            if name in self._raw:
                value = self._raw[name]
                if value is not None:
                    return value
                is_stated = True
        if is_stated:
            return None
        for name in names:
            value = self._defaults.get(name)
            if value is not None:
                return value
        return None

    def states(self, *names: str) -> bool:
        """Whether the file itself gives one of `names` a value."""
        return any(self._raw.get(name) is not None for name in names)

    def has(self, *names: str) -> bool:
        """Whether one of `names` has a value, stated or by default."""
        return self.get(*names) is not None

    def count(self, *names: str, default: int | None = None, least: int = 1) -> int:
        """Return a whole number of at least `least`.

        Raises: BadInput, if it is missing without a default or is no such number.
        """
        value = self.get(*names)
        if value is None:
            if default is None:
                raise BadInput(
                    f"{names[0]} is missing",
                    where=self.where,
                    allowed="The configuration of this architecture needs it: no default is known",
                    next_step="Read the model's original config.json, or its weights (GGUF, safetensors)",
                )
            return default
        if type(value) is float and value.is_integer() and abs(value) < _LARGEST_COUNT:
            value = int(value)
        if type(value) is not int or not least <= value <= _LARGEST_COUNT:
            raise BadInput(
                f"{names[0]} is {_shown(value)}, not a whole number from {least} on"
                + (f" up to {_LARGEST_COUNT:,}" if type(value) is int and value > _LARGEST_COUNT else ""),
                where=self.where,
                next_step="Check the file against the model's original config.json",
            )
        return value

    def optional_count(self, *names: str, least: int = 1) -> int | None:
        """Return a whole number, or None where the field is absent."""
        return self.count(*names, default=-1, least=least) if self.has(*names) else None

    def number(self, *names: str, default: float) -> float:
        """Return a finite number above zero."""
        value = self.get(*names)
        if value is None:
            return default
        if type(value) not in {int, float} or not 0 < value < _LARGEST_COUNT:
            raise BadInput(f"{names[0]} is {_shown(value)}, not a number above 0", where=self.where)
        return float(value)

    def flag(self, *names: str, default: bool) -> bool:
        """Return a truth value.

        Raises: BadInput, if it is there and neither true nor false.
        """
        value = self.get(*names)
        if value is None:
            return default
        if type(value) is not bool:
            raise BadInput(f"{names[0]} is {_shown(value)}, neither true nor false", where=self.where)
        return value

    def text(self, *names: str, default: str | None = None) -> str | None:
        """Return a string."""
        value = self.get(*names)
        if value is None:
            return default
        if type(value) is not str:
            raise BadInput(f"{names[0]} is {_shown(value)}, not a text", where=self.where)
        return value

    def numbers(self, *names: str) -> list[int] | None:
        """Return a list of whole numbers, or None where the field is absent."""
        value = self.get(*names)
        if value is None:
            return None
        if type(value) is not list or not all(type(item) is int and 0 <= item <= _LARGEST_COUNT for item in value):
            raise BadInput(f"{names[0]} is not a list of whole numbers", where=self.where)
        self._check_size(names[0], value)
        return list(value)

    def texts(self, *names: str) -> list[str] | None:
        """Return a list of strings, or None where the field is absent."""
        value = self.get(*names)
        if value is None:
            return None
        if type(value) is not list or not all(type(item) is str for item in value):
            raise BadInput(f"{names[0]} is not a list of texts", where=self.where)
        self._check_size(names[0], value)
        return list(value)

    def per_layer(self, *names: str, layers: int, default: int | None = None, least: int = 1) -> list[int]:
        """Return one whole number for each layer, from a list or from one number for all."""
        if type(self.get(*names)) is not list:
            return [self.count(*names, default=default, least=least)] * layers
        values = self.numbers(*names) or []
        self.check_length(names[0], values, layers)
        return values

    def layer_count(self, *names: str, default: int | None = None) -> int:
        """Return the number of layers, refusing one that no model has."""
        count = self.count(*(names or ("num_hidden_layers",)), default=default)
        if count > _MOST_LAYERS:
            raise BadInput(f"num_hidden_layers is {count}, above the {_MOST_LAYERS} that can be read", where=self.where)
        return count

    def layer_types(self, layers: int, *names: str) -> list[str] | None:
        """Return the kind of each layer, where the config lists it."""
        kinds = self.texts(*(names or ("layer_types",)))
        if kinds is not None:
            self.check_length((names or ("layer_types",))[0], kinds, layers)
        return kinds

    def draft_count(self, *names: str, default: int = 0) -> int:
        """Return the number of draft layers, refusing more of them than there are layers."""
        count = self.count(*names, default=default, least=0)
        if count > self.layer_count():
            raise BadInput(f"{names[0]} is {count}, more than the layers of the model", where=self.where)
        return count

    def _check_size(self, name: str, values: Sequence[object]) -> None:
        if len(values) > _MOST_LAYERS:
            raise BadInput(f"{name} has {len(values)} entries, above {_MOST_LAYERS}", where=self.where)

    def check_length(self, name: str, values: Sequence[object], layers: int) -> None:
        """Refuse a list that does not name each layer once."""
        if len(values) != layers:
            raise BadInput(f"{name} has {len(values)} entries for {layers} layers", where=self.where)

    def section(self, name: str, defaults: Mapping[str, Any] | None = None) -> Fields | None:
        """Return a nested object as fields of its own, or None where it is absent."""
        value = self._raw.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise BadInput(f"{name} is {_shown(value)}, not an object", where=self.where)
        return Fields(value, where=f"{self.where}: {name}", defaults=defaults, parent=self)

    def outer_flag(self, name: str, *, default: bool) -> bool:
        """Return a truth value that the object around this one may settle: its statement, then ours, then defaults."""
        around = self._parent
        if around is not None and around.states(name):
            return around.flag(name, default=default)
        if around is not None and not self.states(name) and around.has(name):
            return around.flag(name, default=default)
        return self.flag(name, default=default)

    def expect(self, name: str, *allowed: object) -> None:
        """Refuse a value that would change shapes in a way no formula here covers."""
        value = self.get(name)
        if value is not None and value not in allowed:
            raise UnsupportedModel(
                f"{name} = {_shown(value)} is not supported for this architecture",
                where=self.where,
                allowed=f"Known: {', '.join(map(repr, allowed))}",
                next_step="Give its weights instead: a GGUF file, a safetensors file or its index.json",
            )

    def expect_each(self, name: str, values: Iterable[object], *allowed: object) -> None:
        """Refuse a list with a value that no formula here covers."""
        for value in values:
            if value not in allowed:
                raise UnsupportedModel(
                    f"{name} names {_shown(value)}, which is not supported for this architecture",
                    where=self.where,
                    allowed=f"Known: {', '.join(map(repr, allowed))}",
                    next_step="Give its weights instead: a GGUF file, a safetensors file or its index.json",
                )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a line for a person
