"""How entries become rows: one transaction for a batch, and what a budget or limit says of each of them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ownward.core import Clock, LedgerError
from ownward.ledger._budgets import Books, has_accounts
from ownward.ledger._connection import Connection
from ownward.ledger._doubt import Doubt
from ownward.ledger._entries import Entry
from ownward.ledger._limits import Meters
from ownward.ledger._posting import post
from ownward.ledger._statements import BEAT, CLOSE_RUN, INSERT_RUN, INSERTS, RELEASE_HOLDS, Values, insert_rows
from ownward.ledger._store import Store
from ownward.ledger._times import to_us

_log = logging.getLogger("ownward.ledger")

_TRIES = 5
_FEW_NOTES = 4


class Committer:
    """The writer's connection, opened when it is needed; used by one thread at a time."""

    def __init__(self, store: Store, *, run_id: str, run_row: Values, clock: Clock) -> None:
        """Keep the parts."""
        self._store = store
        self._run_id = run_id
        self._run_row = run_row
        self._clock = clock
        self._connection: Connection | None = None
        self._journal = store.journal_of(run_id)
        self.refused: LedgerError | None = None  # the newest row that could not be posted
        self._doubt: Doubt | None = None  # a commit that the database never answered
        self._owed: list[Entry] = []  # cancellations of what was begun by such a commit, and told to be refused
        self._keeps_books = False  # whether there were budget accounts at the last look; they are looked for until then
        self.has_run = False

    @property
    def unposted(self) -> int:
        """How many notes of the journal are not known to be in the tables."""
        return 0 if self._journal is None else self._journal.unposted

    @property
    def is_in_doubt(self) -> bool:
        """Whether something is to be looked up or taken back of a commit that was never answered."""
        return self._doubt is not None or bool(self._owed)

    def note(self, entries: list[Entry]) -> bool:
        """Note them in the journal, as one; False where they belong in the tables."""
        return self._journal is not None and not self._keeps_books and self._journal.enter(entries)

    def open_journal(self, connection: Connection) -> None:
        """Have calls noted from now on, unless accounts are kept: these change together with what they sum."""
        if self._journal is not None and not self._keeps_books and not has_accounts(connection):
            self._journal.open()

    def close_journal(self) -> None:
        """Note nothing any more; what is noted is put into the tables with the next commit, by whomever."""
        if self._journal is not None:
            self._journal.close()

    def must_close_journal(self) -> bool:
        """Return whether another process asks for it."""
        return self._journal is not None and self._journal.is_wanted()

    def commit(self, entries: list[Entry], *, rest: Callable[[], object] | None = None) -> None:
        """Commit them together, or one by one where a row is refused; raises what the database said.

        `rest` is called now and then while what the journal holds is put into the tables.
        """
        if not (self.unposted or self.is_in_doubt or any(entry.rows or entry.call for entry in entries)):
            return  # barriers alone
        if self._doubt is not None:
            entries = self._without_doubtful(entries)
        entries = [*self._owed, *entries]
        commit = self._commit_together
        for tries_left in reversed(range(_TRIES)):
            connection = self._begin()
            try:
                commit(connection, entries, rest)
            except Exception as error:
                connection.rollback()
                if self._doubt is not None and not self._doubt.can_be_settled:
                    self._doubt = None
                    raise
                if connection.is_lost and tries_left:
                    if self._doubt is not None and self._is_made(self._doubt):
                        break
                elif self._store.is_row_fault(error) and commit != self._commit_one_by_one:
                    commit = self._commit_one_by_one
                elif not self._store.is_worth_repeating(error):
                    raise
                if not tries_left:
                    raise
            else:
                break
        self._owed.clear()

    def commit_at_once(self, entries: list[Entry]) -> bool:
        """Commit them where nothing has to be waited for; return False where nothing was written."""
        connection = self._connection
        if self.unposted > _FEW_NOTES:  # to put many into the tables is the thread's work
            return False
        if connection is None or not self.has_run or not connection.begin_at_once():
            return False
        try:
            self._commit_together(connection, entries, None)
        except Exception:  # noqa: BLE001 - whatever it was, the writer's thread meets it again and tells
            connection.rollback()
            return False
        return True

    def beat(self, *, must_write: bool) -> None:
        """Say that this run lives; one that has begun nothing writes nothing, unless it must."""
        self._connect().require_in_place()
        connection = self._begin()
        try:
            if must_write and not self.has_run:
                connection.execute(INSERT_RUN, self._run_row)
            connection.execute(BEAT, (to_us(self._clock.now()), self._run_id))
            connection.commit()
            self.has_run = self.has_run or must_write
        finally:
            connection.rollback()

    def end_run(self) -> None:
        """Say that this run ended, where it wrote anything; raises what the database said."""
        if not self.has_run or (self._connection is None and not self.unposted):
            return
        for tries_left in reversed(range(_TRIES)):
            connection = self._begin()
            try:
                self._end_run(connection, to_us(self._clock.now()))
            except Exception as error:
                connection.rollback()
                if not (tries_left and (connection.is_lost or self._store.is_worth_repeating(error))):
                    raise
            else:
                break
        self.close_journal()

    def _end_run(self, connection: Connection, now_us: int) -> None:
        posted = self._post(connection, [])
        connection.execute(CLOSE_RUN, (now_us, now_us, self._run_id))
        connection.execute(RELEASE_HOLDS, (self._run_id,))
        connection.commit()
        self._note_posting(posted)

    def close(self) -> None:
        """Undo what is not committed and let go of the database; the next commit opens it again."""
        if self._connection is not None:
            self._connection.rollback()
            self._connection.close()
            self._connection = None

    def _begin(self) -> Connection:
        """Return a connection in a new transaction; a server that restarted meanwhile is connected to again."""
        connection = self._connect()
        try:
            connection.begin()
        except Exception:
            if not connection.is_lost:
                raise
            self._connection = None
            connection = self._connect()
            connection.begin()
        return connection

    def _connect(self) -> Connection:
        if self._connection is None:
            try:
                self._connection = self._store.connect_writer()
            except Exception as error:
                if not self._store.is_worth_repeating(error):
                    raise
                self._connection = self._store.connect_writer()
        return self._connection

    def _post(
        self,
        connection: Connection,
        entries: list[Entry],
        *,
        is_careful: bool = True,
        rest: Callable[[], object] | None = None,
    ) -> int:
        """Put what is noted into the tables first: what follows may refer to it. Return up to which number.

        A settlement or a further call refers to what this process noted; other entries to anybody's.
        """
        noted = [] if self._journal is None else self._journal.take()
        faults: list[LedgerError] = []
        if noted:
            faults = post(self._store, connection, self._run_id, noted, is_careful=is_careful, rest=rest)
        if any(entry.call is not None or any(check.kind == "task" for check in entry.checks) for entry in entries):
            faults += self._store.post_journals(connection)
        for fault in faults:
            _log.error("%s", fault)
            self.refused = fault
        return noted[-1].number if noted else 0

    def _note_posting(self, up_to: int) -> None:
        if up_to and self._journal is not None:
            self._journal.note_posting(up_to)

    def _commit_together(self, connection: Connection, entries: list[Entry], rest: Callable[[], object] | None) -> None:
        posted = self._post(connection, entries, is_careful=False, rest=rest)
        rows = [row for entry in self._admit(connection, entries) for row in entry.rows]
        calls = [entry for entry in entries if entry.call is not None]
        has_run = self._add_run(connection, entries)
        insert_rows(connection, rows)
        for entry in calls:
            self._call(connection, entry)
        self._end(connection, entries)
        self._note_posting(posted)
        self.has_run = has_run

    def _commit_one_by_one(
        self, connection: Connection, entries: list[Entry], rest: Callable[[], object] | None
    ) -> None:
        """Write what can be written: one entry's fault is its own."""
        posted = self._post(connection, entries, rest=rest)
        has_run = self._add_run(connection, entries)
        for entry in entries:
            connection.execute("SAVEPOINT one")
            try:
                for admitted in self._admit(connection, [entry]):
                    for table, values in admitted.rows:
                        connection.execute(INSERTS[table], values)
            except Exception as error:
                if not self._store.is_row_fault(error):
                    raise
                connection.execute("ROLLBACK TO SAVEPOINT one")
                entry.error = LedgerError(f"a row was refused: {error}", where=self._store.name)
            connection.execute("RELEASE SAVEPOINT one")
            if entry.call is not None:
                self._call(connection, entry)
        self._end(connection, entries)
        self._note_posting(posted)
        self.has_run = has_run

    def _end(self, connection: Connection, entries: list[Entry]) -> None:
        """Commit; where the database is lost before it answers, whether it did is in doubt until it is looked up."""
        try:
            connection.commit()
        except Exception:
            connection.rollback()
            if connection.is_lost:
                self._doubt = Doubt(entries)
            raise

    def _is_made(self, doubt: Doubt) -> bool:
        """Return whether a doubtful commit was made; raises what the database said where that cannot be found out."""
        is_made = False
        for tries_left in reversed(range(_TRIES)):
            connection = self._begin()
            try:
                is_made = doubt.is_made(self._store, connection)
            except Exception:
                connection.rollback()
                if not (connection.is_lost and tries_left):
                    raise
            else:
                connection.rollback()
                break
        self._doubt = None
        return is_made

    def _without_doubtful(self, entries: list[Entry]) -> list[Entry]:
        """Return what is left to be written once a doubt is settled of which those who waited were told a failure."""
        doubt = self._doubt
        assert doubt is not None
        if not self._is_made(doubt):
            return entries
        self.has_run = self.has_run or doubt.has_begun
        self._owed.extend(doubt.cancellations())
        made = {id(entry) for entry in doubt.entries}
        return [entry for entry in entries if id(entry) not in made]

    def _admit(self, connection: Connection, entries: list[Entry]) -> list[Entry]:
        """Return the entries that no budget forbids, their accounts brought up to date; the others hear why."""
        if not any(entry.moves_money for entry in entries):
            return entries
        is_limited = any(entry.takes or entry.releases for entry in entries)
        if not (self._keeps_books or is_limited or any(entry.checks for entry in entries) or has_accounts(connection)):
            return entries
        self._store.lock_budgets(connection)
        self._keeps_books = self._keeps_books or any(entry.checks for entry in entries) or has_accounts(connection)
        books = Books(self._store, connection, entries) if self._keeps_books else None
        meters = self._open_meters(connection, entries) if is_limited else None
        admitted = []
        for entry in entries:
            entry.error = None if meters is None else meters.refuse(entry)
            if entry.error is None and books is not None:
                entry.error = books.enter(entry)
            if entry.error is None:
                admitted.append(entry)
                if meters is not None:
                    meters.enter(entry)
        if books is not None:
            books.write()
        if meters is not None:
            meters.write()
        return admitted

    def _open_meters(self, connection: Connection, entries: list[Entry]) -> Meters:
        return Meters(connection, entries, run_id=self._run_id, now_us=to_us(self._clock.now()))

    def _call(self, connection: Connection, entry: Entry) -> None:
        assert entry.call is not None
        connection.execute("SAVEPOINT call")
        entry.error = None
        try:
            entry.outcome = entry.call(connection)
        except LedgerError as error:
            entry.error = error.with_traceback(None)  # which holds the entry
        except Exception as error:
            if not self._store.is_row_fault(error):
                raise
            entry.error = LedgerError(f"a row was refused: {error}", where=self._store.name)
        if entry.error is not None:
            connection.execute("ROLLBACK TO SAVEPOINT call")
        connection.execute("RELEASE SAVEPOINT call")

    def _add_run(self, connection: Connection, entries: list[Entry]) -> bool:
        if not self.has_run and any(entry.begins for entry in entries):
            connection.execute(INSERT_RUN, self._run_row)
            return True
        return self.has_run
