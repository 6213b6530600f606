"""What `fit` says of a file on this machine is what `serve` does with it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.random_moe import Shape, write_random_moe

from ownward import anatomy, catalog, perf
from ownward.cli import _fit, _serving_choice
from ownward.cli._app import run
from ownward.cli._context import load_settings
from ownward.cli._serve_engines import make_engine
from ownward.cli._serving import choose_serving
from ownward.core import KIB, MIB
from ownward.engines import EmbeddedEngine, Room

SMALL = Shape(
    layers=4, hidden=512, experts=64, expert_width=256, shared_width=128, heads=4, head_dim=64, key_heads=4,
    value_heads=4, state_dim=64,
)  # fmt: skip


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mixture.gguf"
    write_random_moe(path, SMALL, tokenizer_of=None)
    return path


def have(monkeypatch: pytest.MonkeyPatch, memory_bytes: int) -> None:
    """Make every look at this machine find so much memory, and a disk that reads far ahead."""
    room = Room(memory_bytes=memory_bytes, device="nvme9", read_ahead_bytes=4096 * KIB)
    monkeypatch.setattr(_serving_choice, "room_for", lambda _path: room)
    monkeypatch.setattr(_fit, "room_for", lambda _path: room)


@pytest.mark.parametrize("free_mib", [4000, 700, 640, 400])
def test_the_command_that_fit_prints_starts_the_engine_that_fit_described(
    mixture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], free_mib: int
) -> None:
    have(monkeypatch, free_mib * MIB)
    assert run(["fit", str(mixture), "--json", "--concurrency", "2", "--context", "1024", "--ssd", "1GB/s"]) == 0
    option = json.loads(capsys.readouterr().out)["options"][0]
    words = shlex.split(option["serve_command"])
    assert words[:4] == ["ownward", "serve", "--model", str(mixture)]
    flags = dict(zip(words[4::2], words[5::2], strict=True))
    settings = load_settings(None, engine__slots=int(flags["--slots"]), engine__context_tokens=int(flags["--context"]))
    serving = choose_serving(settings, plan_file=None, model_file=str(mixture))
    engine = make_engine(
        serving.plan.tiers["local"], mixture, settings, choice=serving.choices["local"], on_change=lambda _: None
    )
    assert isinstance(engine, EmbeddedEngine)
    described = {name: value for name, value in option["serving"].items() if name not in {"reasons", "warnings"}}
    assert described == {name: getattr(engine.options, name) for name in described}
    assert option["serving"]["reasons"] == list(serving.choices["local"].reasons)


def test_a_mixture_larger_than_memory_is_served_mapped_with_the_disks_read_ahead_told(
    mixture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, mixture.stat().st_size // 2)
    serving = choose_serving(load_settings(None), plan_file=None, model_file=str(mixture))
    choice = serving.choices["local"]
    assert (choice.use_mmap, choice.no_extra_bufts, choice.warmup, choice.slots) == (True, True, False, 1)
    assert any("blockdev --setra 256 /dev/nvme9" in warning for warning in choice.warnings)
    assert serving.plan.tiers["local"].max_context_tokens == choice.context_tokens


def test_tiers_beside_each_other_share_the_memory(mixture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = _serving_choice.needs_of(anatomy.read(mixture))
    have(monkeypatch, int(3.2 * needs.weights_bytes) + 700 * MIB)
    files = {name: (mixture, _serving_choice.stated_in(load_settings(None))) for name in ("one", "two", "three")}
    found = _serving_choice.choose_for_files(files)
    assert not found["one"].is_larger_than_memory
    assert found["three"].slots <= found["one"].slots
    assert replace(found["one"], reasons=()) != replace(found["three"], reasons=())


def test_a_file_that_no_anatomy_reads_is_left_to_the_engine(tmp_path: Path) -> None:
    strange = tmp_path / "strange.gguf"
    strange.write_bytes(b"GGUF" + bytes(64))
    found = _serving_choice.choose_for_file(strange, _serving_choice.stated_in(load_settings(None)))
    assert (found.slots, found.use_mmap, found.warnings) == (4, True, ())


def test_a_file_says_itself_what_it_needs_and_perf_agrees(mixture: Path) -> None:
    model = anatomy.read(mixture)
    counted = perf.weight_bytes(model, perf.NATIVE)
    needs = _serving_choice.needs_of(model)
    assert (needs.weights_bytes, needs.dense_bytes) == (counted.resident, round(counted.dense_read))
    assert 0.5 * counted.routed < needs.repackable_bytes < counted.resident


def test_choosing_for_a_file_does_not_load_what_predicts(mixture: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from ownward.cli._serving_choice import choose_for_file; "
        "from ownward.engines import Stated; choose_for_file(Path(sys.argv[1]), Stated()); "
        "print([name for name in ('ownward.perf', 'ownward.planner', 'ownward.economics') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(mixture)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_serve_counts_the_caches_of_windows_as_fit_does() -> None:
    release = catalog.model("gemma-4-31b")
    shape = anatomy.from_config(release.load_config(), name=release.name)
    deployment = perf.deploy(
        shape, machine=catalog.machine("EPYC 9004"), machines_count=1, engine="llama.cpp", weights="q4_k_m"
    )
    assert isinstance(deployment, perf.Deployment)
    needs = _serving_choice.needs_of(shape, "q4_k_m")
    for context in (512, 1200, 4096, 32_768):
        memory = deployment.compute_memory(concurrency=1, context_tokens=context)
        assert needs.sequence_bytes(context) == memory.cache + memory.state
