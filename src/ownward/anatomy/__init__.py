"""A model's shape, exact to the parameter: counts by role, bytes by type, cache, FLOP.

It does not know machines, speeds or prices.
"""

from ownward.anatomy.anatomy import Anatomy, LayerCount
from ownward.anatomy.cache import CACHE_BITS, CacheType, ring_tokens
from ownward.anatomy.config import from_config
from ownward.anatomy.contract import as_contract
from ownward.anatomy.counted_by_transformers import from_parameters
from ownward.anatomy.quantization import SCHEMES
from ownward.anatomy.reading import has_own_pooling, read, read_source
from ownward.anatomy.roles import Role
from ownward.anatomy.routing import expected_distinct_experts
from ownward.anatomy.tensors import Source

__all__ = [
    "CACHE_BITS",
    "SCHEMES",
    "Anatomy",
    "CacheType",
    "LayerCount",
    "Role",
    "Source",
    "as_contract",
    "expected_distinct_experts",
    "from_config",
    "from_parameters",
    "has_own_pooling",
    "read",
    "read_source",
    "ring_tokens",
]
