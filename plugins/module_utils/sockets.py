# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who listens on which port, and how many connections a port still has, read from /proc.

Connections that nftables redirects from a public port to a release's own port appear here with the release's own port,
because the kernel's socket table is behind the address translation. Draining can therefore count them per release.
"""

from __future__ import annotations

import ipaddress
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

STATE_ESTABLISHED = 0x01
STATE_LISTEN = 0x0A
# Of /proc/net/unix: not accepted yet, and in use.
UNIX_CONNECTING = "02"
UNIX_CONNECTED = "03"


class SocketRow(NamedTuple):
    """One line of /proc/net/tcp or tcp6."""

    address: str
    port: int
    state: int
    inode: int


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket.

    `pid` and `process` name one of the processes that hold it (the lowest pid), or None and "" when /proc does not say,
    as for a caller without privileges. `pids` holds all of them: forked servers share one socket.
    """

    port: int
    address: str
    pid: int | None = None
    process: str = ""
    pids: tuple[int, ...] = field(default=())

    @property
    def public(self) -> bool:
        """True unless the socket is bound to a loopback address (contract E4)."""
        return not is_loopback(self.address)

    def to_dict(self) -> dict[str, object]:
        return {"port": self.port, "address": self.address, "pid": self.pid, "process": self.process}


def is_loopback(address: str) -> bool:
    """True for 127.0.0.0/8, ::1 and the IPv4 loopback written as IPv6."""
    try:
        parsed = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _address(text: str) -> str:
    """The kernel prints addresses as 32-bit words in the machine's own byte order."""
    raw = bytes.fromhex(text)
    words = struct.unpack(f">{len(raw) // 4}I", raw)
    return str(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words)))


def parse_table(text: str) -> list[SocketRow]:
    """Parse the text of /proc/net/tcp or tcp6. Lines that do not parse are left out, never an error."""
    rows: list[SocketRow] = []
    for line in text.splitlines():
        columns = line.split()
        if len(columns) < 10 or ":" not in columns[1]:
            continue
        address, port = columns[1].rsplit(":", 1)
        try:
            rows.append(SocketRow(_address(address), int(port, 16), int(columns[3], 16), int(columns[9])))
        except (ValueError, struct.error):
            continue
    return rows


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _rows(proc: str) -> list[SocketRow]:
    return parse_table(_read(os.path.join(proc, "net/tcp"))) + parse_table(_read(os.path.join(proc, "net/tcp6")))


def _owners(inodes: Iterable[int], proc: str) -> dict[int, list[int]]:
    """Map socket inodes to the pids that hold them open."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    owners: dict[int, list[int]] = {}
    if not wanted:
        return owners
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdigit()):
        folder = os.path.join(proc, str(pid), "fd")
        try:
            entries = os.listdir(folder)
        except OSError:
            continue  # gone meanwhile, or not ours to see
        for entry in entries:
            try:
                inode = wanted.get(os.readlink(os.path.join(folder, entry)))
            except OSError:
                continue
            if inode is not None and pid not in owners.setdefault(inode, []):
                owners[inode].append(pid)
    return owners


def listeners(proc: str = "/proc", ports: Iterable[int] | None = None) -> list[Listener]:
    """All listening TCP sockets of this network namespace, IPv4 and IPv6, sorted by port.

    `ports` limits the answer, and with it the search for owning processes. Never raises for missing /proc entries.
    """
    only = None if ports is None else set(ports)
    rows = [row for row in _rows(proc) if row.state == STATE_LISTEN and (only is None or row.port in only)]
    owners = _owners((row.inode for row in rows), proc)
    found: list[Listener] = []
    for row in sorted(rows, key=lambda each: (each.port, each.address)):
        pids = tuple(owners.get(row.inode, ()))
        process = _read(os.path.join(proc, str(pids[0]), "comm")).strip() if pids else ""
        found.append(Listener(row.port, row.address, pids[0] if pids else None, process, pids))
    return found


def established(port: int, proc: str = "/proc") -> int:
    """How many established connections a local port has: what is still to drain."""
    return sum(1 for row in _rows(proc) if row.state == STATE_ESTABLISHED and row.port == port)


def connected(path: str, proc: str = "/proc") -> int:
    """How many connections a Unix socket has, those that wait to be accepted included."""
    count = 0
    for line in _read(os.path.join(proc, "net/unix")).splitlines()[1:]:
        # address, references, protocol, flags, type, state, inode, path
        columns = line.split(None, 7)
        if len(columns) == 8 and columns[7] == path and columns[5] in (UNIX_CONNECTING, UNIX_CONNECTED):
            count += 1
    return count
