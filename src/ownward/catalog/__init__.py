"""Facts as data files: models, machines, rental offers, electricity, prices, licences, each with source and date.

It computes nothing from them and does not know who asks.
"""

from ownward.catalog._energy import CarbonIntensity, ElectricityPrice, carbon, electricity
from ownward.catalog._facts import FactFile, FactTable, as_count, as_money
from ownward.catalog._licences import Commercial, Licence, LicenceLimit, Measure, licence, licences
from ownward.catalog._load import DATA as DATA_FOLDER
from ownward.catalog._load import read_tables
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
from ownward.catalog._models import (
    SCORES_WARNING,
    checkpoint,
    checkpoints,
    load_config,
    model,
    models,
    scores,
    search_models,
)
from ownward.catalog._rentals import Rental, rentals
from ownward.catalog._rows import (
    ComparedFact,
    Comparison,
    MachineList,
    MachineRow,
    ModelList,
    ModelRow,
    compare,
    list_machines,
    list_models,
)

__all__ = [
    "ASSUMED_VISIBLE_FRACTION",
    "DATA_FOLDER",
    "SCORES_WARNING",
    "CarbonIntensity",
    "Checkpoint",
    "Commercial",
    "ComparedFact",
    "Comparison",
    "Dtype",
    "ElectricityPrice",
    "FactFile",
    "FactTable",
    "Licence",
    "LicenceLimit",
    "Machine",
    "MachineGroup",
    "MachineKind",
    "MachineList",
    "MachineRow",
    "Measure",
    "Model",
    "ModelList",
    "ModelRow",
    "Rental",
    "Score",
    "as_count",
    "as_money",
    "carbon",
    "checkpoint",
    "checkpoints",
    "compare",
    "electricity",
    "licence",
    "licences",
    "list_machines",
    "list_models",
    "load_config",
    "machine",
    "machine_from_mapping",
    "machine_from_toml",
    "machines",
    "machines_from_csv",
    "model",
    "models",
    "parse_machines",
    "read_tables",
    "rentals",
    "scores",
    "search_machines",
    "search_models",
]
