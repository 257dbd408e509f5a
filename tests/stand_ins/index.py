# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package index in front of a folder: it asks for credentials and notes who asked for what."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path


@dataclasses.dataclass
class Index:
    """The address, without credentials, and the requests so far: address of the client, path, whether it had the credentials."""

    url: str
    requests: list[tuple[str, str, bool]] = dataclasses.field(default_factory=list)

    def clients(self) -> set[str]:
        """The addresses that asked for anything."""
        return {client for client, _path, _ok in self.requests}


@contextlib.contextmanager
def serving(folder: Path, address: str, user: str, password: str) -> Iterator[Index]:
    """Serves `folder`, which has a folder of wheels for each package, from a thread."""
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

        def do_HEAD(self) -> None:
            """As GET, without the body."""
            self.do_GET()

        def do_GET(self) -> None:
            """Answer with the links of a package, or a wheel."""
            allowed = self.headers.get("Authorization") == wanted
            with lock:
                index.requests.append((self.client_address[0], self.path, allowed))
            parts = [part for part in self.path.split("/") if part]
            if not allowed:
                self.answer(401, b"", "text/plain", {"WWW-Authenticate": "Basic"})
            elif parts[:1] != ["simple"] or ".." in parts or not (folder / "/".join(parts[1:])).exists():
                self.answer(404, b"", "text/plain")
            elif len(parts) == 2:
                names = sorted(path.name for path in (folder / parts[1]).iterdir())
                links = "".join(f'<a href="/simple/{parts[1]}/{name}">{name}</a>\n' for name in names)
                self.answer(200, f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html")
            else:
                self.answer(200, (folder / parts[1] / parts[2]).read_bytes(), "application/octet-stream")

        def answer(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
            """Send one answer."""
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    server.daemon_threads = True
    index = Index(f"http://{address}:{server.server_address[1]}/simple")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
