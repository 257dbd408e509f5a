# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chains of Request Flow on hosts: their settings, signed requests, and what a host says of a chain.

oauth2-proxy and the agent of redirection.io are STAND-INS (tests/stand_ins/middleware.py); HAProxy, Varnish and socat are real.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import pathlib
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils import redirect
from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.testbed import BedHost, Played
from ansible_collections.pyfleet.runtime.tests.unit.flow.proxies import claims, sign, verified

from .conftest import Answer, Application

BOTH = ("bookworm1", "trixie1")
STAND_IN = CHECKOUT / "tests" / "stand_ins" / "middleware.py"
HEADER, ANSWER = "Otoroshi-State", "Otoroshi-State-Resp"
SECRET = "secret-of-the-challenge-with-'quotes'-and-$HOME-which-is-long-enough"
KEY = "0f3d4b8e:secret-key-of-the-project"
CLIENT_SECRET = 'a "secret" of the client with $HOME, `ls` and \\ in it'
COOKIE_SECRET = "secret-of-cookie"
SECRETS = (SECRET, KEY, CLIENT_SECRET, COOKIE_SECRET)

ECHO = {"CC_PYTHON_UV_RUN_COMMAND": "uv run python server.py --port $PORT", "CC_HEALTH_CHECK_PATH": "/health"}
CHALLENGE = {"OTOROSHI_CHALLENGE_SECRET": SECRET}
VARNISH = {"CC_VARNISH_FILE": "/cache.vcl", "CC_VARNISH_STORAGE_SIZE": "64M"}
REDIRECTIONIO = {"CC_REDIRECTIONIO_PROJECT_KEY": KEY}
OAUTH2 = {
    "OAUTH2_PROXY_CLIENT_ID": "shop",
    "OAUTH2_PROXY_CLIENT_SECRET": CLIENT_SECRET,
    "OAUTH2_PROXY_COOKIE_SECRET": COOKIE_SECRET,
    "OAUTH2_PROXY_EMAIL_DOMAINS": "*",
    "OAUTH2_PROXY_SKIP_AUTH_ROUTES": "GET=^/health$",
}
#: A program of the host: it stays when the code changes.
SOCAT = "/usr/bin/socat TCP-LISTEN:@@LISTEN_PORT@@,fork,reuseaddr TCP:127.0.0.1:@@FORWARD_PORT@@"
#: A program of the project: every release brings its own.
HOP = "uv run python hop.py @@LISTEN_PORT@@ @@FORWARD_PORT@@"
SIGNED_IN = {"Cookie": "_oauth2_proxy=stand-in"}
AGENT = "/usr/local/bin/redirectionio-agent"

#: Every chain by name: its environment, and its services from the public side inwards.
CHAINS: dict[str, tuple[dict[str, str], list[str]]] = {
    "none": ({}, []),
    "disable": ({**CHALLENGE, **VARNISH, "CC_REQUEST_FLOW": "disable"}, []),
    "challenge": (CHALLENGE, ["otoroshi-challenge"]),
    "varnish": (VARNISH, ["varnish"]),
    "block": ({**CHALLENGE, "CC_REQUEST_FLOW": "block"}, ["block"]),
    "custom": ({"CC_REQUEST_FLOW": "custom", "CC_REQUEST_FLOW_CUSTOM": SOCAT}, ["custom"]),
    "oauth2-proxy": ({**OAUTH2, "CC_REQUEST_FLOW": "oauth2-proxy"}, ["oauth2-proxy"]),
    "redirectionio": (REDIRECTIONIO, ["redirectionio"]),
    "detected": ({**CHALLENGE, **VARNISH, **REDIRECTIONIO}, ["otoroshi-challenge", "varnish", "redirectionio"]),
    "reversed": (
        {
            **CHALLENGE,
            **VARNISH,
            **REDIRECTIONIO,
            "CC_REQUEST_FLOW": "redirectionio, varnish, otoroshi-challenge",
        },
        ["redirectionio", "varnish", "otoroshi-challenge"],
    ),
    "custom between": (
        {
            **CHALLENGE,
            **VARNISH,
            "CC_REQUEST_FLOW": "otoroshi-challenge,custom,varnish",
            "CC_REQUEST_FLOW_CUSTOM": HOP,
        },
        ["otoroshi-challenge", "custom", "varnish"],
    ),
    "all": (
        {
            **CHALLENGE,
            **VARNISH,
            **REDIRECTIONIO,
            **OAUTH2,
            "CC_REQUEST_FLOW": "oauth2-proxy,otoroshi-challenge,varnish,redirectionio,custom",
            "CC_REQUEST_FLOW_CUSTOM": HOP,
        },
        ["oauth2-proxy", "otoroshi-challenge", "varnish", "redirectionio", "custom"],
    ),
    "two": ({**CHALLENGE, **VARNISH}, ["otoroshi-challenge", "varnish"]),
    "two reversed": (
        {**CHALLENGE, **VARNISH, "CC_REQUEST_FLOW": "varnish,otoroshi-challenge"},
        ["varnish", "otoroshi-challenge"],
    ),
}


