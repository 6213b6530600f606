"""The schema as numbered migrations, one text for both databases.

`{id}`, `{int}`, `{real}` and `{blob}` are the words that SQLite and PostgreSQL
spell differently. A migration that has been released is never edited: a change is a new one.
"""

# ruff: noqa: S608 - all these statements are our own

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SQLITE_TYPES: Final[Mapping[str, str]] = {
    "id": "INTEGER PRIMARY KEY",
    "int": "INTEGER",
    "real": "REAL",
    "blob": "BLOB",
}
POSTGRES_TYPES: Final[Mapping[str, str]] = {
    "id": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "int": "BIGINT",
    "real": "DOUBLE PRECISION",
    "blob": "BYTEA",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A named step from one schema to the next."""

    name: str
    statements: tuple[str, ...]
    is_for_sqlite_alone: bool = False

    def statements_for(self, types: Mapping[str, str]) -> tuple[str, ...]:
        """Return the statements in one database's words."""
        if self.is_for_sqlite_alone and types is not SQLITE_TYPES:
            return ()
        return tuple(statement.format_map(types).strip() for statement in self.statements)


_TABLES = (
    """
CREATE TABLE runs (                      -- processes that wrote intents; the only rows that are updated
  run_id TEXT PRIMARY KEY,
  pid {int} NOT NULL,
  process_start TEXT NOT NULL,           -- tells the process from a later one with its pid
  host_id TEXT NOT NULL,                 -- boot id and pid namespace: where the pid means something
  host_name TEXT NOT NULL,
  version TEXT NOT NULL,
  started_at_us {int} NOT NULL,          -- all times: microseconds since 1970, UTC
  heartbeat_at_us {int} NOT NULL,        -- what counts where the pid cannot be looked up
  closed_at_us {int}
)""",
    """
CREATE TABLE plans (
  plan_sha256 TEXT PRIMARY KEY,
  text TEXT NOT NULL,
  recorded_at_us {int} NOT NULL
)""",
    """
CREATE TABLE prices (
  price_id TEXT PRIMARY KEY,
  price_json TEXT NOT NULL,
  recorded_at_us {int} NOT NULL
)""",
    """
CREATE TABLE keys (
  key_id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  secret_hash TEXT NOT NULL UNIQUE,      -- blake2b-256, hexadecimal; the secret itself is nowhere
  scopes_json TEXT NOT NULL,
  created_at_us {int} NOT NULL,
  revoked_at_us {int}
)""",
    """
CREATE TABLE workloads (
  workload TEXT PRIMARY KEY,
  details_json TEXT NOT NULL,
  recorded_at_us {int} NOT NULL
)""",
    """
CREATE TABLE tasks (
  task_id TEXT PRIMARY KEY,
  basis TEXT NOT NULL,                   -- explicit, inferred, single
  workload TEXT NOT NULL,
  started_at_us {int} NOT NULL
)""",
    "CREATE INDEX tasks_by_time ON tasks (started_at_us, task_id)",
    """
CREATE TABLE requests (
  request_id TEXT PRIMARY KEY,
  task_id TEXT NOT NULL REFERENCES tasks (task_id),
  workload TEXT NOT NULL,
  route TEXT NOT NULL,                   -- the model name that the client asked for
  key_id TEXT,
  label TEXT NOT NULL,
  dialect TEXT NOT NULL,
  is_stream {int} NOT NULL,              -- 0 or 1
  plan_sha256 TEXT,
  reason TEXT NOT NULL,
  started_at_us {int} NOT NULL,
  refused_at_us {int},                   -- set where it was refused before any dispatch
  refusal_status {int},
  refusal_reason TEXT
)""",
    "CREATE INDEX requests_by_task ON requests (task_id)",
    "CREATE INDEX requests_by_time ON requests (started_at_us, request_id)",
    """
CREATE TABLE intents (                   -- one row for each call, committed before it is dispatched
  request_id TEXT NOT NULL REFERENCES requests (request_id),
  attempt {int} NOT NULL CHECK (attempt >= 1),
  run_id TEXT NOT NULL REFERENCES runs (run_id),
  tier TEXT NOT NULL,
  upstream TEXT NOT NULL,
  model TEXT NOT NULL,
  price_id TEXT,
  input_tokens_high {int},               -- bounds of what it can use and cost; null is unknown
  output_tokens_high {int},
  charge_high_picousd {int},             -- money: picodollars, 1e-12 USD
  body_sha256 TEXT NOT NULL,
  started_at_us {int} NOT NULL,
  PRIMARY KEY (request_id, attempt)
)""",
    """
CREATE TABLE settlements (               -- append-only: the newest row of an attempt counts
  settlement_id {id},
  request_id TEXT NOT NULL,
  attempt {int} NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('settled', 'unsettled', 'failed', 'refused')),
  input_tokens {int},
  cached_input_tokens {int},             -- inside input_tokens
  cache_write_tokens {int},              -- inside input_tokens
  cache_write_1h_tokens {int},           -- inside cache_write_tokens
  output_tokens {int},
  reasoning_tokens {int},                -- inside output_tokens
  usage_basis TEXT,                      -- upstream, counted, estimated
  charge_picousd {int},                  -- null is unknown, never zero
  charge_low_picousd {int},
  charge_high_picousd {int},
  upstream_request_id TEXT,
  ttft_s {real},
  latency_s {real},
  status {int},
  error TEXT,
  settled_at_us {int} NOT NULL,
  FOREIGN KEY (request_id, attempt) REFERENCES intents (request_id, attempt)
)""",
    "CREATE INDEX settlements_by_attempt ON settlements (request_id, attempt, settlement_id)",
    """
CREATE TABLE outcomes (                  -- append-only: the newest row of a task and source counts
  outcome_id {id},
  task_id TEXT NOT NULL REFERENCES tasks (task_id),
  completed {int} NOT NULL,              -- 0 or 1
  score {real},
  source TEXT NOT NULL CHECK (source IN ('human', 'verifier', 'user', 'system')),
  human_minutes {real},
  comment TEXT NOT NULL,
  recorded_at_us {int} NOT NULL
)""",
    "CREATE INDEX outcomes_by_task ON outcomes (task_id, source, outcome_id)",
    """
CREATE TABLE certificates (
  certificate_id {id},
  workload TEXT,
  state TEXT,
  expires_at_us {int},
  certificate_json TEXT NOT NULL,
  recorded_at_us {int} NOT NULL
)""",
    """
CREATE TABLE import_sources (
  source_id {id},
  name TEXT NOT NULL UNIQUE,
  imported_at_us {int} NOT NULL
)""",
    """
CREATE TABLE imported (                  -- past traffic from elsewhere
  source_id {int} NOT NULL REFERENCES import_sources (source_id),
  source_row_id TEXT NOT NULL,           -- the source's own id, or ~digest of the content and its count
  started_at_us {int},
  arrival_s {real},                      -- where the source has no wall clock
  input_tokens {int} NOT NULL,
  cached_input_tokens {int},             -- inside input_tokens; null where the source does not say
  output_tokens {int} NOT NULL,
  workload TEXT,
  session TEXT,
  model TEXT,
  charge_picousd {int},
  completed {int},
  PRIMARY KEY (source_id, source_row_id)
)""",
    "CREATE INDEX imported_by_workload ON imported (workload)",
    """
CREATE TABLE bodies (                    -- only where a workload asks for capture; deleted when expired
  body_id {id},
  request_id TEXT NOT NULL REFERENCES requests (request_id),
  attempt {int},
  kind TEXT NOT NULL,                    -- request, response
  content {blob} NOT NULL,
  captured_at_us {int} NOT NULL,
  expires_at_us {int} NOT NULL
)""",
    "CREATE INDEX bodies_by_expiry ON bodies (expires_at_us)",
    "CREATE INDEX bodies_by_request ON bodies (request_id)",
)

_ATTEMPTS_BUT_SETTLEMENTS = """
SELECT                                   -- a request refused before any dispatch is attempt 0
  r.request_id, COALESCE(i.attempt, 0) AS attempt, r.task_id, r.workload, r.route, r.key_id, r.label, r.dialect,
  r.is_stream, r.plan_sha256, r.reason, r.started_at_us AS request_started_at_us,
  i.run_id, i.tier, i.upstream, i.model, i.price_id, i.input_tokens_high, i.output_tokens_high,
  i.charge_high_picousd AS intent_charge_high_picousd, i.body_sha256,
  COALESCE(i.started_at_us, r.started_at_us) AS started_at_us,
  CASE WHEN i.attempt IS NULL THEN 'refused' ELSE s.state END AS state,
  s.input_tokens, s.cached_input_tokens, s.cache_write_tokens, s.cache_write_1h_tokens, s.output_tokens,
  s.reasoning_tokens, s.usage_basis,
  CASE WHEN i.attempt IS NULL THEN 0 ELSE s.charge_picousd END AS charge_picousd,
  CASE WHEN i.attempt IS NULL THEN 0 ELSE s.charge_low_picousd END AS charge_low_picousd,
  CASE WHEN i.attempt IS NULL THEN 0 ELSE s.charge_high_picousd END AS charge_high_picousd,
  s.upstream_request_id, s.ttft_s, s.latency_s,
  CASE WHEN i.attempt IS NULL THEN r.refusal_status ELSE s.status END AS status,
  CASE WHEN i.attempt IS NULL THEN r.refusal_reason ELSE s.error END AS error,
  COALESCE(s.settled_at_us, r.refused_at_us) AS settled_at_us
FROM requests r
LEFT JOIN intents i ON i.request_id = r.request_id
"""

_VIEWS = (
    """
CREATE VIEW attempts AS                  -- each attempt with its newest settlement; null state: in flight,"""
    + _ATTEMPTS_BUT_SETTLEMENTS
    + """LEFT JOIN settlements s ON s.settlement_id = (
  SELECT MAX(x.settlement_id) FROM settlements x WHERE x.request_id = i.request_id AND x.attempt = i.attempt)""",
    """
CREATE VIEW task_outcomes AS             -- the one outcome of each task that counts
SELECT o.outcome_id, o.task_id, o.completed, o.score, o.source, o.human_minutes, o.comment, o.recorded_at_us
FROM outcomes o
WHERE o.outcome_id = (
  SELECT x.outcome_id FROM outcomes x WHERE x.task_id = o.task_id
  ORDER BY CASE x.source WHEN 'human' THEN 0 WHEN 'verifier' THEN 1 WHEN 'user' THEN 2 ELSE 3 END, x.outcome_id DESC
  LIMIT 1)""",
)

ATTEMPTS_IN_POSTGRES: Final = f"""({_ATTEMPTS_BUT_SETTLEMENTS}LEFT JOIN (
  SELECT * FROM settlements n WHERE NOT EXISTS (
    SELECT 1 FROM settlements x
    WHERE x.request_id = n.request_id AND x.attempt = n.attempt AND x.settlement_id > n.settlement_id)
) s ON s.request_id = i.request_id AND s.attempt = i.attempt)"""
"""The view in words that PostgreSQL answers by one join: for a greatest id it looks into the index each time anew."""

_BUDGETS = (
    """
CREATE TABLE budget_accounts (           -- sums over intents and settlements, kept in the transactions that write them
  subject TEXT NOT NULL,                 -- workload:NAME, tier:NAME or key:ID
  starts_at_us {int} NOT NULL,           -- of calls begun from here
  ends_at_us {int} NOT NULL,             -- up to before here; 2^62 is never
  spent_picousd {int} NOT NULL,          -- charges of settled calls
  reserved_picousd {int} NOT NULL,       -- upper bounds of calls in flight and unsettled
  unknown_calls {int} NOT NULL,          -- calls of unknown charge, which count for nothing above
  PRIMARY KEY (subject, starts_at_us, ends_at_us)
)""",
)

_LIMITS = (
    """
CREATE TABLE limit_buckets (             -- what keys with limits have used; refills with time
  key_id TEXT NOT NULL,
  kind TEXT NOT NULL,                    -- requests, tokens
  used {int} NOT NULL,                   -- at at_us, times 60,000,000
  at_us {int} NOT NULL,
  PRIMARY KEY (key_id, kind)
)""",
    """
CREATE TABLE limit_holds (               -- tokens held back for calls that a process has in flight
  key_id TEXT NOT NULL,
  run_id TEXT NOT NULL,
  tokens {int} NOT NULL,
  PRIMARY KEY (key_id, run_id)
)""",
)

_LIMIT_WINDOWS = (
    """
CREATE TABLE limit_windows (             -- what keys with limits have used in the last minute
  key_id TEXT NOT NULL,
  kind TEXT NOT NULL,                    -- requests, tokens
  at_us {int} NOT NULL,                  -- when it was counted last
  recent {blob} NOT NULL,                -- times since 1970 in microseconds, then amounts, as little-endian int64
  PRIMARY KEY (key_id, kind)
)""",
)

_KEPT_RESPONSES = (
    """
CREATE TABLE kept_responses (            -- for clients that continue them, where settings ask; deleted when expired
  response_id TEXT PRIMARY KEY,
  owner TEXT NOT NULL,                   -- key:ID; empty where no keys are demanded
  request_id TEXT NOT NULL REFERENCES requests (request_id),
  previous_id TEXT,                      -- the response that it continues, which may be gone
  label TEXT NOT NULL,                   -- what continues it travels no further
  origin TEXT NOT NULL,                  -- who wrote it: only there what is encrypted in it can be read
  items_json {blob} NOT NULL,            -- what its own request stated as input
  answer_json {blob} NOT NULL,
  bytes {int} NOT NULL,
  kept_at_us {int} NOT NULL,
  expires_at_us {int} NOT NULL
)""",
    "CREATE INDEX kept_responses_by_owner ON kept_responses (owner, expires_at_us, kept_at_us, bytes)",
    "CREATE INDEX kept_responses_by_expiry ON kept_responses (expires_at_us)",
)

_JOURNAL_MARKS = (
    """
CREATE TABLE journal_marks (             -- how far a run's journal, a file beside this, is in the tables
  run_id TEXT PRIMARY KEY,
  number {int} NOT NULL                  -- of the newest note
)""",
)

_UNSETTLED_OF_BUDGETS = (
    "DROP TABLE budget_accounts",  # whoever needs an account sums it up anew
    """
CREATE TABLE budget_accounts (           -- sums over intents and settlements, kept in the transactions that write them
  subject TEXT NOT NULL,                 -- workload:NAME, tier:NAME or key:ID
  starts_at_us {int} NOT NULL,           -- of calls begun from here
  ends_at_us {int} NOT NULL,             -- up to before here; 2^62 is never
  spent_picousd {int} NOT NULL,          -- charges of settled calls
  reserved_picousd {int} NOT NULL,       -- upper bounds of calls in flight and unsettled
  unknown_calls {int} NOT NULL,          -- calls of unknown charge, which count for nothing above
  unsettled_picousd {int} NOT NULL,      -- the part of what is reserved that no waiting frees: of calls that are over
  PRIMARY KEY (subject, starts_at_us, ends_at_us)
)""",
)

_IMPORTED_CACHE_WRITES = (
    """
CREATE TABLE imported_cache_writes (     -- of imported requests that wrote to a provider's cache
  source_id {int} NOT NULL,
  source_row_id TEXT NOT NULL,
  cache_write_tokens {int} NOT NULL,     -- inside input_tokens
  PRIMARY KEY (source_id, source_row_id)
)""",
)

_IMPORTED_CACHE_WRITES_1H = (
    """
CREATE TABLE imported_cache_writes_1h (  -- of imported requests that wrote to it for an hour
  source_id {int} NOT NULL,
  source_row_id TEXT NOT NULL,
  cache_write_1h_tokens {int} NOT NULL,  -- inside cache_write_tokens
  PRIMARY KEY (source_id, source_row_id)
)""",
)

MIGRATIONS: Final[tuple[Migration, ...]] = (
    Migration(name="0001_the_ledger", statements=(*_TABLES, *_VIEWS)),
    Migration(name="0002_budgets", statements=_BUDGETS),
    Migration(name="0003_limits", statements=_LIMITS),
    Migration(name="0004_kept_responses", statements=_KEPT_RESPONSES),
    Migration(name="0005_limit_windows", statements=_LIMIT_WINDOWS),
    Migration(name="0006_journal_marks", statements=_JOURNAL_MARKS, is_for_sqlite_alone=True),
    Migration(name="0007_unsettled_of_budgets", statements=_UNSETTLED_OF_BUDGETS),
    Migration(name="0008_imported_cache_writes", statements=_IMPORTED_CACHE_WRITES),
    Migration(name="0009_imported_cache_writes_1h", statements=_IMPORTED_CACHE_WRITES_1H),
)

MIGRATIONS_TABLE = """
CREATE TABLE migrations (
  name TEXT PRIMARY KEY,
  applied_at_us {int} NOT NULL
)"""


def schema_text() -> str:
    """Return the whole schema as SQLite has it after all migrations, for the reference page."""
    shown = [MIGRATIONS_TABLE.format_map(SQLITE_TYPES).strip()]
    for migration in MIGRATIONS:
        shown.append(f"-- {migration.name}")
        for statement in migration.statements_for(SQLITE_TYPES):
            if statement.startswith("DROP "):
                made = statement.replace("DROP", "CREATE", 1) + " "
                shown = [text for text in shown if not text.startswith(made)]
            else:
                shown.append(statement)
    return "\n\n".join(text if text.startswith("-- ") else f"{text};" for text in shown) + "\n"
