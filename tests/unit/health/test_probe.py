# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine of section E against real sockets of this test, with a clock that costs nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterable, Iterator

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils.probe import (
    CheckRequest,
    CheckResult,
    Ended,
    reachable_address,
    request_status,
    run_check,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.sockets import Listener

UNIT = "app-shop@1.service"
END = "If the deployment fails after this message, please update your configuration and redeploy."


class Clock:
    """Seconds pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.seconds += seconds


class Host:
    """A host whose listeners and answers are tables."""

    def __init__(self, listeners: list[Listener], answers: dict[str, int | str], pids: tuple[int, ...] = (7,)) -> None:
        self.listening = listeners
        self.answers = answers
        self.pids = list(pids)
        self.clock = Clock()
        self.requests: list[tuple[str, int, str, float]] = []
        self.starts_at = 0.0
        self.dead = ""

    def listeners(self, ports: Iterable[int]) -> list[Listener]:
        wanted = list(ports)
        if self.clock.seconds < 1000 + self.starts_at:
            return []
        return [each for each in self.listening if not wanted or each.port in wanted]

    def probe(self, address: str, port: int, path: str, timeout: float) -> int | str:
        self.requests.append((address, port, path, timeout))
        return self.answers[path]

    def check(self, request: CheckRequest) -> CheckResult:
        return run_check(
            request,
            self.clock.now,
            self.clock.sleep,
            alive=lambda: self.dead,
            listeners=self.listeners,
            processes=lambda _unit: self.pids,
            probe=self.probe,
        )


def listening(port: int = 8080, address: str = "0.0.0.0", pid: int = 7, process: str = "uvicorn") -> Listener:
    return Listener(port, address, pid, process, (pid,))


def test_e1_e3_every_path_is_checked_and_logged() -> None:
    host = Host([listening()], {"/a": 200, "/b": 200})
    result = host.check(CheckRequest(8080, paths=["/a", "/b"], accept="200", unit=UNIT))
    assert result.ok
    assert result.log == ["Response from GET /a is 200", "Response from GET /b is 200"]
    assert result.failure == []


def test_e1_e3_one_path_of_two_that_answers_500_fails_with_the_contracts_words() -> None:
    host = Host([listening()], {"/my/awesome/path": 200, "/my/other/path": 500})
    result = host.check(CheckRequest(8080, paths=list(host.answers), accept="200", schedule=[0, 1, 3]))
    assert not result.ok
    assert result.log == [
        "Response from GET /my/awesome/path is 200",
        "Response from GET /my/other/path is 500",
        "Health check failed:",
        "- GET /my/other/path returned 500.",
        END,
    ]
    assert result.failure[:3] == result.log[2:]
    assert result.attempts == 3


@pytest.mark.parametrize(
    ("accept", "status", "ok"),
    [
        ("200", 200, True),
        ("200", 204, False),
        ("200", 301, False),
        ("2xx", 204, True),
        ("2xx", 302, False),
        ("200-499", 404, True),
        ("200-499", 301, True),
        ("200-499", 500, False),
        ("200-499", "connection refused", False),
    ],
)
def test_e1_e2_which_status_passes(accept: str, status: int | str, ok: bool) -> None:
    host = Host([listening()], {"/": status})
    assert host.check(CheckRequest(8080, accept=accept)).ok is ok


def test_e4_no_listener_no_request() -> None:
    host = Host([], {})
    result = host.check(CheckRequest(8080, schedule=[0, 5]))
    assert result.listeners == result.failure[0] == result.log[-1] == "Your application is not listening on 8080"
    assert "0.0.0.0:8080" in result.failure[-1]
    assert host.requests == []


def test_e4_loopback_only_no_request() -> None:
    host = Host([listening(address="127.0.0.1"), listening(address="::1")], {})
    result = host.check(CheckRequest(8080, unit=UNIT))
    assert result.failure[0] == "Your application is listening on localhost instead of publicly"
    assert "--host 0.0.0.0" in result.failure[-1]
    assert host.requests == []


def test_e4_listener_of_another_process_does_not_count() -> None:
    host = Host([listening(pid=99, process="nginx")], {"/": 200})
    result = host.check(CheckRequest(8080, unit=UNIT))
    assert result.failure[:2] == [
        "Your application is not listening on 8080",
        f"Port 8080 is in use by nginx (pid 99), not by {UNIT}.",
    ]
    assert host.requests == []


def test_e4_wrong_port_names_the_one_in_use() -> None:
    host = Host([listening(8000)], {})
    result = host.check(CheckRequest(18080, public_port=8080, unit=UNIT))
    assert result.failure[:2] == ["Your application is not listening on 18080", f"{UNIT} listens on 8000 instead."]


def test_e4_every_hop_must_listen() -> None:
    host = Host([listening(8080, pid=1), listening(8081, "127.0.0.1", pid=2)], {"/": 200})
    result = host.check(CheckRequest(8080, also=[8081, 9000]))
    assert result.failure[0] == "Some software are not listening as expected: 9000"
    host.listening.append(listening(9000))
    assert host.check(CheckRequest(8080, also=[8081, 9000])).ok


def test_e5_slow_start_passes_within_the_deadline() -> None:
    host = Host([listening()], {"/": 200})
    host.starts_at = 20
    result = host.check(CheckRequest(8080, schedule=[0, 1, 3, 7, 15, 30, 60]))
    assert result.ok
    assert result.attempts == 6
    assert result.elapsed == pytest.approx(20, abs=0.11), "it need not wait for the attempt at 30"


def test_e5_after_it_listens_attempts_follow_the_schedule_again() -> None:
    host = Host([listening()], {"/": 503})
    host.starts_at = 2
    result = host.check(CheckRequest(8080, schedule=[0, 1, 3, 7], accept="200"))
    assert not result.ok
    assert result.attempts == 5, "0, 1, one at 2 because something came to listen, 3, 7"
    assert result.elapsed == pytest.approx(7, abs=0.11)


def test_e5_a_listener_that_does_not_count_brings_no_attempt_forward() -> None:
    host = Host([listening(address="127.0.0.1")], {})
    host.starts_at = 2
    result = host.check(CheckRequest(8080, schedule=[0, 1, 3, 7], unit=UNIT))
    assert (result.ok, result.attempts) == (False, 4)


def test_e5_failure_shows_the_schedule() -> None:
    result = Host([], {}).check(CheckRequest(8080, schedule=[0, 0.5, 1.5]))
    assert "Attempts: 3 in 1.5 s; schedule (seconds after start): 0, 0.5, 1.5." in result.failure
    assert result.schedule == [0, 0.5, 1.5]


def test_e5_a_slow_answer_takes_the_place_of_the_attempts_it_covers() -> None:
    host = Host([listening()], {"/": 500})
    plain = host.probe

    def slow(address: str, port: int, path: str, timeout: float) -> int | str:
        host.clock.seconds += 4
        return plain(address, port, path, timeout)

    host.probe = slow  # type: ignore[method-assign]
    assert host.check(CheckRequest(8080, schedule=[0, 1, 2, 3, 5])).attempts == 3


def test_e6_unit_that_ended_stops_the_check_early_and_says_why() -> None:
    host = Host([], {})
    host.dead = "it exited with status 3"
    result = host.check(CheckRequest(8080, schedule=[0, 30, 60], unit=UNIT))
    assert (result.attempts, result.elapsed) == (0, 0)
    assert result.failure[0] == "Your application is not listening on 8080"
    assert f"{UNIT} has ended: it exited with status 3." in result.failure
    assert f"journalctl -u {UNIT}" in result.failure[-1]
    host.dead = Ended("it exited with status 3", "app-shop@behind-it.service")
    result = host.check(CheckRequest(8080, schedule=[0, 30, 60], unit=UNIT))
    assert "app-shop@behind-it.service has ended: it exited with status 3." in result.failure
    assert "journalctl -u app-shop@behind-it.service" in result.failure[-1]


def test_e6_unit_that_ends_while_waiting_is_seen_within_a_second() -> None:
    host = Host([], {})
    result = run_check(
        CheckRequest(8080, schedule=[0, 30, 60], unit=UNIT),
        host.clock.now,
        host.clock.sleep,
        alive=lambda: "it exited with status 1" if host.clock.seconds > 1010 else "",
        listeners=host.listeners,
        processes=lambda _unit: [],
    )
    assert 10 < result.elapsed < 11


def test_e3_no_answer_is_said_once_until_it_changes() -> None:
    host = Host([listening()], {"/x": "connection refused"})
    result = host.check(CheckRequest(8080, paths=["/x"], schedule=[0, 1, 2]))
    assert result.log[0] == "No response from GET /x: connection refused"
    assert result.log[1] == "Health check failed:"


def test_where_to_connect() -> None:
    assert reachable_address([listening(address="::")], 8080) == "::1"
    assert reachable_address([listening(address="10.1.2.3")], 8080) == "10.1.2.3"
    assert reachable_address([listening(address="::"), listening()], 8080) == "127.0.0.1"


@contextlib.contextmanager
def server(*chunks: bytes, delay: float = 0.0) -> Iterator[tuple[int, list[bytes]]]:
    """Answers one connection with these bytes, `delay` seconds between them."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _peer = listener.accept()
                with connection:
                    received.append(connection.recv(65536))
                    for chunk in chunks:
                        connection.sendall(chunk)
                        time.sleep(delay)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], received
        thread.join(5)


