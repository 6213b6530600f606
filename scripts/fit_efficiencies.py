"""Fit the coefficients of ownward.perf to measured rows, with shrinkage over levels; writes data/coefficients.json.

`python -m scripts.fit_efficiencies --data measured.csv --configs DIR`. Each coefficient is a prior times one factor a
level (engine, device family, device, kernels, shape); the log of every factor is drawn towards 0 by a ridge whose width
is the level's. Robust Gauss-Newton on log(measured / predicted). Leaving a pair out is one Newton step from the whole
fit with the pair's rows taken away, which `--check-folds` compares with whole refits.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.measured_cases import Configs, case_of, is_impossible
from benchmarks.measured_rows import MeasuredRow, load_rows

from ownward.core import OwnwardError
from ownward.perf import (
    PRIORS,
    Case,
    Coefficients,
    Deployment,
    calibration_class,
    coefficient,
    compute_value,
    deploy_case,
    level_keys,
    load_coefficients,
    weight_format,
    with_usual_parallelism,
    without_repeated_depth,
)

_TARGET = Path(__file__).resolve().parents[1] / "src" / "ownward" / "perf" / "data" / "coefficients.json"
# Width of the log factor of each level: how far engines, families, devices ... are expected to lie apart.
_WIDTHS = {
    "": 0.7,
    "e": 0.6,
    "f": 0.3,
    "d": 0.15,
    "e/f": 0.35,
    "e/d": 0.2,
    "e/q": 0.25,
    "e/f/q": 0.15,
    "e/s": 0.25,
    "f/s": 0.12,
    "e/b": 0.2,
    "e/b/q": 0.2,
    "e/v": 0.25,
    "e/m": 0.3,
    "e/h": 0.8,
    "e/v/h": 0.8,
    "e/w": 0.5,
}
# Host time a sequence differs by orders between servers; what else is lost under load should be little.
_WIDER = {"sequence_s": 2.0, "load": 0.5, "kv_mbu": 0.6}
_NOISE = {"A": 0.12, "B": 0.15, "C": 0.25}
# TPOT under load is measured by tools that disagree on what it is, some below the time that reading the weights takes.
_LOADED_NOISE = {"tpot_ms": 1.2, "ttft_ms": 1.7}
_BEND = 2.5
_STEP = 0.05
_LONGEST_STEP = 0.4
_DAMPING = 0.05
_MOST_TRIES = 10
_LEAST_GAIN = 2e-5
_ROUNDS = 60
_WARM_ROUNDS = 40
# Between these quantiles of the others' residuals 80% of a pair that is not among them lie.
_LOW, _HIGH = 0.055, 0.945
_LEAST_HALF_BAND = 0.03
_BORROWED = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A row that can be predicted."""

    row: MeasuredRow
    case: Case
    deployment: Deployment
    keys: Mapping[str, list[str]]
    class_: str


