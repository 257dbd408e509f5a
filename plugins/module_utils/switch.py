# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch: start a release, check it, lead the public port to it, let the old one drain (contract D2, D7, D8, E).

It runs on the host in one piece, so that a host finishes or reverts by itself when the controller or the connection goes
away. The order makes every interruption harmless: until the link `current` moves, a reboot starts the old release, and the
boot script makes the redirect agree with the link.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.pyfleet.runtime.plugins.module_utils import sockets
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import (
    parse_environment_file,
    scrub,
    secret_values,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.probe import CheckRequest, CheckResult, run_check
from ansible_collections.pyfleet.runtime.plugins.module_utils.redirect import (
    PROBE_MARK,
    Elements,
    Redirect,
    RedirectError,
    render_elements,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import (
    FAILED,
    GOOD,
    Description,
    Layout,
    State,
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


class SwitchError(Exception):
    """The new release does not serve; the message is complete, `log` holds the health lines, `journal` the unit's words."""

    def __init__(self, message: str, log: list[str], journal: list[str]) -> None:
        super().__init__(message)
        self.log = log
        self.journal = journal


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


HookRunner = Callable[[str, Description, dict[str, str]], "tuple[int, str]"]


def probe_release(
    layout: Layout,
    description: Description,
    *,
    attempts: list[float] | None = None,
    alive: Callable[[], str] | None = None,
) -> CheckResult:
    """Checks a release on its own port, whatever the redirect says. `attempts` are seconds since the start."""
    health = description.health
    return run_check(
        CheckRequest(
            port=description.port,
            public_port=description.public_port,
            paths=list(health.get("paths") or ["/"]),
            accept=str(health.get("accept") or "200-499"),
            schedule=attempts
            if attempts is not None
            else [float(second) for second in health.get("schedule") or [0.0]],
            unit=layout.unit(description.release),
            mark=PROBE_MARK,
        ),
        alive=alive,
    )


class Switch:
    """One switch of an application to a release.

    `hook` runs a hook's text as the application's user and returns status and output; it is injected because it needs the
    host's users.
    """

    def __init__(self, layout: Layout, systemd: Systemd, redirect: Redirect, hook: HookRunner) -> None:
        self.layout = layout
        self.systemd = systemd
        self.redirect = redirect
        self.hook = hook
        self.state = State.load(layout.state_file)
        self.report = Report()
        #: An earlier attempt with the same release has words of its own, which are not those of this one.
        self.began = time.time()

    # -- the table of contents ---------------------------------------------------------------------------------------------

    def activate(self, release: str, *, first_time: bool = True) -> Report:
        """Lets `release` serve. `first_time` is False for a rollback: the release's pre-run hook ran when it was new (D8).

        Raises:
            SwitchError: the release does not serve; the previous one does (E6).
        """
        started = time.monotonic()
        new = self._describe(release)
        old_release = self.layout.linked("current")
        old = Description.load(self.layout, old_release) if old_release and old_release != release else None
        environment = self.environment(new)
        if new.task:
            self._run_task(new, environment)
        else:
            self._serve(new, old, environment, first_time)
        self._commit(new, old)
        self._swap_workers(new, old)
        self._retire(new)
        self._after_hook("run_succeeded", new, environment)
        self.report.seconds = round(time.monotonic() - started, 2)
        return self.report

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
        unit = self.layout.unit(new.release)
        self._cancel_drain(new.release)
        if (
            self._active(unit) and new.port in new.candidates
        ):  # an interrupted switch: it runs, only the rest is missing
            try:
                self._check(new, environment)
                self._flip(new)
            except (SwitchError, RedirectError, SystemdError) as error:
                if self.layout.linked("current") != new.release:  # what serves stays, however it feels
                    self._revert(new, None, time.monotonic(), environment)
                raise SwitchError(str(error), self.report.log, getattr(error, "journal", [])) from error
            return
        port = self._choose_port(new, old)
        new.save_port(self.layout, port)
        if first_time:
            self._pre_run_hook(new, environment)
        in_place = old is not None and old.port == port and self._active(self.layout.unit(old.release))
        stopped = time.monotonic()
        try:
            if in_place and old is not None:
                self.systemd.stop(self.layout.unit(old.release), timeout=old.stop_seconds + 15)
            self.systemd.reset_failed(unit)
            self._start(unit, environment)
            self._check(new, environment)
            if in_place:
                self._record_gap(stopped)
            self._flip(new)
        except (SwitchError, RedirectError, SystemdError) as error:
            self._revert(new, old if in_place else None, stopped, environment)
            words = f"{error}\n{self._gap_words()}" if in_place else str(error)
            raise SwitchError(words, self.report.log, getattr(error, "journal", [])) from error

    def _active(self, unit: str) -> bool:
        return self.systemd.state(unit).get("ActiveState") in ("active", "activating", "reloading")

    def _choose_port(self, new: Description, old: Description | None) -> int:
        """Takes the first free port; a draining release gives its own up only when there is no other."""
        running = self._other_running(new.release)
        taken = {description.port: name for name, description in running.items()}
        serving = old.port if old is not None else 0
        free = [port for port in new.candidates if port not in taken]
        draining = [port for port in new.candidates if port in taken and port != serving]
        port = (free or draining or new.candidates)[0]
        if port in taken and port != serving:
            self.systemd.stop(self.layout.unit(taken[port]), timeout=running[taken[port]].stop_seconds + 15)
        foreign = [
            listener
            for listener in sockets.listeners(ports=[port])
            if not any(listener.pid in self.systemd.processes(self.layout.unit(name)) for name in running)
        ]
        if foreign:
            owner = f"{foreign[0].process or 'another process'} (pid {foreign[0].pid})"
            raise SwitchError(
                f"Port {port} is in use by {owner}, which is not part of {self.layout.name}.\n"
                f"Rule: D2: the release listens on its own port.\nNext step: stop {owner}, or set app_release_ports.",
                [],
                [],
            )
        return port

    def _other_running(self, release: str) -> dict[str, Description]:
        found = {}
        prefix, suffix = f"app-{self.layout.name}@", ".service"
        for unit in self.systemd.list_units(f"{prefix}*{suffix}"):
            name = unit[len(prefix) : -len(suffix)]
            description = Description.load(self.layout, name) if name != release else None
            if description is not None and self._active(unit):
                found[name] = description
        return found

    def _pre_run_hook(self, new: Description, environment: dict[str, str]) -> None:
        text = new.hooks.get("pre_run")
        if not text:
            return
        status, output = self.hook(text, new, environment)
        tail = self._scrub(output.splitlines()[-JOURNAL_LINES:], environment)
        self.report.log += ["CC_PRE_RUN_HOOK:", *tail]
        if status != 0:
            self._mark_failed(new, "CC_PRE_RUN_HOOK failed")
            self._after_hook("run_failed", new, environment)
            raise SwitchError(
                f"CC_PRE_RUN_HOOK failed with status {status}.\nRule: D8: the hook runs before a new release starts and fails the "
                "deployment; the previous release keeps serving.\nNext step: read its last words, correct it and deploy again.",
                self.report.log,
                tail,
            )

    def _start(self, unit: str, environment: dict[str, str]) -> None:
        try:
            self.systemd.start(unit)
        except SystemdError as error:
            journal = self._journal(unit, environment)
            raise SwitchError(
                f"The release does not start: {scrub(error.stderr, secret_values(environment))}\nNext step: read the unit's last "
                "words, correct the application and deploy again.",
                [],
                journal,
            ) from error

    def _check(self, new: Description, environment: dict[str, str]) -> None:
        unit = self.layout.unit(new.release)
        restarts = int(self.systemd.state(unit).get("NRestarts") or 0)

        def alive() -> str:
            state = self.systemd.state(unit)
            if int(state.get("NRestarts") or 0) > restarts:
                return f"it ended and was started again (last status {state.get('ExecMainStatus') or 'unknown'})"
            return ended(state)

        result = probe_release(self.layout, new, alive=alive)
        self.report.log += result.log
        if not result.ok:
            raise SwitchError("\n".join(result.failure), self.report.log, self._journal(unit, environment))

    def _revert(
        self, new: Description, in_place_of: Description | None, stopped: float, environment: dict[str, str]
    ) -> None:
        """Leaves the host as it was: the new release stopped and marked, the old one serving (E6)."""
        unit = self.layout.unit(new.release)
        self.systemd.stop(unit, timeout=new.stop_seconds + 15)
        self.systemd.reset_failed(unit)
        if in_place_of is not None:
            self.systemd.start(self.layout.unit(in_place_of.release))
            probe_release(self.layout, in_place_of)
            self._record_gap(stopped)
        self._mark_failed(new, "health check failed")
        self._after_hook("run_failed", new, environment)

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

    def _flip(self, new: Description) -> None:
        self.report.port = new.port
        internal = [port for port in new.candidates if port != new.public_port]
        public = {} if new.port == new.public_port else {new.public_port: new.port}
        # The boot script puts this copy in place when a reboot hits between the flip and the commit.
        copy = os.path.join(self.layout.release_settings(new.release), "redirect.nft")
        write_file(copy, render_elements(Elements(public, frozenset(internal))), 0o644)
        self.report.changed |= self.redirect.flip(self.layout.name, new.public_port, new.port, internal)

    def _run_task(self, new: Description, environment: dict[str, str]) -> None:
        """Runs the command once to its end (D9)."""
        unit = f"app-{self.layout.name}-task@{new.release}.service"
        new.save_port(self.layout, new.public_port)
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

    def _commit(self, new: Description, old: Description | None) -> None:
        if old is not None:
            self.layout.set_link("previous", old.release)
        if self.layout.linked("current") != new.release:
            self.layout.set_link("current", new.release)
            self.report.changed = True
        self.state.mark(
            new.release,
            result=GOOD,
            why="",
            activated_at=time.time(),
            ports=sorted({new.public_port, *new.candidates}),
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
            unit = self.layout.unit(name)
            connections = sockets.established(description.port) if description.port != new.port else 0
            if connections and description.drain_seconds > 0:
                waiting.append(f"{name} ({connections} connections, {description.drain_seconds:g} s at most)")
                self._stop_later(unit, name, description)
            else:
                self.systemd.stop(unit, timeout=description.stop_seconds + 15)
                self.systemd.reset_failed(unit)  # however it ended, it was asked to
        self.report.drained = "draining: " + ", ".join(waiting) if waiting else ""

    def _stop_later(self, unit: str, release: str, description: Description) -> None:
        timer = self._drain_timer(release)
        if not self._active(f"{timer}.timer"):
            self.systemd.run_later(timer, description.drain_seconds, ["systemctl", "--no-block", "stop", unit])

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
            lines = self.systemd.journal(unit, JOURNAL_LINES, since=self.began)
        except SystemdError as error:
            return [f"(the journal cannot be read: {error})"]
        return self._scrub(lines, environment)

    @staticmethod
    def _scrub(lines: list[str], environment: dict[str, str]) -> list[str]:
        secrets = secret_values(environment)
        return [scrub(line, secrets) for line in lines]
