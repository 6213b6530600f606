"""The smallest fleet that holds a service level, with machines in reserve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ownward.core import BadInput, MissesSlo
from ownward.perf import StepModel
from ownward.simulation.result import Simulation
from ownward.simulation.scheduler import Scheduler, Slo
from ownward.simulation.simulate import Routing, simulate
from ownward.traffic import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """How many replicas hold the SLO, how many stand by, and the run that shows it.

    `utilisation_fraction` spreads the work over all replicas, reserve included.
    `tried` lists each number of replicas simulated with its share of good requests.
    """

    replicas: int
    redundancy: int
    simulation: Simulation
    tried: tuple[tuple[int, float], ...]

    @property
    def machines(self) -> int:
        """Replicas that serve and replicas in reserve."""
        return self.replicas + self.redundancy

    @property
    def utilisation_fraction(self) -> float | None:
        """Share of all replicas' time that is work."""
        busy = self.simulation.utilisation_fraction
        return None if busy is None else busy * self.replicas / self.machines

    def as_record(self) -> dict[str, Any]:
        """Return the fleet without the run's rows."""
        return {
            "replicas": self.replicas,
            "redundancy": self.redundancy,
            "machines": self.machines,
            "utilisation_fraction": self.utilisation_fraction,
            "tried": self.tried,
        }


def smallest_fleet(
    trace: Trace,
    step_model: StepModel,
    scheduler: Scheduler | None,
    slo: Slo,
    *,
    redundancy: int = 1,
    routing: Routing = "round_robin",
    seed: int = 0,
    recorded_reuse_fraction: float = 0.0,
    max_replicas: int = 1024,
    is_compiled: bool | None = None,
) -> Fleet:
    """Return the smallest fleet whose replicas hold the SLO over the whole trace, with `redundancy` more in reserve.

    With any `redundancy` of them down the rest still hold it. Pass the busiest
    part of a trace to size for the peak alone. Found by doubling and halving: more replicas are taken to
    serve no fewer requests well.
    Raises: MissesSlo, if `max_replicas`, or one for each request, still miss it.
    """
    if redundancy < 0 or max_replicas < 1:
        raise BadInput(f"redundancy is {redundancy} and max_replicas {max_replicas}")
    runs: dict[int, Simulation] = {}

    def holds(replicas: int) -> bool:
        run = simulate(
            trace,
            step_model,
            scheduler,
            replicas=replicas,
            slo=slo,
            routing=routing,
            seed=seed,
            recorded_reuse_fraction=recorded_reuse_fraction,
            is_compiled=is_compiled,
        )
        runs[replicas] = run
        return run.goodput is not None and run.goodput.is_met

    most = max(1, min(max_replicas, len(trace)))
    enough = 1
    while not holds(enough):
        if enough == most:
            found = runs[enough].goodput
            share = 0.0 if found is None else found.good_fraction
            raise MissesSlo(
                f"{enough} replicas still serve only {100 * share:.1f}% of the requests within the service level,"
                f" which asks for {100 * slo.fraction:g}%",
                allowed="More replicas do not help a request that is too slow alone",
                next_step="Ask for a longer time, or simulate a faster machine or a smaller model",
            )
        enough = min(2 * enough, most)
    short = enough // 2
    while enough - short > 1:
        middle = (enough + short) // 2
        if holds(middle):
            enough = middle
        else:
            short = middle
    tried = tuple((count, run.goodput.good_fraction) for count, run in sorted(runs.items()) if run.goodput is not None)
    return Fleet(replicas=enough, redundancy=redundancy, simulation=runs[enough], tried=tried)
