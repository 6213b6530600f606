"""What a model keeps in memory and what its steps read, beside others: the page behind `ownward models show`.

Figures are the anatomy's; this file lays them side by side and says nothing of machines or speeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ownward.core import format_count

if TYPE_CHECKING:
    from rich.table import Table

    from ownward.anatomy import Anatomy

BATCH_TOKENS = (1, 8, 32, 64, 256)
CONTEXT_TOKENS = (4_096, 32_768, 131_072, 262_144)

# The formats people ask about first, with the words they use; what a checkpoint is published in comes after them.
_FORMATS = {"bf16": "BF16", "fp8": "FP8", "q4_k_m": "Q4_K_M", "mxfp4": "MXFP4"}
_MEGA, _GIGA = 10**6, 10**9
_BAR_WIDTH = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightLine:
    """A model in one format: the bytes that must be somewhere, and the bytes that a step reads.

    `step_bytes` and `distinct_experts` stand for the batches of `BATCH_TOKENS`, under uniform routing;
    None where the tensors do not tell how many experts a token uses.
    """

    model: str
    weights: str
    label: str
    resident_bytes: int
    experts: int
    distinct_experts: tuple[float, ...] | None
    step_bytes: tuple[float, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLine:
    """What one sequence keeps at the contexts of `CONTEXT_TOKENS` and at the model's limit, state included."""

    model: str
    kv_type: str
    bytes_at: tuple[int, ...]
    state_bytes: int
    limit_tokens: int | None
    limit_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnatomyPage:
    """A model and the models beside it, as lines to print or to carry as JSON."""

    anatomy: Anatomy
    weights: tuple[WeightLine, ...]
    caches: tuple[CacheLine, ...]

    def as_record(self) -> dict[str, Any]:
        """Return the page's own tables as `ownward models show --json` adds them to the anatomy."""
        return {
            "batch_tokens": list(BATCH_TOKENS),
            "reads": [
                {
                    "model": line.model,
                    "weights": line.weights,
                    "resident_bytes": line.resident_bytes,
                    "experts": line.experts,
                    "distinct_experts": line.distinct_experts,
                    "step_bytes": line.step_bytes and [round(read) for read in line.step_bytes],
                }
                for line in self.weights
            ],
            "context_tokens": list(CONTEXT_TOKENS),
            "caches": [
                {
                    "model": line.model,
                    "kv_type": line.kv_type,
                    "sequence_bytes": line.bytes_at,
                    "state_bytes": line.state_bytes,
                    "limit_tokens": line.limit_tokens,
                    "limit_bytes": line.limit_bytes,
                }
                for line in self.caches
            ],
        }


def compute_anatomy_page(anatomy: Anatomy, beside: Sequence[Anatomy] = ()) -> AnatomyPage:
    """Return the page of a model: itself in every format of interest, the models `beside` it as far as they compare.

    Those beside stand in BF16 and, where they are published in another, in their own format.
    """
    weights = [_weight_line(anatomy, name, label) for name, label in _FORMATS.items()]
    weights += _own_line(anatomy)
    caches = _cache_lines(anatomy, ("bf16", "fp8"))
    for other in beside:
        weights += [_weight_line(other, "bf16", "BF16"), *_own_line(other)]
        caches += _cache_lines(other, ("bf16",))
    return AnatomyPage(anatomy=anatomy, weights=tuple(weights), caches=tuple(caches))


def render_anatomy_page(page: AnatomyPage) -> list[Any]:
    """Return the parts of the page, for 80 columns without colour: headline, weights, cache, roles."""
    from rich.text import Text

    parts: list[Any] = [Text(_headline(page.anatomy))]
    if (claim := _claim(page)) is not None:
        parts += ["", Text(claim)]
    parts += ["", *_weights(page)]
    if page.caches:
        parts += ["", *_caches(page)]
    else:
        parts += ["", Text("Cache: the tensors do not show it. Put the model's config.json beside them.")]
    parts += ["", *_roles(page.anatomy)]
    return parts


