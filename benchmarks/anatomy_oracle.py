"""Compare our counts with transformers' own models on the meta device, over configs with fields changed.

    pip install torch transformers msgspec        # in an environment of its own; not needed by ownward
    python -m benchmarks.anatomy_oracle --variants 8
    python -m benchmarks.anatomy_oracle --defaults     # rewrites src/ownward/anatomy/data/defaults.json

For each architecture every whole-number field is doubled and halved and every switch is
flipped, alone and in threes; models that transformers itself refuses are left out. The
result is written to benchmarks/results/anatomy_oracle-DATE.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import random
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine_facts import RESULTS

import ownward.anatomy
from ownward import anatomy
from ownward.anatomy.architectures import ARCHITECTURES
from ownward.core import OwnwardError

HERE = Path(__file__).parent
RESULT = RESULTS / f"anatomy_oracle-{datetime.now(UTC):%Y-%m-%d}.json"
DEFAULTS = Path(ownward.anatomy.__file__).parent / "data" / "defaults.json"
LAYERS = 6

# Model types that our readers name as parts of a whole.
PARTS = [
    "gemma3_text", "gemma4_audio", "gemma4_text", "gemma4_vision", "glm4v_moe_vision", "glm4v_vision",
    "kimi_k25_vision", "llama4_vision_model", "glm4v_text",
    "ministral3", "muse_glimmer_vision", "pixtral", "qwen2_5_vl_text", "qwen2_5_vl_vision", "qwen2_vl_text",
    "qwen2_vl_vision", "qwen3_5_moe_vision", "qwen3_5_vision", "qwen3_vl_moe_text", "qwen3_vl_moe_vision",
    "qwen3_vl_text", "qwen3_vl_vision", "qwen4_exp_vision", "siglip_vision_model",
]  # fmt: skip
SAME_CONFIG = {"kimi_k2": "deepseek_v3", "minimax_text_01": "minimax", "minimax_m1": "minimax"}
# Releases say otherwise than these classes: their heads are not tied.
NOT_TIED = ("mistral3", "kimi_k25")
NO_SHAPE = re.compile(
    r"^(base_|extra_|attn_implementation|bos_|eos_|pad_|.*token_id|.*dropout|.*init|.*coef|.*softcapping|time_step"
    r"|.*_eps|eps|transformers_version|architectures|output_(?:hidden|attentions|router)|return_dict|dtype|chunk_size_feed|is_encoder|id2label"
    r"|label2id|problem_type|use_cache|rope_|pretraining_tp|is_decoder|norm_topk)"
)

# What an architecture's defaults alone leave open.
COMPLETED: dict[str, dict[str, Any]] = {
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 2},
    "hunyuan_v1_dense": {"head_dim": 128},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention"] * 2},
    "minicpm3": {"v_head_dim": 64},
    "mistral3": {"tie_word_embeddings": False},
    "nemotron": {"num_key_value_heads": 8},
    "nemotron_h": {
        "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp", "linear_attention", "moe"]
    },
}
FIXED = re.compile(
    r"id|max_position|theta|scal|multipl|factor|seed|topk_group|n_group|logit|chunk_size|jitter|num_hidden_layers"
    r"|vocab_size|use_cache|output|rope|overlap|use_mamba|rescale|residual|mambapy|assoc|before_gate|query_pre|cache_dtype"
)


def main() -> int:
    """Check, or rewrite the defaults; 1 if a count differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", type=int, default=8, help="random threes of changes for each architecture")
    parser.add_argument("--defaults", action="store_true", help="rewrite the file of reference defaults")
    parser.add_argument("architectures", nargs="*")
    options = parser.parse_args()
    if options.defaults:
        write_defaults()
        return 0
    result = check(options.architectures or sorted(ARCHITECTURES), options.variants)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: result[key] for key in ("transformers", "agree", "differ", "refused")}))
    return 1 if result["differ"] else 0