class Fit:
    """The points, the keys of their effects and the state of the fit."""

    def __init__(self, rows: Sequence[MeasuredRow], cases: Sequence[Case | str]) -> None:
        blank = Coefficients(effects={}, bands={}, source="", checked_on=date(1970, 1, 1))
        self.points: list[Point] = []
        for row, case in zip(rows, cases, strict=True):
            point = None if isinstance(case, str) else _point(row, case, blank)
            if point is not None and not is_impossible(point.row, point.case, point.deployment):
                self.points.append(point)
        used = sorted({key for point in self.points for keys in point.keys.values() for key in keys})
        self.index = {key: number for number, key in enumerate(used)}
        self.ridge = np.array([_width(key) ** -2.0 for key in used])
        self.theta = np.zeros(len(used))
        counts = Counter((p.row.pair, p.row.metric) for p in self.points)
        self.weight = np.array([_noise(p) ** -2.0 / math.sqrt(counts[p.row.pair, p.row.metric]) for p in self.points])
        self.target = np.log([p.row.value for p in self.points])
        self.columns = [
            [np.array([self.index[key] for key in point.keys[name]]) for name in PRIORS] for point in self.points
        ]

    def evaluate(self, theta: Any, *, slopes: bool) -> tuple[Any, Any]:
        """Return log predictions, and their slopes by effect where asked."""
        said = np.empty(len(self.points))
        jacobian = np.zeros((len(self.points), len(theta))) if slopes else None
        for number, point in enumerate(self.points):
            logs = [float(theta[columns].sum()) for columns in self.columns[number]]
            base = _log_value(point, logs)
            said[number] = base
            if jacobian is None:
                continue
            for which in range(len(logs)):
                moved = logs.copy()
                moved[which] += _STEP
                slope = (_log_value(point, moved) - base) / _STEP
                if slope:
                    jacobian[number, self.columns[number][which]] += slope
        return said, jacobian

    def solve(self, *, rounds: int, keep: Any = None, verbose: bool = False) -> Any:
        """Return the effects that fit the kept points best: Levenberg-Marquardt steps, none that makes it worse."""
        theta = self.theta.copy()
        kept = 1.0 if keep is None else keep
        damping = _DAMPING
        for turn in range(rounds):
            said, jacobian = self.evaluate(theta, slopes=True)
            residual = self.target - said
            loss = self._total(residual, theta, keep)
            if verbose:
                print(f"round {turn}: loss {loss:.1f}, median error {np.median(np.abs(residual)):.3f}", file=sys.stderr)
            robust = self._robust(residual) * kept
            curvature = jacobian.T @ (robust[:, None] * jacobian)
            gradient = jacobian.T @ (robust * residual) - self.ridge * theta
            for _ in range(_MOST_TRIES):
                hessian = curvature + np.diag(self.ridge) + damping * np.diag(np.diag(curvature) + self.ridge)
                step = np.clip(np.linalg.solve(hessian, gradient), -_LONGEST_STEP, _LONGEST_STEP)
                reached = self._total(self.target - self.evaluate(theta + step, slopes=False)[0], theta + step, keep)
                if reached < loss:
                    break
                damping *= 4
            else:
                return theta
            damping = max(damping / 3, 1e-3)
            theta = theta + step
            if loss - reached < _LEAST_GAIN * loss:
                break
        return theta

    def _total(self, residual: Any, theta: Any, keep: Any) -> float:
        return self._loss(residual, keep) + float((self.ridge * theta**2).sum())

    @cached_property
    def _at_rest(self) -> tuple[Any, Any, Any, Any]:
        """Residuals, slopes, weights and the inverse of the curvature, once the effects are found."""
        said, jacobian = self.evaluate(self.theta, slopes=True)
        residual = self.target - said
        robust = self._robust(residual)
        hessian = jacobian.T @ (robust[:, None] * jacobian) + np.diag(self.ridge)
        return residual, jacobian, robust, np.linalg.inv(hessian)

    def leave_out(self, kind: str = "pair") -> dict[str, Any]:
        """Return for each pair (model, machine, page) the effects fitted without it, by one step from the whole fit."""
        residual, jacobian, robust, inverse = self._at_rest
        gradient = jacobian.T @ (robust * residual) - self.ridge * self.theta
        members: dict[str, list[int]] = defaultdict(list)
        for number, point in enumerate(self.points):
            members[point.row.group(kind)].append(number)
        found = {}
        for group, numbers in members.items():
            own = jacobian[numbers]
            weighted = robust[numbers]
            rest = gradient - own.T @ (weighted * residual[numbers])
            # (H - J'WJ)^-1 by Woodbury: the group's rows are few beside the effects
            spread = own @ inverse
            inner = np.diag(1 / weighted) - spread @ own.T
            step = inverse @ rest + spread.T @ np.linalg.solve(inner, spread @ rest)
            found[group] = self.theta + np.clip(step, -2 * _LONGEST_STEP, 2 * _LONGEST_STEP)
        return found

    def _robust(self, residual: Any) -> Any:
        scale = np.array([_noise(p) for p in self.points]) * _BEND
        return self.weight / (1 + (residual / scale) ** 2)

    def _loss(self, residual: Any, keep: Any) -> float:
        scale = np.array([_noise(p) for p in self.points]) * _BEND
        each = self.weight * scale**2 * np.log1p((residual / scale) ** 2)
        return float((each * (1.0 if keep is None else keep)).sum())

    def as_effects(self, theta: Any) -> dict[str, float]:
        """Return the effects by key, those that are nothing left out."""
        return {key: round(float(theta[number]), 4) for key, number in self.index.items() if abs(theta[number]) > 5e-4}


def _point(row: MeasuredRow, case: Case, blank: Coefficients) -> Point | None:
    asked = with_usual_parallelism(without_repeated_depth(case))
    try:
        placed = deploy_case(asked, weight_format(asked.weights), blank)
    except OwnwardError:
        return None
    if not isinstance(placed, tuple):
        return None
    deployment = placed[0]
    keys = {name: level_keys(name, deployment.traits) for name in PRIORS}
    return Point(row=row, case=asked, deployment=deployment, keys=keys, class_=calibration_class(asked, deployment))


