"""The record of every request, task, outcome, cost and certificate, and the only room that touches a database.

It does not know why a request went where it went.
"""

from ownward.ledger._checks import (
    BudgetCheck,
    BudgetSpent,
    BudgetState,
    LimitKind,
    LimitReached,
    LimitState,
    LimitTake,
)
from ownward.ledger._copying import CopiedTable
from ownward.ledger._export import EXPORT_COLUMNS
from ownward.ledger._kept import KeptResponse, KeptSum, owner_of
from ownward.ledger._ledger import Ledger, hash_secret
from ownward.ledger._notes import TRIAL_PREFIX, beaten_note, hedge_note, is_of_trial
from ownward.ledger._open import open  # noqa: A004 - read as ledger.open
from ownward.ledger._postgres_address import is_address
from ownward.ledger._records import (
    OUTCOME_PRECEDENCE,
    ImportCount,
    Intent,
    Key,
    Outcome,
    OutcomeSource,
    Request,
    Settlement,
    SettlementState,
    TaskBasis,
    TrafficRow,
    UsageBasis,
)
from ownward.ledger._rows import (
    AttemptRow,
    AttemptState,
    BodyRow,
    CertificateRow,
    LogRow,
    Spend,
    SpendKey,
    SpendRow,
    TaskRow,
    TextColumn,
    TrafficColumns,
    WorkloadRow,
)
from ownward.ledger._schema import schema_text
from ownward.ledger._served import ChargeSum, GradedTask, Served, ServedHedges, SettledTokens
from ownward.ledger._store import Durability

__all__ = [
    "EXPORT_COLUMNS",
    "OUTCOME_PRECEDENCE",
    "TRIAL_PREFIX",
    "AttemptRow",
    "AttemptState",
    "BodyRow",
    "BudgetCheck",
    "BudgetSpent",
    "BudgetState",
    "CertificateRow",
    "ChargeSum",
    "CopiedTable",
    "Durability",
    "GradedTask",
    "ImportCount",
    "Intent",
    "KeptResponse",
    "KeptSum",
    "Key",
    "Ledger",
    "LimitKind",
    "LimitReached",
    "LimitState",
    "LimitTake",
    "LogRow",
    "Outcome",
    "OutcomeSource",
    "Request",
    "Served",
    "ServedHedges",
    "SettledTokens",
    "Settlement",
    "SettlementState",
    "Spend",
    "SpendKey",
    "SpendRow",
    "TaskBasis",
    "TaskRow",
    "TextColumn",
    "TrafficColumns",
    "TrafficRow",
    "UsageBasis",
    "WorkloadRow",
    "beaten_note",
    "hash_secret",
    "hedge_note",
    "is_address",
    "is_of_trial",
    "open",
    "owner_of",
    "schema_text",
]
