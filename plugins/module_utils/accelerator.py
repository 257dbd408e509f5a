# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which extras a host builds with (H3): those of app_extras, and the one of its accelerator, named or found out. Pure.

The hardware comes from `hardware.py`, the project's extras from the controller, which reads pyproject.toml.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding, visible
from ansible_collections.pyfleet.runtime.plugins.module_utils.uv import normal_name as normal

AUTO, CPU, XPU = "auto", "cpu", "xpu"
BACKEND = "UV_TORCH_BACKEND"
#: The reason of a plan that looks at no host.
UNDECIDED = "auto: decided on the host"
EXTRAS, ACCELERATOR = "app_extras", "app_accelerator"

#: Branches of NVIDIA's Linux driver and the CUDA that each brings, oldest first. Source: NVIDIA's CUDA Toolkit release notes, table
#: "CUDA Toolkit and Corresponding Driver Versions"; branches without a toolkit of their own from what nvidia-smi says there.
DRIVERS: tuple[tuple[int, tuple[int, int]], ...] = (
    (450, (11, 0)),
    (455, (11, 1)),
    (460, (11, 2)),
    (465, (11, 3)),
    (470, (11, 4)),
    (495, (11, 5)),
    (510, (11, 6)),
    (515, (11, 7)),
    (520, (11, 8)),
    (525, (12, 0)),
    (530, (12, 1)),
    (535, (12, 2)),
    (545, (12, 3)),
    (550, (12, 4)),
    (555, (12, 5)),
    (560, (12, 6)),
    (565, (12, 7)),
    (570, (12, 8)),
    (575, (12, 9)),
    (580, (13, 0)),
    (590, (13, 1)),
    (595, (13, 2)),
    (610, (13, 3)),
    (615, (13, 4)),
)
_CUDA = re.compile(r"cu(\d{1,2})(\d)\Z")
_ROCM = re.compile(r"rocm(\d+(?:-\d+)*)\Z")
_VENDORS = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel"}


