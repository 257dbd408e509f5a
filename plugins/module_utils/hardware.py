# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The accelerators of a host, as its kernel shows them: no program of a vendor is asked, because it may be missing or hang."""

from __future__ import annotations

import contextlib
import grp
import os
import re
from pathlib import Path
from typing import Any

#: PCI vendors that make GPUs, in the order in which they are preferred.
VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
#: PCI classes: display controllers, and processing accelerators, as which data centres' GPUs without an output come.
CLASSES = ("0x03", "0x12")
#: Intel's graphics within the processor sits here on every machine. Older ones, with the driver i915, compute nothing for PyTorch.
WITHIN_PROCESSOR = "0000:00:02.0"


def accelerators(root: str = "/") -> list[dict[str, Any]]:
    """One entry per vendor: `vendor`, `devices`, `driver` (NVIDIA: its version, else its name), `ready`, whether that serves it, and
    `groups`, whose members may open its device files.

    `root` holds `sys`, `proc` and `dev`. A container may show a driver and hide the PCI bus, so either will do for NVIDIA.
    """
    base = Path(root)
    devices: dict[str, list[Path]] = {}
    for device in sorted((base / "sys/bus/pci/devices").glob("*")):
        vendor = VENDORS.get(_text(device / "vendor"))
        kind = _text(device / "class")
        inside = vendor == "intel" and device.name == WITHIN_PROCESSOR and _driver(device) != "xe"
        if vendor and kind.startswith(CLASSES) and not inside:
            devices.setdefault(vendor, []).append(device)
    nvidia = nvidia_driver(base)
    if nvidia:
        devices.setdefault("nvidia", [])
    found = []
    for vendor in VENDORS.values():
        if vendor not in devices:
            continue
        drivers = [_driver(device) for device in devices[vendor]]
        if vendor == "nvidia":
            driver, ready = nvidia, bool(nvidia)
        elif vendor == "amd":
            driver = "amdgpu" if (base / "sys/module/amdgpu").exists() and "amdgpu" in drivers else ""
            ready = bool(driver) and (base / "sys/class/kfd/kfd").exists()
        else:
            serving = [
                name
                for device, name in zip(devices[vendor], drivers)
                if name in ("xe", "i915") and list((device / "drm").glob("renderD*"))
            ]
            driver = serving[0] if serving else ""
            ready = bool(serving)
        entry = {"vendor": vendor, "devices": len(devices[vendor]), "driver": driver, "ready": ready}
        found.append({**entry, "groups": _groups(base) if vendor != "nvidia" else []})
    return found


def _groups(base: Path) -> list[str]:
    """The groups of the render nodes and of AMD's compute node; NVIDIA's are open to everybody."""
    names = set()
    for node in [base / "dev/kfd", *(base / "dev/dri").glob("renderD*")]:
        with contextlib.suppress(OSError, KeyError):
            names.add(grp.getgrgid(node.stat().st_gid).gr_name)
    return sorted(names - {"root"})


def nvidia_driver(base: Path) -> str:
    """The version of NVIDIA's loaded kernel module, closed or open; "" when there is none."""
    # "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build  (…)", then a line about the compiler
    banner = _text(base / "proc/driver/nvidia/version")
    match = re.search(r"(?<![\w.])\d{3,4}\.\d+(?:\.\d+)?(?![\w.])", banner)
    version = match.group() if match else _text(base / "sys/module/nvidia/version")
    return version if re.match(r"\d[\d.]*\Z", version) else ""


def _driver(device: Path) -> str:
    try:
        return os.path.basename(os.readlink(device / "driver"))
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
