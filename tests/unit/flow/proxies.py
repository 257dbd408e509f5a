# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The templates of role request_flow, rendered as Ansible does it, and the real programs that run them before an application of toys."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import shlex
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import jinja2
import pytest

from ansible_collections.pyfleet.runtime.tests.tools import stage_tree

TEMPLATES = stage_tree.ROOT / "roles/request_flow/templates"
STAND_INS = stage_tree.ROOT / "tests/stand_ins"
VARIABLES: dict[str, Any] = {
    "ansible_managed": "Ansible managed",
    "app_name": "shop",
    "app_user": "app-shop",
    "app_root": "/srv/pyfleet",
    "app_stop_seconds": 30,
    "app_hardening": True,
    "app_writable_paths": [],
}
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def program(name: str) -> str:
    """Path of a program, or a failure that names it."""
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.fail(f"{name} is not installed. Next step: make setup")
    return found


def render(name: str, service: str, flow: Mapping[str, Any], index: int = 0) -> str:
    """A template as the release action renders it: the last newline of what is included goes, that of the whole stays."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    # Plain text, as Ansible renders it: escaping for HTML would spoil it.
    environment = jinja2.Environment(  # noqa: S701
        loader=loader, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(bool=bool, quote=shlex.quote)
    hop = {"index": index, "service": service, "listen": 8080 + index, "forward": 9000}
    flow_dir = f"/etc/pyfleet/shop/flow@%i/{index}-{service}"
    text = environment.get_template(name).render(**VARIABLES, flow=flow, hop=hop, flow_dir=flow_dir)
    return text if text.endswith("\n") else text + "\n"


def with_ports(text: str, listen: int, forward: int, address: str = "127.0.0.1", ipv6: bool = False) -> str:
    """What the host makes of a rendered file."""
    for placeholder, value in (
        ("@LISTEN_ADDRESS@", address),
        ("@LISTEN_PORT@", str(listen)),
        ("@FORWARD_PORT@", str(forward)),
        ("@IPV6@", "" if ipv6 else "# "),
        ("@IPV4@", "# " if ipv6 else ""),
    ):
        text = text.replace(placeholder, value)
    return text


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[str] | None = None, log: Path | None = None) -> None:
    """Waits until a port answers. Raises AssertionError with the program's words when it ends before."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on {port}: {log.read_text() if log else ''}")


@contextlib.contextmanager
def running(
    argv: Sequence[str], port: int, log: Path, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A program until the end of the block, once its port answers."""
    with log.open("w") as stream:
        process = subprocess.Popen(argv, stdout=stream, stderr=stream, text=True, env=environment, cwd=cwd)
    try:
        wait_for(port, process, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# -- the application --------------------------------------------------------------------------------------------------------


@dataclass
class Application:
    """An application that tells what reached it."""

    port: int
    requests: list[dict[str, Any]] = field(default_factory=list)
    first_bytes: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    application: Application

    def __getattr__(self, name: str) -> Any:
        """Every method is answered alike."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        application = self.application
        path = self.path.partition("?")[0]
        record = {
            "method": self.command,
            "path": self.path,
            "headers": self.headers.items(),
            "body": "",
            "peer": self.client_address[1],
        }
        application.requests.append(record)
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self.send_response_only(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            key = self.headers.get("Sec-WebSocket-Key", "") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())  # noqa: S324
            self.end_headers()
            self.close_connection = True
            while data := self.connection.recv(4096):
                self.connection.sendall(b"echo " + data)
            return
        if path == "/slow-answer":
            self.send_response_only(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nfirst\r\n")
            application.go_on.wait(5)
            self.wfile.write(b"4\r\nlast\r\n0\r\n\r\n")
            return
        length = int(self.headers.get("Content-Length", 0))
        if path == "/upload":
            self.rfile.read(4)
            application.first_bytes.set()
            length -= 4
        record["body"] = self.rfile.read(length).decode("latin-1")
        content = json.dumps({**record, "count": len(application.requests)}).encode()
        if path == "/large":  # at once, so that the head and the first of the body come together
            content = b"x" * 4_000_000
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + content)
            return
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(content)))
        if path.startswith("/cached"):
            self.send_header("Cache-Control", "public, max-age=60")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextlib.contextmanager
def application() -> Iterator[Application]:
    """An application on a port of its own."""
    handler = type("Handler", (_Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        served = Application(int(server.server_address[1]))
        handler.application = served  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield served
        finally:
            server.shutdown()


# -- requests ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a client got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def sent(self, name: str) -> list[str]:
        """The values of a header as the application got it."""
        return [value for key, value in self.json["headers"] if key.lower() == name.lower()]


def ask(
    port: int, path: str = "/", headers: Mapping[str, str] | None = None, method: str = "GET", body: bytes | None = None
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def encode(data: bytes) -> str:
    """base64url without padding, as JWTs are written."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The inverse."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def sign(claims: object, secret: bytes, algorithm: str = "HS512", digest: str = "sha512") -> str:
    """A JWT. `algorithm` is what its header says, `digest` what is really done."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    text = encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode()) + "." + encode(payload)
    return text + "." + encode(hmac.new(secret, text.encode(), getattr(hashlib, digest)).digest())


def claims(**changes: object) -> dict[str, object]:
    """What Otoroshi puts into a challenge; a change to None leaves a claim out."""
    all_claims = {"iss": "Otoroshi", "exp": int(time.time()) + 30, "state": "abc", **changes}
    return {name: value for name, value in all_claims.items() if value is not None}


def verified(token: str, secret: bytes) -> dict[str, Any]:
    """The claims of a token that `secret` signed with HS512."""
    text, _, signature = token.rpartition(".")
    assert decode(signature) == hmac.new(secret, text.encode(), hashlib.sha512).digest()
    header, _, payload = text.partition(".")
    assert json.loads(decode(header)) == {"alg": "HS512", "typ": "JWT"}
    found: dict[str, Any] = json.loads(decode(payload))
    return found