def _weight_line(anatomy: Anatomy, weights: str, label: str, quantization: str | None = "") -> WeightLine:
    chosen = weights if quantization == "" else quantization
    tells = "active" not in anatomy.unsupported
    return WeightLine(
        model=anatomy.name,
        weights=weights,
        label=label,
        resident_bytes=anatomy.weights_bytes(chosen),
        experts=anatomy.experts,
        distinct_experts=tuple(anatomy.expected_distinct_experts(batch) for batch in BATCH_TOKENS) if tells else None,
        step_bytes=tuple(anatomy.step_bytes(batch, quantization=chosen) for batch in BATCH_TOKENS) if tells else None,
    )


def _own_line(anatomy: Anatomy) -> list[WeightLine]:
    """Return the model as its file stores it, where that is none of the formats shown anyway."""
    if anatomy.quantization is None or (not anatomy.is_from_tensors and anatomy.quantization in {"bf16", "none"}):
        return []
    bits = 8 * anatomy.weights_bytes() / anatomy.total_live_params
    label = f"{'this file' if anatomy.is_from_tensors else 'as published'}, {bits:.1f} bits"
    return [_weight_line(anatomy, "own", label, None)]


def _cache_lines(anatomy: Anatomy, kv_types: Sequence[Any]) -> list[CacheLine]:
    if "cache" in anatomy.unsupported:
        return []
    limit = anatomy.max_context_tokens
    return [
        CacheLine(
            model=anatomy.name,
            kv_type=kv_type,
            bytes_at=tuple(anatomy.kv_bytes(context, kv_type) for context in CONTEXT_TOKENS),
            state_bytes=anatomy.recurrent_state_bytes_per_seq,
            limit_tokens=limit,
            limit_bytes=None if limit is None else anatomy.kv_bytes(limit, kv_type),
        )
        for kv_type in kv_types
    ]


def _headline(anatomy: Anatomy) -> str:
    layers = ", ".join(f"{part.count} {part.kind.replace('_', ' ')}" for part in anatomy.layers)
    drafts = f"; {format_count(anatomy.mtp_params)} more for drafts" if anatomy.mtp_params else ""
    context = "not stated" if anatomy.max_context_tokens is None else f"{anatomy.max_context_tokens:,} tokens"
    lines = [
        f"{format_count(anatomy.total_live_params)} parameters ({anatomy.total_live_params:,}){drafts}",
        _used(anatomy),
        f"{anatomy.layer_count} layers: {layers}",
        f"context {context}; {', '.join(anatomy.modalities)}; {anatomy.architecture}",
    ]
    return "\n".join(lines)


def _used(anatomy: Anatomy) -> str:
    if "active" in anatomy.unsupported:
        return "the tensors do not show how many of them a token uses"
    with_table = format_count(anatomy.active_params_per_token)
    without = format_count(anatomy.active_excl_input_embedding)
    counted = without if with_table == without else f"{without} ({with_table} with the input embedding)"
    if not anatomy.experts:
        return f"dense: every token uses {counted}"
    chosen = f"{anatomy.experts_per_tok} of {anatomy.experts} experts in {anatomy.moe_layers} layers"
    return f"one token uses {counted}: {chosen}"


def _claim(page: AnatomyPage) -> str | None:
    """Return what articles get wrong, said right, for a mixture of experts in its own format."""
    own = [line for line in page.weights if line.weights == "own" and line.model == page.anatomy.name]
    first = (own if own and not page.anatomy.is_narrowed_on_load else page.weights)[0]
    if not first.experts or first.step_bytes is None:
        return None
    unit, sign = _unit([first.resident_bytes])
    resident, one, most = (
        _figures(size / unit) for size in (first.resident_bytes, first.step_bytes[0], first.step_bytes[-1])
    )
    name = first.label[0].upper() + first.label[1:]
    return (
        f"{name}: one token reads {one} {sign}, but all {resident} {sign} must be in memory,"
        f" and a step of {BATCH_TOKENS[-1]} sequences reads {most} {sign}."
    )


