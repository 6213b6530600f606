"""Which name at which host means which model of the catalogue: a table kept by hand, never a guess."""

from __future__ import annotations

from functools import lru_cache


def hosted_names(model: str) -> tuple[tuple[str, str], ...]:
    """Return host and the host's name of each offer of a catalogue model, by any of its names; empty if none is known.

    Raises: UnknownModel, if the catalogue has no such model.
    """
    from ownward import catalog

    return _table().get(catalog.model(model).id, ())


@lru_cache(maxsize=1)
def _table() -> dict[str, tuple[tuple[str, str], ...]]:
    import tomllib

    from ownward import catalog

    stated = tomllib.loads((catalog.DATA_FOLDER / "prices" / "hosted-names.toml").read_text("utf-8"))
    return {
        model: tuple((host, name) for host, names in hosts.items() for name in names) for model, hosts in stated.items()
    }