class Chained:
    """An application, deployed behind one chain after the other; a chain that it wears already is not deployed again."""

    def __init__(self, app: Application, hosts: tuple[str, ...] = BOTH) -> None:
        self.app = app
        self.hosts = hosts
        self.name = ""
        self.services: list[str] = []
        app.env = dict(app.env)
        app.variables.update(
            app_switch="side_by_side",
            app_oauth2_proxy={
                "url": str(STAND_IN),
                "checksum": "sha256:" + hashlib.sha256(STAND_IN.read_bytes()).hexdigest(),
            },
            app_redirectionio_agent=AGENT,
        )

    def wear(self, name: str) -> None:
        """Deploys behind a chain, where that is not so already."""
        if self.name != name:
            self.name = ""
            self.deploy(name).succeeded()
            self.name = name

    def deploy(self, name: str, env: Mapping[str, str] | None = None, **options: Any) -> Played:
        """Deploys behind a chain, in any case."""
        chain, self.services = CHAINS[name]
        return self.app.deploy({**chain, **(env or {})}, **options)

    def ask(self, path: str = "/version", host: str = "", *, secret: str = SECRET, **options: Any) -> Answer:
        """Asks the public port with a challenge, and checks the signature of the answer when there is one."""
        token = sign(claims(state="state-of-the-test"), secret.encode())
        headers = {HEADER: token, **options.pop("headers", {})}
        answer = self.app.ask(path, host=host or self.hosts[0], headers=headers, **options)
        if ANSWER in answer.headers:
            assert verified(answer.headers[ANSWER], secret.encode())["state-resp"] == "state-of-the-test"
        return answer


def sent(answer: Answer, name: str) -> list[str]:
    """The values of a header as the application got it."""
    return [value for key, value in answer.json()["headers"] if key.lower() == name.lower()]


def install_agent(host: BedHost) -> None:
    """Puts the stand-in where a user has the agent of redirection.io."""
    host.write(AGENT, STAND_IN.read_text())
    host(f"chmod 755 {AGENT}")


def install_socat(host: BedHost) -> None:
    """A program of the distribution, for `custom`."""
    host(
        "command -v socat >/dev/null || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive "
        "apt-get -qqy -o Dpkg::Use-Pty=0 install --no-install-recommends socat >/dev/null; }",
        timeout=180,
    )


# -- what a host says of a chain ------------------------------------------------------------------------------------------------


def units(host: BedHost, name: str = "flow") -> list[str]:
    """The hops that run, by the port of their chain and their place in it."""
    text = host(f"systemctl list-units --plain --no-legend --state=active 'app-{name}-flow-*' | cut -d' ' -f1")
    return sorted(text.split(), key=lambda unit: (unit.partition("@")[2], unit))


def services(host: BedHost, name: str = "flow") -> list[str]:
    """The services of the hops that run, from the public side inwards."""
    found = [re.fullmatch(rf"app-{name}-flow-\d-(.+)@\d+\.service", unit) for unit in units(host, name)]
    return [match[1] for match in found if match]


def slot(host: BedHost, name: str = "flow") -> int:
    """The port of the first hop of the chain that runs."""
    (port,) = {int(unit.partition("@")[2].partition(".")[0]) for unit in units(host, name)}
    return port


def table(host: BedHost) -> redirect.Elements:
    """The live redirects and inner ports."""
    return redirect.parse_listing(host("nft -j list table inet pyfleet"))


