"""Run models: the store of weights, the embedded engine as a supervised child, adopted servers, the fake upstream.

It does not know prices, plans or who asks.
"""

from ownward.engines.fake import (
    FAKE_FLAGS,
    Cut,
    Failure,
    FakeFlag,
    FakeOptions,
    FakeProcess,
    FakeServer,
    Garbage,
    Often,
    OutputLength,
    Stall,
    parse_fake_arguments,
    run_fake,
    serve_fake,
    write_fake_arguments,
)

__all__ = [
    "FAKE_FLAGS",
    "Cut",
    "Failure",
    "FakeFlag",
    "FakeOptions",
    "FakeProcess",
    "FakeServer",
    "Garbage",
    "Often",
    "OutputLength",
    "Stall",
    "parse_fake_arguments",
    "run_fake",
    "serve_fake",
    "write_fake_arguments",
]