def check(architectures: list[str], variants: int) -> dict[str, Any]:
    """Return how often our counts agree, by architecture, and where they do not."""
    import transformers

    by_architecture: dict[str, dict[str, int]] = {}
    differences: list[str] = []
    for architecture in architectures:
        tally = {"agree": 0, "differ": 0, "refused": 0, "invalid": 0}
        for config in make_variants(architecture, variants):
            truth = count_on_meta(config)
            if truth is None:
                tally["invalid"] += 1
                continue
            try:
                ours = anatomy.from_config(config).total_live_params
            except OwnwardError:
                tally["refused"] += 1
                continue
            tally["agree" if ours == truth else "differ"] += 1
            if ours != truth:
                differences.append(f"{json.dumps(config)}: {ours} instead of {truth}")
        by_architecture[architecture] = tally
        print(architecture, tally, flush=True)
    total = {name: sum(tally[name] for tally in by_architecture.values()) for name in ("agree", "differ", "refused")}
    return {"transformers": transformers.__version__, **total, "differences": differences[:50],
            "architectures": by_architecture}  # fmt: skip


def make_variants(architecture: str, count: int) -> Iterator[dict[str, Any]]:
    """Yield the smallest config of an architecture and copies with fields changed."""
    defaults = class_defaults(architecture)
    if defaults is None:
        return
    base = {"model_type": architecture, **COMPLETED.get(architecture, {})}
    if "text_config" in {field.name for field in dataclasses.fields(_config_class(architecture))}:
        base["text_config"] = {"num_hidden_layers": LAYERS}
    if "num_hidden_layers" in defaults and architecture != "nemotron_h":
        base["num_hidden_layers"] = LAYERS
    changes: list[tuple[str, Any]] = [("vocab_size", 50_001)]
    for name, default in defaults.items():
        value = base.get(name, default)
        if FIXED.search(name):
            continue
        if type(value) is bool:
            changes.append((name, not value))
        elif type(value) is int and value > 0:
            changes += [(name, value * 2), (name, max(value // 2, 1))]
    rng = random.Random(architecture)
    yield base
    for name, value in changes:
        yield {**base, name: value}
    for _ in range(count):
        yield {**base, **dict(rng.sample(changes, min(3, len(changes))))}


def count_on_meta(config: dict[str, Any]) -> int | None:
    """Return the live parameters of transformers' own model, or None where it refuses the config."""
    import torch
    import transformers
    from transformers import CONFIG_MAPPING
    from transformers.models.auto import modeling_auto

    try:
        settings = CONFIG_MAPPING[config["model_type"]].from_dict(json.loads(json.dumps(config)))
        for mapping in (modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING):
            if type(settings) in mapping:
                with torch.device("meta"):
                    model = mapping[type(settings)]._from_config(settings)  # noqa: SLF001 - the only way without weights
                model.tie_weights()
                return sum(math.prod(parameter.shape) for parameter in model.parameters())
    except Exception as error:  # noqa: BLE001 - whatever it cannot build is no truth to compare with
        print(f"  {config['model_type']}: {type(error).__name__} from transformers {transformers.__version__}")
    return None


def _config_class(model_type: str) -> Any:
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[SAME_CONFIG.get(model_type, model_type)]


def class_defaults(model_type: str) -> dict[str, Any] | None:
    """Return the defaults of a configuration class, before anything is derived from them."""
    from transformers import CONFIG_MAPPING

    name = SAME_CONFIG.get(model_type, model_type)
    if name not in CONFIG_MAPPING or not dataclasses.is_dataclass(CONFIG_MAPPING[name]):
        return None
    found = {}
    for field in dataclasses.fields(CONFIG_MAPPING[name]):
        value = field.default
        if value is dataclasses.MISSING:
            value = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
        value = list(value) if isinstance(value, tuple) else value
        if isinstance(value, int | float | list) and not NO_SHAPE.match(field.name):
            found[field.name] = value
    return found


def write_defaults() -> None:
    """Rewrite the file of defaults from the installed configuration classes."""
    import transformers

    by = "benchmarks/anatomy_oracle.py"
    note = {"from": f"transformers {transformers.__version__} configuration classes (Apache-2.0)", "by": by}
    lines = [f'"_generated": {json.dumps(note)}']
    for model_type in sorted({*ARCHITECTURES, *PARTS}):
        found = class_defaults(model_type)
        if found is None:
            continue
        if model_type in NOT_TIED:
            found.pop("tie_word_embeddings", None)
        lines.append(f"{json.dumps(model_type)}: {json.dumps(dict(sorted(found.items())))}")
    DEFAULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    sys.exit(main())
