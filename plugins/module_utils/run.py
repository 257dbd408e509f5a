# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run phase (D1, D2, D4, D5, D9): the command, the ports, the switch, the environment of the running application."""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.pyfleet.runtime.plugins.module_utils import command as commands
from ansible_collections.pyfleet.runtime.plugins.module_utils.build import is_development
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import (
    DROPPED_FROM_APPLICATION,
    PLATFORM,
    is_basic_auth,
    is_build_only,
    is_true,
    show,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding

SIDE_BY_SIDE = "side_by_side"
IN_PLACE = "in_place"
SWITCHES = ("auto", SIDE_BY_SIDE, IN_PLACE)


@dataclass(frozen=True)
class Layer:
    """A station behind the outermost one: `call` is the port that leads to it, `candidates` those it may listen on."""

    kind: str
    call: int
    candidates: tuple[int, ...]

    def to_dict(self) -> dict[str, object]:
        """JSON-able form."""
        return {"kind": self.kind, "call": self.call, "candidates": list(self.candidates)}


@dataclass(frozen=True)
class Ports:
    """`application` is the port that the chain or the public port leads to; `candidates` those the outermost station may have.

    That station is the chain, else Nginx (legacy mode), else the release. `application_candidates` are those of an application that
    something stands in front of. `inner` are the ports that a chain forwards to, one per candidate of its own.
    """

    switch: str
    reason: str
    application: int
    candidates: tuple[int, ...]
    fixed: bool
    findings: tuple[Finding, ...]
    application_candidates: tuple[int, ...] = ()
    inner: tuple[int, ...] = ()
    behind: tuple[Layer, ...] = ()


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
    secrets: Sequence[str] = (),
) -> Ports:
    """D2 and the switch: which ports a release may listen on and how traffic moves to it.

    A PORT set by the environment (`fixed`) is the port that the application listens on, whatever else is true: it then switches in
    place, and the public port (or the last hop) leads to that port. Without it a release has its own port where it can
    switch side by side, and listens on the public port, or on `inner` behind a chain or Nginx, where it cannot.
    """
    target = fixed if fixed is not None else (inner if chain else public)
    if task:
        return Ports(IN_PLACE, "a task runs once and listens on no port", target, (), fixed is not None, ())
    if fixed is not None:
        findings = [finding("port_fixed_side_by_side", "PORT", fixed)] if switch == SIDE_BY_SIDE else []
        reason = f"PORT={fixed} in the application's environment fixes the port"
        more = [] if findings else [_gap("PORT", str(fixed), last_gap, "in_place_gap_port", secrets)]
        return Ports(IN_PLACE, reason, target, (target,), True, tuple(findings + more))
    honours = commands.honours_port(command)
    if switch == SIDE_BY_SIDE or (switch == "auto" and honours):
        reason = "the command takes its port from $PORT" if honours else "app_switch: side_by_side"
        return Ports(SIDE_BY_SIDE, reason, target, tuple(release_ports), False, ())
    reason = "app_switch: in_place" if switch == IN_PLACE else "the command does not take its port from $PORT"
    # Who asked for in place and could do otherwise is told as well.
    found = _gap(variable, command, last_gap, "in_place_gap", secrets)
    return Ports(IN_PLACE, reason, target, (target,), False, (found,))


def decide_legacy_ports(
    *,
    backend: str,
    switch: str,
    command: str,
    public: int,
    inner: int,
    release_ports: Sequence[int],
    chain: bool,
    task: bool,
    fixed: int | None,
    last_gap: float | None,
    secrets: Sequence[str] = (),
) -> Ports:
    """D2 and G in legacy mode: Nginx has the public port and, as `candidates`, ports of its own, one per configuration.

    A backend answers on a socket and needs no port. A command listens on `inner` (or on a PORT that the environment sets); when it
    takes its port from $PORT, releases listen `inner` + 10000 and + 20000 and `inner` leads to the one that serves.
    """
    own = tuple(release_ports)
    if task:
        return Ports(IN_PLACE, "a task runs once and listens on no port", inner, (), False, ())
    if backend != "command":
        target = inner if chain else public
        if switch == IN_PLACE:
            return Ports(IN_PLACE, "app_switch: in_place", target, own, False, ())
        reason = (
            "the backend answers on a socket that systemd holds" if backend != "none" else "Nginx answers everything"
        )
        return Ports(SIDE_BY_SIDE, reason, target, own, False, ())
    if fixed is not None and fixed == public:
        return Ports(
            IN_PLACE, "PORT fixes the port", inner, own, False, (finding("command_port_public", "PORT", fixed),)
        )
    decided = decide_ports(
        switch=switch,
        command=command,
        variable="CC_RUN_COMMAND",
        public=inner,
        inner=inner,
        release_ports=own_ports(inner),
        chain=False,
        task=False,
        fixed=fixed,
        last_gap=last_gap,
        secrets=secrets,
    )
    return dataclasses.replace(decided, candidates=own, application_candidates=decided.candidates)


def own_ports(called: int) -> tuple[int, ...]:
    """The two ports that a station behind another one may have, for the port that leads to it (0: none)."""
    return tuple(called + offset for offset in (10000, 20000)) if called else (0, 0)


def with_layers(ports: Ports, *, backend: str, public: int, inner: int, slots: Sequence[int], hops: int) -> Ports:
    """F4, F13: what stands behind the outermost station, and on which ports.

    `backend` is legacy mode's, and empty in uv mode. With a chain (`hops` > 0) the outermost ports are the chain's `slots`. Each slot
    forwards to an inner port of its own, so that a chain can be checked while another one serves.
    """
    own = ports.application_candidates if backend else ports.candidates
    application = [] if backend not in ("", "command") else [Layer("application", ports.application, own)]
    if not hops:
        return dataclasses.replace(ports, behind=tuple(application) if backend else ())
    # A command keeps the application's port to itself: Nginx, in front of it, is called on the port after the last hop's.
    first = (public + hops if public else 0) if backend == "command" else inner
    nginx = [Layer("nginx", first, own_ports(first))] if backend else []
    return dataclasses.replace(
        ports,
        candidates=tuple(slots),
        application_candidates=own,
        inner=(first, inner + 30000 if inner else 0),
        behind=(*nginx, *application),
    )


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
    uv_mode: bool = True,
) -> tuple[dict[str, str], list[Finding]]:
    """D4, D5, B8: the environment of the running application and its workers.

    `port` is None where the release module adds PORT itself (side by side, or a task). In legacy mode uv keeps its own
    defaults, and logins are Nginx's alone.
    """
    findings: list[Finding] = []
    result: dict[str, str] = {}
    for name, value in env.items():
        if name in DROPPED_FROM_APPLICATION:
            why = DROPPED_FROM_APPLICATION[name]
            findings.append(finding("env_dropped", name, show(name, value), why=why))
        elif not is_build_only(name, value) and (uv_mode or not is_basic_auth(name)):
            result[name] = value
    findings += [
        finding("env_platform_wins", name, show(name, result[name]))
        for name in sorted(PLATFORM & set(result))
        if name in platform and result[name] != platform[name]
    ]
    result.update(platform)

    forced = {"UV_NO_SYNC": "1", "UV_PYTHON_DOWNLOADS": "never"} if uv_mode else {}
    if uv_mode and not is_development(env):
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
