"""Requests as columns: readers of logs and traces, and the discovery of workloads in them.

It does not know models' shapes, machines or prices, and never opens a file.
"""

from typing import TYPE_CHECKING, Any

from ownward.traffic._prompt import Sketcher
from ownward.traffic._rows import PARQUET_MAGIC, read_parquet
from ownward.traffic.discovery import DiscoveredWorkload, Discovery, discover
from ownward.traffic.limits import Limits
from ownward.traffic.reading import FORMATS, Detected, ReadCount, Reading, detect, find_format, read
from ownward.traffic.records import BadRow, PromptSketch, TrafficRecord

if TYPE_CHECKING:
    from ownward.traffic.summary import Peak, Percentiles, TraceSummary
    from ownward.traffic.trace import Trace

__all__ = [
    "FORMATS",
    "PARQUET_MAGIC",
    "BadRow",
    "Detected",
    "DiscoveredWorkload",
    "Discovery",
    "Limits",
    "Peak",
    "Percentiles",
    "PromptSketch",
    "ReadCount",
    "Reading",
    "Sketcher",
    "Trace",
    "TraceSummary",
    "TrafficRecord",
    "detect",
    "discover",
    "find_format",
    "read",
    "read_parquet",
]

_COLUMNS = {
    "Peak": "ownward.traffic.summary",
    "Percentiles": "ownward.traffic.summary",
    "Trace": "ownward.traffic.trace",
    "TraceSummary": "ownward.traffic.summary",
}


def __getattr__(name: str) -> Any:
    """Load what is made of numpy columns when it is first asked for: the gateway only needs fingerprints."""
    if name not in _COLUMNS:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    return getattr(import_module(_COLUMNS[name]), name)
