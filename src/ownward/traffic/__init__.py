"""Requests as columns: readers of logs and traces, and the discovery of workloads in them.

It does not know models' shapes, machines or prices, and never opens a file.
"""

from ownward.traffic.discovery import DiscoveredWorkload, Discovery, discover
from ownward.traffic.limits import Limits
from ownward.traffic.reading import FORMATS, Detected, ReadCount, Reading, detect, find_format, read
from ownward.traffic.records import BadRow, PromptSketch, TrafficRecord
from ownward.traffic.summary import Peak, Percentiles, TraceSummary
from ownward.traffic.trace import Trace

__all__ = [
    "FORMATS",
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
    "Trace",
    "TraceSummary",
    "TrafficRecord",
    "detect",
    "discover",
    "find_format",
    "read",
]
