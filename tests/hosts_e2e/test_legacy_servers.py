# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Section G, asked of real uWSGI and Gunicorn servers that run with the rendered settings, on a socket that outlives them.

They need no host, but packages of the index, in the versions that the plan pins.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils.legacy import pin
from ansible_collections.pyfleet.runtime.tests.tools import stage_tree
from ansible_collections.pyfleet.runtime.tests.unit.legacy.servers import (
    RELEASE,
    render_gunicorn,
    render_uwsgi,
    short_folder,
)

APPLICATION = """
import json, os, sys, threading, time
def app(environ, start):
    path, _, value = environ["PATH_INFO"].partition("=")
    answer = {"pid": os.getpid(), "thread": threading.get_ident()}
    if path == "/sleep":
        time.sleep(float(value))
    elif path == "/environ":
        answer = {name: str(value) for name, value in environ.items()}
    elif path == "/options":
        import uwsgi
        answer = {name: str(value) for name, value in uwsgi.opt.items()}
    elif path == "/patched":
        from gevent import monkey
        answer = monkey.is_module_patched("socket")
    body = json.dumps(answer).encode()
    start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
"""


#: Passes a socket on as systemd does: file descriptor 3, and variables that name the process.
ACTIVATION = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="app")
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment that has both servers."""
    folder = tmp_path_factory.mktemp("servers") / "venv"
    uv = stage_tree.ROOT / ".venv/bin/uv"
    wanted = [pin(role, sys.version_info[:2]) for role in ("uwsgi", "gunicorn", "gevent")]
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", folder, *wanted, "packaging"], check=True)
    return folder / "bin"


class Server:
    """A backend server on a socket that the test holds, as systemd would."""

    def __init__(self, folder: Path, programs: Path, command: list[str], protocol: str) -> None:
        self.folder = folder
        self.programs = programs
        self.command = command
        self.protocol = protocol
        self.path = str(folder / "app.sock")
        self.log = folder / "log"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(self.path)
        self.socket.listen(4096)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; what connects meanwhile waits."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", ACTIVATION, str(self.socket.fileno()), *self.command],
                cwd=self.folder,
                env={"PATH": f"{self.programs}:/usr/bin:/bin", "HOME": "/nonexistent", "PORT": "8080"},
                pass_fds=[self.socket.fileno()],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def children(self) -> list[int]:
        """The processes of its workers."""
        assert self.process
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(word) for word in found.split()]

    def ready(self, workers: int) -> Server:
        """Waits until every worker accepts requests."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            with suppress(OSError):
                if (
                    self.protocol == "http"
                    and len(self.children()) == workers
                    and self.log.read_text().count("Booting") >= workers
                ):
                    return self
                if (
                    self.protocol == "uwsgi"
                    and [each["accepting"] for each in self.stats()["workers"]] == [1] * workers
                ):
                    return self
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def end(self, everyone: bool = False) -> int:
        """Sends SIGTERM, to the workers as well if asked, and waits."""
        assert self.process
        if everyone:
            os.killpg(self.process.pid, signal.SIGTERM)
        else:
            self.process.terminate()
        return self.process.wait(20)

    def ask(self, path: str, length: int = 0) -> Any:
        """An answer's JSON; None when the server closed the connection instead. `length` is that of a header."""
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(15)
        with client:
            client.connect(self.path)
            with suppress(OSError):
                client.sendall(self._request(path, length))
            data = b""
            with suppress(OSError):
                while part := client.recv(65536):
                    data += part
        head, _, body = data.partition(b"\r\n\r\n")
        return json.loads(body) if b" 200 " in head.partition(b"\r\n")[0] and body else None

    def _request(self, path: str, length: int) -> bytes:
        if self.protocol == "http":
            fields = "X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n"
            return f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}X-Long: {'x' * length}\r\n\r\n".encode()
        variables = {
            "REQUEST_METHOD": "GET", "PATH_INFO": path, "SCRIPT_NAME": "", "QUERY_STRING": "", "SERVER_NAME": "a",
            "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "UWSGI_SCHEME": "https", "HTTP_X": "x" * length,
        }  # fmt: skip
        words = [word.encode() for pair in variables.items() for word in pair]
        block = b"".join(len(word).to_bytes(2, "little") + word for word in words)
        return b"\0" + len(block).to_bytes(2, "little") + b"\0" + block

    def together(self, path: str, count: int) -> tuple[list[Any], float]:
        """Answers of requests sent at the same time, and the seconds that they took."""
        answers: list[Any] = []
        threads = [threading.Thread(target=lambda: answers.append(self.ask(path))) for _number in range(count)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers, time.monotonic() - begun

    def stats(self) -> Any:
        """What uWSGI's stats socket says."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(self.folder / "stats.sock"))
            return json.loads(client.makefile("rb").read())

    def backlog(self) -> int:
        """How many connections may wait."""
        lines = subprocess.run(["ss", "-xlH"], capture_output=True, text=True, check=True).stdout.splitlines()
        return next(int(line.split()[3]) for line in lines if f" {self.path} " in line)


@contextmanager
def running(folder: Path, programs: Path, command: list[str], protocol: str) -> Iterator[Server]:
    server = Server(folder, programs, command, protocol)
    server.start()
    try:
        yield server
    finally:
        server.socket.close()
        if server.process and server.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()


@pytest.fixture
def uwsgi(programs: Path) -> Iterator[Callable[..., Any]]:
    """Starts uWSGI with settings: `with uwsgi({"harakiri": 1}, threads=1) as server`."""
    with short_folder() as folder:

        def start(settings: dict[str, Any] | None = None, **server: Any) -> Any:
            text = render_uwsgi(settings, **{"workers": 2, **server})
            (folder / "server.ini").write_text(text.replace(f"/run/app-shop/{RELEASE}", str(folder)))
            (folder / "shop.py").write_text(APPLICATION)
            return running(folder, programs, ["uwsgi", "--ini", "server.ini"], "uwsgi")

        yield start


@pytest.fixture
def gunicorn(programs: Path) -> Iterator[Callable[..., Any]]:
    """Starts Gunicorn likewise."""
    with short_folder() as folder:

        def start(settings: dict[str, Any] | None = None, **server: Any) -> Any:
            (folder / "server.py").write_text(render_gunicorn(settings, **{"workers": 2, **server}))
            (folder / "shop.py").write_text(APPLICATION)
            return running(folder, programs, ["gunicorn", "--config", "server.py", "shop:app"], "http")

        yield start


# -- uWSGI -------------------------------------------------------------------------------------------------------------------


def test_g_uwsgi_workers_threads_and_the_rest_of_the_defaults(uwsgi: Any) -> None:
    with uwsgi(workers=3, threads=4) as server:
        options = server.ask("/options")
        assert {name: options[name] for name in ("harakiri", "buffer-size", "post-buffering")} == {
            "harakiri": "b'180'", "buffer-size": "b'4096'", "post-buffering": "b'4096'",
        }  # fmt: skip
        workers = server.stats()["workers"]
        assert [len(worker["cores"]) for worker in workers] == [4] * 3
        assert server.ask("/environ")["wsgi.url_scheme"] == "https"
        assert server.ask("/environ")["SCRIPT_NAME"] == ""
        assert server.backlog() == 4096
        assert server.ready(3).end() == 0
    assert "Gracefully" in server.log.read_text()


def test_g_harakiri(uwsgi: Any) -> None:
    with uwsgi({"harakiri": 1}) as server:
        begun = time.monotonic()
        assert server.ask("/sleep=8") is None
        assert time.monotonic() - begun < 6
        assert server.ask("/environ")


def test_g_harakiri_0_is_no_limit_and_post_buffering_0_is_none(uwsgi: Any) -> None:
    with uwsgi({"harakiri": 0, "post_buffering": 0}) as server:
        options = server.ask("/options")
        assert "harakiri" not in options
        assert "post-buffering" not in options


@pytest.mark.parametrize(("size", "length", "fits"), [(4096, 3500, True), (4096, 4200, False), (32768, 30000, True)])
def test_g_wsgi_buffer_size(uwsgi: Any, size: int, length: int, fits: bool) -> None:
    with uwsgi({"buffer_size": size}, workers=1) as server:
        assert (server.ask("/environ", length) is not None) is fits


def test_g_uwsgi_async_and_engine(uwsgi: Any) -> None:
    with uwsgi({"async": 7, "async_engine": "ugreen"}, threads=1) as server:
        assert server.ask("/options")["ugreen"] == "b'true'"
        assert [len(worker["cores"]) for worker in server.stats()["workers"]] == [7, 7]
    assert "preforking+async" in server.log.read_text()


def test_g_uwsgi_gevent(uwsgi: Any) -> None:
    """One worker answers many requests at once, and ends once they are answered when its master is told to."""
    with uwsgi({"async": 20, "async_engine": "gevent"}, gevent=True, threads=1, workers=1) as server:
        assert server.ask("/patched") is True
        answers, seconds = server.together("/sleep=0.5", 8)
        assert None not in answers
        assert seconds < 2
        threading.Timer(0.2, server.end).start()
        assert server.ask("/sleep=1")


@pytest.mark.parametrize("wanted", [True, False])
def test_g_uwsgi_file_wrapper(uwsgi: Any, wanted: bool) -> None:
    with uwsgi({"file_wrapper": wanted}, workers=1) as server:
        assert ("wsgi.file_wrapper" in server.ask("/environ")) is wanted


def test_g_uwsgi_extra_directives_come_last(uwsgi: Any) -> None:
    with uwsgi({"extra": [["max-requests", "77"], ["disable-logging", "false"], ["lazy-apps", "false"]]}) as server:
        assert server.ask("/options")["max-requests"] == "b'77'"
        assert server.ready(2).end() == 0
    log = server.log.read_text()
    assert "=> generated" in log
    assert log.count("WSGI app 0") == 1  # once in the master, instead of once per worker


def test_g_uwsgi_refuses_what_it_does_not_know(uwsgi: Any) -> None:
    with uwsgi({"extra": [["no-such-thing", "1"]]}) as server:
        assert server.process.wait(10) != 0
    assert "unknown config directive: no-such-thing" in server.log.read_text()


def test_g_uwsgi_ends_when_the_application_cannot_be_imported(uwsgi: Any) -> None:
    with uwsgi(module="nowhere:app") as server:
        assert server.process.wait(10) == 22
    assert "No module named 'nowhere'" in server.log.read_text()


def test_g_uwsgi_answers_what_runs_when_every_process_is_told_to_end(uwsgi: Any) -> None:
    for threads in (1, 3):
        with uwsgi(workers=2, threads=threads) as server:
            server.ready(2)
            threading.Timer(0.4, server.end, [True]).start()
            answers, _seconds = server.together("/sleep=1", 2)
            assert None not in answers
        Path(server.path).unlink()


def test_g_uwsgi_ends_at_once_while_it_imports_the_application(uwsgi: Any) -> None:
    """A release that fails its health check is told to end in the middle of its start."""
    with uwsgi() as server:
        server.ready(2).end()
        (server.folder / "shop.py").write_text("import time\ntime.sleep(3)\n" + APPLICATION)
        server.start()
        time.sleep(1.2)
        begun = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - begun < 5


# -- Gunicorn ----------------------------------------------------------------------------------------------------------------


def settings_of(server: Server) -> dict[str, str]:
    """Gunicorn's settings, by its own account."""
    command = [str(server.programs / "gunicorn"), "--config", "server.py", "--print-config", "shop:app"]
    done = subprocess.run(
        command,
        cwd=server.folder,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "HOME": "/"},
    )
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {name.strip(): value.strip() for name, _sign, value in pairs}


