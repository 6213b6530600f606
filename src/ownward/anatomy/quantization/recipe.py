"""Which tensor of a checkpoint has which format: targets, exceptions and what never is quantised."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ownward.anatomy.blueprint import Blueprint, Weight
from ownward.anatomy.quantization.formats import Format, floating
from ownward.anatomy.roles import MODALITY_ROLES, Role

Matches = Callable[[str], bool]
"""Whether a module, named as in the checkpoint, is meant."""

_NEVER = frozenset(
    {
        Role.EMBEDDINGS,
        Role.PER_LAYER_EMBEDDINGS,
        Role.NGRAM_OR_PLE,
        Role.ROUTER,
        Role.HYPER_CONNECTIONS,
        Role.LATENT_PROJ,
    }
)
"""Roles that are no linear layers to the quantisers: looked up, or parameters of a router."""

_WRAPPERS = re.compile(r"^(?:model\.|language_model\.|backbone\.)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a checkpoint's weights are stored: the first rule that matches, else as unquantised."""

    name: str
    rules: tuple[tuple[Matches, Format], ...]
    ignored: Matches
    explicit: Matches
    """Modules that are quantised though their role usually is not, because the config names them."""
    is_text_only: bool = False
    is_mlx: bool = False
    """MLX quantises looked-up tables too and drops drafts."""

    def format_of(self, module: str, weight: Weight) -> Format:
        """Return the format of a weight of `module`, its name without the final part."""
        if self._can_quantise(weight) and (weight.role not in _NEVER or self.explicit(module)):
            for matches, stored in self.rules:
                if matches(module) and not self.ignored(module):
                    return stored
        return floating(weight.stored_bits)

    def reaches(self, blueprint: Blueprint) -> bool:
        """Return whether every rule applies to some module: names of another layout would leave all at 16 bits."""
        modules = [module_of(name) for name, _ in blueprint.named_weights()] if self.rules else []
        return all(any(map(matches, modules)) for matches, _ in self.rules if matches is not everything)

    def _can_quantise(self, weight: Weight) -> bool:
        if weight.role in MODALITY_ROLES and self.is_text_only:
            return False
        return weight.op == "matmul" or (self.is_mlx and weight.op == "lookup")


def stored_sizes(blueprint: Blueprint, recipe: Recipe) -> Iterator[tuple[Weight, int]]:
    """Yield each weight of a checkpoint with its bytes as `recipe` stores it, every tensor by its name."""
    skipped = {"mtp", "mtp_buffer", "copy"} if recipe.is_mlx else {"copy"}
    sizes: dict[tuple[Format, tuple[int, ...]], int] = {}
    for name, weight in blueprint.named_weights():
        if weight.state in skipped:
            continue
        stored = recipe.format_of(module_of(name), weight)
        key = stored, weight.shape
        if key not in sizes:
            sizes[key] = stored.bytes_of(weight.shape)
        yield weight, sizes[key] * weight.copies


def module_of(name: str) -> str:
    """Return the module that holds a weight, with the first of several equal ones standing for all.

    >>> module_of("model.layers.3.mlp.experts.{}.up_proj.weight")
    'model.layers.3.mlp.experts.0.up_proj'
    """
    return name.rpartition(".")[0].replace("{}", "0")


def bare(module: str) -> str:
    """Return a module's name without the wrappers that differ between a text model and the same one with eyes.

    DeepSeek's own checkpoints call `ffn` what transformers' classes call `mlp`.

    >>> bare("model.language_model.layers.0.mlp"), bare("language_model.model.layers.0.mlp")
    ('layers.0.mlp', 'layers.0.mlp')
    >>> bare("layers.0.ffn.experts")
    'layers.0.mlp.experts'
    """
    return _WRAPPERS.sub("", module).replace(".ffn.", ".mlp.")


def any_of(patterns: Iterable[str]) -> Matches:
    """Return a matcher for the pattern languages of quantisation configs.

    `re:` starts a regular expression; `*` stands for anything; a plain name means the module
    of that name, everything inside it, and every module of which it is a whole part.
    """
    exact: set[str] = set()
    parts: set[str] = set()
    expressions: list[str] = []
    for pattern in patterns:
        if pattern.startswith("re:"):
            expressions.append(pattern[3:])
        elif "*" in pattern or "?" in pattern:
            expressions.append(fnmatch.translate(bare(pattern)).removesuffix(r"\Z").removesuffix(r"\z") + r"(?:\.|\Z)")
        elif "." in pattern:
            exact.add(bare(pattern))
        else:
            parts.add(pattern)
    compiled = _compile(expressions)

    def matches(module: str) -> bool:
        name = bare(module)
        if parts and not parts.isdisjoint(module.split(".")):
            return True
        if exact and _is_inside(name, exact):
            return True
        return compiled is not None and (compiled.match(module) is not None or compiled.match(name) is not None)

    return matches


def everything(_module: str) -> bool:
    """Match every module."""
    return True


def nothing(_module: str) -> bool:
    """Match no module."""
    return False


def _is_inside(name: str, modules: set[str]) -> bool:
    while name:
        if name in modules:
            return True
        name = name.rpartition(".")[0]
    return False


def _compile(expressions: list[str]) -> re.Pattern[str] | None:
    if not expressions:
        return None
    return re.compile("|".join(f"(?:{expression})" for expression in expressions))
