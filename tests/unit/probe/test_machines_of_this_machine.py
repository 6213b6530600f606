"""This machine in the catalogue's terms."""

from __future__ import annotations

import dataclasses
from datetime import date

import pytest

from ownward.core import GIB, Sourced
from ownward.probe import BandwidthMeasurement, GpuFacts, MachineFacts, this_machine, to_machines


def told(value):
    return Sourced(value=value, basis="measured", source="driver", checked_on=date(2026, 11, 21))


def gpu(name: str, **fields) -> GpuFacts:
    return GpuFacts(name=told(name), vendor="any", **fields)


@pytest.fixture
def facts() -> MachineFacts:
    return dataclasses.replace(this_machine(), memory_bytes=told(64 * GIB), memory_limit_bytes=None, gpus=())


BANDWIDTH = BandwidthMeasurement(
    kernel="read",
    threads=2,
    working_bytes=GIB,
    runs=3,
    low_bytes_per_s=1e9,
    median_bytes_per_s=2e9,
    high_bytes_per_s=3e9,
)


def test_the_processor_has_what_was_measured_and_no_more(facts: MachineFacts):
    (machine,) = to_machines(facts, bandwidth=BANDWIDTH)
    assert (machine.id, machine.kind) == ("this-machine", "cpu-platform")
    assert machine.memory_bytes.value == 64 * GIB
    assert machine.bandwidth_bytes_per_s.value == 2e9
    assert machine.bandwidth_bytes_per_s.basis == "measured"
    assert machine.bf16_flop_per_s is None
    assert to_machines(facts)[0].bandwidth_bytes_per_s is None


def test_a_containers_limit_is_its_memory(facts: MachineFacts):
    (machine,) = to_machines(dataclasses.replace(facts, memory_limit_bytes=told(4 * GIB)))
    assert machine.memory_bytes.value == 4 * GIB


def test_an_accelerator_takes_the_catalogues_rates_and_its_drivers_memory(facts: MachineFacts):
    h200 = gpu("NVIDIA H200", memory_bytes=told(143 * GIB))
    machine, processor = to_machines(dataclasses.replace(facts, gpus=(h200,)))
    assert machine.id == "h200-sxm-141gb"
    assert machine.memory_bytes.value == 143 * GIB
    assert machine.bandwidth_bytes_per_s is not None
    assert processor.id == "this-machine"


def test_apples_gpu_is_told_by_its_cores_and_has_the_whole_memory(facts: MachineFacts):
    m4 = gpu("Apple M4 Max", cores=told(40), is_memory_shared=True)
    machine, _ = to_machines(dataclasses.replace(facts, gpus=(m4,)))
    assert machine.id == "apple-m4-max-40-core-gpu"
    assert machine.memory_bytes.value == 64 * GIB


def test_a_device_that_the_catalogue_does_not_know_is_left_out(facts: MachineFacts):
    devices = to_machines(dataclasses.replace(facts, gpus=(gpu("Voodoo 3"),)))
    assert [machine.id for machine in devices] == ["this-machine"]
