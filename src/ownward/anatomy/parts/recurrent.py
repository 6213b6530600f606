"""Layers whose cache never grows: gated DeltaNet, Kimi delta attention, Mamba and Mamba-2, short convolutions."""

from __future__ import annotations

from ownward.anatomy.blueprint import LayerCache, Weight, Weights, matrix, norm, vector
from ownward.anatomy.parts.attention import Part
from ownward.anatomy.roles import Role

_ROLE = Role.LINEAR_ATTENTION


def recurrent_cache(*, state_values: int, conv_channels: int, kernel: int) -> LayerCache:
    """Return a recurrent state (fp32) with the kernel - 1 inputs that its convolution still needs (16 bit).

    FLOP a token: a decay, a rank-one update and a read-out, 2 each for every value of the state.
    """
    return LayerCache(state_values=state_values, conv_values=conv_channels * (kernel - 1), state_flop=6 * state_values)


def convolution(name: str, channels: int, kernel: int, *, has_bias: bool = False) -> Weights:
    """Return a causal depthwise convolution."""
    weight = Weight(f"{name}.weight", (channels, 1, kernel), _ROLE, "conv")
    return (weight, vector(f"{name}.bias", channels, _ROLE)) if has_bias else (weight,)


def gated_delta_net(
    hidden: int,
    *,
    key_heads: int,
    value_heads: int,
    key_dim: int,
    value_dim: int,
    kernel: int,
    is_fused: bool,
) -> Part:
    """Return gated DeltaNet: a state of one key x value matrix a value head, updated by the delta rule.

    `is_fused`: one projection makes q, k, v and z, another b and a (Qwen3-Next); apart in Qwen3.5.
    Source: Yang et al. 2024, Gated Delta Networks.
    """
    keys, values = key_heads * key_dim, value_heads * value_dim
    if is_fused:
        projections = (
            *matrix("linear_attn.in_proj_qkvz", 2 * keys + 2 * values, hidden, _ROLE),
            *matrix("linear_attn.in_proj_ba", 2 * value_heads, hidden, _ROLE),
        )
    else:
        projections = (
            *matrix("linear_attn.in_proj_qkv", 2 * keys + values, hidden, _ROLE),
            *matrix("linear_attn.in_proj_z", values, hidden, _ROLE),
            *matrix("linear_attn.in_proj_b", value_heads, hidden, _ROLE),
            *matrix("linear_attn.in_proj_a", value_heads, hidden, _ROLE),
        )
    weights = (
        *projections,
        *convolution("linear_attn.conv1d", 2 * keys + values, kernel),
        vector("linear_attn.dt_bias", value_heads, _ROLE),
        vector("linear_attn.A_log", value_heads, _ROLE),
        *norm("linear_attn.norm", value_dim, _ROLE),
        *matrix("linear_attn.out_proj", hidden, values, _ROLE),
    )
    cache = recurrent_cache(
        state_values=value_heads * key_dim * value_dim, conv_channels=2 * keys + values, kernel=kernel
    )
    return Part(weights, cache)


def mamba2(
    hidden: int,
    *,
    heads: int,
    head_dim: int,
    groups: int,
    state_size: int,
    kernel: int,
    has_conv_bias: bool,
    has_bias: bool,
    has_norm: bool = True,
    prefix: str = "mixer.",
) -> Part:
    """Return a Mamba-2 mixer.

    Source: Dao and Gu 2024, Mamba-2 (SSD), section 7.
    """
    inner = heads * head_dim
    channels = inner + 2 * groups * state_size
    weights = (
        *matrix(f"{prefix}in_proj", inner + channels + heads, hidden, _ROLE, has_bias=has_bias),
        *convolution(f"{prefix}conv1d", channels, kernel, has_bias=has_conv_bias),
        vector(f"{prefix}dt_bias", heads, _ROLE),
        vector(f"{prefix}A_log", heads, _ROLE),
        vector(f"{prefix}D", heads, _ROLE),
        *(norm(f"{prefix}norm", inner, _ROLE) if has_norm else ()),
        *matrix(f"{prefix}out_proj", hidden, inner, _ROLE, has_bias=has_bias),
    )
    cache = recurrent_cache(state_values=inner * state_size, conv_channels=channels, kernel=kernel)
    return Part(weights, cache)


def kimi_delta(
    hidden: int,
    *,
    heads: int,
    head_dim: int,
    kernel: int,
    has_full_rank_gate: bool,
) -> Part:
    """Return Kimi delta attention: a delta rule whose forgetting is per channel, behind short convolutions.

    Source: Kimi Linear (2025), section 3; the low-rank maps have the head size as rank.
    """
    inner = heads * head_dim
    gate = (
        matrix("self_attn.g_proj", inner, hidden, _ROLE)
        if has_full_rank_gate
        else (
            *matrix("self_attn.g_a_proj", head_dim, hidden, _ROLE),
            *matrix("self_attn.g_b_proj", inner, head_dim, _ROLE),
        )
    )
    weights = (
        *matrix("self_attn.q_proj", inner, hidden, _ROLE),
        *matrix("self_attn.k_proj", inner, hidden, _ROLE),
        *matrix("self_attn.v_proj", inner, hidden, _ROLE),
        *(w for name in "qkv" for w in convolution(f"self_attn.{name}_conv1d", inner, kernel)),
        *matrix("self_attn.f_a_proj", head_dim, hidden, _ROLE),
        *matrix("self_attn.f_b_proj", inner, head_dim, _ROLE),
        vector("self_attn.dt_bias", inner, _ROLE),
        vector("self_attn.A_log", heads, _ROLE),
        *matrix("self_attn.b_proj", heads, hidden, _ROLE),
        *gate,
        *norm("self_attn.o_norm", head_dim, _ROLE),
        *matrix("self_attn.o_proj", hidden, inner, _ROLE),
    )
    cache = recurrent_cache(state_values=heads * head_dim**2, conv_channels=3 * inner, kernel=kernel)
    return Part(weights, cache)


def lightning(hidden: int, *, heads: int, head_dim: int) -> Part:
    """Return lightning attention: a decayed sum of key x value matrices, gated and normalised.

    Source: MiniMax-01 (2025), section 2.2.
    """
    inner = heads * head_dim
    weights = (
        *norm("self_attn.norm", inner, _ROLE),
        *matrix("self_attn.qkv_proj", 3 * inner, hidden, _ROLE),
        *matrix("self_attn.out_proj", hidden, inner, _ROLE),
        *matrix("self_attn.output_gate", inner, hidden, _ROLE),
    )
    return Part(weights, recurrent_cache(state_values=heads * head_dim**2, conv_channels=0, kernel=1))
