"""A fake upstream that speaks OpenAI's and Anthropic's dialects, paces and breaks its answers, and counts them.

It runs no model. Tests, benchmarks and people who try a gateway use it.
"""

from ownward.engines.fake._flags import FAKE_FLAGS, FakeFlag, parse_fake_arguments, write_fake_arguments
from ownward.engines.fake._options import Cut, Failure, FakeOptions, Garbage, Often, OutputLength, Stall
from ownward.engines.fake._process import FakeProcess, run_fake, serve_fake
from ownward.engines.fake._server import FakeServer

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
