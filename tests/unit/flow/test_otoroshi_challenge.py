# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""F9 with a real HAProxy: who gets through to the application, what the others are told, how the answer is signed."""

from __future__ import annotations

import base64
import http.client
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.tests.unit.flow.proxies import (
    Answer,
    Application,
    application,
    ask,
    claims,
    encode,
    free_port,
    program,
    render,
    running,
    sign,
    verified,
    with_ports,
)

SECRET = "s3cr€t with 'quotes', \"more\" and \\ of 70 characters so that it is a long one …".encode()
OLD = b"the old one"
GONE = b"the one before"
HEADER = "Otoroshi-State"
UPGRADE = (
    "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\n"
)


def secret(key: bytes, until: float | None = None) -> dict[str, Any]:
    return {"key": base64.b64encode(key).decode(), "until": None if until is None else int(until)}


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "secrets": [secret(SECRET), secret(OLD, time.time() + 300), secret(GONE, time.time() - 1)],
        "exclude": ["/health", "/it's;here/", "/"],
        **changes,
    }


@dataclass
class Hop:
    """A challenge before an application."""

    port: int
    application: Application
    log: Path
    process: subprocess.Popen[str]

    def ask(self, path: str = "/echo", token: str | None = None, **arguments: Any) -> Answer:
        headers = dict(arguments.pop("headers", {}))
        if token is not None:
            headers[HEADER] = token
        return ask(self.port, path, headers=headers, **arguments)


def start(folder: Path, flow: dict[str, Any], served: Application, index: int = 0) -> Any:
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(
        with_ports(render("otoroshi-challenge.cfg.j2", "otoroshi-challenge", flow, index), port, served.port)
    )
    return port, running([program("haproxy"), "-db", "-f", str(config)], port, folder / "log")


@pytest.fixture(scope="module")
def hop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hop]:
    folder = tmp_path_factory.mktemp("challenge")
    with application() as served:
        port, started = start(folder, settings(), served)
        with started as process:
            yield Hop(port, served, folder / "log", process)


def reason(answer: Answer) -> str:
    assert answer.status == 401
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json) == ["error"]
    assert "otoroshi-state-resp" not in answer.headers
    return str(answer.json["error"])


# -- good ones --------------------------------------------------------------------------------------------------------------


def test_f9_a_signed_request_passes_and_its_answer_is_signed(hop: Hop) -> None:
    before = int(time.time())
    answer = hop.ask("/echo?a=1", sign(claims(), SECRET), headers={"Host": "shop.example:81"})
    after = int(time.time())
    assert answer.status == 200
    got = verified(answer.headers["otoroshi-state-resp"], SECRET)
    assert set(got) == {"aud", "iat", "nbf", "exp", "state-resp"}
    assert (got["aud"], got["state-resp"]) == ("Otoroshi", "abc")
    assert before <= got["iat"] == got["nbf"] <= after
    assert got["exp"] == got["iat"] + 30
    assert answer.json["path"] == "/echo?a=1"
    assert answer.sent("Host") == ["shop.example:81"]


def test_f9_the_challenge_does_not_reach_the_application(hop: Hop) -> None:
    assert hop.ask(token=sign(claims(), SECRET)).sent(HEADER) == []
    assert hop.ask("/health", token=sign(claims(), SECRET)).sent(HEADER) == []


@pytest.mark.parametrize("absent", [{"aud": "Otoroshi", "iat": 1, "nbf": 1}, {"aud": "else", "nbf": 4102444800}])
def test_f9_aud_iat_and_nbf_do_not_matter(hop: Hop, absent: dict[str, object]) -> None:
    assert hop.ask(token=sign(claims(**absent), SECRET)).status == 200


def test_f9_ten_seconds_of_leeway(hop: Hop) -> None:
    assert hop.ask(token=sign(claims(exp=int(time.time()) - 7), SECRET)).status == 200
    assert reason(hop.ask(token=sign(claims(exp=int(time.time()) - 13), SECRET))).endswith("ExpiredSignature")


