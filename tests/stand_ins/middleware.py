#!/usr/bin/python3
# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""STAND-IN for oauth2-proxy or for the agent of redirection.io, whichever name it is started under. Neither of the two.

It refuses to start unless command line, environment and configuration are exactly those that the real program's
documentation asks for, and then really proxies: it answers like the real one where that matters to the chain. One file
without imports of its own, Python 3.9, so that it can be installed as a program is: from a path or a URL.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import socket
import socketserver
import sys
import threading
from typing import NoReturn

ADDRESS = re.compile(r"(\[::\]|0\.0\.0\.0|127\.0\.0\.1):([0-9]+)\Z")
UPSTREAM = re.compile(r"http://127\.0\.0\.1:([0-9]+)/?\Z")


def die(words: str) -> NoReturn:
    """End as a program does that does not like its settings."""
    sys.exit(f"stand-in for {os.path.basename(sys.argv[0])}: {words}")


class Settings:
    """Where to listen and to forward, and what to ask of a request."""

    def __init__(self, listen: str, forward: str) -> None:
        address, upstream = ADDRESS.match(listen), UPSTREAM.match(forward)
        if not address:
            die(f"cannot listen on {listen!r}")
        if not upstream:
            die(f"cannot forward to {forward!r}")
        self.host, self.port, self.forward = address.group(1).strip("[]"), int(address.group(2)), int(upstream.group(1))
        self.added: dict[str, str] = {}
        self.open: list[str] = []
        self.login = False


def oauth2_proxy() -> Settings:
    """Settings out of the environment alone; what the real one refuses at its start is refused."""
    if sys.argv[1:]:
        die(f"arguments would be seen in the process list: {len(sys.argv) - 1}")
    get = os.environ.get
    for name in ("OAUTH2_PROXY_CLIENT_ID", "OAUTH2_PROXY_CLIENT_SECRET", "OAUTH2_PROXY_COOKIE_SECRET"):
        if not get(name):
            die(f"missing setting: {name}")
    secret = get("OAUTH2_PROXY_COOKIE_SECRET", "").encode()
    try:
        decoded = base64.urlsafe_b64decode(secret.rstrip(b"=") + b"=" * (-len(secret.rstrip(b"=")) % 4))
    except binascii.Error:
        decoded = b""
    if len(secret) not in (16, 24, 32) and len(decoded) not in (16, 24, 32):
        die("cookie_secret must be 16, 24, or 32 bytes")
    if not get("OAUTH2_PROXY_EMAIL_DOMAINS") and not get("OAUTH2_PROXY_AUTHENTICATED_EMAILS_FILE"):
        die("missing setting for email validation")
    if get("OAUTH2_PROXY_HTTPS_ADDRESS"):
        die("would listen on a second port")
    settings = Settings(get("OAUTH2_PROXY_HTTP_ADDRESS", "127.0.0.1:4180"), get("OAUTH2_PROXY_UPSTREAMS", ""))
    settings.login = True
    settings.open = [
        pattern.split("=", 1)[-1] for pattern in get("OAUTH2_PROXY_SKIP_AUTH_ROUTES", "").split(",") if pattern
    ]
    settings.added = {"X-Forwarded-User": "stand-in"}
    return settings


def parse(lines: list[str]) -> object:
    """YAML, as far as the two configurations use it: mappings, lists, texts in double quotes, comments."""
    rows = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]

    def indent(row: str) -> int:
        return len(row) - len(row.lstrip())

    def block(start: int, depth: int) -> tuple[object, int]:
        mapping: dict[str, object] = {}
        items: list[object] = []
        while start < len(rows) and indent(rows[start]) == depth:
            text = rows[start].strip()
            if text == "-":
                value, start = block(start + 1, indent(rows[start + 1]))
                items.append(value)
                continue
            name, _, value_text = text.partition(":")
            start += 1
            if name in mapping:
                die(f"the key {name} is there twice")
            if value_text.strip():
                mapping[name] = scalar(value_text.strip())
            else:
                mapping[name], start = block(start, indent(rows[start]))
        return items or mapping, start

    return block(0, 0)[0]


def scalar(text: str) -> object:
    """A text in double quotes, with variables of the environment put in; true and false."""
    if text in ("true", "false"):
        return text == "true"
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        die(f"not a quoted text: {text}")
    plain = re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found.group(1), 16)), text[1:-1])
    plain = re.sub(r"\\(.)", r"\1", plain)
    return re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found.group(1)) or die(f"no {found.group(1)}"), plain)