def test_request_says_who_asks_and_does_not_follow() -> None:
    with server(b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n") as (port, received):
        assert request_status("127.0.0.1", port, "/a b?x=1&y=ä", 5, mark=0x70666C74) == 302
    assert received[0].startswith(b"GET /a%20b?x=1&y=%C3%A4 HTTP/1.1\r\nHost: localhost\r\n")
    assert b"\r\nUser-Agent: pyfleet-healthcheck\r\n" in received[0]


def test_path_cannot_smuggle_headers() -> None:
    with server(b"HTTP/1.1 200 OK\r\n\r\n") as (port, received):
        assert request_status("127.0.0.1", port, "/x\r\nEvil: 1", 5) == 200
    assert b"\r\nEvil" not in received[0]


def test_interim_answers_are_passed_over() -> None:
    with server(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 2", b"04 No Content\r\n\r\n", delay=0.05) as (
        port,
        _,
    ):
        assert request_status("127.0.0.1", port, "/", 5) == 204


def test_one_byte_at_a_time_cannot_hold_the_check() -> None:
    with server(*[b"H"] * 40, delay=0.05) as (port, _):
        started = time.monotonic()
        assert request_status("127.0.0.1", port, "/", 0.4) in ("no answer within 0.4 s", "not an HTTP/1 answer")
        assert time.monotonic() - started < 1.5


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([b"SSH-2.0-OpenSSH_9.2\r\n\r\n"], "not an HTTP/1 answer"),
        ([b"HTTP/1.1 999 What\r\n\r\n"], "not an HTTP/1 answer"),
        ([b"HTTP/1.1 200 OK\r\n"], "not an HTTP/1 answer"),
        ([], "connection closed without an answer"),
        ([b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 12000], "headers longer than 64 KiB"),
    ],
)
def test_what_is_no_answer(chunks: list[bytes], words: str) -> None:
    with server(*chunks) as (port, _):
        assert request_status("127.0.0.1", port, "/", 5) == words


def test_refused_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert request_status("127.0.0.1", port, "/", 5) == "connection refused"
