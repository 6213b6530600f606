"""Read what a model is from the headers of its weights: GGUF and safetensors, without loading any."""

from ownward.anatomy.tensors.gguf import GgufFile, read_gguf
from ownward.anatomy.tensors.safetensors import read_index, read_safetensors
from ownward.anatomy.tensors.source import FileSource, Source
from ownward.anatomy.tensors.stored import StoredTensor

__all__ = ["FileSource", "GgufFile", "Source", "StoredTensor", "read_gguf", "read_index", "read_safetensors"]
