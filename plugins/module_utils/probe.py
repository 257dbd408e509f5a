# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health check of contract section E: listeners first, then every path, with growing delay until a deadline.

It speaks HTTP over its own sockets, for three reasons: probes carry a mark that the redirect table lets by, so that
they reach the very port they name; a server that answers one byte per second cannot hold the check beyond its
deadline; and redirects are answers here, not instructions.
"""

from __future__ import annotations

import contextlib
import functools
import re
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable
from urllib.parse import quote

from ansible_collections.pyfleet.runtime.plugins.module_utils import health, sockets
from ansible_collections.pyfleet.runtime.plugins.module_utils.sockets import Listener
from ansible_collections.pyfleet.runtime.plugins.module_utils.systemd import Systemd, SystemdError, ended

# SO_MARK is Linux only, and the socket module of older Pythons does not name it.
SO_MARK: int = getattr(socket, "SO_MARK", 36)

# How long a wait between two attempts may be before the unit is looked at again, in seconds.
ALIVE_INTERVAL = 0.5
# How often the listeners are looked at while they are missing, in seconds: reading two files of /proc.
LISTEN_INTERVAL = 0.1
# An answer's head may not be longer than this, in bytes; what a body is worth reading so that the server can finish.
HEAD_LIMIT = 65536
BODY_LIMIT = 262144
BODY_SECONDS = 1.0

_STATUS = re.compile(rb"\AHTTP/1\.[0-9] ([1-5][0-9][0-9])(?: |\r?\n)")


@dataclass(frozen=True)
class CheckRequest:
    """What to check.

    `port` is where the application (or the first hop) listens, `public_port` what users call it. `paths` and `accept`
    ("200", "2xx" or "200-499") come from the plan (E1, E2). `schedule` holds the attempts in seconds since the start
    (E5); its last entry is the deadline. `timeout` is for one request, in seconds. With `unit`, only listeners of that
    systemd unit count. `also` are further ports that must listen: the inner hops and the application behind them (E4).
    `mark` is set on every packet of a probe (SO_MARK; needs CAP_NET_ADMIN, silently left out without). `headers` go with
    every request. Requests go to `http_port` where that is not 0, as when the proxy on `port` still leads elsewhere.
    `called` has the port that users and the contract call a port by, where it differs. With `inner`, `port` is behind a chain:
    the loopback will do, and what does not listen is one of several programs (E4).
    """

    port: int
    public_port: int = 0
    paths: Sequence[str] = ("/",)
    accept: str = "200-499"
    schedule: Sequence[float] = (0.0,)
    timeout: float = 10.0
    unit: str | None = None
    host: str = "localhost"
    mark: int | None = None
    also: Sequence[int] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    http_port: int = 0
    called: Mapping[int, int] = field(default_factory=dict)
    inner: bool = False

    def name(self, port: int) -> int:
        """What a port is called."""
        return self.called.get(port, port)


@dataclass(frozen=True)
class CheckResult:
    """What was found.

    `log` are the lines of E3, on failure with the contract's last lines. `failure` is empty when `ok`; otherwise the
    complete message: the contract's lines, then facts and the next step. `listeners` is the verdict of E4, empty when
    good. `statuses` holds each path's last status, or the reason why there was none.
    """

    ok: bool
    log: list[str] = field(default_factory=list)
    failure: list[str] = field(default_factory=list)
    listeners: str = ""
    statuses: dict[str, int | str] = field(default_factory=dict)
    attempts: int = 0
    elapsed: float = 0.0
    schedule: list[float] = field(default_factory=list)


Probe = Callable[[str, int, str, float], "int | str"]


def log_line(path: str, status: int | str) -> str:
    """One line of the log (E3); in other words where there was no answer at all."""
    return health.response_line(path, status) if isinstance(status, int) else f"No response from GET {path}: {status}"


def failure_words(status: int | str) -> int | str:
    """What follows "returned" in the end of the log (E3)."""
    return status if isinstance(status, int) else f"no response ({status})"


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise socket.timeout
    return remaining


def _read_status(connection: socket.socket, deadline: float) -> int | str:
    """The final status of an answer; interim ones (1xx) are passed over."""
    data = b""
    while len(data) <= HEAD_LIMIT:
        match = _STATUS.match(data)
        end = re.search(rb"\r?\n\r?\n", data)
        if match and end:
            status = int(match.group(1))
            if status >= 200 or status == 101:
                return status
            data = data[end.end() :]
            continue
        if end or (not match and len(data) >= 16):
            return "not an HTTP/1 answer"
        connection.settimeout(_remaining(deadline))
        chunk = connection.recv(8192)
        if not chunk:
            return "not an HTTP/1 answer" if data else "connection closed without an answer"
        data += chunk
    return "headers longer than 64 KiB"


def _drain(connection: socket.socket, deadline: float) -> None:
    """Read a little of the body: a server that is cut off in the middle of its answer logs an error."""
    deadline = min(deadline, time.monotonic() + BODY_SECONDS)
    seen = 0
    with contextlib.suppress(OSError):
        while seen < BODY_LIMIT:
            connection.settimeout(_remaining(deadline))
            chunk = connection.recv(65536)
            if not chunk:
                return
            seen += len(chunk)


def request_status(
    address: str,
    port: int,
    path: str,
    timeout: float,
    *,
    host: str = "localhost",
    mark: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> int | str:
    """`GET path` and return the status, or in words why there is none. Takes at most about `timeout` seconds."""
    deadline = time.monotonic() + timeout
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    target = quote(path, safe="/?&=%:@!$'()*+,;~[]-._")
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = (
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\n"
        f"User-Agent: pyfleet-healthcheck\r\nAccept: */*\r\n{more}Connection: close\r\n\r\n"
    )
    try:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            if mark is not None:
                with contextlib.suppress(PermissionError):
                    connection.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
            connection.settimeout(timeout)
            connection.connect((address, port))
            connection.sendall(head.encode("ascii"))
            status = _read_status(connection, deadline)
            _drain(connection, deadline)
            return status
    except socket.timeout:
        return f"no answer within {timeout:g} s"
    except ConnectionRefusedError:
        return "connection refused"
    except ConnectionError:
        return "connection closed without an answer"
    except OSError as error:
        return (error.strerror or str(error)).lower()


def reachable_address(listeners: Iterable[Listener], port: int) -> str:
    """Where on this host to reach a port: the loopback address of a wildcard listener, else the address it has."""
    addresses = [each.address for each in listeners if each.port == port]
    for wildcard, loopback in (("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::", "::1")):  # noqa: S104
        if wildcard in addresses:
            return loopback
    return addresses[0] if addresses else "127.0.0.1"


def split_by_owner(found: Sequence[Listener], port: int, pids: Sequence[int]) -> tuple[list[Listener], list[Listener]]:
    """Listeners that count for a unit, and those of others on its port. One whose owner /proc hides is trusted."""
    own: list[Listener] = []
    foreign: list[Listener] = []
    for each in found:
        (own if each.port != port or not each.pids or set(each.pids) & set(pids) else foreign).append(each)
    return own, foreign


@dataclass
class _Round:
    """What one attempt saw."""

    verdict: str = ""
    next_step: str = ""
    facts: list[str] = field(default_factory=list)
    failures: dict[str, int | str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.verdict and not self.failures


class _Check:
    """State of one run."""

    def __init__(
        self,
        request: CheckRequest,
        alive: Callable[[], str] | None,
        listeners: Callable[[Iterable[int]], list[Listener]],
        processes: Callable[[str], list[int]],
        probe: Probe,
    ) -> None:
        self.request = request
        self.alive = alive
        self.listeners = listeners
        self.processes = processes
        self.probe = probe
        self.log: list[str] = []
        self.statuses: dict[str, int | str] = {}
        self.heard: list[Listener] = []
        self.last = _Round(verdict=health.not_listening(request.port))

    def _elsewhere(self, pids: Sequence[int]) -> list[str]:
        """The most common mistake is another port than `PORT`: say which."""
        ports = sorted({each.port for each in self.listeners([]) if set(each.pids) & set(pids)})
        return [f"{self.request.unit} listens on {', '.join(map(str, ports))} instead."] if ports else []

    def _listeners(self) -> tuple[_Round, list[Listener]]:
        request = self.request
        wanted = [request.port, *request.also]
        found = self.heard = self.listeners(wanted)
        pids: list[int] = []
        foreign: list[Listener] = []
        if request.unit:
            with contextlib.suppress(SystemdError):
                pids = self.processes(request.unit)
            found, foreign = split_by_owner(found, request.port, pids)
        named = [{"port": request.name(each.port), "address": each.address} for each in found]
        called = [request.name(port) for port in wanted]
        if request.inner:
            missing = [port for port in called if port not in {each["port"] for each in named}]
            seen = _Round(verdict=health.software_not_listening(missing) if missing else "")
        else:
            seen = _Round(verdict=health.listener_verdict(named, called))
        if not seen.verdict:
            return seen, found
        if foreign and not any(each.port == request.port for each in found):
            owner = foreign[0]
            who = f"{owner.process or 'another process'} (pid {owner.pid})"
            seen.facts = [f"Port {request.port} is in use by {who}, not by {request.unit}."]
            seen.next_step = f"Next step: stop {owner.process or 'that process'}, or give the application another port."
        elif any(each.port == request.port and not each.public for each in found):
            seen.next_step = "Next step: bind to 0.0.0.0 (many servers: --host 0.0.0.0) and redeploy."
        else:
            seen.facts = self._elsewhere(pids) if pids else []
            host = "" if request.inner else "0.0.0.0:"
            seen.next_step = f"Next step: listen on {host}{request.port} (the variable PORT holds it) and redeploy."
        return seen, found

    def attempt(self, remaining: float) -> bool:
        """One round; True when everything passed."""
        seen, found = self._listeners()
        self.last = seen
        if seen.verdict:
            return False
        port = self.request.http_port or self.request.port
        address = reachable_address(found, port)
        timeout = max(1.0, min(self.request.timeout, remaining))
        for path in self.request.paths:
            status = self.probe(address, port, path, timeout)
            if self.statuses.get(path) != status:  # an attempt that repeats the last answer is no news
                self.log.append(log_line(path, status))
            self.statuses[path] = status
            if not health.accepts(self.request.accept, status):
                seen.failures[path] = status
        return seen.ok

    def appeared(self) -> bool:
        """Whether the listeners that the last round missed are there now: the next round need not wait for its time."""
        if not self.last.verdict or self.listeners([self.request.port, *self.request.also]) == self.heard:
            return False
        return not self._listeners()[0].verdict

    def ended(self) -> str:
        return self.alive() if self.alive is not None else ""


class Ended(str):
    """Why a unit has ended, where it may be another one than the unit that listens."""

    unit: str

    def __new__(cls, why: str, unit: str) -> Ended:  # noqa: PYI034 - Self came with Python 3.11
        """The reason, with the unit's name beside it."""
        made = super().__new__(cls, why)
        made.unit = unit
        return made


