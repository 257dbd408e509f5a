# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of ansible-playbook costs: memory and processor time of the controller, processor time of the hosts."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import resource
import threading
import time
from collections.abc import Iterable, Iterator

from ansible_collections.pyfleet.runtime.tests.hosts.hosts import Run

#: Seconds between two looks at the processes; a look costs some milliseconds.
INTERVAL = 0.2
PROC = pathlib.Path("/proc")
CGROUPS = pathlib.Path("/sys/fs/cgroup")


def descendants(pid: int) -> list[int]:
    """A process and all that it started, as they are now."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for thread in (PROC / str(each) / "task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def proportional(pid: int) -> float:
    """The memory of a process in MB; what it shares with others is counted in proportion (PSS)."""
    with contextlib.suppress(OSError):
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def resident(pid: int) -> float:
    """The resident memory of one process in MB, whoever it shares that with."""
    with contextlib.suppress(OSError):
        found = re.search(r"^VmRSS:\s+([0-9]+)", (PROC / str(pid) / "status").read_text(), re.MULTILINE)
        return int(found.group(1)) / 1024 if found else 0.0
    return 0.0


def connections(run: Run, names: Iterable[str]) -> float:
    """The memory of SSH's shared connections to hosts of a run, in MB; they outlive ansible-playbook for a minute."""
    titles = tuple(f"ssh: {run.sockets}/{run.address(host)}-".encode() for host in run.chosen(list(names)))
    total = 0.0
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "cmdline").read_bytes().startswith(titles):
                    total += proportional(int(entry.name))
    return total


class Cgroups:
    """The processor time of the hosts of a run, from their cgroups of either version."""

    def __init__(self, run: Run, names: Iterable[str]) -> None:
        containers = [run.container(host) for host in run.chosen(list(names))]
        paths = run.podman("inspect", "--format", "{{.State.CgroupPath}}", *containers).stdout.split()
        self._files = [self._file(path) for path in paths]

    @staticmethod
    def _file(path: str) -> pathlib.Path:
        first = CGROUPS / "cpuacct" / path.lstrip("/") / "cpuacct.usage"
        # the name ends in /container where podman leaves the group above to systemd
        return first if first.exists() else CGROUPS / path.lstrip("/").removesuffix("/container") / "cpu.stat"

    def seconds(self) -> float:
        """All of it since the hosts were started, in seconds."""
        total = 0.0
        for file in self._files:
            text = file.read_text()
            total += int(text) / 1e9 if text[:1].isdigit() else int(text.split()[1]) / 1e6  # usage_usec 123
        return total


@dataclasses.dataclass
class Cost:
    """What one run took. Times in seconds, memory in MB."""

    seconds: float = 0.0
    controller_cpu: float = 0.0
    hosts_cpu: float = 0.0
    #: The most that ansible-playbook and its children held at a time (PSS), and its main process alone (RSS).
    memory: float = 0.0
    main_memory: float = 0.0
    connections: float = 0.0


class Meter:
    """Watches one run of ansible-playbook: `watch` is what `Bed.play` takes as `during`."""

    def __init__(self, run: Run, names: Iterable[str]) -> None:
        self._run = run
        self._names = list(names)
        self._cgroups = Cgroups(run, self._names)
        self._over = threading.Event()
        self.cost = Cost()

    def watch(self, pid: int) -> threading.Thread:
        """Looks at the process and its children until the run is over."""

        def look() -> None:
            while not self._over.is_set():
                total = sum(proportional(each) for each in descendants(pid))
                self.cost.memory = max(self.cost.memory, total)
                self.cost.main_memory = max(self.cost.main_memory, resident(pid))
                self._over.wait(INTERVAL)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        return thread

    @contextlib.contextmanager
    def measuring(self) -> Iterator[Cost]:
        """Measures what happens inside; the hosts' share is that of the hosts, the controller's that of child processes."""
        before, hosts, started = resource.getrusage(resource.RUSAGE_CHILDREN), self._cgroups.seconds(), time.monotonic()
        try:
            yield self.cost
        finally:
            self._over.set()
            self.cost.seconds = time.monotonic() - started
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            self.cost.controller_cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            self.cost.hosts_cpu = self._cgroups.seconds() - hosts
            self.cost.connections = connections(self._run, self._names)


def load() -> float:
    """What else there is to do on this machine: the load of the last minute."""
    return os.getloadavg()[0]
