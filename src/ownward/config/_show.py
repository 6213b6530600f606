"""Settings as people and programs read them: what is in effect, the example file, the reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from ownward.config._load import variable_of
from ownward.config._settings import SECTIONS, SettingDoc, Settings, docs_of

SCHEMA = "ownward.config/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveSetting:
    """One setting in effect. `origin` is `flag`, `env NAME`, `FILE:LINE` or `default`."""

    key: str
    value: Any
    unit: str
    doc: str
    origin: str
    variable: str


def effective(settings: Settings) -> tuple[EffectiveSetting, ...]:
    """Return every setting with its value and its origin. Secrets are not among them, only the variables' names."""
    return tuple(_effective(settings))


def _effective(settings: Settings) -> Iterator[EffectiveSetting]:
    for name, kind in SECTIONS.items():
        section = getattr(settings, name)
        for key, about in docs_of(kind):
            yield EffectiveSetting(
                key=f"{name}.{key}",
                value=getattr(section, key),
                unit=about.unit,
                doc=about.doc,
                origin=settings.origins.get(f"{name}.{key}", "default"),
                variable=variable_of(name, key),
            )


def as_record(settings: Settings) -> dict[str, Any]:
    """Return the object of `ownward.config/1`."""
    return {"schema": SCHEMA, "file": settings.file, "settings": effective(settings)}


def example_toml() -> str:
    """Return `ownward.example.toml`: every key with its default, its unit and what it means."""
    lines = [
        "# Every setting of ownward with its default. Generated from the settings types: do not edit.",
        '# Copy what you change into ownward.toml. Durations may be written as "30s", "5m", sizes as "32MiB".',
        "# An environment variable wins over the file, a flag over both: OWNWARD_SERVER_PORT=8485.",
    ]
    for name, kind in SECTIONS.items():
        lines += ["", f"# {_first_line(kind)}", f"[{name}]"]
        for key, about in docs_of(kind):
            unit = f" [{about.unit}]" if about.unit else ""
            mark = "# " if _default(kind, key) is None else ""
            lines += [f"# {about.doc}{unit}", f"{mark}{key} = {_default_text(kind, key, about)}"]
    return "\n".join(lines) + "\n"


def reference_markdown() -> str:
    """Return the configuration keys as Markdown tables, one for each section."""
    parts = []
    for name, kind in SECTIONS.items():
        rows = [
            f"## `[{name}]`",
            "",
            _first_line(kind),
            "",
            "| key | default | unit | meaning | variable |",
            "|---|---|---|---|---|",
        ]
        for key, about in docs_of(kind):
            default = "" if _default(kind, key) is None else f"`{_default_text(kind, key, about)}`"
            rows.append(f"| `{key}` | {default} | {about.unit} | {about.doc} | `{variable_of(name, key)}` |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _first_line(kind: type[Any]) -> str:
    return (kind.__doc__ or "").splitlines()[0]


def _default(kind: type[Any], key: str) -> Any:
    return getattr(kind(), key)


def _default_text(kind: type[Any], key: str, about: SettingDoc) -> str:
    """Return a default as TOML."""
    match _default(kind, key):
        case None:
            return about.shown_default or '"…"'
        case bool() as flag:
            return str(flag).lower()
        case int() as number:
            return str(number)
        case float() as number:
            return f"{number:g}"
        case date() as day:
            return day.isoformat()
        case Decimal() | Path() | str() as text:
            return f'"{text}"'
        case other:
            message = f"the default of {key} is a {type(other).__name__}, which has no TOML form"
            raise TypeError(message)
