"""The pages of `fit` as people see them, with speeds that no new fit of efficiencies changes."""

from __future__ import annotations

import shlex

import pytest

from ownward.cli import run
from ownward.perf import Prediction

SCREENS = {
    "fit-model.txt": ("fit qwen3-8b --machine 'RTX 4090' --at 2026-11-21", 0),
    "fit-offloaded.txt": ("fit gpt-oss-120b --machine 'RTX 4090' --ram 64GB --ssd 7GB/s --at 2026-11-21", 0),
    "fit-node.txt": ("fit qwen3.5-397b --machine 8xB200 --concurrency 8 --context 32768 --at 2026-11-21", 0),
    "fit-processor.txt": ("fit smollm3-3b --machine 'EPYC 9004 12ch DDR5-4800' --at 2026-11-21", 0),
    "fit-mac.txt": ("fit qwen3.5-35b-a3b --machine 'M4 Pro 24GB' --ssd 6GB/s --at 2026-11-21", 0),
    "fit-best.txt": ("fit --machine 'RTX 4090' --at 2026-11-21", 0),
    "fit-nothing.txt": ("fit qwen3.5-397b --machine 'RTX 4090' --at 2026-11-21", 3),
    "fit-budget.txt": ("fit qwen3-30b-a3b --budget 3000 --at 2026-11-21", 0),
    "fit-budget-best.txt": ("fit --budget 3000 --at 2026-11-21", 0),
    "fit-budget-nothing.txt": ("fit qwen3.5-397b --budget 900 --at 2026-11-21", 3),
}


def plain_speed(deployment, metric, *, conditions, prompt_tokens):
    """A speed by bytes alone, so that a page changes with what `fit` does, not with what it is calibrated to."""
    rate = deployment.bandwidth_bytes_per_s * deployment.tensor_parallel
    read = deployment.counted.dense_read + 0.1 * deployment.counted.routed
    slow = 1 + 9 * deployment.offloaded_fraction
    step_s = slow * (read + conditions.concurrency * deployment.cache_bytes(conditions.context_tokens)) / rate
    value = {"prefill_tok_s": 30 / step_s, "ttft_ms": 33 * step_s * prompt_tokens}.get(metric, 1 / step_s)
    return Prediction(
        id=metric,
        value=value,
        low80=0.8 * value,
        high80=1.25 * value,
        basis="fitted",
        class_="plain",
        memory_bytes=None,
        fits=True,
        refused=None,
    )


@pytest.fixture
def fitted(at_home, capsys, monkeypatch):
    """What a command line prints, and how it ends."""
    monkeypatch.setattr("ownward.planner._fit._predict", plain_speed)
    monkeypatch.setattr("ownward.planner._fit.predict_streamed", lambda said, *_, **__: said)

    def show(line, code=0):
        assert at_home.is_dir()
        assert run(shlex.split(line)) == code
        text = capsys.readouterr().out
        return "\n".join(row.rstrip() for row in text.splitlines()) + "\n"

    return show


@pytest.mark.parametrize(("name", "asked"), SCREENS.items(), ids=list(SCREENS))
def test_a_screen_is_as_kept(name, asked, fitted, golden):
    golden(name, fitted(*asked))


@pytest.mark.parametrize("asked", SCREENS.values(), ids=list(SCREENS))
def test_a_screen_fits_80_columns_and_has_no_colour(asked, fitted):
    text = fitted(*asked)
    assert max(len(row) for row in text.splitlines()) <= 80
    assert "\x1b" not in text
    assert text.isascii()


def test_a_narrow_terminal_changes_no_command(fitted, monkeypatch):
    wide = fitted("fit qwen3-8b --machine 'RTX 4090' --at 2026-11-21")
    monkeypatch.setenv("COLUMNS", "60")
    narrow = fitted("fit qwen3-8b --machine 'RTX 4090' --at 2026-11-21")
    command = wide[wide.index("llama-server") : wide.index("needs a GGUF")]
    assert command in narrow
