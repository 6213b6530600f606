"""A release of open weights: names, dates, licence, config file, as its maker states them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ownward.catalog._facts import FactTable, as_count, as_positive, as_text, as_texts
from ownward.core import BadInput, Sourced


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One release. What its config implies (parameters, cache, layers) the anatomy room counts.

    `stated_total` and `stated_active` are the maker's own words for the sizes
    and may mean different things; `config` names the shipped config.json, its
    note says whether it is a verbatim copy or a reconstruction.
    """

    id: str
    name: str
    family: str
    maker: str
    aliases: tuple[str, ...] = ()
    hub_id: Sourced[str] | None = None
    released: Sourced[str] | None = None
    licence: Sourced[str] | None = None
    context_tokens: Sourced[int] | None = None
    config_context_tokens: Sourced[int] | None = None
    modalities: Sourced[tuple[str, ...]] | None = None
    stated_total: Sourced[str] | None = None
    stated_active: Sourced[str] | None = None
    config: Sourced[str] | None = None
    config_path: Path | None = None
    note: str = ""

    def load_config(self) -> dict[str, Any]:
        """Return the release's config.json as parsed JSON.

        Raises: BadInput, if the catalogue has no config of it, or the file is not a JSON object.
        """
        if self.config_path is None:
            raise BadInput(
                f"the catalogue has no config of {self.name!r}",
                next_step="Give the path of a config.json, GGUF or safetensors file instead of the name",
            )
        return load_config_file(self.config_path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A published set of weight files of a release: its quantisation and size.

    `is_rounded` marks sizes that the source gives to the MiB only. `config_path`
    leads to the checkpoint's own config.json where the catalogue ships it;
    `model` is the catalogue's id of the release, None where it has no such release.
    """

    name: str
    model: str | None
    quantisation: str
    bytes: Sourced[int] | None = None
    is_rounded: bool = False
    config_path: Path | None = None

    def load_config(self) -> dict[str, Any]:
        """Return the checkpoint's own config.json, with its quantisation, as parsed JSON.

        Raises: BadInput, if the catalogue has none.
        """
        if self.config_path is None:
            raise BadInput(f"the catalogue has no config of the checkpoint {self.name!r}")
        return load_config_file(self.config_path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A published benchmark score of a release, with who measured it and how.

    Scores of different makers are measured differently and do not compare.
    `model` is the catalogue's id where it has the release.
    """

    release: str
    model: str | None
    benchmark: str
    score: Sourced[float]
    metric: str
    kind: str
    via: str
    conditions: str


def load_config_file(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`.

    Raises: BadInput, naming the file, if it cannot be read as one.
    """
    try:
        parsed = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot be read as a config.json: {error}", where=str(path)) from error
    if not isinstance(parsed, dict):
        raise BadInput(f"holds a {type(parsed).__name__}", where=str(path), allowed="A JSON object")
    return parsed


def read_model(table: FactTable, folder: Path) -> Model:
    """Return the model of one `[[model]]` table; `folder` is what its config path is relative to."""
    config = table.fact("config", as_text)
    model = Model(
        id=table.need_text("id"),
        name=table.need_text("name"),
        family=table.text("family"),
        maker=table.text("maker"),
        aliases=table.texts("aliases"),
        hub_id=table.fact("hub_id", as_text),
        released=table.fact("released", as_text),
        licence=table.fact("licence", as_text),
        context_tokens=table.fact("context_tokens", as_count),
        config_context_tokens=table.fact("config_context_tokens", as_count),
        modalities=table.fact("modalities", as_texts),
        stated_total=table.fact("stated_total", as_text),
        stated_active=table.fact("stated_active", as_text),
        config=config,
        config_path=None if config is None else folder / config.value,
        note=table.text("note"),
    )
    table.close()
    return model


def read_checkpoint(table: FactTable, folder: Path) -> Checkpoint:
    """Return the checkpoint of one `[[checkpoint]]` table."""
    config = table.text("config")
    checkpoint = Checkpoint(
        name=table.need_text("name"),
        model=table.text("model") or None,
        quantisation=table.need_text("quantisation"),
        bytes=table.fact("bytes", as_count),
        is_rounded=table.flag("is_rounded"),
        config_path=folder / config if config else None,
    )
    table.close()
    return checkpoint


def read_score(table: FactTable) -> Score:
    """Return the score of one `[[score]]` table."""
    score = Score(
        release=table.need_text("release"),
        model=table.text("model") or None,
        benchmark=table.need_text("benchmark"),
        score=table.need_fact("score", as_positive, 0.0),
        metric=table.text("metric"),
        kind=table.need_text("kind"),
        via=table.text("via"),
        conditions=table.text("conditions"),
    )
    table.close()
    return score