def test_g_gunicorn_defaults(gunicorn: Any) -> None:
    with gunicorn(workers=3) as server:
        environ = server.ask("/environ")
        assert (environ["wsgi.url_scheme"], environ["wsgi.multithread"]) == ("https", "False")
        assert len(server.ready(3).children()) == 3
        assert server.backlog() == 4096
        files = [
            os.readlink(f"/proc/{server.process.pid}/fd/{name}")
            for name in os.listdir(f"/proc/{server.process.pid}/fd")
        ]
        assert any(name.startswith("/dev/shm/") for name in files)
        found = settings_of(server)
        assert (found["timeout"], found["loglevel"], found["graceful_timeout"]) == ("30", "info", "28")
        assert server.end() == 0
    log = server.log.read_text()
    assert f"Listening at: unix:{server.path}" in log
    assert "GET /" not in log
    assert "ontrol socket" not in log


def test_g_gunicorn_threads(gunicorn: Any) -> None:
    with gunicorn({"worker_class": "gthread"}, workers=1, threads=4) as server:
        assert server.ask("/environ")["wsgi.multithread"] == "True"
        answers, seconds = server.together("/sleep=0.5", 4)
        assert None not in answers
        assert seconds < 1.8


def test_g_gunicorn_worker_class_gevent(gunicorn: Any) -> None:
    with gunicorn({"worker_class": "gevent"}, workers=1, gevent=True) as server:
        assert server.ask("/patched") is True
        answers, seconds = server.together("/sleep=0.5", 8)
        assert None not in answers
        assert seconds < 2
    assert "Using worker: gevent" in server.log.read_text()