def _width(key: str) -> float:
    """Return how far an effect is expected to lie from nothing."""
    name, *level = key.split("|")
    return _WIDTHS[level[0] if level else ""] * _WIDER.get(name, 1.0)


def _noise(point: Point) -> float:
    """Return how far a row of this kind lies from another of the same; runs under load vary by their flags."""
    is_loaded = point.case.concurrency > 1 and point.row.tier != "A"
    return _NOISE[point.row.tier] * (_LOADED_NOISE.get(point.row.metric, 1.3) if is_loaded else 1.0)


def _log_value(point: Point, logs: Sequence[float]) -> float:
    traits = point.deployment.traits
    values = {name: coefficient(name, log, traits) for name, log in zip(PRIORS, logs, strict=True)}
    efficiency = replace(point.deployment.efficiency, **values)  # type: ignore[arg-type]
    return math.log(max(compute_value(point.case, replace(point.deployment, efficiency=efficiency)), 1e-12))


_FITTED: dict[int, Fit] = {}


def fit_rows(rows: Sequence[MeasuredRow], cases: Sequence[Case | str], *, verbose: bool = False) -> Fit:
    """Return the fit of all rows that can be predicted; the same rows are fitted once."""
    key = id(cases)
    if key not in _FITTED:
        fitted = Fit(rows, cases)
        shipped = load_coefficients().effects  # where the last fit ended is near where this one will
        for effect, number in fitted.index.items():
            fitted.theta[number] = shipped.get(effect, 0.0)
        fitted.theta = fitted.solve(rounds=_ROUNDS if not shipped else _WARM_ROUNDS, verbose=verbose)
        _FITTED[key] = fitted
    return _FITTED[key]


def leave_groups_out(
    rows: Sequence[MeasuredRow], cases: Sequence[Case | str], kind: str = "pair"
) -> dict[str, Coefficients]:
    """Return for each pair (model, machine, page) the coefficients, and the bands, that none of its rows had a part in.

    Bands are those of pairs, and of machines, left out.
    """
    fitted = fit_rows(rows, cases, verbose=True)
    near, far = left_out_residuals(fitted, "pair"), left_out_residuals(fitted, "machine")
    groups = [point.row.group(kind) for point in fitted.points]
    devices = [point.deployment.traits.device for point in fitted.points]
    return {
        group: Coefficients(
            effects=fitted.as_effects(theta),
            bands=Bands(without(near, groups, group)),
            far_bands=Bands(without(far, groups, group)),
            devices=frozenset(device for device, own in zip(devices, groups, strict=True) if own != group),
            source=f"fitted without {group}",
            checked_on=date(2026, 11, 21),
        )
        for group, theta in fitted.leave_out(kind).items()
    }


def without(
    residuals: Sequence[tuple[str, str, float]], groups: Sequence[str], group: str
) -> list[tuple[str, str, float]]:
    """Return the residuals of all rows that are not in a group."""
    return [found for found, own in zip(residuals, groups, strict=True) if own != group]


def left_out_residuals(fitted: Fit, kind: str) -> list[tuple[str, str, float]]:
    """Return (class, pair, log(measured / predicted)) of each row by the coefficients fitted without its group."""
    thetas = fitted.leave_out(kind)
    found = []
    for number, point in enumerate(fitted.points):
        theta = thetas[point.row.group(kind)]
        logs = [float(theta[columns].sum()) for columns in fitted.columns[number]]
        found.append((point.class_, point.row.pair, float(fitted.target[number]) - _log_value(point, logs)))
    return found


