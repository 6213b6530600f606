"""One bet for every claim that the mean of a bounded per-task quantity is above a line.

A mixture of fixed bets on z, valid at any stopping time (Ville's inequality):
Waudby-Smith and Ramdas 2021, "Estimating means of bounded random variables by
betting", section 4; Howard et al. 2021 for the mixture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

# numpy is loaded by the functions that need it: the gateway uses the graders of this room and starts without it.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# A geometric grid of stakes from 0.003 to 0.7 of the largest that cannot go bankrupt: small stakes find
# small effects over many tasks, large ones find large effects in few.
_STAKE_LOW = 0.003
_STAKE_HIGH = 0.7
_STAKE_COUNT = 24
_TASKS_AT_ONCE = 10_000  # a path of each stake is held for them


@dataclass(slots=True)
class EProcess:
    """Evidence against "the mean of z is at most zero", where z never falls below `-largest_loss`.

    Under that hypothesis the chance that `value` ever reaches 1/alpha is at most alpha,
    however often one looks and whenever one stops. `decided_at` is the count at which its logarithm first
    reached `decisive_log_value`.
    Raises: ValueError, if `largest_loss` is not positive or a z lies below `-largest_loss`.
    """

    largest_loss: float
    decisive_log_value: float = math.inf
    count: int = 0
    log_value: float = 0.0
    peak_log_value: float = 0.0
    decided_at: int | None = None
    _log_wealth: NDArray[np.float64] = field(init=False, repr=False)
    _stakes: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Lay out the stakes."""
        if not self.largest_loss > 0:
            message = f"largest_loss is {self.largest_loss}; a bet needs a positive bound on what can be lost"
            raise ValueError(message)
        import numpy as np

        self._stakes = np.geomspace(_STAKE_LOW, _STAKE_HIGH, _STAKE_COUNT) / self.largest_loss  # (stakes,)
        self._log_wealth = np.zeros(_STAKE_COUNT)  # (stakes,)

    @property
    def value(self) -> float:
        """The evidence now: mean over the stakes of the product of (1 + stake * z)."""
        return _safe_exp(self.log_value)

    @property
    def peak_value(self) -> float:
        """The largest evidence so far, which is what a stop at its best moment would have shown."""
        return _safe_exp(self.peak_log_value)

    def update(self, z: float) -> float:
        """Take one more task and return the evidence after it."""
        import numpy as np

        return self.extend(np.asarray([z], dtype=np.float64))

    def extend(self, z: NDArray[np.float64]) -> float:
        """Take several tasks in order (shape `(tasks,)`) and return the evidence after the last."""
        for start in range(0, z.size, _TASKS_AT_ONCE):
            self._take(z[start : start + _TASKS_AT_ONCE])
        return self.value

    def _take(self, z: NDArray[np.float64]) -> None:
        import numpy as np

        if float(z.min()) < -self.largest_loss - 1e-12:
            message = f"z = {float(z.min())} is below -{self.largest_loss}, the bound the bets were laid on"
            raise ValueError(message)
        steps = np.log1p(z[:, None] * self._stakes[None, :])  # (tasks, stakes), log growth
        paths = self._log_wealth[None, :] + np.cumsum(steps, axis=0)  # (tasks, stakes)
        log_values = _log_mean_exp(paths)  # (tasks,)
        best = int(np.argmax(log_values))
        if self.decided_at is None and float(log_values[best]) >= self.decisive_log_value:
            self.decided_at = self.count + int(np.argmax(log_values >= self.decisive_log_value)) + 1
        self.peak_log_value = max(self.peak_log_value, float(log_values[best]))
        self._log_wealth = paths[-1]
        self.log_value = float(log_values[-1])
        self.count += int(z.size)


@dataclass(slots=True)
class DriftAlarm:
    """An alarm that z has fallen below zero in the mean since some unknown moment.

    M_t = (M_{t-1} + 1)(1 - stake * z_t), restarted at every step; while the mean of z is
    at least zero the expected time to a false alarm is at least 1/alpha tasks.
    Source: Shin, Ramdas and Rinaldo 2023, "E-detectors", section 2 (the Shiryaev-Roberts form).
    """

    alpha: float
    largest_gain: float
    stake_fraction: float = 0.3
    level: float = 0.0
    count: int = 0

    def __post_init__(self) -> None:
        """Refuse settings with which the process could go bankrupt or never ring."""
        if not 0 < self.alpha < 1 or self.largest_gain <= 0 or not 0 < self.stake_fraction < 1:
            message = f"alpha {self.alpha}, largest_gain {self.largest_gain} or stake_fraction {self.stake_fraction}"
            raise ValueError(f"{message} is out of range: alpha and stake_fraction in (0, 1), largest_gain > 0")

    @property
    def is_raised(self) -> bool:
        """Whether the evidence of a fall has reached 1/alpha."""
        return self.level >= 1 / self.alpha

    def update(self, z: float) -> bool:
        """Take one more task and return whether the alarm is raised."""
        self.level = (self.level + 1) * (1 - self.stake_fraction / self.largest_gain * z)
        self.count += 1
        return self.is_raised


def lower_confidence_bound(values: NDArray[np.float64], *, low: float, high: float, confidence: float) -> float:
    """Return a lower bound on the mean of `values` in [low, high] that holds at any stopping time.

    The smallest m for which the evidence against "the mean is at most m" never reached 1/(1 - confidence).
    """
    import numpy as np

    threshold = -math.log1p(-confidence)
    bottom, top = low, high
    for _ in range(40):
        middle = (bottom + top) / 2
        process = EProcess(largest_loss=max(middle - low, 1e-9))
        process.extend(np.asarray(values, dtype=np.float64) - middle)
        if process.peak_log_value >= threshold:
            bottom = middle
        else:
            top = middle
    return bottom


def _log_mean_exp(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    largest = rows.max(axis=1, keepdims=True)
    summed: NDArray[np.float64] = largest[:, 0] + np.log(np.exp(rows - largest).mean(axis=1))
    return summed


def _safe_exp(value: float) -> float:
    return math.exp(min(value, 700.0))