def _weights(page: AnatomyPage) -> list[Any]:
    unit, sign = _unit([line.resident_bytes for line in page.weights])
    is_mixture = any(line.experts and line.step_bytes is not None for line in page.weights)
    batches = BATCH_TOKENS if is_mixture else BATCH_TOKENS[:1]
    what = "what a step of B sequences reads" if is_mixture else "what every step reads, whatever the batch"
    table = _table(["", "resident", *(f"B = {batch}" if is_mixture else "a step" for batch in batches)])
    previous = ""
    for line in page.weights:
        if line.model != previous:
            _model_row(table, line)
        steps = () if line.step_bytes is None else (_figures(read / unit) for read in line.step_bytes[: len(batches)])
        table.add_row(f"  {line.label}", _figures(line.resident_bytes / unit), *steps)
        previous = line.model
    notes = [f"1 {sign} = {unit:,} bytes; drafts and towers count as resident, a step reads the text model."]
    if is_mixture:
        notes.append("Routing is taken as uniform; real routing is skewed and touches fewer experts.")
    if page.anatomy.is_narrowed_on_load:
        notes.append("It is stored in 32 bits; engines load it in 16.")
    return _titled(f"Weights, {sign}: what is resident, and {what}", table, notes)


def _model_row(table: Table, line: WeightLine) -> None:
    table.add_row(line.model, style="bold")
    if line.distinct_experts is not None and line.experts:
        touched = (f"{distinct:.0f}" for distinct in line.distinct_experts)
        table.add_row("  experts touched", f"of {line.experts}", *touched)


def _caches(page: AnatomyPage) -> list[Any]:
    unit, sign = _unit([max(line.bytes_at) for line in page.caches])
    furthest = max(line.limit_tokens or CONTEXT_TOKENS[-1] for line in page.caches)
    contexts = [context for context in CONTEXT_TOKENS if context <= furthest]
    table = _table(["", *(f"{_kilo(context)} " for context in contexts), "its limit", ""])
    is_beyond, previous = False, ""
    for line in page.caches:
        cells = []
        for context, size in zip(contexts, line.bytes_at, strict=False):  # the contexts beyond all limits are left out
            beyond = line.limit_tokens is not None and context > line.limit_tokens
            is_beyond |= beyond
            cells.append(_figures(size / unit) + ("*" if beyond else " "))
        limit = "?" if line.limit_tokens is None else _kilo(line.limit_tokens)
        at_limit = "?" if line.limit_bytes is None else _figures(line.limit_bytes / unit)
        if line.model != previous:
            table.add_row(line.model, style="bold")
        table.add_row(f"  {line.kv_type.upper()}", *cells, limit, at_limit)
        previous = line.model
    states = {line.model: line.state_bytes for line in page.caches if line.state_bytes}
    notes = [
        f"{name} keeps {_figures(size / _MEGA)} MB of it as state, at any length." for name, size in states.items()
    ]
    notes += ["* beyond the context that its config states."] if is_beyond else []
    return _titled(f"Cache and state of one sequence, {sign}, by tokens of context", table, notes)


def _roles(anatomy: Anatomy) -> list[Any]:
    table = _table(["", "parameters", "share", ""])
    table.columns[-1].justify = "left"
    counted = [(role, count) for role, count in anatomy.params_by_role.items() if count]
    for role, count in sorted(counted, key=lambda pair: -pair[1]):
        share = count / anatomy.total_live_params
        bar = "#" * round(_BAR_WIDTH * share)
        table.add_row(f"  {role.value.replace('_', ' ')}", f"{count:,}", f"{100 * share:.1f}%", bar)
    return _titled("Where the parameters are", table, [])


def _titled(title: str, table: Table, notes: Sequence[str]) -> list[Any]:
    """Return a table under its title, which may be wider than it is, and above its notes."""
    from rich.text import Text

    return [Text(title, style="bold"), table, *(Text(note) for note in notes)]


def _table(headings: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else "right", overflow="fold", no_wrap=index > 0)
    return table


def _unit(sizes: Sequence[float]) -> tuple[int, str]:
    return (_GIGA, "GB") if max(sizes) >= _GIGA else (_MEGA, "MB")


def _kilo(tokens: int) -> str:
    return f"{tokens // 1024}K" if tokens % 1024 == 0 else f"{tokens:,}"


def _figures(value: float) -> str:
    """Return three figures of a number, without an exponent.

    >>> _figures(806.8), _figures(32.66), _figures(0.2878)
    ('807', '32.7', '0.288')
    """
    if value == 0:
        return "0"
    if value >= 99.95:  # noqa: PLR2004 - where three figures end before the point
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}" if value >= 0.995 else f"{value:.3f}"  # noqa: PLR2004
