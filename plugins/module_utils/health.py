# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Section E of the contract: what is checked, when, what passes, and the contract's words for the result. No I/O here."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding

_INDEXED = re.compile(r"CC_HEALTH_CHECK_PATH_(.*)\Z", re.DOTALL)
_FIRST_DELAY = 0.25
_LONGEST_DELAY = 5.0
_MAPPED = ipaddress.ip_network("127.0.0.0/8")


def read_paths(env: Mapping[str, str]) -> tuple[list[str], list[Finding]]:
    """E1: the paths to check, each once, in order; empty when none is set. A path set to an empty text is an error: it
    would quietly weaken the check."""
    findings: list[Finding] = []
    names = ["CC_HEALTH_CHECK_PATH"] if "CC_HEALTH_CHECK_PATH" in env else []
    index = 0
    while f"CC_HEALTH_CHECK_PATH_{index}" in env:
        names.append(f"CC_HEALTH_CHECK_PATH_{index}")
        index += 1
    first_missing = f"CC_HEALTH_CHECK_PATH_{index}"
    for name in sorted(set(env) - set(names), key=lambda name: (len(name), name)):
        match = _INDEXED.match(name)
        if not match:
            continue
        if re.match(r"(0|[1-9][0-9]*)\Z", match.group(1), re.ASCII):
            findings.append(finding("health_path_gap", name, env[name], missing=first_missing))
        else:
            findings.append(finding("index_malformed", name, env[name], example=first_missing))
    paths = []
    for name in names:
        path = env[name]
        why = path_problem(path)
        if why:
            example = "/" + re.sub(r"\s", "%20", path.strip().lstrip("/"))
            findings.append(finding("health_path_invalid", name, path or "(empty)", why=why, example=example))
        else:
            paths.append(path)
    return list(dict.fromkeys(paths)), findings


def path_problem(path: str) -> str:
    """Why a path cannot be requested, or an empty text."""
    if not path:
        return "it is empty"
    if not path.startswith("/"):
        return "it does not begin with /"
    if re.search(r"[\s\x00-\x1f\x7f]", path):
        return "it holds a space or a control character"
    if "#" in path:
        return "what follows # is never sent to a server"
    return ""


def accept_rule(paths: Sequence[str], widen: bool = False) -> str:
    """What passes: `200` (E1), `2xx` when widened by the setting, `200-499` for `/` when no path is set (E2)."""
    if not paths:
        return "200-499"
    return "2xx" if widen else "200"


def accepts(rule: str, status: int | str) -> bool:
    """Whether an answer passes; words instead of a status (no answer) never do."""
    if isinstance(status, str):
        return False
    if rule == "200-499":
        return 200 <= status <= 499
    if rule == "2xx":
        return 200 <= status <= 299
    return status == 200


def schedule(deadline: float) -> list[float]:
    """E5: the attempts in seconds after the start: delays double from 0.25 s to 5 s; the last attempt is at the deadline."""
    times = [0.0]
    delay = _FIRST_DELAY
    while times[-1] + delay < deadline:
        times.append(times[-1] + delay)
        delay = min(delay * 2, _LONGEST_DELAY)
    if deadline > 0:
        times.append(float(deadline))
    return times


def response_line(path: str, status: int | str) -> str:
    """E3: one line of the log. `status` is the number, or in words why there is none."""
    return f"Response from GET {path} is {status}"


def failure_lines(failures: Mapping[str, int | str] | Iterable[tuple[str, int | str]]) -> list[str]:
    """E3: the end of a failed check's log."""
    items = failures.items() if isinstance(failures, Mapping) else failures
    return [
        "Health check failed:",
        *(f"- GET {path} returned {status}." for path, status in items),
        "If the deployment fails after this message, please update your configuration and redeploy.",
    ]


def not_listening(port: int) -> str:
    """E4: nothing listens."""
    return f"Your application is not listening on {port}"


def loopback_only() -> str:
    """E4: only the host itself can reach the application."""
    return "Your application is listening on localhost instead of publicly"


def software_not_listening(ports: Iterable[int]) -> str:
    """E4: hops of the chain, or the application behind them, do not listen."""
    return "Some software are not listening as expected: " + ", ".join(str(port) for port in ports)


def is_loopback(address: str) -> bool:
    """127.0.0.0/8, ::1 and ::ffff:127.0.0.0/104. Text that is no address counts as public (`*`)."""
    try:
        parsed = ipaddress.ip_address(address.split("%", 1)[0].strip("[]"))
    except ValueError:
        return address == "localhost"
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped in _MAPPED
    return parsed.is_loopback


def _read_listener(listener: object) -> tuple[int, str]:
    get: Any = listener.get if isinstance(listener, Mapping) else lambda name: getattr(listener, name, None)
    try:
        return int(get("port")), str(get("address") or "")
    except (TypeError, ValueError, OverflowError):
        return -1, ""


def listener_verdict(listeners: Iterable[object], wanted: Sequence[int]) -> str:
    """E4: an empty text when everything listens as it should, else the contract's words.

    `listeners` are mappings or objects with `port` and `address`; `wanted` the port that must listen publicly, followed by
    those of the chain's other members, which may listen on the loopback. A first hop that does not start leaves the public port
    closed, and is called that.
    """
    addresses: dict[int, list[str]] = {}
    for listener in listeners:
        port, address = _read_listener(listener)
        addresses.setdefault(port, []).append(address)
    missing = [port for port in wanted if port not in addresses]
    if len(wanted) > 1 and missing and wanted[0] in addresses:
        return software_not_listening(missing)
    if missing:
        return not_listening(missing[0])
    if wanted and all(is_loopback(address) for address in addresses[wanted[0]]):
        return loopback_only()
    return ""
