"""Every number on the page is computed here from the catalogue's configs, and the page has no other number."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ownward import anatomy, catalog
from ownward.anatomy import Anatomy, Role
from ownward.reports import BATCH_TOKENS, CONTEXT_TOKENS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "free-to-download.md"
GB = 1e9
ZIPF = 0.5


def of(name: str) -> Anatomy:
    release = catalog.model(name)
    return anatomy.from_config(release.load_config(), name=release.name)


QWEN, OLDER, KIMI = of("qwen3.5-397b-a17b"), of("qwen3-235b-a22b"), of("kimi-k2.6")
NVFP4 = anatomy.read(catalog.checkpoint("nvidia/Qwen3.5-397B-A17B-NVFP4").config_path or "")
MAC = catalog.machine("apple-m3-ultra")
SSD = catalog.machine("nvme-pcie-4.0-x4-ssd")


def figures(value: float) -> str:
    """Three figures, as the page and the command print them."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:#.3g}"


def gb(size: float) -> str:
    return figures(size / GB)


def distinct(batch: int, skew: float = 0.0) -> str:
    return f"{QWEN.expected_distinct_experts(batch, skew=skew):.0f}"


def tables() -> list[str]:
    """The rows of all tables."""
    mlx = catalog.checkpoint("mlx-community/Qwen3.5-397B-A17B-4bit").bytes
    assert mlx is not None
    rows = [
        f"| {label} | {gb(size)} |"
        for label, size in (
            ("BF16", QWEN.weights_bytes("bf16")),
            ("FP8", QWEN.weights_bytes("fp8")),
            ("Q4_K_M (llama.cpp)", QWEN.weights_bytes("q4_k_m")),
            ("MXFP4", QWEN.weights_bytes("mxfp4")),
            ("a published 4-bit file (MLX)", mlx.value),
        )
    ]
    for batch in BATCH_TOKENS:
        read = QWEN.step_bytes(batch, quantization="bf16")
        share = read / QWEN.weights_bytes("bf16")
        rows.append(f"| {batch} | {distinct(batch)} | {read / GB:.0f} | {share:.0%} | {gb(read / batch)} |")
    for context in CONTEXT_TOKENS:
        kept = " | ".join(gb(model.kv_bytes(context)) for model in (QWEN, OLDER, KIMI))
        rows.append(f"| {context // 1024}K | {kept} |")
    return rows


SAYS = """
The model has {experts} experts in each of its {layers} layers, and a router picks {chosen} of them for every
token. Which {chosen} is

{expert_share} of the parameters are experts

a token meets {chosen} of {experts} experts in each layer

it uses {active}B parameters, or {active_gb:.1f} GB in BF16: the {active_gb:.0f} GB of the articles. What is
truly read is {one} GB.

a token uses {unused} fewer parameters than the model has

A machine that reads {bandwidth} GB/s and has {memory} of memory

at {one_q4} GB a token it can come to at most {fast} tokens a second. If it had to read all {all_q4} GB for
each, {slow} would be the limit. It still has to hold all {all_q4} GB.

{routed_q4} of the {one_q4} GB come from there: at {disk} GB/s that is {from_disk} seconds for every token

each of them picks its own {chosen} experts

a step touches {experts} × (1 − (1 − {chosen}/{experts})<sup>B</sup>) of them

experts touched, of {experts}

With {large} sequences a step reads nearly everything

whose every step reads {claim} GB, promises {too_many_32} times too many tokens at 32 sequences, and
{too_many_256} times too many at 256.

with a Zipf exponent of {zipf}, 64 sequences meet {skewed_64} instead of {even_64}.

{linear} of its {layers} layers keep a state of fixed size ({state} MB in all), and only {full} keep a cache
that grows. At 16 bits a value

64 sequences of 32K tokens keep {older_64} GB of cache, against {qwen_64} GB for the 397B and {kimi_64} GB for
Kimi-K2.6

ends at {older_limit}K

from {all} to {all_q4} GB, and from {one} to {one_q4} GB for one token

4 bits are seldom 4: Q4_K_M comes to {bits_q4} bits a parameter

({nvidia} GB), but one token reads {nvidia_one} GB of it, twice as much

At {large} sequences the difference is gone ({nvidia_large} against {large_q4} GB).

{kimi} GB instead of {kimi_bf16} in BF16, of which one token reads {kimi_one} GB.

all {all} GB must be in memory ({all_q4} GB as Q4_K_M); one token reads {one_short} GB of them ({one_q4} GB).

{unused} fewer parameters are used for one token; no memory is saved, and with {large} sequences a step reads
{large_share} of the weights.
"""


