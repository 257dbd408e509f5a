# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""H3: GPUs as the kernel shows them, in trees of /sys and /proc as drivers write them."""

from __future__ import annotations

import grp
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import hardware
from ansible_collections.pyfleet.runtime.plugins.module_utils.hardware import accelerators
from ansible_collections.pyfleet.runtime.plugins.modules import app_info

pytestmark = pytest.mark.rule("H3")

CLOSED = """NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)
"""
OPEN = """NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build  (dvs-builder@U16-I3-B03-4-3)  Thu Jan 23
GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)
"""


class Machine:
    """A root with `sys`, `proc` and `dev`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str = "") -> None:
        """Writes a file."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def device(self, address: str, vendor: str, kind: str = "0x030000", driver: str = "", render: bool = False) -> None:
        """A device of the PCI bus."""
        place = f"sys/bus/pci/devices/{address}"
        self.write(f"{place}/vendor", f"{vendor}\n")
        self.write(f"{place}/class", f"{kind}\n")
        if driver:
            os.symlink(f"../../../../bus/pci/drivers/{driver}", self.root / place / "driver")
        if render:
            self.write(f"{place}/drm/renderD128/dev", "226:128\n")

    def shows(self) -> list[tuple[str, int, str, bool]]:
        """What is found, without groups."""
        found = accelerators(str(self.root))
        return [(each["vendor"], each["devices"], each["driver"], each["ready"]) for each in found]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_no_gpu_and_no_bus_at_all_is_nothing(machine: Machine) -> None:
    assert machine.shows() == []
    machine.device("0000:00:1f.0", "0x8086", "0x060100", "lpc_ich")
    machine.device("0000:03:00.0", "0x10de", "0x040300", "snd_hda_intel")
    machine.device("0000:04:00.0", "0x1af4", "0x030000", "virtio-pci")
    assert machine.shows() == []


@pytest.mark.parametrize(("text", "version"), [(CLOSED, "550.54.14"), (OPEN, "570.86.10")])
def test_nvidia_says_its_version_whichever_module_it_is(machine: Machine, text: str, version: str) -> None:
    machine.device("0000:01:00.0", "0x10de", "0x030200", "nvidia")
    machine.device("0000:02:00.0", "0x10de", "0x030200", "nvidia")
    machine.write("proc/driver/nvidia/version", text)
    assert machine.shows() == [("nvidia", 2, version, True)]


def test_nvidia_is_found_through_the_module_where_proc_says_nothing(machine: Machine) -> None:
    machine.write("sys/module/nvidia/version", "535.183.01\n")
    assert machine.shows() == [("nvidia", 0, "535.183.01", True)]


@pytest.mark.parametrize("driver", ["", "nouveau", "vfio-pci"])
def test_nvidia_without_its_driver_is_a_gpu_that_nobody_serves(machine: Machine, driver: str) -> None:
    machine.device("0000:01:00.0", "0x10de", "0x030000", driver)
    assert machine.shows() == [("nvidia", 1, "", False)]


def test_what_is_no_version_is_not_taken_for_one(machine: Machine) -> None:
    machine.write("sys/module/nvidia/version", "garbage; rm -rf /\n")
    assert machine.shows() == []


def test_amd_needs_its_driver_and_the_interface_for_computing(machine: Machine) -> None:
    machine.device("0000:c1:00.0", "0x1002", "0x120000", "amdgpu")
    assert machine.shows() == [("amd", 1, "", False)]
    machine.write("sys/module/amdgpu/refcnt", "1")
    assert machine.shows() == [("amd", 1, "amdgpu", False)]
    machine.write("sys/class/kfd/kfd/dev", "235:0")
    assert machine.shows() == [("amd", 1, "amdgpu", True)]


def test_amd_lent_to_a_virtual_machine_is_not_the_hosts(machine: Machine) -> None:
    machine.device("0000:c1:00.0", "0x1002", "0x030000", "vfio-pci")
    machine.write("sys/module/amdgpu/refcnt", "0")
    machine.write("sys/class/kfd/kfd/dev", "235:0")
    assert machine.shows() == [("amd", 1, "", False)]


@pytest.mark.parametrize(
    ("address", "driver", "render", "found"),
    [
        ("0000:03:00.0", "xe", True, [("intel", 1, "xe", True)]),
        ("0000:03:00.0", "i915", True, [("intel", 1, "i915", True)]),
        ("0000:03:00.0", "i915", False, [("intel", 1, "", False)]),
        ("0000:03:00.0", "", False, [("intel", 1, "", False)]),
        ("0000:00:02.0", "i915", True, []),
        ("0000:00:02.0", "", False, []),
        ("0000:00:02.0", "xe", True, [("intel", 1, "xe", True)]),
    ],
)
def test_intel_counts_unless_it_is_old_graphics_within_the_processor(
    machine: Machine, address: str, driver: str, render: bool, found: list[tuple[str, int, str, bool]]
) -> None:
    machine.device(address, "0x8086", "0x030000", driver, render)
    assert machine.shows() == found


def test_nvidia_stands_before_the_others(machine: Machine) -> None:
    machine.device("0000:00:02.0", "0x8086", driver="xe", render=True)
    machine.device("0000:01:00.0", "0x1002")
    machine.device("0000:02:00.0", "0x10de")
    assert [each[0] for each in machine.shows()] == ["nvidia", "amd", "intel"]


def test_the_groups_of_the_device_files_are_named(machine: Machine) -> None:
    group = next(each for each in grp.getgrall() if each.gr_gid)
    machine.device("0000:03:00.0", "0x8086", driver="xe", render=True)
    machine.write("dev/dri/renderD128")
    machine.write("dev/dri/card0")
    try:
        os.chown(machine.root / "dev/dri/renderD128", -1, group.gr_gid)
    except PermissionError:
        pytest.skip("only root gives a file to another group")
    (found,) = accelerators(str(machine.root))
    assert found["groups"] == [group.gr_name]


def test_the_look_at_a_host_includes_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write("sys/module/nvidia/version", "550.54.14")
    monkeypatch.setattr(hardware, "accelerators", lambda: accelerators(str(machine.root)))
    monkeypatch.setattr(app_info, "pythons", lambda _folder: [])
    params = {"python_dir": "/none", "uv_executable": "/none", "config": str(tmp_path)}
    found = app_info.host_facts(SimpleNamespace(params=params), str(tmp_path), "shop")
    assert [each["driver"] for each in found["accelerators"]] == ["550.54.14"]
