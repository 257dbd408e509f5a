# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The templates of role legacy, rendered as Ansible does it, and a real Nginx that runs them before backends of toys."""

from __future__ import annotations

import http.client
import os
import pwd
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any, Self

import jinja2

from ansible_collections.pyfleet.runtime.plugins.module_utils.front import Front, hashed
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import Layout
from ansible_collections.pyfleet.runtime.tests.tools import stage_tree

TEMPLATES = stage_tree.ROOT / "roles/legacy/templates"
RELEASE = "0123456789ab"
KEY = "ba9876543210"
TOKEN = "0123456789abcdef0123456789abcdef"

#: What the plan says of Nginx when nothing is set.
NGINX: dict[str, Any] = {
    "upstream": "socket",
    "protocol": "http",
    "read_timeout": 300,
    "proxy_buffers": "",
    "proxy_buffer_size": "",
    "header_buffer": 8192,
    "max_body_mb": 512,
    "gzip": False,
    "gzip_types": ["text/plain", "text/css"],
    "static": None,
    "intercept_errors": False,
    "websocket": True,
    "users": [],
    "force_https": False,
    "charset": "",
    "error_pages": {},
    "aliases": {},
    "languages": {},
}
UWSGI: dict[str, Any] = {
    "harakiri": 180,
    "buffer_size": 4096,
    "post_buffering": 4096,
    "async": 0,
    "async_engine": "",
    "file_wrapper": True,
    "extra": [],
}
GUNICORN: dict[str, Any] = {"worker_class": "sync", "timeout": 30, "loglevel": "info"}
VARIABLES: dict[str, Any] = {
    "ansible_managed": "Ansible managed",
    "app_name": "shop",
    "app_user": "app-shop",
    "app_root": "/srv/pyfleet",
    "app_stop_seconds": 30,
    "app_hardening": True,
    "app_unit_lines": [],
    "app_writable_paths": [],
    "release": RELEASE,
    "settings_dir": f"/etc/pyfleet/shop/{RELEASE}",
    "nginx_dir": f"/etc/pyfleet/shop/nginx-{KEY}",
    "app_dir": "/srv/pyfleet/shop",
}


def render(template: str, **variables: Any) -> str:
    """A template's text, with Ansible's whitespace rules; an unknown variable is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - settings of servers, not HTML
    )
    environment.filters["bool"] = bool
    return environment.get_template(template).render({**VARIABLES, **variables})


def render_nginx(nginx_dir: str = VARIABLES["nginx_dir"], **nginx: Any) -> str:
    """nginx.conf for settings that differ from NGINX in what is given."""
    settings = {**NGINX, **nginx}
    user = pwd.getpwuid(os.geteuid()).pw_name  # Nginx has to know it
    return render(
        "nginx.conf.j2", nginx=settings, server={"nginx": settings}, plan={}, nginx_dir=nginx_dir, app_user=user
    )


def render_uwsgi(settings: Mapping[str, Any] | None = None, **server: Any) -> str:
    """uwsgi.ini likewise."""
    planned = {
        "backend": "uwsgi",
        "module": "shop:app",
        "workers": 5,
        "threads": 2,
        "gevent": False,
        **server,
        "settings": {**UWSGI, **(settings or {})},
    }
    return render("uwsgi.ini.j2", server=planned, plan={"server": planned})


def render_gunicorn(settings: Mapping[str, Any] | None = None, **server: Any) -> str:
    """gunicorn.conf.py likewise."""
    planned = {
        "backend": "gunicorn",
        "module": "shop:app",
        "workers": 5,
        "threads": 1,
        "gevent": False,
        **server,
        "settings": {**GUNICORN, **(settings or {})},
    }
    return render("gunicorn.conf.py.j2", server=planned, plan={"server": planned})


# -- a backend of toys -------------------------------------------------------------------------------------------------------


@dataclass
class Received:
    """A request as the backend saw it: header fields (HTTP) or variables (uwsgi), and the body."""

    line: str
    fields: dict[str, str]
    body: bytes


@dataclass
class Backend:
    """Answers on a socket as told, and remembers what it was asked."""

    path: str
    protocol: str
    status: str = "200 OK"
    headers: list[tuple[str, str]] = field(default_factory=lambda: [("Content-Type", "text/plain")])
    body: bytes = b"the application"
    delay: float = 0.0
    received: list[Received] = field(default_factory=list)
    raw: Callable[[socket.socket, Received], None] | None = None

    def handle(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as stream:
            request = _read_uwsgi(stream) if self.protocol == "uwsgi" else _read_http(stream)
            if request is None:
                return
            self.received.append(request)
            if self.raw:
                self.raw(client, request)
                return
            time.sleep(self.delay)
            head = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
            length = f"Content-Length: {len(self.body)}\r\n" if self.body else ""
            client.sendall(f"HTTP/1.1 {self.status}\r\n{head}{length}Connection: close\r\n\r\n".encode() + self.body)

    @property
    def last(self) -> Received:
        """The newest request."""
        return self.received[-1]


def _read_uwsgi(stream: Any) -> Received | None:
    head = stream.read(4)
    if len(head) < 4:
        return None
    block = stream.read(int.from_bytes(head[1:3], "little"))
    fields: dict[str, str] = {}
    words = []
    while block:
        size = int.from_bytes(block[:2], "little")
        words.append(block[2 : 2 + size].decode("latin-1"))
        block = block[2 + size :]
    for name, value in zip(words[::2], words[1::2], strict=True):
        assert name not in fields, f"{name} is sent twice"
        fields[name] = value
    return Received(fields["REQUEST_METHOD"], fields, stream.read(int(fields.get("CONTENT_LENGTH") or 0)))


def _read_http(stream: Any) -> Received | None:
    line = stream.readline()
    if not line:
        return None
    message: Message = http.client.parse_headers(stream)
    return Received(line.decode().strip(), dict(message.items()), stream.read(int(message.get("Content-Length") or 0)))


@contextmanager
def backend(path: Path, protocol: str = "http") -> Iterator[Backend]:
    """A toy backend that listens on a socket."""
    toy = Backend(str(path), protocol)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            toy.handle(self.request)

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that left is none."""

    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield toy
        finally:
            server.shutdown()


