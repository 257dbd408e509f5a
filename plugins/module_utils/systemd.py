# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin runner over systemctl and journalctl: every call has a timeout, every failure names the command."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Callable, NamedTuple

DEFAULT_TIMEOUT = 30.0

# What most callers ask of a unit.
STATE_PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "UnitFileState",
    "MainPID",
    "ExecMainCode",
    "ExecMainStatus",
    "NRestarts",
    "InvocationID",
    "ActiveEnterTimestamp",
    "ControlGroup",
)


class Completed(NamedTuple):
    """Result of one command."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[[Sequence[str], float], Completed]


class SystemdError(Exception):
    """A systemctl or journalctl call that failed, could not start or took too long."""

    def __init__(self, argv: Sequence[str], message: str) -> None:
        self.command = " ".join(argv)
        self.stderr = message.strip()
        super().__init__("{} failed: {}".format(self.command, self.stderr or "no message"))


def run_command(argv: Sequence[str], timeout: float) -> Completed:
    """Run a command without shell, pager, colours or translation; SystemdError when it does not end by itself."""
    environment = dict(os.environ, LC_ALL="C.UTF-8", SYSTEMD_PAGER="", SYSTEMD_COLORS="0")
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SystemdError(argv, f"no answer within {timeout:g} s") from None
    except OSError as error:
        raise SystemdError(argv, str(error)) from error
    return Completed(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def is_booted(root: str = "/") -> bool:
    """True when systemd is the running service manager (the test that sd_booted(3) does)."""
    return os.path.isdir(os.path.join(root, "run/systemd/system"))


def parse_show(text: str) -> list[dict[str, str]]:
    """Parse `systemctl show`: one dict per unit, in the order asked, properties as text."""
    blocks: list[dict[str, str]] = []
    current: dict[str, str] = {}
    for line in text.splitlines():
        if not line:
            if current:
                blocks.append(current)
            current = {}
            continue
        name, separator, value = line.partition("=")
        if separator:
            current[name] = value
    if current:
        blocks.append(current)
    return blocks


def processes_of(unit: str, control_group: str = "", proc: str = "/proc") -> list[int]:
    """Pids of a unit, from /proc/<pid>/cgroup, which reads alike with cgroup v1, v2 and both.

    With `control_group` (the unit's property) only that subtree counts; without, or when nothing lies there, any
    control group with the unit's name as a path component, except those of user managers.
    """
    exact: list[int] = []
    by_name: list[int] = []
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdigit()):
        try:
            with open(os.path.join(proc, str(pid), "cgroup"), encoding="utf-8", errors="replace") as stream:
                paths = [line.rstrip("\n").split(":", 2)[-1] for line in stream]
        except OSError:
            continue
        if control_group and any(path == control_group or path.startswith(control_group + "/") for path in paths):
            exact.append(pid)
        for path in paths:
            parts = path.split("/")
            if unit in parts and not any(part.startswith("user@") for part in parts[: parts.index(unit)]):
                by_name.append(pid)
                break
    return exact or by_name


class Systemd:
    """The system's service manager.

    `run` is injectable for tests; `timeout` is in seconds and applies to each call that does not name its own.
    """

    def __init__(self, run: Run = run_command, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._run = run
        self._timeout = timeout
        self.commands: list[str] = []

    def _call(self, argv: Sequence[str], timeout: float | None = None) -> Completed:
        self.commands.append(" ".join(argv))
        return self._run(argv, self._timeout if timeout is None else timeout)

    def _systemctl(self, *arguments: str, timeout: float | None = None) -> str:
        argv = ["systemctl", "--no-pager", *arguments]
        done = self._call(argv, timeout)
        if done.returncode != 0:
            raise SystemdError(argv, done.stderr or done.stdout)
        return done.stdout

    def show(self, units: Sequence[str], properties: Sequence[str] = STATE_PROPERTIES) -> dict[str, dict[str, str]]:
        """Properties of many units in one call, by the names asked for; LoadState=not-found where there is no unit."""
        if not units:
            return {}
        # Id is always there, so that no unit's block can be empty.
        wanted = "--property=" + ",".join(dict.fromkeys([*properties, "Id"]))
        blocks = parse_show(self._systemctl("show", wanted, "--", *units))
        if len(blocks) == len(units):
            return dict(zip(units, blocks))
        if len(units) == 1:
            raise SystemdError(["systemctl", "show", *units], "unexpected answer")
        return {unit: self.show([unit], properties)[unit] for unit in units}

    def state(self, unit: str) -> dict[str, str]:
        """The usual properties of one unit."""
        return self.show([unit])[unit]

    def start(self, *units: str, timeout: float | None = None, block: bool = True) -> None:
        self._systemctl("start", *([] if block else ["--no-block"]), "--", *units, timeout=timeout)

    def stop(self, *units: str, timeout: float | None = None, block: bool = True) -> None:
        """Stop units; one that is not loaded, as a transient unit that just ended, is stopped already."""
        argv = ["systemctl", "--no-pager", "stop", *([] if block else ["--no-block"]), "--", *units]
        done = self._call(argv, timeout)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        if done.returncode != 0 and not (lines and all("not loaded" in line for line in lines)):
            raise SystemdError(argv, done.stderr or done.stdout)

    def restart(self, *units: str, timeout: float | None = None) -> None:
        self._systemctl("restart", "--", *units, timeout=timeout)

    def reload(self, *units: str, timeout: float | None = None) -> None:
        self._systemctl("reload", "--", *units, timeout=timeout)

    def reset_failed(self, *units: str) -> None:
        """Forget failures; units that are not loaded have none, which is no error."""
        argv = ["systemctl", "--no-pager", "reset-failed", "--", *units]
        done = self._call(argv)
        if done.returncode != 0 and "not loaded" not in done.stderr:
            raise SystemdError(argv, done.stderr)

    def enable(self, *units: str) -> None:
        self._systemctl("enable", "--", *units)

    def disable(self, *units: str) -> None:
        self._systemctl("disable", "--", *units)

    def daemon_reload(self) -> None:
        self._systemctl("daemon-reload", timeout=max(self._timeout, 90.0))

    def list_units(self, *patterns: str) -> list[str]:
        """Names of loaded units that match shell patterns, in any state."""
        text = self._systemctl("list-units", "--all", "--plain", "--no-legend", "--full", "--", *patterns)
        return [line.split(None, 1)[0] for line in text.splitlines() if line.strip()]

    def run_later(self, name: str, seconds: float, argv: Sequence[str]) -> None:
        """Run a command once after a delay, as the transient units NAME.timer and NAME.service; a reboot forgets it."""
        call = ["systemd-run", "--quiet", "--collect", f"--unit={name}", f"--on-active={seconds:g}s"]
        call += ["--timer-property=AccuracySec=1s", "--", *argv]
        done = self._call(call)
        if done.returncode != 0:
            raise SystemdError(call, done.stderr or done.stdout)

    def processes(self, unit: str, proc: str = "/proc") -> list[int]:
        """Pids of all processes of a unit; empty when it does not run."""
        return processes_of(unit, self.show([unit], ["ControlGroup"])[unit].get("ControlGroup", ""), proc)

    def journal(self, unit: str, lines: int = 20, since: float | None = None, invocation: str = "") -> list[str]:
        """Last journal lines of a unit, text only, oldest first.

        `since` is in seconds since the epoch; `invocation` limits to one run of the unit (InvocationID) with its
        start and stop messages. Raises SystemdError. Lines hold what the application wrote: scrub before showing.
        """
        argv = ["journalctl", "--no-pager", "--quiet", "--output=cat", f"--lines={lines}"]
        if since is not None:
            argv.append(f"--since=@{since:.6f}")
        if invocation:
            argv += ["_SYSTEMD_INVOCATION_ID=" + invocation, "+", "INVOCATION_ID=" + invocation]
        else:
            argv.append("--unit=" + unit)
        self._call(["journalctl", "--sync"])  # what the unit wrote last may still be on its way to the file
        done = self._call(argv)
        if done.returncode != 0:
            raise SystemdError(argv, done.stderr)
        return done.stdout.splitlines()


def ended(state: Mapping[str, str]) -> str:
    """Why a unit no longer runs, from `state()`; empty while it runs, starts or waits for its restart."""
    if state.get("LoadState") == "not-found":
        return "the unit does not exist"
    if state.get("ActiveState") not in ("failed", "inactive"):
        return ""
    result = state.get("Result", "")
    status = state.get("ExecMainStatus", "")
    if result == "start-limit-hit":
        return f"it ended too often (last status {status})"
    if result == "exit-code":
        return f"it exited with status {status}"
    if result in ("signal", "core-dump"):
        return f"it was ended by signal {status}"
    if result not in ("", "success"):
        return f"systemd reports: {result}"
    return "it exited with status " + (status or "0")