def redirectionio_agent() -> Settings:
    """Settings out of the file that --config-file names, of generation 2 or 3."""
    if len(sys.argv) != 3 or sys.argv[1] != "--config-file":
        die("the command line is --config-file FILE")
    with open(sys.argv[2], encoding="utf-8") as stream:
        found = parse(stream.read().splitlines())
    if not isinstance(found, dict):
        die("the configuration is no mapping")
    if "instance" in found:
        generation, name, folder, proxies = (
            3,
            found["instance"].get("name"),
            found["instance"].get("persist"),
            found.get("reverse_proxy"),
        )
        listen = found.get("server", {}).get("listen")
        known = {"instance", "server", "reverse_proxy"}
    else:
        generation, name, folder, proxies = 2, found.get("instance_name"), found.get("datadir"), found.get("proxies")
        listen = found.get("listen")
        known = {"instance_name", "listen", "persist", "datadir", "proxies"}
    if set(found) - known:
        die(f"unknown settings: {sorted(set(found) - known)}")
    if not name:
        die("instance_name is required")
    if not isinstance(proxies, list) or len(proxies) != 1 or set(proxies[0]) != {"listen", "forward", "project_key"}:
        die("one proxy with listen, forward and project_key is expected")
    if not isinstance(folder, str) or not os.access(folder, os.W_OK):
        die(f"{folder} cannot be written")
    if not isinstance(listen, str) or not os.access(os.path.dirname(listen), os.W_OK):
        die(f"{listen} cannot be made")  # the default is one port for all agents of a host
    settings = Settings(proxies[0]["listen"], proxies[0]["forward"])
    settings.added = {"X-Redirectionio-Instance": str(name), "X-Redirectionio-Generation": str(generation)}
    if str(proxies[0]["project_key"]) in " ".join(sys.argv) or not proxies[0]["project_key"]:
        die("the project key is missing, or seen in the process list")
    return settings


class Handler(socketserver.StreamRequestHandler):
    """One request per connection: its head is looked at, everything after passes as it comes."""

    settings: Settings

    def handle(self) -> None:
        head = [self.rfile.readline(65536)]
        while head[-1] not in (b"\r\n", b""):
            head.append(self.rfile.readline(65536))
        words = head[0].split()
        if len(words) != 3:
            return
        path = words[1].decode("latin-1").partition("?")[0]
        names = [line.split(b":", 1)[0].strip().lower() for line in head]
        settings = self.settings
        if settings.login:
            if path == "/ping":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK")
                return
            cookies = b"".join(line for line, name in zip(head, names) if name == b"cookie")
            if b"_oauth2_proxy=stand-in" not in cookies and not any(re.search(item, path) for item in settings.open):
                self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\nConnection: close\r\n\r\nSign in")
                return
        upgrade = b"upgrade" in names
        kept = [line for line, name in zip(head[1:-1], names[1:]) if upgrade or name != b"connection"]
        added = {**settings.added, **({} if upgrade else {"Connection": "close"})}
        kept += [f"{name}: {value}\r\n".encode() for name, value in added.items()]
        try:
            upstream = socket.create_connection(("127.0.0.1", settings.forward), timeout=5)
        except OSError:
            self.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        with upstream:
            upstream.settimeout(None)
            upstream.sendall(head[0] + b"".join(kept) + b"\r\n")
            threading.Thread(target=self._up, args=(upstream,), daemon=True).start()
            while data := upstream.recv(65536):
                self.wfile.write(data)

    def _up(self, upstream: socket.socket) -> None:
        try:
            while data := self.rfile.read1(65536):
                upstream.sendall(data)
        except (OSError, ValueError):
            return


class Server(socketserver.ThreadingTCPServer):
    """Both families on [::], as Go does it."""

    allow_reuse_address = True
    daemon_threads = True


def main() -> None:
    """Read the settings, say which program this is not, serve."""
    name = os.path.basename(sys.argv[0])
    if name.startswith("oauth2-proxy"):
        settings = oauth2_proxy()
    elif name.startswith("redirectionio"):
        settings = redirectionio_agent()
    else:
        die("it stands in for oauth2-proxy and redirectionio-agent only")
    Handler.settings = settings
    Server.address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with Server((settings.host, settings.port), Handler) as server:
        print(f"STAND-IN for {name}, listening on port {settings.port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
