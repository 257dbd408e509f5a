# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes a server out of HAProxy's rotation, or puts it back; drain.yml and undrain.yml run it on the load balancer.

    rotation out|in SOCKET BACKEND SERVER SECONDS

It needs nothing but the admin socket. The line that it prints says what was done; an error ends it with status 1.
"""

from __future__ import annotations

import csv
import fcntl
import io
import socket
import sys
import time
from collections.abc import Callable

PAUSE = 0.1  # seconds between two looks


class Server:
    """One server of a backend, seen through the admin socket."""

    def __init__(self, path: str, backend: str, name: str) -> None:
        self.path = path
        self.backend = backend
        self.name = name

    def ask(self, command: str) -> str:
        """Sends one command; the answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(self.path)
            connection.sendall(f"{command}\n".encode())
            return "".join(iter(lambda: connection.recv(65536).decode(), "")).strip()

    def servers(self) -> dict[str, dict[str, str]]:
        """The servers of the backend, by name, with HAProxy's statistics."""
        rows = csv.DictReader(io.StringIO(self.ask("show stat").lstrip("# ")))
        known = {row["svname"]: row for row in rows if row["pxname"] == self.backend and row["type"] == "2"}
        if self.name not in known:
            there = ", ".join(known) or "none"
            sys.exit(f"HAProxy has no server {self.name} in the backend {self.backend}. Its servers: {there}.")
        return known

    def status(self) -> str:
        """UP, DOWN, DRAIN, MAINT, "DRAIN 1/2" while checks are still to pass, or "no check"."""
        return self.servers()[self.name]["status"]

    def sessions(self) -> int:
        """Requests that it answers right now, or that wait for it."""
        row = self.servers()[self.name]
        return int(row["scur"]) + int(row["qcur"] or 0)

    def kept(self) -> int:
        """Connections without a request that HAProxy keeps open for the next one."""
        return int(self.servers()[self.name]["srv_icur"] or 0)

    def set(self, state: str) -> None:
        """Asks for `ready`, `drain` or `maint`."""
        refused = self.ask(f"set server {self.backend}/{self.name} state {state}")
        if refused:
            sys.exit(f"HAProxy refused to set {self.name} to {state}: {refused}")

    def is_up(self) -> bool:
        """Whether it gets requests."""
        return serves(self.status())


def serves(status: str) -> bool:
    """Whether a server of this status gets requests: `UP 1/3` does, too, on its way down."""
    return status.startswith("UP") or status == "no check"


def wait(reached: Callable[[], bool], seconds: float) -> bool:
    """Waits until `reached()` is true; whether it was in time."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE)
    return True


def take_out(server: Server, seconds: float) -> str:
    """No new requests; those under way are waited for; then no open connection is left that could lead to the old release."""
    # One at a time, or a batch of hosts could empty the backend together.
    with open(f"{server.path}.pyfleet.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        others = [name for name, row in server.servers().items() if name != server.name and serves(row["status"])]
        if not others:
            return f"{server.name} stays in rotation: no other server of {server.backend} is up. It is not drained."
        server.set("drain")
    started = time.monotonic()
    if not wait(lambda: server.sessions() == 0, seconds):
        return f"{server.name} gets no new requests; {server.sessions()} last longer than {seconds:g} s."
    server.set("maint")  # closes the connections that HAProxy keeps open; a drained server would keep them
    wait(lambda: server.kept() == 0, seconds)
    return f"{server.name} is out of rotation, drained in {time.monotonic() - started:.1f} s."


def put_back(server: Server, seconds: float) -> str:
    """Requests again, once a health check has passed that began after the switch."""
    if server.is_up():
        return f"{server.name} is in rotation."
    started = time.monotonic()
    server.set("maint")
    server.set("drain")  # from here on HAProxy checks it anew: "DRAIN 1/2", then "DRAIN"
    if not wait(lambda: server.status() in ("DRAIN", "no check"), seconds):
        sys.exit(
            f"{server.name} stays out of rotation: HAProxy's health check says {server.status()} after {seconds:g} s."
        )
    server.set("ready")
    if not wait(server.is_up, seconds):
        sys.exit(f"{server.name} is ready, and HAProxy says {server.status()} after {seconds:g} s.")
    return f"{server.name} is back in rotation after {time.monotonic() - started:.1f} s."


def main() -> None:
    """Entry point."""
    direction, path, backend, name, seconds = sys.argv[1:]
    server = Server(path, backend, name)
    try:
        print({"out": take_out, "in": put_back}[direction](server, float(seconds)))
    except OSError as error:
        sys.exit(f"HAProxy does not answer on {path}: {error}")


if __name__ == "__main__":
    main()
