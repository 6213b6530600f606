"""What is meant by a case that does not say it: prompts, how long a run goes on, whether answers are alike."""

from __future__ import annotations

import math

# A published run of more users at once than this began and ended with all of them, unless it says otherwise.
_BURST = 64
_FEW_TOKENS = 64
_MANY_TOKENS = 990
_TEMPLATE_TOKENS = 16


def usual_input_tokens(metric: str) -> int:
    """Return the prompt meant where none is stated: a benchmark's for prefill, a short question for everything else."""
    return 512 if metric == "prefill_tok_s" else 128


def usual_requests(concurrency: int) -> int | None:
    """Return the requests of a run that nobody stated: many users at once are a burst, few go on and on."""
    return concurrency if concurrency >= _BURST else None


def is_mean_length(tokens: int) -> bool:
    """Return whether a count of tokens is the mean of a data set: nobody asks for 217; tools miss 2000 by a few.

    >>> [is_mean_length(tokens) for tokens in (217, 342, 575, 1997, 32010, 1034, 128)]
    [True, True, True, False, False, False, False]
    """
    if tokens <= _FEW_TOKENS:
        return False
    unit = 500 if tokens >= _MANY_TOKENS else 100
    near = (unit * round(tokens / unit), 2 ** round(math.log2(tokens)), 3 * 2 ** round(math.log2(tokens / 3)))
    missed = _TEMPLATE_TOKENS if tokens >= _MANY_TOKENS else 0.01 * tokens
    return all(abs(tokens - each) > missed for each in near)