def traces(host: BedHost, name: str = "flow") -> str:
    """Everything of any chain of an application that a host without one must not have: units, unit files, processes."""
    return host(
        f"systemctl list-units --all --plain --no-legend 'app-{name}-flow-*'; "
        f"ls -d /etc/systemd/system/app-{name}-flow-* 2>/dev/null; "
        "pgrep -a 'haproxy|varnishd|vinyld|cache-main|socat'; pgrep -af '[h]op.py|[r]edirectionio-agent|[o]auth2-proxy'; true"
    )


def settle(host: BedHost, wanted: list[str], name: str = "flow") -> None:
    """Waits until the chain that drained is gone, and checks that exactly the hops that are wanted run and have units."""
    count = len(wanted)
    host.wait_until(
        f"test $(systemctl list-units --all --plain --no-legend 'app-{name}-flow-*' | wc -l) = {count} && "
        f"test $(ls /etc/systemd/system | grep -c '^app-{name}-flow-') = {count}",
        20,
    )
    assert services(host, name) == wanted
    files = host(f"ls /etc/systemd/system | grep '^app-{name}-flow-'; true").split()
    assert files == [f"app-{name}-flow-{index}-{service}@.service" for index, service in enumerate(wanted)]


# -- more than a request --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def connected(app: Application, host: str, head: str) -> Iterator[socket.socket]:
    """A connection to the public port on which the head of a request was sent; a line break ends each of its lines."""
    to = app.bed.host(host)
    with socket.create_connection((to.address, app.port), timeout=10) as client:
        client.sendall(head.replace("\n", "\r\n").encode())
        yield client


def until(client: socket.socket, end: bytes) -> bytes:
    """Reads until something came."""
    got = b""
    while end not in got:
        data = client.recv(4096)
        assert data, got
        got += data
    return got


def passes_everything(chained: Chained, host: str, headers: Mapping[str, str]) -> None:
    """WebSocket, Host header, a body and an answer that come in parts, a large body: as if nothing stood there."""
    app = chained.app
    lines = "".join(f"{name}: {value}\n" for name, value in headers.items())
    upgrade = "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13\n"
    with connected(app, host, f"GET /web-socket HTTP/1.1\nHost: a\n{lines}{upgrade}\n") as client:
        head = until(client, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert b"s3pplmbitxaq9kygzzhzrbk+xoo=" in head.lower()
        client.sendall(b"hello")
        assert until(client, b"hello") == b"echo hello"
    answer = app.ask("/headers?a=1&b=%20", host=host, headers={**headers, "Host": "shop.example:8443"})
    assert sent(answer, "Host") == ["shop.example:8443"]
    assert answer.json()["path"] == "/headers?a=1&b=%20"

    def asked(path: str) -> Answer:
        return app.ask(path, host=host, headers=headers)

    with connected(app, host, f"GET /stream HTTP/1.1\nHost: a\n{lines}\n") as client:
        until(client, b"first")
        assert asked("/go-on").status == 200
        until(client, b"last")
    before = asked("/uploads").json()["count"]
    with connected(app, host, f"POST /upload HTTP/1.1\nHost: a\n{lines}Content-Length: 8\n\nabcd") as client:
        wait_for(lambda: asked("/uploads").json()["count"] > before)
        client.sendall(b"efgh")
        assert b'{"size": 8}' in until(client, b"}")
    body = bytes(range(256)) * 4096
    answer = app.ask("/upload", host=host, headers=headers, method="POST", data=body)
    assert answer.json()["size"] == len(body)


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Waits until something is so; a connection that is refused says that it is not yet."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if condition():
                return
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)


def write(app: Application, path: str, text: str) -> None:
    """Puts a file into the source."""
    target = pathlib.Path(app.source, path)
    target.parent.mkdir(exist_ok=True)
    target.write_text(text)


def error(answer: Answer) -> str:
    """The reason of a rejection, after a look at the rest of it (F9)."""
    assert answer.status == 401, answer
    assert answer.headers["Content-Type"] == "application/json"
    assert ANSWER not in answer.headers
    told = json.loads(answer.body)
    assert list(told) == ["error"]
    return str(told["error"])
