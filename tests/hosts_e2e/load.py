# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load from another host while something happens: wrk, with connections that are kept and with new ones."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import signal
import subprocess
import time
from types import TracebackType
from typing import Self

#: wrk ends by itself after this time, in seconds, should a test forget it.
LIMIT = 900
NEW_CONNECTIONS = 'wrk.headers["Connection"] = "close"\n'
#: Connections that stay, and those that are opened anew for each request.
KEPT, NEW = 12, 4
#: Milliseconds that leave a machine of two cores time for Ansible, and still ask more than a thousand times per second. Not for what
#: ends the connections that clients keep to a server: wrk does not look at a connection while it pauses, and sends its next request into
#: one that has been closed meanwhile, where a client would open another.
PACED = 10
#: Between an answer and the next request of a connection, in milliseconds.
PAUSE = "function delay() return {} end\n"


@dataclasses.dataclass(frozen=True)
class Figures:
    """What wrk counted."""

    requests: int
    failed: int
    text: str


class Load:
    """`with Load(url, directory) as load: ...`, then `load.figures`, one entry for each kind of connection.

    Without a pause (in milliseconds) it asks as fast as it can, which leaves a small machine little for anything else: what happens
    meanwhile takes several times as long.
    """

    def __init__(self, url: str, directory: pathlib.Path, pause: int = 0) -> None:
        common = ["wrk", "--threads", "1", "--duration", f"{LIMIT}s", "--timeout", "10s"]
        self._commands = {}
        for name, connections, text in (("kept", KEPT, ""), ("new", NEW, NEW_CONNECTIONS)):
            script = directory / f"{name}_connections.lua"
            script.write_text(text + (PAUSE.format(pause) if pause else ""))
            self._commands[name] = [*common, "--connections", str(connections), "--script", str(script), url]
        self._running: dict[str, subprocess.Popen[str]] = {}
        self.figures: dict[str, Figures] = {}

    def __enter__(self) -> Self:
        """Starts the load and lets it settle."""
        for name, command in self._commands.items():
            self._running[name] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        time.sleep(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the load and counts. What ended before was no load for what came after."""
        early = [name for name, process in self._running.items() if process.poll() is not None]
        for process in self._running.values():
            process.send_signal(signal.SIGINT)
        for name, process in self._running.items():
            self.figures[name] = parse(process.communicate(timeout=30)[0])
        if early and kind is None:
            raise AssertionError(f"the load on {', '.join(early)} connections ended early: {self.figures}")

    @property
    def failed(self) -> int:
        """Requests without a good answer, over all kinds."""
        return sum(figures.failed for figures in self.figures.values())

    @property
    def requests(self) -> int:
        """Requests answered, over all kinds."""
        return sum(figures.requests for figures in self.figures.values())


def parse(text: str) -> Figures:
    """Reads wrk's report: socket errors of every kind and answers other than 2xx and 3xx count as failed."""
    total = re.search(r"(\d+) requests in", text)
    if total is None:
        raise AssertionError(f"wrk did not report:\n{text}")
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    failed = sum(map(int, errors.groups())) if errors else 0
    return Figures(int(total[1]), failed + (int(refused[1]) if refused else 0), text)
