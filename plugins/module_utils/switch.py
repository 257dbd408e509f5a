# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch: start a release, check it, lead the public port to it, let the old one drain (contract D2, D7, D8, E).

It runs on the host in one piece, so that a host finishes or reverts by itself when the controller or the connection goes
away. The order makes every interruption harmless: until the link `current` moves, a reboot starts the old release, and the
boot script makes the redirect agree with the link.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.pyfleet.runtime.plugins.module_utils import redirect as redirects
from ansible_collections.pyfleet.runtime.plugins.module_utils import sockets
from ansible_collections.pyfleet.runtime.plugins.module_utils.challenge import challenge_header
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import (
    parse_environment_file,
    scrub,
    secret_values,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.flow import Flow, FlowError
from ansible_collections.pyfleet.runtime.plugins.module_utils.front import PROBE_HEADER, Front
from ansible_collections.pyfleet.runtime.plugins.module_utils.probe import CheckRequest, CheckResult, Ended, run_check
from ansible_collections.pyfleet.runtime.plugins.module_utils.redirect import (
    PROBE_MARK,
    Redirect,
    RedirectError,
    render_elements,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import (
    APPLICATION,
    FAILED,
    GOOD,
    Description,
    Layer,
    Layout,
    State,
    SwitchError,
    write_file,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.systemd import Systemd, SystemdError, ended

#: Lines of a failing unit's journal that a failure shows.
JOURNAL_LINES = 30
#: For how long a task may run; the health check's deadline is about servers.
TASK_SECONDS = 24 * 3600.0
#: Pause between the flip and the first look whether the old release still has connections, in seconds: a packet that was
#: redirected just before the flip needs to reach its socket.
SETTLE_SECONDS = 0.2


@dataclass
class Report:
    """What a switch did."""

    changed: bool = False
    log: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    port: int = 0
    gap_seconds: float | None = None
    drained: str = ""
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON-able form."""
        return dict(vars(self))


@dataclass(frozen=True)
class Withdrawal:
    """A rollout took a release back: why, and which release is the one before the one that serves again; "" for none."""

    why: str
    previous: str


HookRunner = Callable[[str, Description, dict[str, str]], "tuple[int, str]"]


def probe_release(
    layout: Layout,
    description: Description,
    *,
    attempts: list[float] | None = None,
    alive: Callable[[], str] | None = None,
) -> CheckResult:
    """Checks a release on its own port, whatever the redirect and the chain say. `attempts` are seconds since the start.

    Behind Nginx the request takes the way that a client's takes, but to this release; an application with a port of its own
    is asked there, since Nginx may still lead to its predecessor.
    """
    health = description.health
    own = description.own_port if description.front else 0
    return run_check(
        CheckRequest(
            port=description.entry_port,
            also=[own] if own else [],
            inner=bool(description.flow),
            called={description.entry_port: description.layers[1].call} if description.flow else {},
            http_port=own,
            headers={PROBE_HEADER: Front(layout).token(description.front)} if description.front else {},
            public_port=description.public_port,
            paths=list(health.get("paths") or ["/"]),
            accept=str(health.get("accept") or "200-499"),
            schedule=attempts
            if attempts is not None
            else [float(second) for second in health.get("schedule") or [0.0]],
            unit=layout.front_unit(description.front) if description.front else layout.unit(description.release),
            mark=PROBE_MARK,
        ),
        alive=alive,
    )


def probe_chain(
    layout: Layout,
    description: Description,
    environment: dict[str, str],
    *,
    requests: bool,
    attempts: list[float] | None = None,
    alive: Callable[[], str] | None = None,
) -> CheckResult:
    """Checks the chain in front of a release port by port (E4) and, with `requests`, as users would use it.

    A challenge is signed with the application's own secret. With `block` only the blocking service is asked (F6).
    """
    health, slot, services = description.health, description.ports["flow"], description.flow["services"]
    block = bool(description.flow.get("block"))
    hops = [slot + index for index in range(len(services))]
    behind = [] if block else [description.entry_port]
    called = {port: description.public_port + index for index, port in enumerate(hops)}
    called[description.entry_port] = description.layers[1].call
    paths = ["/"] if block else list(health.get("paths") or ["/"])
    return run_check(
        CheckRequest(
            port=slot,
            also=[*hops[1:], *behind],
            called=called,
            headers={
                **(challenge_header(environment) if "otoroshi-challenge" in services else {}),
                **({PROBE_HEADER: Front(layout).token(description.front)} if description.front else {}),
            },
            public_port=description.public_port,
            paths=paths if requests else [],
            accept="200" if block else str(health.get("accept") or "200-499"),
            schedule=attempts
            if attempts is not None
            else [float(second) for second in health.get("schedule") or [0.0]],
            unit=layout.flow_units(services, slot)[0],
            mark=PROBE_MARK,
        ),
        alive=alive,
    )


class Switch:
    """One switch of an application to a release.

    `hook` runs a hook's text as the application's user and returns status and output; it is injected because it needs the
    host's users.
    """

    def __init__(self, layout: Layout, systemd: Systemd, redirect: Redirect, hook: HookRunner, host: str = "") -> None:
        self.layout = layout
        self.systemd = systemd
        self.redirect = redirect
        self.hook = hook
        #: The name under which this host records that it ran a hook.
        self.host = host or socket.gethostname()
        self.front = Front(layout, systemd)
        self.flow = Flow(layout, systemd)
        #: Whether Varnish, which stays, has another VCL to use.
        self.other_vcl = False
        self.state = State.load(layout.state_file)
        self.report = Report()
        #: An earlier attempt with the same release has words of its own, which are not those of this one.
        self.began = time.time()

    # -- the table of contents ---------------------------------------------------------------------------------------------

    def activate(self, release: str, *, first_time: bool = True, withdrawal: Withdrawal | None = None) -> Report:
        """Lets `release` serve. `first_time` is False where the pre-run hook is not to run: at a rollback it ran when the release
        was new (D8). With `withdrawal` the release that served is not one to go back to.

        Raises:
            SwitchError: the release does not serve; the previous one does (E6).
        """
        started = time.monotonic()
        new = self._describe(release)
        old_release = self.layout.linked("current")
        old = Description.load(self.layout, old_release) if old_release and old_release != release else None
        environment = self.environment(new)
        if new.task:
            self._run_task(new, environment, first_time)
        else:
            self._serve(new, old, environment, first_time)
        self._commit(new, old, withdrawal)
        self._swap_workers(new, old)
        self._retire(new)
        self._after_hook("run_succeeded", new, environment)
        self.report.seconds = round(time.monotonic() - started, 2)
        return self.report

    def restart(self) -> Report:
        """Stops the release that serves and starts it again in place. Nginx and the chain go on, unless they are dead.

        Raises:
            SwitchError: no release serves, it is a task, or it is not healthy afterwards; systemd goes on starting it.
        """
        started = time.monotonic()
        release = self.restartable()
        environment = self.environment(release)
        if self._known(release):
            self._restart_main(release, environment)
        else:  # it lost its ports: this is a start from nothing
            self._serve(release, None, environment, False)
        workers = [self.layout.worker_unit(release.release, int(worker["index"])) for worker in release.workers]
        if workers:
            self.systemd.stop(*workers, timeout=release.stop_seconds * len(workers) + 15)
            self.systemd.reset_failed(*workers)
        self._swap_workers(release, None)
        self.systemd.start(self.layout.target)
        self.report.changed = True
        self.report.seconds = round(time.monotonic() - started, 2)
        return self.report

    def restartable(self) -> Description:
        """The release that a restart is about.

        Raises:
            SwitchError: none serves, or it is a task.
        """
        name = self.layout.linked("current")
        if not name:
            raise SwitchError(
                f"No release of {self.layout.name} serves on this host, so there is none to restart.\n"
                "Rule: a restart is about the release that serves.\nNext step: deploy.",
                [],
                [],
            )
        release = self._describe(name)
        if release.task:
            raise SwitchError(
                f"{self.layout.name} is a task and cannot be restarted.\nVariable: CC_TASK\nValue: true\n"
                "Rule: D9: CC_TASK runs CC_RUN_COMMAND once to its end; nothing runs on that could be restarted.\n"
                "Next step: deploy again, which runs the task again.",
                [],
                [],
            )
        return release

    def pre_run(self, release: str) -> Report:
        """Runs CC_PRE_RUN_HOOK of a release that does not serve yet, once: a recorded success is not repeated.

        Raises:
            SwitchError: the hook failed; the release is marked so.
        """
        new = self._describe(release)
        done = self.state.releases.get(release, {}).get("pre_run") or {}
        if done.get("ok"):
            self.report.log.append(f"CC_PRE_RUN_HOOK of this release ran already, on {done.get('host')}.")
            return self.report
        if new.hooks.get("pre_run"):
            self._pre_run_hook(new, self.environment(new))
            self.report.changed = True
        return self.report

    def pre_run_elsewhere(self, release: str, host: str) -> None:
        """Records that the hook of a release ran on another host of the fleet."""
        new = self._describe(release)
        if new.hooks.get("pre_run") and not (self.state.releases.get(release, {}).get("pre_run") or {}).get("ok"):
            self._record_pre_run(release, host, ok=True)

    def serves(self, release: str) -> bool:
        """Whether a release is all there: it runs, and users get to it."""
        description = Description.load(self.layout, release)
        if description is None or self.layout.linked("current") != release:
            return False
        if description.task:
            return True
        nginx = not description.front or self.front.belongs_to(description)
        chain = not description.flow or self.flow.belongs_to(description)
        led = self.redirect.current().get(description.public_port, description.public_port) == description.port
        return self._runs(description) and nginx and chain and led

    # -- steps -------------------------------------------------------------------------------------------------------------

    def _describe(self, release: str) -> Description:
        description = Description.load(self.layout, release)
        if description is None or not os.path.isdir(self.layout.release(release)):
            known = ", ".join(sorted(self.state.releases)) or "none"
            raise SwitchError(
                f"There is no release {release} of {self.layout.name} on this host (releases: {known}).", [], []
            )
        return description

    def environment(self, description: Description) -> dict[str, str]:
        """The environment that the release's units get, PORT excepted."""
        path = os.path.join(self.layout.release_settings(description.release), "environment")
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return parse_environment_file(file.read())

    def _serve(self, new: Description, old: Description | None, environment: dict[str, str], first_time: bool) -> None:
        self._cancel_drain(new.release)
        if self._runs(new):  # an interrupted switch, or a release that drains: it runs, only the rest is missing
            try:
                self._lead_probes(new)
                self._check(new, environment, self._shared_ports(new))
                self._flip(new)
            except (SwitchError, RedirectError, SystemdError) as error:
                if self.layout.linked("current") != new.release:  # what serves stays, however it feels
                    self._revert(new, None, time.monotonic(), environment)
                raise SwitchError(str(error), self.report.log, getattr(error, "journal", [])) from error
            return
        running = self._other_running(new.release)
        shared = self._shared_ports(new)
        ports = {layer.kind: shared.get(layer.kind) or self._choose_port(layer, running, old) for layer in new.layers}
        new.save_ports(self.layout, ports)
        if first_time:
            self._pre_run_hook(new, environment)
        in_place = old is not None and self._in_the_way(old, set(ports.values()) - set(shared.values()))
        stopped = time.monotonic()
        try:
            if in_place and old is not None:
                self.systemd.stop(self.layout.unit(old.release), timeout=old.stop_seconds + 15)
            self._start(new, old, environment)
            self._check(new, environment, shared)
            if in_place:
                self._record_gap(stopped)
            self._flip(new)
        except (SwitchError, RedirectError, SystemdError) as error:
            self._revert(new, old if in_place else None, stopped, environment)
            words = f"{error}\n{self._gap_words()}" if in_place else str(error)
            raise SwitchError(words, self.report.log, getattr(error, "journal", [])) from error

    def _restart_main(self, release: Description, environment: dict[str, str]) -> None:
        """The backend alone where systemd holds its socket: what arrives meanwhile waits there, and is not lost."""
        own = [unit for unit in self._own_units(release) if unit.endswith(".service")]
        held = bool(release.socket) and self._active(self.layout.socket_unit(release.release))
        stopped = time.monotonic()
        if own:
            self.systemd.stop(*own, timeout=release.stop_seconds + 15)
            self.systemd.reset_failed(*own)
        try:
            self._start(release, release, environment)
            self._check(release, environment, {})
        except (SwitchError, RedirectError, SystemdError) as error:
            raise SwitchError(
                f"{error}\n{release.release} was restarted and does not serve; systemd goes on starting it. "
                "The playbook rollback leads back to an earlier release.",
                self.report.log,
                getattr(error, "journal", []),
            ) from error
        seconds = round(time.monotonic() - stopped, 2)
        if held:
            self.report.gap_seconds = 0.0
            self.report.log.append(f"Requests waited in the backend's socket for up to {seconds:g} s.")
        elif own:
            self._record_gap(stopped)
        self._flip(release)

    def _active(self, unit: str) -> bool:
        return self.systemd.state(unit).get("ActiveState") in ("active", "activating", "reloading")

    @staticmethod
    def _known(description: Description) -> bool:
        """Whether every layer of the release has a port that it may have."""
        return all(description.ports.get(layer.kind) in layer.candidates for layer in description.layers)

    def _runs(self, description: Description) -> bool:
        return self._known(description) and all(self._active(unit) for unit in self.layout.main_units(description))

    def _in_the_way(self, old: Description, ports: set[int]) -> bool:
        """Whether the old release's own process holds a port that the new one needs: then it has to stop first (D2)."""
        return old.own_port in ports and self._active(self.layout.unit(old.release))

    def _shared_ports(self, new: Description) -> dict[str, int]:
        """Ports of layers that run already with the settings that this release wants, by kind."""
        found = {"flow": self.flow.slot_of(new)} if new.flow else {}
        if new.front and self._active(self.layout.front_unit(new.front)):
            other = Description.load(self.layout, self.front.follows(new.front))
            found["nginx"] = other.ports.get("nginx", 0) if other is not None else 0
        return {kind: port for kind, port in found.items() if port}

    def _choose_port(self, layer: Layer, running: dict[str, Description], old: Description | None) -> int:
        """Takes the first free port; a draining release gives its own up only when there is no other."""
        taken = {port: name for name, description in running.items() for port in description.ports.values()}
        serving = set(old.ports.values()) if old is not None else set()
        heard = {listener.port for listener in sockets.listeners(ports=layer.candidates)}
        others = [port for port in layer.candidates if port not in taken]
        free = [port for port in others if port not in heard]
        draining = [port for port in layer.candidates if port in taken and port not in serving]
        port = (free or draining or others or layer.candidates)[0]
        if port in taken and port not in serving:
            self._stop_release(running[taken[port]])
        units = [unit for description in running.values() for unit in self.layout.main_units(description)]
        foreign = [
            listener
            for listener in sockets.listeners(ports=[port])
            if not any(listener.pid in self.systemd.processes(unit) for unit in units)
        ]
        if foreign:
            owner = f"{foreign[0].process or 'another process'} (pid {foreign[0].pid})"
            variable = "app_release_ports" if port != layer.call else "app_public_port"
            raise SwitchError(
                f"Port {port} is in use by {owner}, which is not part of {self.layout.name}.\n"
                f"Rule: D2: the release listens on its own port.\nNext step: stop {owner}, or set {variable}.",
                [],
                [],
            )
        return port

    def _other_running(self, release: str) -> dict[str, Description]:
        """The application's other releases that still run: the one that serves, and those that drain."""
        found = {}
        prefix, suffix = f"app-{self.layout.name}@", ".service"
        names = [unit[len(prefix) : -len(suffix)] for unit in self.systemd.list_units(f"{prefix}*{suffix}")]
        # Celery alone has no server of its own, only Nginx.
        names += [self.front.follows(key) for key in self.front.configurations()]
        for name in dict.fromkeys(names):
            description = Description.load(self.layout, name) if name != release else None
            units = self.layout.main_units(description) if description is not None else []
            if description is not None and any(self._active(unit) for unit in units if not unit.endswith(".socket")):
                found[name] = description
        return found

    def _pre_run_hook(self, new: Description, environment: dict[str, str]) -> None:
        text = new.hooks.get("pre_run")
        if not text:
            return
        status, output = self.hook(text, new, environment)
        tail = self._scrub(output.splitlines()[-JOURNAL_LINES:], environment)
        self.report.log += ["CC_PRE_RUN_HOOK:", *tail]
        self._record_pre_run(new.release, self.host, ok=status == 0)
        if status != 0:
            self._mark_failed(new, "CC_PRE_RUN_HOOK failed")
            self._after_hook("run_failed", new, environment)
            raise SwitchError(
                f"CC_PRE_RUN_HOOK failed with status {status}.\nRule: D8: the hook runs before a new release starts and fails the "
                "deployment; the previous release keeps serving.\nNext step: read its last words, correct it and deploy again.",
                self.report.log,
                tail,
            )

    def _record_pre_run(self, release: str, host: str, *, ok: bool) -> None:
        """The hook may not bear a second run: what became of it is on the disk before anything else happens."""
        self.state.mark(release, pre_run={"at": time.time(), "host": host, "ok": ok})
        self.state.save(self.layout.state_file)

    def _start(self, new: Description, old: Description | None, environment: dict[str, str]) -> None:
        if new.front:
            self.front.install_units(new)
            self._lead_probes(new)
        if new.flow:
            self.flow.install_units(new)
        chain = self.layout.flow_units(new.flow["services"], new.ports["flow"]) if new.flow else []
        fresh = bool(chain) and self.flow.slot_of(new) != new.ports["flow"]
        for unit in self.layout.main_units(new):
            if unit in chain and fresh:
                self._place_chain(new, old)
                fresh = False
            if self._active(unit):  # the Nginx or the chain that serves the old release will serve this one, too
                continue
            if unit == self.layout.front_unit(new.front):
                self.front.listen(new.front, new.ports["nginx"])
                self.front.lead(new.front, "serving", new.release)
            self.systemd.reset_failed(unit)
            try:
                self.systemd.start(unit)
            except SystemdError as error:
                journal = self._journal(unit, environment)
                raise SwitchError(
                    f"The release does not start: {scrub(error.stderr, secret_values(environment))}\n"
                    "Next step: read the unit's last words, correct the application and deploy again.",
                    [],
                    journal,
                ) from error

    def _place_chain(self, new: Description, old: Description | None) -> None:
        """Prepares a slot for the chain, and lets its inner port lead to the new release while the old one serves."""
        slot = new.ports["flow"]
        chain = self.layout.flow_units(new.flow["services"], slot)
        leftover = [unit for unit in chain if self._active(unit)]
        if leftover:  # of a chain that was cut short
            self.systemd.stop(*leftover, timeout=new.stop_seconds * len(leftover) + 15)
        run = os.path.join(self.layout.release_settings(new.release), "run")
        self.flow.place(new, slot, os.stat(run).st_gid)
        self.flow.lead(new.flow["key"], new.release)
        ports, internal = self._ways(old) if old is not None else ({}, set())
        mine, hidden = self._ways(new)
        inner = self._inner_port(new)
        self.redirect.flip(self.layout.name, {**ports, inner: mine[inner]}, sorted(internal | hidden))

    @staticmethod
    def _inner_port(description: Description) -> int:
        """The port to which the chain of this release forwards."""
        slot = description.candidates.index(description.ports["flow"])
        return int(description.flow["inner_ports"][slot])

    def _ways(self, description: Description) -> tuple[dict[int, int], set[int]]:
        """Which called port leads to which of a release's ports, and the ports that other hosts must not reach (F12)."""
        ports = {
            layer.call: description.ports[layer.kind] for layer in description.layers if layer.kind in description.ports
        }
        if description.flow and "flow" in description.ports:
            for index in range(1, len(description.flow["services"])):
                ports[description.public_port + index] = description.ports["flow"] + index
            ports[self._inner_port(description)] = description.entry_port
        return ports, description.claims - {description.public_port}

    def _lead_probes(self, new: Description) -> None:
        if new.front:
            self.front.lead(new.front, "probed", new.release)

    def _check(self, new: Description, environment: dict[str, str], shared: Mapping[str, int]) -> None:
        """The release itself, then the way through the chain: through all of it where the chain is new (E4)."""
        units = [unit for unit in self.layout.main_units(new) if unit.endswith(".service")]
        restarts = {unit: int(self.systemd.state(unit).get("NRestarts") or 0) for unit in units}
        culprits: list[str] = []

        def alive() -> str:
            for unit, before in restarts.items():
                state = self.systemd.state(unit)
                why = ended(state)
                if int(state.get("NRestarts") or 0) > before:
                    why = "it ended and was started again"
                if why:
                    culprits[:] = [unit]
                    return Ended(why, unit)
            return ""

        checks = [] if new.flow.get("block") else [probe_release(self.layout, new, alive=alive)]
        if new.flow and all(check.ok for check in checks):
            through = "flow" not in shared
            if not through:
                self._load_vcl(new)
            checks.append(probe_chain(self.layout, new, environment, requests=through, alive=alive))
        for check in checks:
            self.report.log += [line for line in check.log if line not in self.report.log]
            if not check.ok:
                # the application's words last: those of Nginx and of the chain may be about the release that serves
                journal = [line for unit in culprits or reversed(units) for line in self._journal(unit, environment)]
                raise SwitchError("\n".join(check.failure), self.report.log, journal)

    def _revert(
        self, new: Description, in_place_of: Description | None, stopped: float, environment: dict[str, str]
    ) -> None:
        """Leaves the host as it was: the new release stopped and marked, the old one serving (E6)."""
        current = Description.load(self.layout, self.layout.linked("current"))
        if current is not None and current.release != new.release:
            self._lead_back(new, current)
        self._stop_release(new)
        if new.flow:
            self.flow.remove_units(current.flow.get("services", ()) if current is not None else ())
        if in_place_of is not None:
            self.systemd.start(self.layout.unit(in_place_of.release))
            probe_release(self.layout, in_place_of)
            self._record_gap(stopped)
        self._mark_failed(new, "health check failed")
        self._after_hook("run_failed", new, environment)

    def _lead_back(self, new: Description, current: Description) -> None:
        """Whatever led to the new release already leads to the one that serves, before the new one stops."""
        if new.flow and new.flow["key"] == current.flow.get("key"):
            self.flow.lead(new.flow["key"], current.release)
        if new.flow and current.ports:
            ports, internal = self._ways(current)
            with contextlib.suppress(RedirectError):  # what nft refused before it may refuse again
                self.redirect.flip(self.layout.name, ports, sorted(internal))
        if new.front and new.front == current.front:
            self.front.lead(new.front, "serving", current.release)
            self.front.lead(new.front, "probed", current.release)

    def _mark_failed(self, new: Description, why: str) -> None:
        if self.layout.linked("current") == new.release:  # a release that serves is not undone by a failed second start
            return
        self.state.mark(new.release, result=FAILED, why=why, failed_at=time.time())
        self.state.save(self.layout.state_file)

    def _record_gap(self, stopped: float) -> None:
        self.report.gap_seconds = self.state.last_gap_seconds = round(time.monotonic() - stopped, 2)
        self.state.save(self.layout.state_file)

    def _gap_words(self) -> str:
        return (
            f"The previous release was started again; nobody served for {self.report.gap_seconds} s (switch in place)."
        )

    def _load_vcl(self, new: Description) -> None:
        try:
            self.other_vcl = self.flow.load_vcl(new, new.ports["flow"])
        except FlowError as error:
            raise SwitchError(str(error), self.report.log, []) from error

    def _flip(self, new: Description) -> None:
        self.report.port = new.port
        ports, internal = self._ways(new)
        # The boot script puts this copy in place when a reboot hits between the flip and the commit.
        copy = os.path.join(self.layout.release_settings(new.release), "redirect.nft")
        write_file(copy, render_elements(redirects.elements(ports, internal)), 0o644)
        write_file(
            os.path.join(self.layout.release_settings(new.release), "start"),
            "".join(f"{unit}\n" for unit in self.layout.main_units(new)),
            0o644,
        )
        # Clients of a chain that drains go on to the new release.
        running = self._other_running(new.release) if self.flow.used() else {}
        draining = [each for each in running.values() if each.flow and "flow" in each.ports]
        ports = {**{self._inner_port(each): new.entry_port for each in draining}, **ports}
        for each in draining:
            internal |= self._ways(each)[1]
        self.report.changed |= self.redirect.flip(self.layout.name, ports, sorted(internal - {new.public_port}))
        if new.front:
            self.report.changed |= self.front.lead(new.front, "serving", new.release)
        if new.flow:
            self.flow.lead(new.flow["key"], new.release)
        if self.other_vcl:
            try:
                self.flow.use_vcl(new, new.ports["flow"])
            except FlowError as error:
                raise SwitchError(str(error), self.report.log, []) from error

    def _run_task(self, new: Description, environment: dict[str, str], first_time: bool) -> None:
        """Runs the command once to its end (D9)."""
        unit = f"app-{self.layout.name}-task@{new.release}.service"
        new.save_ports(self.layout, {APPLICATION: new.public_port})
        if first_time:
            self._pre_run_hook(new, environment)
        try:
            self.systemd.start(unit, timeout=TASK_SECONDS)
        except SystemdError:
            state = self.systemd.state(unit)
            status = state.get("ExecMainStatus") or "unknown"
            how = f"signal {status}" if state.get("Result") in ("signal", "core-dump") else f"status {status}"
            journal = self._journal(unit, environment)
            self.systemd.stop(unit, timeout=new.stop_seconds + 15)
            self.systemd.reset_failed(unit)
            self._mark_failed(new, f"task ended with {how}")
            self._after_hook("run_failed", new, environment)
            raise SwitchError(
                f"The task ended with {how}.\nRule: D9: CC_TASK runs CC_RUN_COMMAND once to its end and reports its exit status.\n"
                "Next step: read its last words, correct it and deploy again.",
                self.report.log,
                journal,
            ) from None
        self.report.changed = True
        self.report.log += ["The task ended with status 0.", *self._journal(unit, environment)]

    def _commit(self, new: Description, old: Description | None, withdrawal: Withdrawal | None) -> None:
        if old is not None and withdrawal is not None:
            self.state.mark(old.release, result=FAILED, why=withdrawal.why, failed_at=time.time())
            self.layout.set_link("previous", withdrawal.previous or None)
        elif old is not None:
            self.layout.set_link("previous", old.release)
        if self.layout.linked("current") != new.release:
            self.layout.set_link("current", new.release)
            self.report.changed = True
        self.state.mark(
            new.release,
            result=GOOD,
            why="",
            activated_at=time.time(),
            ports=sorted(new.claims),
        )
        self.state.save(self.layout.state_file)
        enabled = self.systemd.show([self.layout.target], ["UnitFileState"])[self.layout.target].get("UnitFileState")
        if new.task:
            # What served before this application became a task serves no more, nor after a reboot.
            if enabled == "enabled":
                self.systemd.disable(self.layout.target)
            self.redirect.clear(self.layout.name)
            return
        if enabled != "enabled":
            self.systemd.enable(self.layout.target)
        self.systemd.start(self.layout.target)

    def _swap_workers(self, new: Description, old: Description | None) -> None:
        """Stops every other release's workers before this one's start: two generations never work the same queue (D7)."""
        workers = [] if new.task else new.workers
        wanted = [self.layout.worker_unit(new.release, int(worker["index"])) for worker in workers]
        others = [
            unit for unit in self.systemd.list_units(f"app-{self.layout.name}-worker@*.service") if unit not in wanted
        ]
        if others:
            seconds = max(new.stop_seconds, old.stop_seconds if old is not None else 0)
            self.systemd.stop(*others, timeout=seconds * len(others) + 15)
            self.systemd.reset_failed(*others)
        if wanted:
            self.systemd.start(*wanted)

    def _retire(self, new: Description) -> None:
        """Stops the old release once nobody is connected to it; what is left of the drain is handed to systemd."""
        running = self._other_running(new.release)
        waiting = []
        if running:
            time.sleep(SETTLE_SECONDS)
        for name, description in running.items():
            connections = self._connections(description, new)
            if connections and description.drain_seconds > 0:
                waiting.append(f"{name} ({connections} connections, {description.drain_seconds:g} s at most)")
                self._stop_later(name, description, new)
            else:
                self._stop_release(description)
        self.report.drained = "draining: " + ", ".join(waiting) if waiting else ""
        if not new.front and not any(description.front for description in running.values() if waiting):
            self.front.remove_units()
        self.flow.remove_units(new.flow.get("services", ()))
        if not waiting and not new.task and any(each.flow for each in running.values()):
            ports, internal = self._ways(new)  # where the chains that ended forwarded to leads nowhere any more
            self.redirect.flip(self.layout.name, ports, sorted(internal))

    def _connections(self, old: Description, new: Description) -> int:
        """What an old release still has to answer: the clients of its outermost layer that the new one does not share."""
        for layer in old.layers:
            port = old.ports.get(layer.kind, 0)
            if port != new.ports.get(layer.kind):
                return sockets.established(port)
        # The new release's Nginx is the old one's, and kept the clients.
        return sockets.connected(self.layout.socket(old.release)) if old.socket else 0

    def _stop_release(self, description: Description) -> None:
        """Stops what a release runs, from the public side inwards; not what another release shares by now."""
        own = self._own_units(description)
        shared = [unit for unit in reversed(self.layout.main_units(description)) if unit not in own]
        jobs = [[unit] for unit in shared if self._belongs(unit, description)] + ([own] if own else [])
        for job in jobs:
            self.systemd.stop(*job, timeout=description.stop_seconds + 15)
            self.systemd.reset_failed(*job)  # however it ended, it was asked to

    def _final_redirect(self, new: Description) -> str:
        """Shell text that takes away, later, where the chain that drained forwarded to, unless another release serves by then."""
        copy = shlex.quote(os.path.join(self.layout.release_settings(new.release), "redirect.nft"))
        target = shlex.quote(os.path.join(self.layout.config, "redirects", f"{self.layout.name}.nft"))
        current = shlex.quote(self.layout.link("current"))
        return (
            f'[ "$(readlink {current})" != releases/{new.release} ] || {{ cp {copy} {target}.new; mv {target}.new {target}; '
            "systemctl reload pyfleet-redirect.service; }"
        )

    def _own_units(self, description: Description) -> list[str]:
        """What no other release shares, in the order in which it stops: a socket that outlives its backend, be it for a moment,
        starts it again for what still waits there."""
        return [unit for unit in self.layout.main_units(description) if not self.layout.is_shared(unit)]

    def _belongs(self, unit: str, description: Description) -> bool:
        nginx = unit == self.layout.front_unit(description.front)
        return self.front.belongs_to(description) if nginx else self.flow.belongs_to(description)

    def _stop_later(self, release: str, description: Description, new: Description) -> None:
        timer = self._drain_timer(release)
        if self._active(f"{timer}.timer"):
            return
        command = ["systemctl", "--no-block", "stop", self.layout.unit(release)]
        if description.front or description.flow:
            own = self._own_units(description)
            parts = [self.flow.stop_text(description)] if description.flow else []
            parts += [self.front.stop_text(description)] if description.front else []
            parts += [f"systemctl stop {' '.join(own)}"] if own else []
            parts += [self.front.removal()] if description.front else []
            parts += [self.flow.removal(), self._final_redirect(new)] if description.flow else []
            command = ["/bin/sh", "-c", "; ".join(parts)]
        self.systemd.run_later(timer, description.drain_seconds, command)

    def _cancel_drain(self, release: str) -> None:
        """A release that serves again must not be stopped by the drain it was in."""
        timer = f"{self._drain_timer(release)}.timer"
        if self._active(timer):
            self.systemd.stop(timer)

    def _drain_timer(self, release: str) -> str:
        return f"app-{self.layout.name}-drain-{release}"

    def _after_hook(self, name: str, description: Description, environment: dict[str, str]) -> None:
        """Runs CC_RUN_SUCCEEDED_HOOK or CC_RUN_FAILED_HOOK; neither ever fails the deployment (D8)."""
        text = description.hooks.get(name)
        if not text:
            return
        status, output = self.hook(text, description, environment)
        variable = f"CC_{name.upper()}_HOOK"
        self.report.log += [f"{variable}:", *self._scrub(output.splitlines()[-JOURNAL_LINES:], environment)]
        if status != 0:
            self.report.warnings.append(f"{variable} failed with status {status}; the deployment's result stands.")

    def _journal(self, unit: str, environment: dict[str, str]) -> list[str]:
        try:
            lines = self.systemd.journal(unit, 4 * JOURNAL_LINES, since=self.began)
        except SystemdError as error:
            return [f"(the journal cannot be read: {error})"]
        # Of what ends and is started again, the words before its end say why; those of the next start hide them.
        ends = [position for position, line in enumerate(lines) if "Main process exited" in line]
        lines = lines[: ends[-1] + 1] if ends else lines
        return self._scrub(lines[-JOURNAL_LINES:], environment)

    @staticmethod
    def _scrub(lines: list[str], environment: dict[str, str]) -> list[str]:
        secrets = secret_values(environment)
        return [scrub(line, secrets) for line in lines]
