"""Graded answers of a trial that asks, kept in a file until its certificate is made: an interrupted one goes on there.

What the candidate failed is kept as well, so that interrupting a trial gives it no second chance.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TextIO

from ownward.cli._ask_gateway import FORBIDDEN
from ownward.cli._output import say
from ownward.core import format_counted, new_id

if TYPE_CHECKING:
    from ownward.ledger import Ledger
    from ownward.trials import Task, TaskResult

_KEPT_S: Final = 7 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One graded answer as it is kept; the text is not."""

    run_id: str
    tier: str
    model: str | None  # that answered for the tier, by the ledger
    task: str
    is_answered: bool
    is_completed: bool
    score: float
    why: str
    request_id: str | None


class KeptAnswers:
    """The answers of one trial's earlier runs, and where those of this one are added."""

    def __init__(self, path: Path, *, baseline: str) -> None:
        """Read what is kept at `path`; what cannot be read is asked again."""
        from ownward.ledger import TRIAL_PREFIX

        self.path = path
        self._baseline = baseline
        self._stream: TextIO | None = None
        self._is_failing = self._could_be_asked = False
        lines = list(_read_lines(path))
        self._count = sum(line.is_answered for line in lines)
        self.taken_over: Counter[str] = Counter()
        self.run_id = lines[-1].run_id if lines else new_id(TRIAL_PREFIX)
        self._models = {line.tier: line.model for line in lines}  # the newest counts
        answering = {line.tier for line in lines if line.is_answered}
        self._taken = {
            (line.tier, line.task): line
            for line in lines
            if line.tier in answering and line.model == self._models[line.tier]
        }

    @classmethod
    def of(cls, opened: Ledger, *, workload: str | None, baseline: str, candidate: str) -> Self:
        """Return those of a trial, which lie beside the gateway's ledger, or with our data where that is no file."""
        from ownward import config, ledger

        digest = hashlib.sha256(json.dumps([workload, baseline, candidate]).encode()).hexdigest()[:12]
        if ledger.is_address(opened.name):
            folder, name = config.platform_folder("data"), f"trial-{digest}.jsonl"
            with contextlib.suppress(OSError):  # told when the first answer is to be kept
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return cls(folder / name, baseline=baseline)
        return cls(Path(f"{opened.name}-trial-{digest}.jsonl"), baseline=baseline)

    def __enter__(self) -> Self:
        """Return them."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Add nothing more; after an error, say what is kept."""
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
        if kind is not None and self._count:
            say(f"{self._told()}: the same command goes on from there")

    def take(self, tasks: Sequence[Task], *tiers: str) -> dict[str, dict[str, TaskResult]]:
        """Return the results that are kept, by tier and the task's id, and say how many they are."""
        taken = {tier: self._take(tier, tasks) for tier in tiers}
        self.taken_over = Counter({tier: len(results) for tier, results in taken.items()})
        if self.taken_over.total():
            count = format_counted(self.taken_over.total(), "answer")
            say(
                f"{count} taken over from an earlier run of this trial that was not finished. To ask all again, remove"
                f" {str(self.path)!r}"
            )
        return taken

    def _take(self, tier: str, tasks: Sequence[Task]) -> dict[str, TaskResult]:
        from ownward.quality import Grade
        from ownward.trials import Answer, TaskResult

        taken: dict[str, TaskResult] = {}
        for task in tasks:
            line = self._taken.get((tier, _digest(task)))
            if line is not None:
                answer = Answer(
                    text="" if line.is_answered else None,
                    error=None if line.is_answered else line.why,
                    request_id=line.request_id,
                )
                grade = Grade(is_completed=line.is_completed, score=line.score, why=line.why)
                taken[task.task_id] = TaskResult(task=task, answer=answer, grade=grade)
        return taken

    def drop_others(self, tier: str, model: str | None) -> bool:
        """Return whether what is kept of a tier was answered by another model than `model`; it counts no more then."""
        before = self._models.get(tier)
        if model is None or before is None or before == model:
            return False
        del self._models[tier], self.taken_over[tier]  # told once: what a name stands for may differ from task to task
        say(f"{tier} is {model!r} now and was {before!r} before: what that answered is not taken over")
        return True

    def add(self, tier: str, result: TaskResult, *, model: str | None) -> None:
        """Keep a result; not one that says nothing of who was to answer, nor the baseline's missing answers."""
        is_answered = result.answer.text is not None
        if result.answer.not_asked is not None:
            self._could_be_asked |= result.answer.not_asked != FORBIDDEN
            return
        if tier == self._baseline and not is_answered:
            return
        line = _Line(
            run_id=self.run_id,
            tier=tier,
            model=model,
            task=_digest(result.task),
            is_answered=is_answered,
            is_completed=result.grade.is_completed,
            score=result.grade.score,
            why=result.grade.why,
            request_id=result.answer.request_id,
        )
        try:
            if self._stream is None:
                file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                self._stream = os.fdopen(file, "a", encoding="utf-8")
                self._stream.write("\n")  # what was killed may have left half a line
            self._stream.write(f"{json.dumps(asdict(line))}\n")
            self._stream.flush()
        except OSError as error:
            if not self._is_failing:
                say(f"answers are not kept should the trial be interrupted: {str(self.path)!r}: {error.strerror}")
            self._is_failing = True
        else:
            self._count += is_answered

    def finish(self) -> None:
        """Remove what is kept, now that the certificate is there; not where a limit kept tasks from being asked."""
        if self._could_be_asked and self._count:
            say(f"{self._told()}: the same command asks only what was not asked. Remove the file to ask all again")
        else:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _told(self) -> str:
        return f"{format_counted(self._count, 'answer')} of this trial kept in {str(self.path)!r}"


def _read_lines(path: Path) -> Iterator[_Line]:
    """Yield what is kept at `path`, unless that is too old to be of the same models."""
    try:
        if datetime.now(UTC).timestamp() - path.stat().st_mtime > _KEPT_S:
            path.unlink()
            return
        text = path.read_text("utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        with contextlib.suppress(ValueError, TypeError):  # half a line, of a run that was killed
            yield _Line(**json.loads(line))


def _digest(task: Task) -> str:
    """Return what tells a task, with what was expected and how it is graded, from every other."""
    return hashlib.sha256(repr(task).encode("utf-8", "surrogatepass")).hexdigest()[:32]
