# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listeners and connections from /proc: recorded tables, and sockets of this test itself."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from ansible_collections.pyfleet.runtime.plugins.module_utils.sockets import (
    STATE_LISTEN,
    established,
    is_loopback,
    listeners,
    parse_table,
)

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1
   1: 0100007F:46A0 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1
   2: 0A4D590A:46A0 0B4D590A:C350 01 00000000:00000000 00:00000000 00000000     0        0 333 1
   3: 0A4D590A:46A0 0B4D590A:C351 06 00000000:00000000 00:00000000 00000000     0        0 0 1
not a line of the table
"""
TCP6 = """\
  sl  local_address remote_address st tx_queue rx_queue tr tm->when retrnsmt
   0: 00000000000000000000000000000000:2328 00000000000000000000000000000000:0000 0A 00000000:00000000 00:0 0 0 0 444 1
   1: 00000000000000000000000001000000:2329 00000000000000000000000000000000:0000 0A 00000000:00000000 00:0 0 0 0 555 1
   2: 0000000000000000FFFF00000A4D590A:46A0 0000000000000000FFFF00000B4D590A:C352 01 00000000:00000000 00:0 0 0 0 666 1
"""


def proc(tmp_path: Path) -> str:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(TCP)
    (tmp_path / "net/tcp6").write_text(TCP6)
    for pid in (70, 8):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "comm").write_text("uvicorn\n")
        os.symlink("socket:[111]", tmp_path / str(pid) / "fd/5")
    return str(tmp_path)


def test_e4_listeners_with_their_processes(tmp_path: Path) -> None:
    found = {each.port: each for each in listeners(proc(tmp_path))}
    assert sorted(found) == [8080, 9000, 9001, 18080]
    assert (found[8080].address, found[8080].pid, found[8080].process, found[8080].pids) == (
        "0.0.0.0",
        8,
        "uvicorn",
        (8, 70),
    )
    assert (found[9000].address, found[9000].pid, found[9000].process) == ("::", None, "")
    assert {port: each.public for port, each in found.items()} == {8080: True, 9000: True, 9001: False, 18080: False}


def test_listeners_of_some_ports_only(tmp_path: Path) -> None:
    assert [each.port for each in listeners(proc(tmp_path), ports=[9000])] == [9000]


def test_d2_connections_to_drain_are_counted_over_both_families(tmp_path: Path) -> None:
    folder = proc(tmp_path)
    assert [established(port, folder) for port in (18080, 8080)] == [2, 0]


def test_lines_that_do_not_parse_are_left_out() -> None:
    assert [row.port for row in parse_table(TCP) if row.state == STATE_LISTEN] == [8080, 18080]
    assert parse_table("1: xyz:zz 0 0A 0 0 0 0 0 0\n") == []


def test_e4_loopback_in_every_spelling() -> None:
    assert all(is_loopback(each) for each in ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"))
    assert not any(is_loopback(each) for each in ("0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "x"))


def test_own_socket_is_found_and_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (found,) = listeners(ports=[port])
        assert (found.address, found.public) == ("127.0.0.1", False)
        assert os.getpid() in found.pids
        with socket.create_connection(("127.0.0.1", port)):
            assert established(port) == 1
