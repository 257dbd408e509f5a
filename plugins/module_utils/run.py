# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run phase (D1, D2, D4, D5, D9): the command, the ports, the switch, the environment of the running application."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.pyfleet.runtime.plugins.module_utils import command as commands
from ansible_collections.pyfleet.runtime.plugins.module_utils.build import is_development
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import (
    DROPPED_FROM_APPLICATION,
    PLATFORM,
    is_build_only,
    is_true,
    show,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding

SIDE_BY_SIDE = "side_by_side"
IN_PLACE = "in_place"
SWITCHES = ("auto", SIDE_BY_SIDE, IN_PLACE)


@dataclass(frozen=True)
class Ports:
    """`application` is the port that the chain or the public port leads to; `candidates` those a release may listen on."""

    switch: str
    reason: str
    application: int
    candidates: tuple[int, ...]
    fixed: bool
    findings: tuple[Finding, ...]


def read_port(env: Mapping[str, str]) -> tuple[int | None, list[Finding]]:
    """D2: PORT as the environment sets it: the one port on which the application listens. None when unset or wrong."""
    text = env.get("PORT")
    if text is None:
        return None, []
    port = parse_port(text.strip())
    if port is None:
        return None, [finding("port_env_invalid", "PORT", text or "(empty)")]
    return port, []


def parse_port(value: object) -> int | None:
    """A port from 1024 to 65535, or None. Applications run without the right to use lower ones."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    if isinstance(value, str):
        if not re.match(r"[0-9]{1,5}\Z", value, re.ASCII):
            return None
        value = int(value)
    return value if 1024 <= value <= 65535 else None


def decide_ports(
    *,
    switch: str,
    command: str,
    variable: str,
    public: int,
    inner: int,
    release_ports: Sequence[int],
    chain: bool,
    task: bool,
    fixed: int | None,
    last_gap: float | None,
    legacy: bool = False,
    secrets: Sequence[str] = (),
) -> Ports:
    """D2 and the switch: which ports a release may listen on and how traffic moves to it.

    A PORT set by the environment (`fixed`) is the port that the application listens on, whatever else is true: it then switches in
    place, and the public port (or the last hop) leads to that port. Without it a release has its own port where it can
    switch side by side, and listens on the public port, or on `inner` behind a chain or Nginx, where it cannot.
    """
    target = fixed if fixed is not None else (inner if chain or legacy else public)
    if task:
        return Ports(IN_PLACE, "a task runs once and listens on no port", target, (), fixed is not None, ())
    if fixed is not None:
        findings = [finding("port_fixed_side_by_side", "PORT", fixed)] if switch == SIDE_BY_SIDE else []
        reason = f"PORT={fixed} in the application's environment fixes the port"
        more = [] if findings or legacy else [_gap("PORT", str(fixed), last_gap, "in_place_gap_port", secrets)]
        return Ports(IN_PLACE, reason, target, (target,), True, tuple(findings + more))
    honours = commands.honours_port(command)
    if switch == SIDE_BY_SIDE or (switch == "auto" and honours):
        reason = "the command takes its port from $PORT" if honours else "app_switch: side_by_side"
        return Ports(SIDE_BY_SIDE, reason, target, tuple(release_ports), False, ())
    reason = "app_switch: in_place" if switch == IN_PLACE else "the command does not take its port from $PORT"
    # Legacy mode has a server of its own in front; who asked for in place and could do otherwise is told as well.
    found = [] if legacy else [_gap(variable, command, last_gap, "in_place_gap", secrets)]
    return Ports(IN_PLACE, reason, target, (target,), False, tuple(found))


def _gap(variable: str, value: str, last_gap: float | None, code: str, secrets: Sequence[str]) -> Finding:
    last = f" (last time {last_gap:g} s)" if last_gap is not None else ""
    return finding(code, variable, show(variable, value, secrets), last=last)


def release_paths(root: str, release: str, project_root: str) -> tuple[str, str, str]:
    """Source root, project root and virtual environment of a release on the host."""
    home = posixpath.join(root, "releases", release)
    project = posixpath.join(home, project_root) if project_root else home
    return home, project, posixpath.join(project, ".venv")


def runtime_environment(
    env: Mapping[str, str],
    platform: Mapping[str, str],
    *,
    root: str,
    venv: str,
    port: int | None,
    python_request: str | None,
) -> tuple[dict[str, str], list[Finding]]:
    """D4, D5, B8: the environment of the running application and its workers.

    `port` is None where the release module adds PORT itself (side by side, or a task).
    """
    findings: list[Finding] = []
    result: dict[str, str] = {}
    for name, value in env.items():
        if name in DROPPED_FROM_APPLICATION:
            why = DROPPED_FROM_APPLICATION[name]
            findings.append(finding("env_dropped", name, show(name, value), why=why))
        elif not is_build_only(name, value):
            result[name] = value
    findings += [
        finding("env_platform_wins", name, show(name, result[name]))
        for name in sorted(PLATFORM & set(result))
        if name in platform and result[name] != platform[name]
    ]
    result.update(platform)

    forced = {"UV_NO_SYNC": "1", "UV_PYTHON_DOWNLOADS": "never"}
    if not is_development(env):
        forced["UV_NO_DEV"] = "1"
    for name, value in forced.items():
        given = env.get(name)
        if given is not None and not (is_true(given) if value == "1" else given == value):
            findings.append(finding("env_forced", name, show(name, given), forced=value))
        result[name] = value
    if python_request:
        if env.get("UV_PYTHON", python_request) != python_request:
            findings.append(
                finding("env_uv_python", "UV_PYTHON", show("UV_PYTHON", env["UV_PYTHON"]), used=python_request)
            )
        result["UV_PYTHON"] = python_request

    tail = "/usr/local/bin:/usr/bin:/bin"
    if env.get("PATH"):
        findings.append(finding("env_path_prefixed", "PATH", show("PATH", env["PATH"])))
        tail = env["PATH"]
    result["PATH"] = f"{venv}/bin:{root}/home/.local/bin:{tail}"
    result["VIRTUAL_ENV"] = venv
    result.setdefault("HOME", f"{root}/home")
    # Logs reach the journal line by line.
    result.setdefault("PYTHONUNBUFFERED", "1")
    if port is not None:
        result["PORT"] = str(port)
    else:
        result.pop("PORT", None)
    return result, findings
