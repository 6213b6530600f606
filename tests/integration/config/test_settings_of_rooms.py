"""The settings people write have the names and the defaults of the rooms that act on them."""

from __future__ import annotations

import dataclasses

import pytest

from ownward.config import EconomicsSettings, EngineSettings, GatewaySettings, ServerSettings
from ownward.economics import Assumptions
from ownward.engines import EngineOptions
from ownward.gateway import GatewaySettings as GatewaysOwn


def defaults_of(kind):
    return {field.name: field.default for field in dataclasses.fields(kind)}


def test_the_gateway_is_set_by_its_own_names_and_defaults():
    """Every value the gateway has can be set, but the ready file, a flag alone, and the number of a worker."""
    own = defaults_of(GatewaysOwn)
    del own["ready_file"], own["worker"]
    server = {key: value for key, value in defaults_of(ServerSettings).items() if key in own}
    stated = defaults_of(GatewaySettings) | server
    assert set(stated) == set(own)
    assert stated == own


def test_the_engine_is_set_by_its_own_names_and_defaults():
    """What is left to `serve` to choose by the memory there is has no default among the settings."""
    own = defaults_of(EngineOptions)
    for key, value in defaults_of(EngineSettings).items():
        if key not in {"cache_dir", "log_dir"} and value is not None:
            assert own[key] == value


def test_economics_is_set_by_its_own_names_and_defaults():
    own = {name: assumption.value.value for name, assumption in Assumptions()}
    stated = EconomicsSettings()
    for name, value in own.items():
        assert float(getattr(stated, name)) == pytest.approx(value), name
    assert stated.redundancy == Assumptions().redundancy