@pytest.mark.parametrize(
    "state",
    [
        'a"b',
        "back\\slash",
        '","aud":"someone',
        "line\nand\ttab\x01",
        "/slashes/</script>",
        "äö€",
        "%[var(txn.secret)] %% %",
        "x" * 1500,
        "",
        "'single'",
    ],
)
def test_f9_the_state_comes_back_whatever_it_holds(hop: Hop, state: str) -> None:
    answer = hop.ask(token=sign(json.dumps(claims(state=state), ensure_ascii=False).encode(), SECRET))
    assert answer.status == 200
    got = verified(answer.headers["otoroshi-state-resp"], SECRET)
    assert got["state-resp"] == state
    assert got["aud"] == "Otoroshi"


def test_f9_an_answer_of_the_hop_itself_is_signed_too(hop: Hop, tmp_path: Path) -> None:
    nobody = Application(free_port())
    port, started = start(tmp_path, settings(), nobody)
    with started:
        answer = ask(port, "/", headers={HEADER: sign(claims(), SECRET)})
    assert answer.status == 503
    assert verified(answer.headers["otoroshi-state-resp"], SECRET)["state-resp"] == "abc"


def test_f9_two_secrets_for_a_while_and_the_answer_is_signed_with_the_one_that_was_used(hop: Hop) -> None:
    for key in (SECRET, OLD):
        answer = hop.ask(token=sign(claims(), key))
        assert answer.status == 200
        verified(answer.headers["otoroshi-state-resp"], key)
    assert reason(hop.ask(token=sign(claims(), GONE))) == "JWT verification failed: InvalidSignature"


def test_f9_a_secret_ends_without_a_reload(tmp_path: Path) -> None:
    with application() as served:
        until = int(time.time()) + 2
        port, started = start(tmp_path, settings(secrets=[secret(SECRET), secret(OLD, until)]), served)
        with started:
            assert ask(port, "/echo", headers={HEADER: sign(claims(), OLD)}).status == 200
            time.sleep(max(0.0, until - time.time()) + 0.1)
            assert reason(ask(port, "/echo", headers={HEADER: sign(claims(), OLD)})).endswith("InvalidSignature")
            assert ask(port, "/echo", headers={HEADER: sign(claims(), SECRET)}).status == 200


def test_f9_a_very_long_secret(tmp_path: Path) -> None:
    key = bytes(range(1, 256)) * 20
    with application() as served:
        port, started = start(tmp_path, settings(secrets=[secret(key)]), served)
        with started:
            answer = ask(port, "/echo", headers={HEADER: sign(claims(), key)})
    assert answer.status == 200
    verified(answer.headers["otoroshi-state-resp"], key)


# -- bad ones ---------------------------------------------------------------------------------------------------------------


def altered(token: str) -> str:
    head, _, signature = token.rpartition(".")
    return head + "." + ("A" if signature[0] != "A" else "B") + signature[1:]


