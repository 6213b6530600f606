"""This machine: what it is, and what its memory and disk really do.

It does not know models, engines or prices.
"""

from ownward.probe._bandwidth import (
    BandwidthMeasurement,
    DiskReadMeasurement,
    measure_disk_read,
    measure_memory_bandwidth,
)
from ownward.probe._cores import measure_busy_cores, usable_cores
from ownward.probe._facts import READ_AHEAD_LIMIT_BYTES, DiskFacts, GpuFacts, MachineFacts
from ownward.probe._faults import SLICE_BYTES, FaultReadMeasurement, measure_fault_read
from ownward.probe._machine import this_machine
from ownward.probe._machines import to_machines

__all__ = [
    "READ_AHEAD_LIMIT_BYTES",
    "SLICE_BYTES",
    "BandwidthMeasurement",
    "DiskFacts",
    "DiskReadMeasurement",
    "FaultReadMeasurement",
    "GpuFacts",
    "MachineFacts",
    "measure_busy_cores",
    "measure_disk_read",
    "measure_fault_read",
    "measure_memory_bandwidth",
    "this_machine",
    "to_machines",
    "usable_cores",
]