def _unit_ended(unit: str) -> str:
    try:
        return ended(Systemd().state(unit))
    except SystemdError:
        return ""  # no systemd to ask: the listeners decide


def _wait(check: _Check, until: float, now: Callable[[], float], sleep: Callable[[float], None]) -> tuple[str, bool]:
    """Wait in small steps; returns early when the unit ended (and why), or when missing listeners appeared (True)."""
    reason, look_again = "", now()
    while True:
        if now() >= look_again:
            reason, look_again = check.ended(), now() + ALIVE_INTERVAL
        remaining = until - now()
        if reason or remaining <= 0:
            return reason, False
        if check.appeared():
            return "", True
        sleep(min(LISTEN_INTERVAL if check.last.verdict else ALIVE_INTERVAL, remaining))


def schedule_line(request: CheckRequest, attempts: int, elapsed: float) -> str:
    """How often and how long was tried (E5)."""
    planned = ", ".join(f"{second:g}" for second in request.schedule)
    return f"Attempts: {attempts} in {elapsed:.1f} s; schedule (seconds after start): {planned}."


def run_check(
    request: CheckRequest,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    *,
    alive: Callable[[], str] | None = None,
    listeners: Callable[[Iterable[int]], list[Listener]] | None = None,
    processes: Callable[[str], list[int]] | None = None,
    probe: Probe | None = None,
) -> CheckResult:
    """Check until everything passes in one round, the deadline is over or the unit has ended. Never raises.

    `alive` returns why the unit (another one, with `Ended`) no longer runs, or an empty text; with `request.unit` and no `alive`,
    systemd is asked.
    `now` (seconds), `sleep`, `listeners`, `processes` and `probe` are injectable for tests.
    """
    unit = request.unit
    if alive is None and unit:
        alive = functools.partial(_unit_ended, unit)

    def real_probe(address: str, port: int, path: str, timeout: float) -> int | str:
        return request_status(
            address, port, path, timeout, host=request.host, mark=request.mark, headers=request.headers
        )

    check = _Check(
        request,
        alive,
        listeners or (lambda ports: sockets.listeners(ports=list(ports) or None)),
        processes or Systemd().processes,
        probe or real_probe,
    )
    start = now()
    schedule = list(request.schedule) or [0.0]
    deadline = start + schedule[-1]
    attempts = 0
    reason = ""
    ok = False
    for position, second in enumerate(schedule):
        if position + 1 < len(schedule) and start + schedule[position + 1] <= now():
            continue  # a slow answer took this attempt's time
        early = True
        while early and not ok:  # beyond the schedule only when something came to listen
            reason, early = _wait(check, start + second, now, sleep)
            if reason:
                break
            attempts += 1
            ok = check.attempt(deadline - now())
        if ok or reason:
            break
    elapsed = now() - start
    if ok:
        return CheckResult(True, check.log, [], "", dict(check.statuses), attempts, elapsed, schedule)
    last = check.last
    words = (
        [last.verdict]
        if last.verdict
        else health.failure_lines({path: failure_words(status) for path, status in last.failures.items()})
    )
    facts = list(last.facts)
    ended_unit = getattr(reason, "unit", request.unit)
    if reason:
        facts.append(f"{ended_unit or 'The application'} has ended: {reason}.")
    if request.public_port and request.public_port != request.port:
        facts.append(f"Checked on port {request.port}, this release's own; {request.public_port} is its public port.")
    facts.append(schedule_line(request, attempts, elapsed))
    if reason:
        facts.append(f"Next step: read its last words (journalctl -u {ended_unit or 'UNIT'}), correct it and redeploy.")
    elif last.next_step:
        facts.append(last.next_step)
    else:
        facts.append("Next step: request these paths on the host, or correct CC_HEALTH_CHECK_PATH, and redeploy.")
    return CheckResult(
        False, [*check.log, *words], [*words, *facts], last.verdict, dict(check.statuses), attempts, elapsed, schedule
    )