class Bands(Mapping[str, tuple[int, float, float]]):
    """Residual quantiles of every class and of every wider class it belongs to, worked out when asked for.

    A class of few pairs borrows: its residuals are mixed with those of the class that holds it, which count as
    `_BORROWED` pairs, and so on up to the metric. A pair counts as the square root of its rows, which are not
    independent.
    """

    def __init__(self, residuals: Sequence[tuple[str, str, float]]) -> None:
        self._rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for class_, pair, residual in residuals:
            words = class_.split("/")
            for length in range(1, len(words) + 1):
                self._rows["/".join(words[:length])][pair].append(residual)
        self._mixed: dict[str, tuple[Any, Any]] = {}

    def __getitem__(self, name: str) -> tuple[int, float, float]:
        """Return (rows, low, high) of a class that has rows."""
        if name not in self._rows:
            raise KeyError(name)
        values, weights = self._mix(name)
        order = np.argsort(values)
        reached = np.cumsum(weights[order]) - weights[order] / 2
        low, high = (float(np.interp(share * weights.sum(), reached, values[order])) for share in (_LOW, _HIGH))
        rows = sum(len(found) for found in self._rows[name].values())
        return rows, min(low, -_LEAST_HALF_BAND), max(high, _LEAST_HALF_BAND)

    def __iter__(self) -> Iterator[str]:
        """Yield the names of all classes with rows."""
        return iter(sorted(self._rows))

    def __len__(self) -> int:
        """Return how many classes there are."""
        return len(self._rows)

    def _mix(self, name: str) -> tuple[Any, Any]:
        if name not in self._mixed:
            by_pair = self._rows[name]
            values = np.concatenate([np.asarray(found) for found in by_pair.values()])
            weights = np.concatenate([np.full(len(found), len(found) ** -0.5) for found in by_pair.values()])
            weights = weights / weights.sum()
            wider = name.rpartition("/")[0]
            if wider:
                own = len(by_pair) / (len(by_pair) + _BORROWED)
                borrowed, their = self._mix(wider)
                values = np.concatenate([values, borrowed])
                weights = np.concatenate([own * weights, (1 - own) * their])
            self._mixed[name] = values, weights
        return self._mixed[name]


def main() -> None:
    """Fit, leave pairs out for the bands, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--configs", type=Path, required=True)
    parser.add_argument("--check-folds", type=int, default=0, help="refit N folds of pairs wholly and compare")
    options = parser.parse_args()
    configs = Configs(options.configs)
    rows = [row for row in load_rows(options.data, configs.names) if row.config is not None and row.value > 0]
    cases = [case_of(row, configs) for row in rows]
    fitted = fit_rows(rows, cases, verbose=True)
    thetas = fitted.leave_out()
    residuals = left_out_residuals(fitted, "pair")
    errors = np.array([residual for _, _, residual in residuals])
    print(
        f"{len(fitted.points)} rows, {len(fitted.index)} effects; "
        f"pairs left out: median {np.median(np.abs(errors)):.3f}"
    )
    for fold in range(options.check_folds):
        _check_fold(fitted, thetas, fold, options.check_folds)
    pairs = len({point.row.pair for point in fitted.points})
    written = {
        "generated": "by scripts/fit_efficiencies.py from measured rows; do not edit",
        "source": f"fitted on {len(fitted.points)} measured rows of {pairs} model-hardware pairs; "
        "docs/explanation/predictions.md has the errors on pairs left out",
        "checked_on": "2026-11-21",
        "rows": len(fitted.points),
        "pairs": pairs,
        "effects": fitted.as_effects(fitted.theta),
        "bands": _rounded(Bands(residuals)),
        "far_bands": _rounded(Bands(left_out_residuals(fitted, "machine"))),
        "devices": sorted({point.deployment.traits.device for point in fitted.points}),
    }
    text = "{" + ",\n".join(
        f"{json.dumps(key)}: " + (_lines(value) if isinstance(value, dict) else json.dumps(value))
        for key, value in written.items()
    )
    _TARGET.write_text(text + "}\n", encoding="utf-8")


def _rounded(bands: Bands) -> dict[str, list[float]]:
    return {name: [n, round(low, 3), round(high, 3)] for name, (n, low, high) in bands.items()}


def _lines(table: Mapping[str, Any]) -> str:
    return (
        "{\n" + ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(table.items())) + "\n}"
    )


def _check_fold(fitted: Fit, thetas: Mapping[str, Any], fold: int, folds: int) -> None:
    pairs = sorted(thetas)[fold::folds][:1]
    keep = np.array([0.0 if point.row.pair in pairs else 1.0 for point in fitted.points])
    theta = fitted.solve(rounds=6, keep=keep)
    for number, point in enumerate(fitted.points):
        if point.row.pair in pairs:
            by_step = _log_value(point, [float(thetas[point.row.pair][c].sum()) for c in fitted.columns[number]])
            whole = _log_value(point, [float(theta[c].sum()) for c in fitted.columns[number]])
            print(f"{point.row.pair} {point.row.metric}: step {by_step:.3f}, whole refit {whole:.3f}")


if __name__ == "__main__":
    main()
