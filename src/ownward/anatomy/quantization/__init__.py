"""How weights are stored: formats, what configs say, and the quantisations that people run."""

from ownward.anatomy.quantization.dialects import read_recipe
from ownward.anatomy.quantization.formats import GGML, GGML_BLOCKS, Format
from ownward.anatomy.quantization.recipe import Recipe, stored_sizes
from ownward.anatomy.quantization.schemes import SCHEMES, scheme_sizes

__all__ = ["GGML", "GGML_BLOCKS", "SCHEMES", "Format", "Recipe", "read_recipe", "scheme_sizes", "stored_sizes"]
