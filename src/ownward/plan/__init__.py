"""The plan's types and its TOML: tiers, workloads, strategies, floors, budgets, and where each figure came from.

It does not know how a plan is decided or carried out, opens no file and reads no environment.
"""

from ownward.plan._budgets import Budget, BudgetPeriod, WhenSpent
from ownward.plan._dumps import dumps
from ownward.plan._hedging import MOST_OBSERVATIONS, Hedge
from ownward.plan._plan import SCHEMA, Gap, Plan
from ownward.plan._problems import Figures, FigureValue, Option, Problem, looks_like_secret, refuse, shown, suggest
from ownward.plan._read import loads
from ownward.plan._single import for_single_model
from ownward.plan._strategies import JUDGES, Strategy, StrategyKind
from ownward.plan._tiers import (
    CAPABILITIES,
    Balance,
    Dialect,
    EngineKind,
    Tier,
    TierKind,
    Upstream,
    is_variable_name,
)
from ownward.plan._toml import MAX_FILE_BYTES, TomlTable, parse_toml, path_text, read_toml_bytes
from ownward.plan._values import (
    WrongValue,
    as_bytes,
    as_choice,
    as_date,
    as_duration_s,
    as_flag,
    as_instant,
    as_number,
    as_text,
    as_texts,
    as_usd,
    as_whole,
)
from ownward.plan._workloads import Capture, Match, Workload
from ownward.plan._write import as_table

__all__ = [
    "CAPABILITIES",
    "JUDGES",
    "MAX_FILE_BYTES",
    "MOST_OBSERVATIONS",
    "SCHEMA",
    "Balance",
    "Budget",
    "BudgetPeriod",
    "Capture",
    "Dialect",
    "EngineKind",
    "FigureValue",
    "Figures",
    "Gap",
    "Hedge",
    "Match",
    "Option",
    "Plan",
    "Problem",
    "Strategy",
    "StrategyKind",
    "Tier",
    "TierKind",
    "TomlTable",
    "Upstream",
    "WhenSpent",
    "Workload",
    "WrongValue",
    "as_bytes",
    "as_choice",
    "as_date",
    "as_duration_s",
    "as_flag",
    "as_instant",
    "as_number",
    "as_table",
    "as_text",
    "as_texts",
    "as_usd",
    "as_whole",
    "dumps",
    "for_single_model",
    "is_variable_name",
    "loads",
    "looks_like_secret",
    "parse_toml",
    "path_text",
    "read_toml_bytes",
    "refuse",
    "shown",
    "suggest",
]
