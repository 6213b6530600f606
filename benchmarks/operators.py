"""Whether our formulas of single operators repeat the timings of kernels that AIConfigurator ships.

`python -m benchmarks.operators --systems FOLDER` where FOLDER is `aiconfigurator_core/systems/data` of a virtual
environment with `pip install aiconfigurator-core` (Apache-2.0). Its timings are read and not shipped: what is kept are
the four or five numbers that each formula needs to repeat them, by engine, device and number format, and how well it
does. Needs the extra `parquet`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ownward.catalog import machine
from ownward.perf import PRIORS, device_family

_RESULTS = Path(__file__).with_name("results")
_SYSTEMS = {
    "a100_sxm": "A100 SXM4 80GB", "h100_sxm": "H100 SXM", "h200_sxm": "H200 SXM", "b200_sxm": "B200 SXM 180GB",
    "l40s": "L40S", "rtx_pro_6000_server": "RTX PRO 6000 Blackwell Server",
}  # fmt: skip
_ENGINES = {"vllm": "vllm", "sglang": "sglang", "trtllm": "tensorrt-llm"}
_KERNELS = {
    "bfloat16": ("wide", 2.0, "bf16"), "fp8": ("fp8", 1.0, "fp8"), "fp8_block": ("fp8", 1.0, "fp8"),
    "nvfp4": ("nvfp4", 0.5625, "fp4"), "w4a16_mxfp4": ("mxfp4", 0.53125, "bf16"),
}  # fmt: skip
_SHARP = 5.0
_MOST = 3000
_SKEW = 0.4
_LEAST_BYTES = 2e6
_FEWEST = 100


def main() -> None:
    """Fit every class there is, print how well, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", type=Path, required=True)
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    for system, name in _SYSTEMS.items():
        device = machine(name)
        family = device_family(device)
        assert device.bandwidth_bytes_per_s is not None
        bandwidth = device.bandwidth_bytes_per_s.value
        for folder, engine in _ENGINES.items():
            for dtype, (kernels, width, rate_name) in _KERNELS.items():
                rate = device.rate(rate_name) or device.rate("bf16")  # type: ignore[arg-type]
                assert rate is not None
                where = {"engine": engine, "family": family, "device": device.id, "kernels": kernels, "dtype": dtype}
                dense = _fit_gemm(_rows(options.systems / system / "gemm" / folder, "gemm_perf.parquet", dtype), width,
                                  bandwidth, rate.value)  # fmt: skip
                if dense is not None:
                    found.append(where | dense)
                base = dense or {"weight_mbu": PRIORS["weight_mbu"], "mfu": PRIORS["mfu"]}
                experts = _fit_experts(_rows(options.systems / system / "moe" / folder, "moe_perf.parquet", dtype),
                                       width, bandwidth * base["weight_mbu"], rate.value * base["mfu"])  # fmt: skip
                if experts is not None:
                    found.append(where | experts)
            attention = options.systems / system / "attention" / folder
            cache = _fit_cache(_rows(attention, "generation_attention_perf.parquet", "bfloat16"), bandwidth)
            if cache is not None:
                where = {"engine": engine, "family": family, "device": device.id, "kernels": "", "dtype": ""}
                found.append(where | cache)
    for kind, named in (("matrix products", "weight_mbu"), ("experts", "expert_mbu"), ("attention", "kv_mbu")):
        errors = [each["median_error"] for each in found if named in each]
        print(f"{kind}: {len(errors)} classes, median error {float(np.median(errors)):.3f}, worst {max(errors):.3f}")
    lines = ",\n".join(json.dumps(each) for each in found)
    path = _RESULTS / f"operators-{datetime.now(tz=UTC).date()}.json"
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _rows(folder: Path, name: str, dtype: str) -> dict[str, Any] | None:
    """Return the columns of the newest table of a folder, of one number format; None where there is none."""
    import pyarrow.parquet as pq

    tables = sorted(folder.glob(f"*/{name}"))
    if not tables:
        return None
    table = pq.read_table(tables[-1]).to_pydict()
    column = next(key for key in ("gemm_dtype", "moe_dtype", "kv_cache_dtype") if key in table)
    kept = np.array([value == dtype for value in table[column]])
    if "distribution" in table:
        kept &= np.array([value == "power_law_1.01" for value in table["distribution"]])
    columns = {key: np.asarray(values)[kept] for key, values in table.items()}
    return columns if kept.sum() else None


def _sample(kept: Any, rng: Any) -> Any:
    numbers = np.flatnonzero(kept)
    return rng.choice(numbers, _MOST, replace=False) if len(numbers) > _MOST else numbers


def _smooth(left: Any, right: Any) -> Any:
    return (left**_SHARP + right**_SHARP) ** (1 / _SHARP)