def values() -> dict[str, object]:
    """What stands in the sentences, as printed."""
    bandwidth, memory, disk = MAC.bandwidth_bytes_per_s, MAC.memory_label, SSD.bandwidth_bytes_per_s
    assert bandwidth is not None
    assert memory is not None
    assert disk is not None
    claim = 35 * GB
    kinds = {part.kind: part.count for part in QWEN.layers}
    one_q4, all_q4 = QWEN.step_bytes(1, quantization="q4_k_m"), QWEN.weights_bytes("q4_k_m")
    routed_q4 = QWEN.weights_bytes_by_role("q4_k_m")[Role.ROUTED_EXPERTS] * QWEN.experts_per_tok / QWEN.experts
    return {
        "experts": QWEN.experts,
        "chosen": QWEN.experts_per_tok,
        "layers": QWEN.layer_count,
        "expert_share": f"{QWEN.params_by_role[Role.ROUTED_EXPERTS] / QWEN.total_live_params:.1%}",
        "active": f"{QWEN.active_params_per_token / 1e9:.1f}",
        "active_gb": 2 * QWEN.active_params_per_token / GB,
        "unused": f"{1 - QWEN.active_params_per_token / QWEN.total_live_params:.1%}",
        "all": gb(QWEN.weights_bytes("bf16")),
        "all_q4": gb(all_q4),
        "one": gb(QWEN.step_bytes(1)),
        "one_short": f"{QWEN.step_bytes(1) / GB:.0f}",
        "one_q4": gb(one_q4),
        "bits_q4": f"{8 * all_q4 / QWEN.checkpoint_params_exact:.1f}",
        "bandwidth": f"{bandwidth.value / GB:.0f}",
        "memory": memory.value,
        "fast": f"{bandwidth.value / one_q4:.0f}",
        "slow": f"{bandwidth.value / all_q4:.1f}",
        "disk": f"{disk.value / GB:.0f}",
        "routed_q4": gb(routed_q4),
        "from_disk": f"{routed_q4 / disk.value:.2f}",
        "claim": f"{claim / GB:.0f}",
        "too_many_32": f"{QWEN.step_bytes(32) / claim:.0f}",
        "too_many_256": f"{QWEN.step_bytes(256) / claim:.0f}",
        "zipf": ZIPF,
        "even_64": distinct(64),
        "skewed_64": distinct(64, ZIPF),
        "large": BATCH_TOKENS[-1],
        "large_share": f"{QWEN.step_bytes(256) / QWEN.weights_bytes('bf16'):.0%}",
        "large_q4": gb(QWEN.step_bytes(256, quantization="q4_k_m")),
        "linear": kinds["gated_delta_net"],
        "full": kinds["full_attention"],
        "state": figures(QWEN.recurrent_state_bytes_per_seq / 1e6),
        "qwen_64": gb(64 * QWEN.kv_bytes(32_768)),
        "older_64": gb(64 * OLDER.kv_bytes(32_768)),
        "kimi_64": gb(64 * KIMI.kv_bytes(32_768)),
        "older_limit": (OLDER.max_context_tokens or 0) // 1024,
        "nvidia": gb(NVFP4.weights_bytes()),
        "nvidia_one": gb(NVFP4.step_bytes(1)),
        "nvidia_large": gb(NVFP4.step_bytes(256)),
        "kimi": gb(KIMI.weights_bytes()),
        "kimi_bf16": gb(KIMI.weights_bytes("bf16")),
        "kimi_one": gb(KIMI.step_bytes(1)),
    }


def sentences() -> list[str]:
    """What the text says, with every number computed."""
    return [" ".join(said.split()) for said in SAYS.format(**values()).strip().split("\n\n")]


def page() -> str:
    """The page as one line, without emphasis."""
    return re.sub(r"\s+", " ", PAGE.read_text("utf-8").replace("*", ""))


@pytest.mark.parametrize("said", [*tables(), *sentences()])
def test_the_page_says_what_is_computed(said: str) -> None:
    assert said in page()


# Names, quoted claims and units in which a digit is no figure.
_NAMES = (
    r"Qwen3\.5-397B-A17B|Qwen3-235B-A22B|qwen3\.5-397b-a17b|qwen3-235b-a22b|[Kk]imi-[Kk]2\.6|BF16|FP8|MXFP4|NVFP4"
    r"|Q4_K_M|Apple M3 Ultra|4-bit|at 16 bits|10<sup>9</sup>|no row of 35 GB|\"[^\"]*\""
)


def test_the_page_has_no_number_that_is_not_computed() -> None:
    rest = page()
    for said in sorted([*tables(), *sentences()], key=len, reverse=True):
        rest = rest.replace(said, "…")
    rest = re.sub(_NAMES, "…", rest)
    assert re.findall(r".{0,40}\d.{0,40}", rest) == []


def test_the_figures_agree_with_the_published_reference() -> None:
    """Experts and GB at BF16 as the model data states them, to the figure."""
    assert [int(distinct(batch)) for batch in BATCH_TOKENS] == [10, 75, 240, 367, 509]
    assert [round(QWEN.step_bytes(batch) / GB) for batch in BATCH_TOKENS] == [33, 130, 379, 572, 786]
    assert round(QWEN.weights_bytes("bf16") / GB, 1) == 806.8
    assert QWEN.recurrent_state_bytes_per_seq // 10**6 == 192


def test_the_size_of_nvidias_file_lies_in_its_wide_part() -> None:
    """The page says twice as much for one token and no more for a large batch."""
    assert 1.9 < NVFP4.step_bytes(1) / QWEN.step_bytes(1, quantization="q4_k_m") < 2.2
    assert 0.95 < NVFP4.step_bytes(256) / QWEN.step_bytes(256, quantization="q4_k_m") < 1.05
    wide = {role for role, size in NVFP4.weights_bytes_by_role().items() if size == 2 * NVFP4.params_by_role[role] > 0}
    assert {role for role, params in NVFP4.params_by_role.items() if params} - wide == {Role.ROUTED_EXPERTS}