@dataclass(frozen=True)
class Choice:
    """What a host builds with. `extras` in the project's spelling; `backend` are variables for legacy mode's build.

    `variant` is what makes a release differ between hosts, empty where there is nothing; `reason` is for people.
    """

    extras: tuple[str, ...] = ()
    backend: Mapping[str, str] = field(default_factory=dict)
    variant: tuple[str, ...] = ()
    accelerator: str = ""
    groups: tuple[str, ...] = ()
    reason: str = ""
    ignored: tuple[tuple[str, str], ...] = ()
    findings: tuple[Finding, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The plan's form. `devices` says whether the application's sandbox shows it the GPU."""
        devices = self.accelerator not in ("", CPU)
        groups = list(self.groups) if devices else []
        return {"name": self.accelerator, "reason": self.reason, "devices": devices, "groups": groups}


def choose(
    settings: Mapping[str, Any],
    env: Mapping[str, str],
    *,
    uv_mode: bool,
    project: Mapping[str, Any] | None,
    host: Mapping[str, Any] | None,
) -> Choice:
    """What a host builds with, and everything that is wrong about it.

    `project` has `extras` and `conflicts` of pyproject.toml, and is None where nobody could read them; `host` is None where no host is
    looked at, and has `accelerators` otherwise.
    """
    findings: list[Finding] = []
    extras = _names(settings.get("extras"), findings)
    wanted = settings.get("accelerator") or ""
    if not isinstance(wanted, str):
        findings.append(
            finding("option_invalid", ACCELERATOR, wanted, expected="auto or the name of an extra", example="cu128")
        )
        wanted = ""
    wanted = wanted.strip()
    hardware = [] if host is None else [each for each in host.get("accelerators") or [] if isinstance(each, Mapping)]
    if not uv_mode:
        return _legacy(extras, wanted, env, hardware, host is not None, findings)
    known: dict[str, str] | None = None
    if project is not None and project.get("extras") is not None:
        known = {normal(name): name for name in project["extras"]}
    picked, reason = wanted, f"{ACCELERATOR}: {visible(wanted)}"
    if wanted.lower() == AUTO and (known is None or AUTO not in known):
        picked, reason = "", UNDECIDED
        if host is not None and known is not None:
            picked, why = pick(list(known), hardware)
            reason = f"auto: {found(hardware)}: " + (f"extra {visible(known[picked])}" if picked else "no extra fits")
            reason += f" ({why})" if why else ""
        if host is not None and project is not None and not picked:
            findings.append(_nothing_fits(hardware, known))
        findings += _without_driver(hardware)
    chosen: dict[str, str] = {}
    for variable, name in [*((EXTRAS, each) for each in extras), *([(ACCELERATOR, picked)] if picked else [])]:
        if known is not None and normal(name) not in known:
            has = ", ".join(sorted(known.values())) or "none"
            findings.append(finding("extra_unknown", variable, name, known=has))
        chosen[normal(name)] = (known or {}).get(normal(name), name)
    findings += _conflicts(list(chosen), normal(picked) if picked else "", (project or {}).get("conflicts") or [])
    return Choice(
        extras=tuple(chosen.values()),
        variant=tuple(sorted(chosen)),
        accelerator=next(
            (name for key, name in chosen.items() if (key == normal(picked) if picked else _is_accelerator(key))), ""
        ),
        groups=_groups(hardware),
        reason=reason if wanted else "",
        findings=tuple(findings),
        ignored=((BACKEND, "uv sync takes the index from uv.lock; extras choose it (app_accelerator)"),)
        if BACKEND in env
        else (),
    )


def _names(value: object, findings: list[Finding]) -> list[str]:
    """The extras of app_extras; a text of several is what a survey of AWX gives."""
    given = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value
    if given is None:
        return []
    names = [each for each in given if isinstance(each, str)] if isinstance(given, (list, tuple)) else []
    if not isinstance(given, (list, tuple)) or len(names) != len(given):
        findings.append(
            finding("option_invalid", EXTRAS, value, expected="a list of extras of pyproject.toml", example="[server]")
        )
    return [name.strip() for name in names if name.strip()]


def pick(extras: Sequence[str], hardware: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The extra, of those with these normal names, that suits the hardware best, and why; "" when none does."""
    ready = {str(each.get("vendor")): str(each.get("driver") or "") for each in hardware if each.get("ready")}
    cuda = sorted(
        (int(match[1]), int(match[2]), name) for name in extras for match in [_CUDA.match(name)] if match is not None
    )
    why = []
    if "nvidia" in ready:
        top = newest_cuda(ready["nvidia"])
        fitting = [entry for entry in cuda if top and entry[:2] <= top]
        if fitting:
            return fitting[-1][2], ""
        # CUDA's minor version compatibility: a build for a later 12.x runs on any driver of 12.
        later = [entry for entry in cuda if top and entry[0] == top[0]]
        if later:
            return later[0][2], f"CUDA's minor version compatibility within {top[0] if top else 0}.x"
        why.append("it runs none of " + ", ".join(entry[2] for entry in cuda) if cuda else "there is no cuNNN")
    if "amd" in ready:
        rocm = sorted(
            ([int(part) for part in match[1].split("-")], name)
            for name in extras
            for match in [_ROCM.match(name)]
            if match is not None
        )
        if rocm:
            return rocm[-1][1], "; ".join(why)
        why.append("there is no rocmN.N")
    if "intel" in ready:
        if XPU in extras:
            return XPU, "; ".join(why)
        why.append("there is no xpu")
    return (CPU if CPU in extras else ""), "; ".join(why)


def newest_cuda(driver: str) -> tuple[int, int] | None:
    """The newest CUDA that a version of NVIDIA's driver runs by itself, as (12, 4); None for one that is too old, or unreadable."""
    match = re.match(r"\d+", driver)
    branch = int(match.group()) if match else 0
    return next((cuda for least, cuda in reversed(DRIVERS) if branch >= least), None)


def found(hardware: Sequence[Mapping[str, Any]]) -> str:
    """What the hardware is, in words: "NVIDIA driver 550.54.14 runs CUDA up to 12.4"."""
    words = []
    for each in hardware:
        name, driver = _VENDORS.get(str(each.get("vendor")), "unknown"), visible(each.get("driver") or "")
        if not each.get("ready"):
            words.append(f"{name} GPU without a driver that serves it")
        elif each.get("vendor") == "nvidia":
            cuda = newest_cuda(driver)
            words.append(
                f"NVIDIA driver {driver} runs CUDA up to {cuda[0]}.{cuda[1]}"
                if cuda
                else f"NVIDIA driver {driver or 'of an unknown version'} is older than CUDA {DRIVERS[0][1][0]}"
            )
        else:
            words.append(f"{name} GPU with the driver {driver}")
    return ", ".join(words) or "no GPU found"


def _without_driver(hardware: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """A machine that was bought for its GPU, and does not use it, should not do so quietly."""
    if any(each.get("ready") for each in hardware):
        return []
    return [
        finding(
            "accelerator_without_driver", ACCELERATOR, AUTO, vendor=_VENDORS.get(str(each.get("vendor")), "unknown")
        )
        for each in hardware
    ]


def _nothing_fits(hardware: Sequence[Mapping[str, Any]], known: Mapping[str, str] | None) -> Finding:
    has = "known to its build backend alone" if known is None else ", ".join(sorted(known.values())) or "none"
    return finding("accelerator_none", ACCELERATOR, AUTO, found=found(hardware), known=has)


def _groups(hardware: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(sorted({str(name) for each in hardware if each.get("ready") for name in each.get("groups") or []}))


def _is_accelerator(name: str) -> bool:
    return name in (CPU, XPU) or bool(_CUDA.match(name) or _ROCM.match(name))


def _conflicts(chosen: list[str], picked: str, declared: Sequence[Sequence[str]]) -> list[Finding]:
    """Extras that exclude each other: as tool.uv.conflicts says, and two accelerators in any case."""
    sets = [[normal(name) for name in each] for each in declared]
    if picked and _is_accelerator(picked):
        sets.append([name for name in chosen if _is_accelerator(name)])
    pairs = {tuple(name for name in chosen if name in each) for each in sets}
    return [
        finding("extras_conflict", EXTRAS, ", ".join(pair), why=f"{' and '.join(pair)} exclude each other")
        for pair in sorted(pairs)
        if len(pair) > 1
    ]


def _legacy(
    extras: Sequence[str],
    wanted: str,
    env: Mapping[str, str],
    hardware: Sequence[Mapping[str, Any]],
    looked: bool,
    findings: list[Finding],
) -> Choice:
    """The pip interface has no extras of the project; its accelerator is UV_TORCH_BACKEND, of the build alone.

    With `auto` uv picks: it knows more indexes than we do. Without a GPU that is `cpu`. NVIDIA's driver is told to it, so that it stands
    among what an environment is made from; two drivers of one branch make the same release.
    """
    ignored = ((EXTRAS, "legacy mode installs requirements, which name their extras themselves"),) if extras else ()
    if not wanted:
        return Choice(ignored=ignored, findings=tuple(findings))
    if BACKEND in env:
        findings.append(finding("accelerator_twice", ACCELERATOR, wanted))
    name = wanted.lower()
    if name != AUTO and not re.match(r"(cpu|xpu|cu\d{2,3}|rocm\d+(\.\d+)+)\Z", name):
        findings.append(finding("accelerator_backend", ACCELERATOR, wanted))
    if name != AUTO:
        given = {BACKEND: name}
        reason = f"{BACKEND}={visible(name)}"
        return Choice((), given, (BACKEND, name), name, _groups(hardware), reason, ignored, tuple(findings))
    findings += _without_driver(hardware)
    ready = [each for each in hardware if each.get("ready")]
    vendor, driver = (str(ready[0].get(key) or "") for key in ("vendor", "driver")) if ready else ("", "")
    given = {BACKEND: {"": CPU, "intel": XPU}.get(vendor, AUTO)}
    variant = [BACKEND, given[BACKEND]]
    if vendor == "nvidia":
        given["UV_CUDA_DRIVER_VERSION"] = driver
        variant += [vendor, driver.partition(".")[0]]
    elif vendor == "amd":
        variant.append(vendor)
    picks = "uv picks the index" if given[BACKEND] == AUTO else f"{BACKEND}={given[BACKEND]}"
    reason = f"auto: {found(hardware)}: {picks}" if looked else "auto: decided on the host"
    return Choice((), given, tuple(variant), given[BACKEND], _groups(hardware), reason, ignored, tuple(findings))
