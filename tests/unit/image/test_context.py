# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""H5: what is sent to the build, and the health check that an image carries, run here by a plain Python."""

from __future__ import annotations

import http.server
import io
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.plugin_utils.image_context import health_program, is_package, pack

pytestmark = pytest.mark.rule("H5")


def source(folder: Path, *names: str) -> Path:
    """An application's archive, as the controller makes it."""
    archive = folder / "source.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            content = f"of {name}\n".encode()
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return archive


def unpacked(content: bytes) -> dict[str, tuple[bytes, int]]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            found[member.name] = (file.read(), member.mode)
    return found


def test_the_layer_of_dependencies_sees_project_files_and_nothing_else(tmp_path: Path) -> None:
    names = (
        "pyproject.toml",
        "uv.lock",
        "app/main.py",
        "lib/one/pyproject.toml",
        ".python-version",
        "my-uv.lock",
        "notes/uv.toml",
    )
    made = unpacked(pack("FROM x\n", {"run": "#!/bin/bash\n"}, b"zip", "# uv\n", source(tmp_path, *names)))
    dependencies = {name for name in made if name.startswith("dependencies/")}
    expected = {"pyproject.toml", "uv.lock", "lib/one/pyproject.toml", ".python-version", "notes/uv.toml"}
    assert dependencies == {f"dependencies/{name}" for name in expected}
    assert made["dependencies/lib/one/pyproject.toml"][0] == b"of lib/one/pyproject.toml\n"
    assert made["Containerfile"][0] == b"FROM x\n"
    assert made["scripts/run"] == (b"#!/bin/bash\n", 0o755)
    assert made["scripts/health.pyz"] == (b"zip", 0o755)
    assert made["source.tar.gz"][0] == (tmp_path / "source.tar.gz").read_bytes()


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = source(tmp_path, "uv.lock")
    first = pack("FROM x\n", {"run": ""}, health_program({"paths": ["/"]}), "", archive)
    monkeypatch.setattr("time.time", lambda: 1.0)
    assert pack("FROM x\n", {"run": ""}, health_program({"paths": ["/"]}), "", archive) == first
    assert pack("FROM x\n", {"run": ""}, health_program({"paths": ["/a"]}), "", archive) != first
    with zipfile.ZipFile(io.BytesIO(health_program({"paths": ["/"]}))) as program:
        assert {member.date_time for member in program.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert "scripts/health.pyz" not in unpacked(pack("FROM x\n", {}, None, "", archive))


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the number in the path."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.rpartition("/")[2] or 200))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture(params=["0.0.0.0", "127.0.0.1"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    with http.server.ThreadingHTTPServer((request.param, 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield request.param, made.server_address[1]
        made.shutdown()


def check(folder: Path, port: int, **request: Any) -> tuple[int, str]:
    """Runs the program as the image does: without this process's modules, with PORT."""
    program = folder / "health.pyz"
    program.write_bytes(health_program(request))
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(program)],
        env={"PORT": str(port)},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    return done.returncode, done.stdout


@pytest.mark.rule("E1", "E2", "E3", "E4")
def test_e1_the_health_check_of_an_image_is_the_contracts(tmp_path: Path, server: tuple[str, int]) -> None:
    address, port = server
    code, said = check(tmp_path, port, paths=["/200", "/x/200"], accept="200")
    if address == "127.0.0.1":
        assert (code, said.splitlines()[0]) == (1, "Your application is listening on localhost instead of publicly")
        return
    assert (code, said) == (0, "Response from GET /200 is 200\nResponse from GET /x/200 is 200\n")
    code, said = check(tmp_path, port, paths=["/200", "/204"], accept="200")
    assert code == 1
    assert "Health check failed:\n- GET /204 returned 204.\n" in said
    assert check(tmp_path, port, paths=["/204"], accept="2xx")[0] == 0
    assert check(tmp_path, port, paths=["/404"], accept="200-499")[0] == 0
    assert check(tmp_path, port, paths=["/500"], accept="200-499")[0] == 1


@pytest.mark.rule("E4")
def test_e4_nothing_listens(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    code, said = check(tmp_path, port, paths=["/"], accept="200")
    assert (code, said.splitlines()[0]) == (1, f"Your application is not listening on {port}")


@pytest.mark.parametrize(
    ("text", "package"),
    [
        (None, False),
        ("[project]\nname = 'x'\n", False),
        ("[project]\n[build-system]\nrequires = []\n", True),
        ("[build-system]\nrequires = []\n[tool.uv]\npackage = false\n", False),
        ("[tool.uv]\ndev = []\npackage = true\n", True),
        ("[tool.uv]\n[tool.other]\npackage = true\n", False),
        ("# [build-system]\n", False),
    ],
)
def test_what_uv_calls_a_package(text: str | None, package: bool) -> None:
    assert is_package(text) is package