REJECTED: list[tuple[str, Any, str]] = [
    ("another secret", lambda: sign(claims(), b"guessed"), "InvalidSignature"),
    ("no secret", lambda: sign(claims(), b""), "InvalidSignature"),
    ("altered", lambda: altered(sign(claims(), SECRET)), "InvalidSignature"),
    ("no signature", lambda: sign(claims(), SECRET).rpartition(".")[0] + ".", "InvalidSignature|InvalidToken"),
    ("cut", lambda: sign(claims(), SECRET)[:-10], "InvalidSignature|InvalidToken"),
    ("iss", lambda: sign(claims(iss="else"), SECRET), "InvalidIssuer"),
    ("no iss", lambda: sign(claims(iss=None), SECRET), "InvalidIssuer"),
    ("iss in a list", lambda: sign(claims(iss=["Otoroshi"]), SECRET), "InvalidIssuer"),
    ("iss, other case", lambda: sign(claims(iss="otoroshi"), SECRET), "InvalidIssuer"),
    ("expired", lambda: sign(claims(exp=1), SECRET), "ExpiredSignature"),
    ("expired long before", lambda: sign(claims(exp=-1), SECRET), "ExpiredSignature"),
    ("exp is a word", lambda: sign(claims(exp="never"), SECRET), "ExpiredSignature"),
    ("exp is true", lambda: sign(claims(exp=True), SECRET), "ExpiredSignature"),
    ("no exp", lambda: sign(claims(exp=None), SECRET), "Missing required claim: exp"),
    ("exp is null", lambda: sign(b'{"iss":"Otoroshi","state":"a","exp":null}', SECRET), "Missing required claim: exp"),
    ("no state", lambda: sign(claims(state=None), SECRET), "Missing required claim: state"),
    # What HAProxy's JSON does not know. Otoroshi's states are letters and digits.
    (
        "state beyond 16 bits",
        lambda: sign(json.dumps(claims(state="\U0001f600"), ensure_ascii=False).encode(), SECRET),
        "InvalidToken",
    ),
    (
        "state is no UTF-8",
        lambda: sign(b'{"iss":"Otoroshi","exp":4102444800,"state":"a\xffb"}', SECRET),
        "InvalidToken",
    ),
    ("state with a \\u escape", lambda: sign(claims(state="€"), SECRET), "Missing required claim: state"),
    ("huge state", lambda: sign(claims(state="x" * 4000), SECRET), "InvalidToken"),
    ("nothing", lambda: "", "InvalidToken"),
    ("a word", lambda: "Bearer", "InvalidToken"),
    ("two dots", lambda: "..", "InvalidToken"),
    ("no base64", lambda: "!!!.???.***", "InvalidToken"),
    ("four parts", lambda: sign(claims(), SECRET) + ".AAAA", "InvalidToken|InvalidSignature"),
    ("two parts", lambda: sign(claims(), SECRET).rpartition(".")[0], "InvalidToken"),
    ("no JSON", lambda: sign(b"hello", SECRET), "Missing required claim: exp"),
    ("alg none", lambda: sign(claims(), SECRET, "none").rpartition(".")[0] + ".", "InvalidToken"),
    ("alg none, signed", lambda: sign(claims(), SECRET, "none"), "InvalidToken"),
    ("alg HS256", lambda: sign(claims(), SECRET, "HS256", "sha256"), "InvalidToken"),
    ("alg HS384", lambda: sign(claims(), SECRET, "HS384", "sha384"), "InvalidToken"),
    ("alg RS256, signed with HS512", lambda: sign(claims(), SECRET, "RS256"), "InvalidToken"),
    ("alg in lower case", lambda: sign(claims(), SECRET, "hs512"), "InvalidToken"),
    ("says HS512, is HS256", lambda: sign(claims(), SECRET, "HS512", "sha256"), "InvalidSignature|InvalidToken"),
    ("padding", lambda: sign(claims(), SECRET) + "==", "InvalidSignature|InvalidToken"),
]


@pytest.mark.parametrize(("make", "why"), [case[1:] for case in REJECTED], ids=[case[0] for case in REJECTED])
def test_f9_rejections(hop: Hop, make: Any, why: str) -> None:
    reached = len(hop.application.requests)
    prefix, _, given = reason(hop.ask(token=make())).partition(": ")
    assert prefix == "JWT verification failed"
    assert given in why.split("|")
    assert len(hop.application.requests) == reached


def test_f9_without_a_challenge_nothing_passes(hop: Hop) -> None:
    reached = len(hop.application.requests)
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert reason(hop.ask(method=method)) == "Missing Otoroshi-State header"
    answer = hop.ask(method="HEAD")
    assert (answer.status, answer.body) == (401, b"")
    assert len(hop.application.requests) == reached