def _fit_gemm(rows: dict[str, Any] | None, width: float, bandwidth: float, rate: float) -> dict[str, Any] | None:
    if rows is None:
        return None
    m, n, k, seconds = (rows[key].astype(float) for key in ("m", "n", "k", "latency"))
    seconds = seconds / 1e3
    kept = (n * k * width > _LEAST_BYTES) & (n >= 1024) & (k >= 1024) & (n <= 32768) & (k <= 32768) & (m <= 16384)
    if kept.sum() < _FEWEST:
        return None
    chosen = _sample(kept, np.random.default_rng(0))
    m, n, k, seconds = m[chosen], n[chosen], k[chosen], seconds[chosen]
    read, flop = n * k * width + 2 * m * (n + k), 2 * m * n * k

    def said(p: Any) -> Any:
        mbu, mfu, half, fixed = np.exp(p)
        return _smooth(read / (bandwidth * mbu), flop * (m + half) / m / (rate * mfu)) + fixed

    return _solve(said, seconds, ("weight_mbu", "mfu", "half_tokens", "fixed_s"), (0.75, 0.5, 48.0, 4e-6))


def _fit_experts(rows: dict[str, Any] | None, width: float, bandwidth: float, rate: float) -> dict[str, Any] | None:
    from ownward.anatomy import expected_distinct_experts

    if rows is None:
        return None
    kept = (rows["moe_ep_size"] == 1) & (rows["num_tokens"] <= 16384)
    if kept.sum() < _FEWEST:
        return None
    chosen = _sample(kept, np.random.default_rng(0))
    tokens, hidden, inner, top, experts, shares, seconds = (
        rows[key][chosen].astype(float)
        for key in ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "latency")
    )
    seconds = seconds / 1e3
    distinct = np.array(
        [
            expected_distinct_experts(experts=int(e), per_token=int(k), tokens=float(t), skew=_SKEW)
            for e, k, t in zip(experts, top, tokens, strict=True)
        ]
    )
    params = 3 * hidden * inner / shares
    piece = params * width
    per_expert = tokens * top / distinct

    def said(p: Any) -> Any:
        mbu, size, mfu, half, fixed = np.exp(p)
        whole = piece / (piece + size)
        read_s = distinct * piece / (bandwidth * mbu * whole)
        flop = 2 * tokens * top * params * (per_expert + half) / per_expert
        return _smooth(read_s, flop / (rate * mfu * whole)) + fixed

    return _solve(said, seconds, ("expert_mbu", "expert_bytes", "expert_mfu", "half_rows", "fixed_s"),
                  (0.8, 1e6, 0.6, 12.0, 2e-5))  # fmt: skip


def _fit_cache(rows: dict[str, Any] | None, bandwidth: float) -> dict[str, Any] | None:
    if rows is None:
        return None
    batch, step, heads, dim, seconds = (
        rows[key].astype(float) for key in ("batch_size", "step", "num_key_value_heads", "head_dim", "latency")
    )
    read = batch * (step + 1) * heads * dim * 4
    kept = (read > 1e7) & (rows.get("window_size", np.zeros(len(read))) == 0)
    chosen = _sample(kept, np.random.default_rng(0))
    if len(chosen) < _FEWEST:
        return None
    read, seconds = read[chosen], seconds[chosen] / 1e3
    return _solve(
        lambda p: read / (bandwidth * np.exp(p[0])) + np.exp(p[1]), seconds, ("kv_mbu", "fixed_s"), (0.7, 8e-6)
    )


def _solve(
    said: Callable[[Any], Any], seconds: Any, names: tuple[str, ...], start: tuple[float, ...]
) -> dict[str, Any]:
    """Return the parameters that repeat the timings best, by robust Gauss-Newton on their logs."""
    p = np.log(start)
    prior, width = p.copy(), 1.5
    for _ in range(60):
        base = np.log(said(p))
        residual = np.log(seconds) - base
        slopes = np.stack([(np.log(said(p + 1e-3 * unit)) - base) / 1e-3 for unit in np.eye(len(p))], axis=1)
        weights = 1 / (1 + (residual / 0.5) ** 2)
        ridge = np.eye(len(p)) * (0.3 / width) ** 2 * 10
        step = np.linalg.solve(
            slopes.T @ (weights[:, None] * slopes) + ridge, slopes.T @ (weights * residual) - ridge @ (p - prior)
        )
        p = p + np.clip(step, -0.5, 0.5)
        if np.abs(step).max() < 1e-4:
            break
    error = float(np.median(np.abs(np.log(seconds) - np.log(said(p)))))
    found = {name: float(f"{value:.4g}") for name, value in zip(names, np.exp(p), strict=True)}
    return found | {"timings": len(seconds), "median_error": round(error, 3)}


if __name__ == "__main__":
    main()
