"""Facts as data files: models, machines, rental offers, electricity, prices, licences, each with source and date.

It computes nothing from them and does not know who asks.
"""

from ownward.catalog._machine import (
    ASSUMED_VISIBLE_FRACTION,
    Dtype,
    Machine,
    MachineKind,
    machine_from_mapping,
    machine_from_toml,
    machines_from_csv,
)
from ownward.catalog._machines import MachineGroup, machine, machines, parse_machines, search_machines
from ownward.catalog._model import Checkpoint, Model, Score
from ownward.catalog._models import SCORES_WARNING, checkpoints, model, models, scores, search_models

__all__ = [
    "ASSUMED_VISIBLE_FRACTION",
    "SCORES_WARNING",
    "Checkpoint",
    "Dtype",
    "Machine",
    "MachineGroup",
    "MachineKind",
    "Model",
    "Score",
    "checkpoints",
    "machine",
    "machine_from_mapping",
    "machine_from_toml",
    "machines",
    "machines_from_csv",
    "model",
    "models",
    "parse_machines",
    "scores",
    "search_machines",
    "search_models",
]