# -- excluded paths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/health", "/health/", "/health?deep=1", "/health/?x=/", "/it's;here", "/it's;here/", "/", "/?a"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_f9_excluded_paths_pass(hop: Hop, path: str, method: str) -> None:
    answer = hop.ask(path, method=method)
    assert answer.status == 200
    assert "otoroshi-state-resp" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        *("/health//", "//health", "/health/../admin", "/health;a", "/Health", "/healthy", "/health/deep", "/%68ealth"),
        *("//", "/./health", "/x?/health", "/health%2f..%2fadmin", "/health%3f", "/health%00"),
    ],
)
def test_f9_only_the_exact_path_is_excluded(hop: Hop, path: str) -> None:
    assert reason(hop.ask(path)) == "Missing Otoroshi-State header"


def test_f9_an_excluded_path_is_for_get_and_head_only(hop: Hop) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert reason(hop.ask("/health", method=method)) == "Missing Otoroshi-State header"


def test_f9_a_challenge_on_an_excluded_path_is_checked(hop: Hop) -> None:
    assert reason(hop.ask("/health", token=sign(claims(), b"guessed"))).endswith("InvalidSignature")
    assert reason(hop.ask("/health", token="")).endswith("InvalidToken")
    answer = hop.ask("/health", token=sign(claims(state="s"), SECRET))
    assert verified(answer.headers["otoroshi-state-resp"], SECRET)["state-resp"] == "s"


# -- a proxy that is not noticed --------------------------------------------------------------------------------------------


def raw(hop: Hop, head: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", hop.port), timeout=5)
    client.sendall(head.replace("\n", "\r\n").encode())
    return client


def until(client: socket.socket, end: bytes) -> bytes:
    got = b""
    while end not in got:
        data = client.recv(4096)
        assert data, got
        got += data
    return got


def test_f9_a_web_socket_passes_and_its_handshake_is_signed(hop: Hop) -> None:
    token = sign(claims(), SECRET)
    with raw(
        hop,
        f"GET /ws HTTP/1.1\nHost: a\n{HEADER}: {token}\n{UPGRADE}\n",
    ) as client:
        head = until(client, b"\r\n\r\n").decode().lower()
        assert head.startswith("http/1.1 101 ")
        assert "otoroshi-state-resp: " in head
        client.sendall(b"hello")
        assert until(client, b"hello") == b"echo hello"


def test_f9_a_stop_lets_requests_end(tmp_path: Path) -> None:
    """As the unit starts and stops it: what runs ends, and nothing new is taken meanwhile."""
    with application() as served:
        port = free_port()
        config = tmp_path / "haproxy.cfg"
        config.write_text(
            with_ports(render("otoroshi-challenge.cfg.j2", "otoroshi-challenge", settings()), port, served.port)
        )
        with running([program("haproxy"), "-db", "-f", str(config)], port, tmp_path / "log") as process:
            client = socket.create_connection(("127.0.0.1", port), timeout=5)
            client.sendall(
                f"GET /slow-answer HTTP/1.1\r\nHost: a\r\n{HEADER}: {sign(claims(), SECRET)}\r\n\r\n".encode()
            )
            with client:
                until(client, b"first")
                process.send_signal(signal.SIGUSR1)
                time.sleep(0.3)
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port), timeout=1)
                assert process.poll() is None
                served.go_on.set()
                until(client, b"last")
            assert process.wait(5) == 0


def test_f9_a_web_socket_without_a_challenge_is_refused(hop: Hop) -> None:
    with raw(hop, f"GET /ws HTTP/1.1\nHost: a\n{UPGRADE}\n") as client:
        assert until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 401 ")


def test_f9_an_answer_streams(hop: Hop) -> None:
    hop.application.go_on.clear()
    with raw(hop, f"GET /slow-answer HTTP/1.1\nHost: a\n{HEADER}: {sign(claims(), SECRET)}\n\n") as client:
        until(client, b"first")
        hop.application.go_on.set()
        until(client, b"last")


