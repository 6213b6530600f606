"""A model as named, shaped weights and what each layer caches, before any weight exists.

Architectures draw blueprints; everything else (counts, bytes, cache, FLOP) is
computed from one. Layers of one shape are one object that repeats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import Literal, NamedTuple

from ownward.anatomy.roles import Role

Op = Literal["matmul", "lookup", "vector", "conv"]
"""How a weight is used: multiplied, read by the row, applied elementwise, or convolved."""

State = Literal["live", "dead", "copy", "mtp", "buffer", "mtp_buffer"]
"""Whether a forward pass can use a weight.

`dead` ships unused, `copy` repeats another weight, `mtp` drafts; buffers ship with the model and are no parameters.
"""


class Weight(NamedTuple):
    """One tensor of a layer, or `copies` equal ones (a layer's experts), named as checkpoints name it."""

    name: str
    shape: tuple[int, ...]
    role: Role
    op: Op = "matmul"
    copies: int = 1
    active: int = 1
    """How many of the copies one token uses."""
    state: State = "live"
    stored_bits: int = 16
    """Width in an unquantised checkpoint."""
    file_bytes: int = 0
    """Bytes of all copies in the file that this weight was read from; 0 where it was drawn from a config."""

    @property
    def elements(self) -> int:
        """Elements of all copies."""
        return reduce(mul, self.shape, self.copies)

    @property
    def active_elements(self) -> int:
        """Elements that one token uses."""
        return reduce(mul, self.shape, self.active)


Weights = tuple[Weight, ...]


class LayerCache(NamedTuple):
    """What one layer keeps of a sequence, in values, and what attending to it costs, in FLOP.

    `token_values` grow by one set every `stride` tokens; `window_values` by one a
    token until `window_tokens` are held; `state_values` (fp32) and `conv_values` (16 bit) never grow.
    """

    token_values: int = 0
    stride: int = 1
    window_values: int = 0
    window_tokens: int = 0
    state_values: int = 0
    conv_values: int = 0
    index_values: int = 0
    """Kept for every `index_stride` tokens by a sparse-attention indexer."""
    index_stride: int = 1
    context_flop: float = 0
    """For one new token, for each token of context."""
    window_flop: float = 0
    """For one new token, for each token that the window, chunk or selection holds."""
    selected_tokens: int = 0
    """Tokens a sparse indexer lets through; 0 where there is none."""
    chosen_entries: int = 0
    """Compressed entries that an indexer lets through, beside the window."""
    chosen_flop: int = 0
    """For one new token, for each such entry."""
    state_flop: int = 0
    """For one new token, whatever the context: the update and the reading of a recurrent state."""
    reports_window_flop: bool = True
    """Whether the contract's window column counts this layer; see docs/reference/anatomy.md."""
    kv_heads: int = 0
    """Heads of keys and values that the cache can be cut by between devices; 1 for a latent; 0 where there is none."""
    heads: int = 0
    """Heads of queries, which devices that share the layer get whole; 0 where there is none or the file is silent."""
    head_width: int = 0
    """Values of one key head, the width that attention kernels are written for; 0 where there is none."""


NO_CACHE = LayerCache()
"""The cache of a layer that only transforms the current token."""


class Layer(NamedTuple):
    """One layer: a kind to count it by, its weights and its cache."""

    kind: str
    weights: Weights
    cache: LayerCache


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """How a layer routes: `per_token` of `count`, in `layers` layers."""

    count: int
    per_token: int
    layers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """A whole model: what stands outside the layers, the layers in order, and the facts a config states."""

    outside: Weights
    layers: tuple[Layer, ...]
    layer_prefix: str = "model.layers."
    is_tied: bool
    experts: Experts | None = None
    vocab_size: int | None = None
    hidden_size: int | None = None
    max_context_tokens: int | None = None
    modalities: tuple[str, ...] = ("text",)
    is_checkpoint_settled: bool = False
    """Whether the family's published element count was matched to the last buffer."""

    def layer_groups(self) -> list[tuple[Layer, int]]:
        """Return the distinct layers in order of appearance, each with how often it stands."""
        counts: dict[int, int] = {}
        firsts: dict[int, Layer] = {}
        for layer in self.layers:
            key = id(layer)
            counts[key] = counts.get(key, 0) + 1
            firsts.setdefault(key, layer)
        return [(firsts[key], count) for key, count in counts.items()]

    def counted_weights(self) -> Iterator[tuple[Weight, int]]:
        """Yield every distinct weight with how many layers hold it."""
        for weight in self.outside:
            yield weight, 1
        for layer, count in self.layer_groups():
            for weight in layer.weights:
                yield weight, count

    def named_weights(self) -> Iterator[tuple[str, Weight]]:
        """Yield every weight of every layer with its full name in a checkpoint."""
        for weight in self.outside:
            yield weight.name, weight
        for index, layer in enumerate(self.layers):
            prefix = f"{self.layer_prefix}{index}."
            for weight in layer.weights:
                yield prefix + weight.name, weight


def matrix(name: str, out_features: int, in_features: int, role: Role, *, has_bias: bool = False) -> Weights:
    """Return a linear map `name`, with its bias where it has one."""
    weight = Weight(f"{name}.weight", (out_features, in_features), role)
    return (weight, vector(f"{name}.bias", out_features, role)) if has_bias else (weight,)


def vector(name: str, size: int, role: Role) -> Weight:
    """Return a weight applied elementwise: a norm's scale, a bias, a gate."""
    return Weight(name, (size,), role, "vector")


def table(name: str, rows: int, columns: int, role: Role) -> Weight:
    """Return a weight of which single rows are read."""
    return Weight(name, (rows, columns), role, "lookup")


def norm(name: str, size: int, role: Role = Role.NORMS, *, has_bias: bool = False) -> Weights:
    """Return a normalisation: a scale, and a shift where it has one (LayerNorm)."""
    scale = vector(f"{name}.weight", size, role)
    return (scale, vector(f"{name}.bias", size, role)) if has_bias else (scale,)


def buffer(name: str, shape: tuple[int, ...], role: Role, *, stored_bits: int = 32) -> Weight:
    """Return a tensor that ships with the model and is no parameter of it."""
    return Weight(name, shape, role, "vector", state="buffer", stored_bits=stored_bits)


def prefixed(prefix: str, weights: Iterable[Weight]) -> Weights:
    """Return the weights with `prefix` before their names."""
    return tuple(weight._replace(name=prefix + weight.name) for weight in weights)


def in_role(role: Role, weights: Iterable[Weight]) -> Weights:
    """Return the weights counted under `role`."""
    return tuple(weight._replace(role=role) for weight in weights)


def in_state(state: State, weights: Iterable[Weight]) -> Weights:
    """Return the weights in `state`; buffers stay buffers, of the model or of its drafts."""
    kept: State = "mtp_buffer" if state == "mtp" else "buffer"
    return tuple(weight._replace(state=kept if weight.state == "buffer" else state) for weight in weights)
