"""Feed-forward parts: gated and plain perceptrons, and mixtures of experts."""

from __future__ import annotations

from ownward.anatomy.blueprint import Weight, Weights, buffer, matrix
from ownward.anatomy.roles import Role


def gated_mlp(
    hidden: int,
    width: int,
    *,
    role: Role = Role.DENSE_MLP,
    has_bias: bool = False,
    prefix: str = "mlp.",
) -> Weights:
    """Return a gated perceptron (SwiGLU, GeGLU): gate, up and down."""
    return (
        *matrix(f"{prefix}gate_proj", width, hidden, role, has_bias=has_bias),
        *matrix(f"{prefix}up_proj", width, hidden, role, has_bias=has_bias),
        *matrix(f"{prefix}down_proj", hidden, width, role, has_bias=has_bias),
    )


def plain_mlp(
    hidden: int,
    width: int,
    *,
    role: Role = Role.DENSE_MLP,
    has_bias: bool = False,
    up: str = "up_proj",
    down: str = "down_proj",
    prefix: str = "mlp.",
) -> Weights:
    """Return an ungated perceptron: up and down."""
    return (
        *matrix(f"{prefix}{up}", width, hidden, role, has_bias=has_bias),
        *matrix(f"{prefix}{down}", hidden, width, role, has_bias=has_bias),
    )


def routed(weights: Weights, *, experts: int, per_token: int, prefix: str = "mlp.experts.{}.") -> Weights:
    """Return one expert's weights as `experts` copies, of which a token uses `per_token`."""
    return tuple(
        weight._replace(
            name=prefix + weight.name, role=Role.ROUTED_EXPERTS, copies=experts, active=min(per_token, experts)
        )
        for weight in weights
    )


def gated_experts(
    hidden: int,
    width: int,
    *,
    experts: int,
    per_token: int,
    has_bias: bool = False,
    prefix: str = "mlp.experts.{}.",
) -> Weights:
    """Return routed experts that are gated perceptrons."""
    expert = gated_mlp(hidden, width, has_bias=has_bias, prefix="")
    return routed(expert, experts=experts, per_token=per_token, prefix=prefix)


def router(
    hidden: int,
    experts: int,
    *,
    name: str = "mlp.gate",
    has_bias: bool = False,
    correction_bias: str | None = None,
) -> Weights:
    """Return the routing matrix; `correction_bias` names a load-balancing bias, which is no parameter."""
    weights = matrix(name, experts, hidden, Role.ROUTER, has_bias=has_bias)
    return (*weights, buffer(correction_bias, (experts,), Role.ROUTER)) if correction_bias else weights


def shared_gate(hidden: int) -> tuple[Weight, ...]:
    """Return the gate that scales a shared expert's output."""
    return matrix("mlp.shared_expert_gate", 1, hidden, Role.SHARED_EXPERTS)
