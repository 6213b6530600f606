"""What each engine admits unless told otherwise: sequences at a time, prompt tokens a step, prompts beside decoding."""

from __future__ import annotations

import re

# Prompt tokens that llama.cpp and its kin take in a step (n_ubatch).
_LLAMA_CHUNK_TOKENS = 512
# vLLM: max_num_batched_tokens and max_num_seqs of its server, and those on devices of 70 GiB and more that are no A100.
# Source: vllm/engine/arg_utils.py. SGLang: chunked_prefill_size; TensorRT-LLM: max_num_tokens, max_batch_size.
_LARGE_MEMORY_BYTES = 70 << 30
_CHUNK_TOKENS = {"vllm": 2048, "sglang": 8192, "tensorrt-llm": 8192, "transformers": 2048, "ktransformers": 2048}
_MOST_SEQUENCES = {"vllm": 256, "sglang": 1024, "tensorrt-llm": 2048, "transformers": 64, "ktransformers": 64}
_LARGE = {"vllm": (8192, 1024)}
_MIXING = frozenset({"vllm", "tensorrt-llm"})
# Engines that admit a prompt when there is room for it as it is, and not for its whole answer; TensorRT-LLM's default
# capacity policy (GUARANTEED_NO_EVICT) and llama.cpp's slots keep the whole.
_OPTIMISTIC = frozenset({"vllm", "sglang"})
_ANY_CHUNK_TOKENS = _LLAMA_CHUNK_TOKENS
_ANY_MOST_SEQUENCES = 256


def stated_limits(engine: str) -> tuple[int | None, int | None]:
    """Return the prompt tokens a step and the sequences at a time that the name of an engine states.

    >>> stated_limits("vLLM (max_num_seqs 128, max_batched_tokens 2048)"), stated_limits("vLLM 0.25.0")
    ((2048, 128), (None, None))
    """
    tokens = re.search(r"max_(?:num_)?batched_tokens[ =](\d+)", engine)
    sequences = re.search(r"max_num_seqs[ =](\d+)", engine)
    return (int(tokens[1]) if tokens else None), (int(sequences[1]) if sequences else None)


def _is_large(engine: str, family: str, memory_bytes: int | None) -> bool:
    return engine in _LARGE and family != "a100" and (memory_bytes or 0) >= _LARGE_MEMORY_BYTES


def chunk_tokens(engine: str, family: str, memory_bytes: int | None) -> int:
    """Return how many tokens an engine takes in a step on a device."""
    if _is_large(engine, family, memory_bytes):
        return _LARGE[engine][0]
    return _CHUNK_TOKENS.get(engine, _ANY_CHUNK_TOKENS)


def most_sequences(engine: str, family: str, memory_bytes: int | None) -> int:
    """Return how many sequences an engine runs at a time, where memory holds them."""
    if _is_large(engine, family, memory_bytes):
        return _LARGE[engine][1]
    return _MOST_SEQUENCES.get(engine, _ANY_MOST_SEQUENCES)


def mixes_prompts(engine: str) -> bool:
    """Return whether prompts are read in the steps that decode; others stop decoding until a prompt is read."""
    return engine in _MIXING


def keeps_whole_answers(engine: str) -> bool:
    """Return whether an engine keeps room for the whole answer from its start; others admit as long as there is any."""
    return engine not in _OPTIMISTIC