def test_f9_a_body_streams(hop: Hop) -> None:
    hop.application.first_bytes.clear()
    with raw(
        hop, f"POST /upload HTTP/1.1\nHost: a\n{HEADER}: {sign(claims(), SECRET)}\nContent-Length: 8\n\nabcd"
    ) as client:
        assert hop.application.first_bytes.wait(5), (
            "the application did not get the first bytes before the last ones were sent"
        )
        client.sendall(b"efgh")
        assert until(client, b"\r\n").startswith(b"HTTP/1.1 200 ")


def test_f9_a_large_body_passes_whole(hop: Hop) -> None:
    body = bytes(range(256)) * 4096
    answer = hop.ask(token=sign(claims(), SECRET), method="POST", body=body)
    assert answer.json["body"].encode("latin-1") == body


def test_f9_a_connection_serves_many_requests(hop: Hop) -> None:
    token = sign(claims(), SECRET)
    with raw(hop, f"GET /echo HTTP/1.1\nHost: a\n{HEADER}: {token}\n\n") as client:
        until(client, b'"count"')
        client.sendall(f"GET /echo HTTP/1.1\r\nHost: a\r\n{HEADER}: {token}\r\n\r\n".encode())
        assert until(client, b"\r\n").lstrip(b" 0123456789}").startswith(b"HTTP/1.1 200 ")


def test_f9_the_clients_address_is_appended(hop: Hop, tmp_path: Path) -> None:
    token = sign(claims(), SECRET)
    assert hop.ask(token=token).sent("X-Forwarded-For") == ["127.0.0.1"]
    given = {"X-Forwarded-For": "192.0.2.1, 192.0.2.2"}
    assert hop.ask(token=token, headers=given).sent("X-Forwarded-For") == ["192.0.2.1, 192.0.2.2, 127.0.0.1"]
    # Behind another hop the client is this host, which says nothing.
    port, started = start(tmp_path, settings(), hop.application, index=1)
    with started:
        behind = ask(port, "/echo", headers={HEADER: token, **given})
        assert behind.sent("X-Forwarded-For") == ["192.0.2.1, 192.0.2.2"]


def test_f9_a_request_goes_to_whoever_listens_now(hop: Hop) -> None:
    """A new connection to the application for every request: the redirect decides anew after a switch."""
    connection = http.client.HTTPConnection("127.0.0.1", hop.port, timeout=5)
    peers = []
    for _ in range(3):
        connection.request("GET", "/echo", headers={HEADER: sign(claims(), SECRET)})
        peers.append(json.loads(connection.getresponse().read())["peer"])
    connection.close()
    assert len(set(peers)) == 3


def test_f9_a_large_answer_has_room_for_a_long_header(hop: Hop) -> None:
    for _ in range(5):
        answer = hop.ask("/large", token=sign(claims(state="x" * 2000), SECRET))
        assert (answer.status, len(answer.body)) == (200, 4_000_000)
        assert verified(answer.headers["otoroshi-state-resp"], SECRET)["state-resp"] == "x" * 2000


def test_f14_neither_the_secret_nor_a_token_is_shown(hop: Hop) -> None:
    token = sign(claims(), b"guessed")
    hop.ask("/echo?token=in-the-query", token=token)
    hop.ask("/echo", token=sign(claims(), SECRET))
    time.sleep(0.05)
    log = hop.log.read_text()
    assert "GET /echo: JWT verification failed: InvalidSignature" in log
    command = Path(f"/proc/{hop.process.pid}/cmdline").read_bytes().decode()
    for shown in (log, command):
        assert "in-the-query" not in shown
        for part in (*token.split("."), encode(SECRET), base64.b64encode(SECRET).decode()):
            assert part not in shown


def test_f9_many_at_once(hop: Hop) -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(20):
            state = f"{number}-{turn}"
            answer = hop.ask(token=sign(claims(state=state), SECRET))
            if verified(answer.headers["otoroshi-state-resp"], SECRET)["state-resp"] != state:
                wrong.append(state)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
