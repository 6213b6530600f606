"""What operating systems and drivers say, read from recorded texts."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from ownward.core import GIB, KIB, MIB, Sourced, to_json
from ownward.probe import DiskFacts, this_machine
from ownward.probe._cores import count_cores
from ownward.probe._disk import find_disk
from ownward.probe._gpus import read_amd_sysfs, read_apple_displays, read_nvidia_smi
from ownward.probe._groups import read_cpu_quota, read_memory_limit
from ownward.probe._processor import read_cpuinfo, read_sysctl

TODAY = date(2026, 11, 21)

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 9654 96-Core Processor
flags\t\t: fpu sse4_2 avx avx2 fma f16c avx512f avx512_bf16 avx512_vnni bmi2

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
ARM = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes asimddp sve i8mm bf16

Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""


def test_an_x86_processor_is_named_with_what_matters_to_inference():
    model, features = read_cpuinfo(X86)
    assert model == "AMD EPYC 9654 96-Core Processor"
    assert features == ("sse4_2", "avx", "avx2", "fma", "f16c", "bmi2", "avx512f", "avx512_vnni", "avx512_bf16")


def test_an_arm_processor_is_named_as_far_as_it_says():
    model, features = read_cpuinfo(ARM)
    assert model == "Raspberry Pi 5 Model B Rev 1.0"
    assert features == ("asimd", "asimddp", "i8mm", "bf16", "sve")
    assert read_cpuinfo("") == (None, ())


def test_sysctl_of_a_mac_is_read():
    text = "machdep.cpu.brand_string: Apple M4 Max\nhw.memsize: 137438953472\nhw.physicalcpu: 16\nnot a pair\n"
    values = read_sysctl(text)
    assert values["machdep.cpu.brand_string"] == "Apple M4 Max"
    assert int(values["hw.memsize"]) == 128 * GIB


def test_nvidia_smi_is_read_and_what_a_device_does_not_say_stays_unknown():
    text = "NVIDIA H200, 143771, 143158, 700.00, 570.86.15\nNVIDIA GB10, [N/A], [N/A], [N/A], 580.95.05\nnonsense\n"
    first, second = read_nvidia_smi(text, TODAY)
    assert first.name.value == "NVIDIA H200"
    assert first.memory_bytes.value == 143771 * MIB
    assert first.power_limit_watts.value == 700
    assert "device 0" in first.memory_bytes.source
    assert (second.name.value, second.memory_bytes, second.power_limit_watts) == ("NVIDIA GB10", None, None)
    assert "device 1" in second.name.source
    assert read_nvidia_smi("", TODAY) == ()


def test_amds_kernel_files_are_read_and_other_vendors_passed_over(tmp_path: Path):
    for card, vendor in (("card0", "0x1002"), ("card1", "0x8086")):
        device = tmp_path / card / "device"
        device.mkdir(parents=True)
        (device / "vendor").write_text(vendor + "\n")
        (device / "device").write_text("0x744c\n")
        (device / "mem_info_vram_total").write_text(f"{24 * GIB}\n")
        (device / "mem_info_vram_used").write_text(f"{GIB}\n")
    (gpu,) = read_amd_sysfs(TODAY, drm_folder=tmp_path)
    assert (gpu.vendor, gpu.name.value) == ("amd", "AMD 0x744c")
    assert (gpu.memory_bytes.value, gpu.free_memory_bytes.value) == (24 * GIB, 23 * GIB)
    assert read_amd_sysfs(TODAY, drm_folder=tmp_path / "none") == ()


def test_apples_gpu_shares_the_memory_and_tells_its_cores():
    listed = [
        {"sppci_model": "Apple M4 Max", "sppci_cores": "40", "spdisplays_vendor": "sppci_vendor_Apple"},
        {"sppci_model": "Radeon", "spdisplays_vendor": "sppci_vendor_amd"},
    ]
    (gpu,) = read_apple_displays(json.dumps({"SPDisplaysDataType": listed}), TODAY)
    assert (gpu.name.value, gpu.cores.value, gpu.is_memory_shared) == ("Apple M4 Max", 40, True)
    assert read_apple_displays("", TODAY) == ()
    assert read_apple_displays("{}", TODAY) == ()


def group(tmp_path: Path, membership: str, files: dict[str, str]) -> dict[str, Path]:
    (tmp_path / "self").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {"group_folder": tmp_path / "fs", "self_file": tmp_path / "self"}


def test_the_tightest_group_of_version_2_counts(tmp_path: Path):
    files = {
        "a/b/cpu.max": "max 100000\n",
        "a/cpu.max": "150000 100000\n",
        "a/b/memory.max": f"{8 * GIB}\n",
        "a/memory.max": "max\n",
        "memory.max": f"{16 * GIB}\n",
    }
    where = group(tmp_path, "0::/a/b\n", files)
    assert read_cpu_quota(**where) == 1.5
    assert read_memory_limit(**where) == 8 * GIB


def test_a_group_of_version_1_counts_and_its_no_limit_is_none(tmp_path: Path):
    files = {
        "cpu/x/cpu.cfs_quota_us": "250000\n",
        "cpu/x/cpu.cfs_period_us": "100000\n",
        "cpu/cpu.cfs_quota_us": "-1\n",
        "cpu/cpu.cfs_period_us": "100000\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    where = group(tmp_path, "4:memory:/y\n2:cpu,cpuacct:/x\n0::/\n", files)
    assert read_cpu_quota(**where) == 2.5
    assert read_memory_limit(**where) is None


def test_no_groups_are_no_limit(tmp_path: Path):
    where = {"group_folder": tmp_path, "self_file": tmp_path / "none"}
    assert read_cpu_quota(**where) is None
    assert read_memory_limit(**where) is None


def test_hyper_threads_of_one_core_count_once(tmp_path: Path):
    for cpu, siblings in ((0, "0,4"), (4, "0,4"), (1, "1,5")):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    assert count_cores({0, 1, 4}, cpu_folder=tmp_path) == 2
    assert count_cores({7, 8}, cpu_folder=tmp_path) == 2


@pytest.mark.parametrize(("read_ahead_kib", "is_bad"), [(128, False), (256, False), (512, True), (8192, True)])
def test_a_long_read_ahead_is_said_with_the_command_that_mends_it(read_ahead_kib: int, is_bad: bool):
    ahead = Sourced(value=read_ahead_kib * KIB, basis="measured", source="x", checked_on=TODAY)
    free = Sourced(value=1, basis="measured", source="x", checked_on=TODAY)
    disk = DiskFacts(path="/models", device="nvme0n1", free_bytes=free, read_ahead_bytes=ahead)
    assert (disk.advice is not None) == is_bad
    if disk.advice is not None:
        assert "blockdev --setra 256 /dev/nvme0n1" in disk.advice


def test_a_partition_takes_its_disks_queue(tmp_path: Path):
    stat = tmp_path.stat()
    major_minor = f"{stat.st_dev >> 8}:{stat.st_dev & 0xFF}"
    queue = tmp_path / "sys" / "sda" / "queue"
    queue.mkdir(parents=True)
    (queue / "read_ahead_kb").write_text("4096\n")
    (queue / "rotational").write_text("1\n")
    (tmp_path / "sys" / "sda" / "sda1").mkdir()
    links = tmp_path / "links"
    links.mkdir()
    (links / major_minor).symlink_to(tmp_path / "sys" / "sda" / "sda1")
    disk = find_disk(tmp_path / "not" / "yet", TODAY, block_folder=links)
    assert disk is not None
    assert (disk.device, disk.path) == ("sda", str(tmp_path))
    assert disk.read_ahead_bytes.value == 4096 * KIB
    assert disk.is_rotational.value is True
    assert find_disk(tmp_path, TODAY, block_folder=tmp_path).device is None


def test_each_fact_of_this_machine_is_measured_and_becomes_json(tmp_path: Path):
    facts = this_machine(path=tmp_path)
    assert facts.memory_bytes.value > GIB
    assert 1 <= facts.usable_cores.value <= facts.logical_cores.value
    assert facts.usable_memory_bytes <= facts.memory_bytes.value
    known = json.loads(to_json(facts))
    sourced = [value for value in known.values() if isinstance(value, dict) and "basis" in value]
    assert {value["basis"] for value in sourced} == {"measured"}
    assert all(value["source"] for value in sourced)
