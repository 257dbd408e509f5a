# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Section F of the contract as results: which services stand in front of the application, in which order, on which ports."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ansible_collections.pyfleet.runtime.plugins.module_utils import command as commands
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import secret_values, show
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding

# F1, and F2's default order for the first three.
DETECTED = ("otoroshi-challenge", "varnish", "redirectionio")
SERVICES = (*DETECTED, "oauth2-proxy", "custom", "block", "disable")
PLACEHOLDERS = ("@@LISTEN_PORT@@", "@@FORWARD_PORT@@")
_VARIABLE = "CC_REQUEST_FLOW"


@dataclass(frozen=True)
class Hop:
    """One service of the chain: it listens on one port and forwards to another (None: it answers everything itself)."""

    service: str
    listen: int
    forward: int | None

    def to_dict(self) -> dict[str, object]:
        """JSON-able form."""
        return {"service": self.service, "listen": self.listen, "forward": self.forward}


@dataclass(frozen=True)
class Chain:
    """The services from the public side inwards. `block`: the public port answers 200 to everything."""

    services: tuple[str, ...]
    block: bool
    reason: str
    findings: tuple[Finding, ...]

    @property
    def active(self) -> bool:
        """Whether anything stands between the public port and the application."""
        return bool(self.services)

    def hops(self, public: int, application: int) -> list[Hop]:
        """F4: the first hop listens on the public port, the next on the one above; the last forwards to the application."""
        last = len(self.services) - 1
        return [
            Hop(
                service,
                public + index,
                None if service == "block" else (application if index == last else public + index + 1),
            )
            for index, service in enumerate(self.services)
        ]


def read_chain(env: Mapping[str, str], files: Collection[str], root: str = "") -> Chain:
    """F1-F3, F5-F7: the chain that the environment and the project's files ask for. Errors leave it empty."""
    if _VARIABLE not in env or not env[_VARIABLE].strip():
        return _detect(env, files, root)
    text = env[_VARIABLE]
    names = [item.strip() for item in text.split(",")]
    findings: list[Finding] = []
    valid = ", ".join(SERVICES)
    unknown = [name for name in dict.fromkeys(names) if name and name not in SERVICES]
    if "" in names:
        findings.append(finding("request_flow_empty", _VARIABLE, text))
    if unknown:
        findings.append(finding("request_flow_unknown", _VARIABLE, text, name=", ".join(unknown), valid=valid))
    findings += [
        finding("request_flow_duplicate", _VARIABLE, text, name=name)
        for name in dict.fromkeys(names)
        if name in SERVICES and names.count(name) > 1
    ]
    if findings:
        return Chain((), False, f"{_VARIABLE} is not valid", tuple(findings))
    for special in ("block", "disable"):
        if special in names:
            others = [name for name in names if name != special]
            if others:
                ignored = ", ".join(others)
                findings.append(finding("request_flow_ignored", _VARIABLE, text, special=special, ignored=ignored))
            services = ("block",) if special == "block" else ()
            return Chain(services, special == "block", f"{_VARIABLE}={special}", tuple(findings))
    if "custom" in names:
        findings += _check_custom(env)
    return Chain(tuple(names), False, f"{_VARIABLE} names the services and their order", tuple(findings))


def _detect(env: Mapping[str, str], files: Collection[str], root: str) -> Chain:
    prefix = root + "/" if root else ""
    vcl = prefix + "clevercloud/varnish.vcl"
    why: dict[str, str] = {}
    if env.get("OTOROSHI_CHALLENGE_SECRET"):
        why["otoroshi-challenge"] = "OTOROSHI_CHALLENGE_SECRET is set"
    if env.get("CC_VARNISH_FILE"):
        why["varnish"] = "CC_VARNISH_FILE is set"
    elif vcl in files:
        why["varnish"] = f"{vcl} exists"
    if env.get("CC_REDIRECTIONIO_PROJECT_KEY"):
        why["redirectionio"] = "CC_REDIRECTIONIO_PROJECT_KEY is set"
    services = tuple(name for name in DETECTED if name in why)
    reason = "; ".join(f"{name}: {why[name]}" for name in services) or "nothing asks for one"
    return Chain(services, False, reason, ())


def _check_custom(env: Mapping[str, str]) -> list[Finding]:
    """F5: both placeholders, in a command that splits."""
    variable = "CC_REQUEST_FLOW_CUSTOM"
    command = env.get(variable, "")
    if not command.strip():
        return [finding("request_flow_custom_missing", variable, "(not set)")]
    shown = show(variable, command, secret_values(env))
    why = commands.problem(command)
    if why:
        return [finding("request_flow_custom_invalid", variable, shown, why=why)]
    missing = [placeholder for placeholder in PLACEHOLDERS if placeholder not in command]
    if missing:
        return [finding("request_flow_custom_placeholder", variable, shown, missing=" and ".join(missing))]
    return []