# -- Nginx -------------------------------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body, decoded."""
        return self.body.decode()


class Nginx:
    """A real Nginx with a rendered configuration, laid out as on a host below `folder`."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.log = folder / "error.log"
        self.settings = settings
        layout = Layout("shop", root=str(folder), config=str(folder / "etc"))
        self.etc = folder / "etc/shop"
        self.front = self.etc / f"nginx-{KEY}"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        for release in ("first", "second"):
            (self.etc / release).mkdir(parents=True)
            (folder / "releases" / release).mkdir(parents=True)
            (self.etc / release / "app.sock").symlink_to(folder / f"{release}.sock")
            (self.etc / release / "root").symlink_to(folder / "releases" / release)
        self.front.mkdir(parents=True)
        self.lead("serving", "first")
        self.lead("probed", "second")
        (self.front / "probe.conf").write_text(Front(layout)._maps(KEY, TOKEN), encoding="utf-8")
        (self.front / "listen.conf").write_text(f"listen 127.0.0.1:{self.port};\n", encoding="utf-8")
        self.text = render_nginx(str(self.front), **settings)
        (self.front / "nginx.conf").write_text(self.text, encoding="utf-8")
        if settings.get("users"):
            lines = [f"{login}:{hashed(password)}\n" for login, password in settings["users"]]
            (self.front / "htpasswd").write_text("".join(lines), encoding="utf-8")

    def root(self, release: str = "first") -> Path:
        """The project root of a release."""
        return self.folder / "releases" / release

    def file(self, path: str, text: str | bytes, release: str = "first") -> Path:
        """Writes a file of a release."""
        place = self.root(release) / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text if isinstance(text, bytes) else text.encode())
        return place

    def lead(self, link: str, release: str) -> None:
        """Leads `serving` or `probed` to a release, as the switch does."""
        scratch = self.front / f"{link}.new"
        scratch.symlink_to(f"../{release}")
        os.replace(scratch, self.front / link)

    def command(self, more: str = "") -> list[str]:
        """As in the unit."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        return [
            nginx_binary(), "-c", str(self.front / "nginx.conf"), "-p", str(work),
            "-g", f"daemon off; pid {work}/pid; {more}",
        ]  # fmt: skip

    def check(self) -> subprocess.CompletedProcess[str]:
        """`nginx -t`."""
        return subprocess.run([*self.command(), "-t"], capture_output=True, text=True, check=False)

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(self.log.read_text() + self.text)
            time.sleep(0.01)
        return self

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def __exit__(self, *_error: object) -> None:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)
        said = [line for line in self.log.read_text().splitlines() if "[emerg]" in line or "[warn]" in line]
        assert not said

    def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """A request as a client sends it. The path goes out as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, {"Host": "shop.example", **(headers or {})})
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, fields, answer.read())
        finally:
            connection.close()

    def probe(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """A request as the health check sends it."""
        return self.ask(path, headers={"X-Pyfleet-Probe": TOKEN, **(headers or {})})


def nginx_binary() -> str:
    """Where Nginx is.

    Raises:
        AssertionError: nowhere; a test that does not run proves nothing, so none is skipped.
    """
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    assert found, "nginx is not installed. Next step: `make setup` installs the package nginx-light."
    return found


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose name is short enough for sockets, which pytest's are not."""
    folder = Path(tempfile.mkdtemp(prefix="tpl-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