def test_g_gunicorn_timeout_and_loglevel(gunicorn: Any) -> None:
    with gunicorn({"timeout": 1, "loglevel": "warning"}, workers=1) as server:
        assert server.ask("/sleep=6") is None
        assert server.ask("/environ")
    log = server.log.read_text()
    assert "WORKER TIMEOUT" in log
    assert "[INFO]" not in log


def test_g_gunicorn_answers_what_runs_when_every_process_is_told_to_end(gunicorn: Any) -> None:
    with gunicorn(workers=2) as server:
        server.ready(2)
        threading.Timer(0.4, server.end, [True]).start()
        answers, _seconds = server.together("/sleep=1", 2)
        assert None not in answers


# -- both --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["uwsgi", "gunicorn"])
def test_g_a_restart_drops_no_request(name: str, request: pytest.FixtureRequest) -> None:
    """The socket stays, and what connects meanwhile waits for the next process."""
    with request.getfixturevalue(name)() as server:
        assert server.ask("/environ")
        answers: list[Any] = []
        stop = threading.Event()

        def hammer() -> None:
            while not stop.is_set():
                answers.append(server.ask("/sleep=0.01"))

        threads = [threading.Thread(target=hammer) for _number in range(8)]
        for thread in threads:
            thread.start()
        for _number in range(3):
            time.sleep(0.3)
            assert server.ready(2).end() == 0
            assert os.path.exists(server.path)
            server.start()
        time.sleep(1.5)
        stop.set()
        for thread in threads:
            thread.join()
        seen = {answer["pid"] for answer in answers if answer}
        assert answers.count(None) == 0
        assert len(answers) > 50
        assert len(seen) > 2
