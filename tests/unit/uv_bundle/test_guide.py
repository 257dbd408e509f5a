# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application of uv's AWS Lambda guide, from a real package index: packed, unpacked in an empty place, called with its event.

`-m "not index"` leaves these out where there is no index.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.modules import uv_bundle
from ansible_collections.pyfleet.runtime.tests.tools import prepare_app
from ansible_collections.pyfleet.runtime.tests.unit.uv.modules import run_module
from ansible_collections.pyfleet.runtime.tests.unit.uv_bundle.projects import UV

pytestmark = [
    pytest.mark.slow,
    pytest.mark.rule("H6"),
    pytest.mark.index,
    pytest.mark.skipif(not UV, reason="no uv in the development environment or on PATH"),
]
FIXTURE = prepare_app.ROOT / "tests/fixtures/apps/lambda-fastapi"
#: The function runs in this test, so on the Python that is here; what is compiled has to fit it.
HERE = "{}.{}".format(*sys.version_info[:2])
#: Machine numbers in the head of an ELF file.
X86_64, AARCH64 = 62, 183

#: What Lambda does, as far as the guide's function notices: import the handler, call it with the event, print its answer as JSON.
RUNTIME = """
import importlib, json, sys
sys.path[:0] = sys.argv[3:]
module, _, name = sys.argv[1].rpartition(".")
with open(sys.argv[2]) as stream:
    event = json.load(stream)
print(json.dumps(getattr(importlib.import_module(module), name)(event, object())))
"""


def pack(project: Path, dest: Path, **arguments: Any) -> dict[str, Any]:
    """Runs the module with the indexes that this machine has, and returns its result."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("UV_")}
    arguments = {"python_version": HERE, "include": ["app"], **arguments}
    result = run_module(
        uv_bundle.main, project=str(project), dest=str(dest), executable=UV, environment=variables, **arguments
    )
    assert not result.get("failed"), result["msg"]
    return result


def answer(place: Path, *folders: Path) -> dict[str, Any]:
    """Calls the function in `place` with the guide's event, on a Python that sees nothing but its own library and `folders`."""
    python = getattr(sys, "_base_executable", sys.executable)
    command = [python, "-I", "-S", "-B", "-c", RUNTIME, "app.main.handler", str(FIXTURE / "event.json")]
    done = subprocess.run([*command, *map(str, folders or (place,))], cwd=place, capture_output=True, text=True, env={})
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def unpack(archive: Path, place: Path) -> Path:
    """Unpacks an archive into an empty place."""
    place.mkdir(parents=True)
    shutil.unpack_archive(archive, place)
    return place


def machines(archive: Path) -> set[int]:
    """The machines that the compiled modules of an archive are for."""
    with zipfile.ZipFile(archive) as opened:
        heads = [opened.read(name)[:20] for name in opened.namelist() if name.endswith(".so")]
    return {int.from_bytes(head[18:20], "little") for head in heads if head.startswith(b"\x7fELF")}


def response(body: str) -> dict[str, Any]:
    """The guide's response, but for its length, which is that of the body here."""
    text = json.dumps(body)
    return {
        "statusCode": 200,
        "headers": {"content-length": str(len(text)), "content-type": "application/json"},
        "multiValueHeaders": {},
        "body": text,
        "isBase64Encoded": False,
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guide's project, locked."""
    return prepare_app.prepare(FIXTURE, tmp_path_factory.mktemp("guide") / "project", UV)


def test_h6_the_guides_application_answers_its_event_from_the_archive(project: Path, tmp_path: Path) -> None:
    first = pack(project, tmp_path / "package.zip")
    assert answer(unpack(tmp_path / "package.zip", tmp_path / "function")) == response("Hello, world!")
    assert {"fastapi", "mangum", "pydantic_core"} <= {one["name"] for one in first["packages"]}
    assert "uvicorn" not in {one["name"] for one in first["packages"]}
    # Bit for bit on a second build, from a copy of the project in another place.
    again = shutil.copytree(project, tmp_path / "somewhere else" / "project")
    assert pack(again, tmp_path / "second.zip")["sha256"] == first["sha256"]
    assert (tmp_path / "second.zip").read_bytes() == (tmp_path / "package.zip").read_bytes()


def test_h6_the_guides_application_answers_from_layer_and_code(project: Path, tmp_path: Path) -> None:
    pack(project, tmp_path / "layer.zip", kind="layer", include=None)
    pack(project, tmp_path / "code.zip", kind="code")
    layer = unpack(tmp_path / "layer.zip", tmp_path / "opt")
    code = unpack(tmp_path / "code.zip", tmp_path / "task")
    assert sorted(path.name for path in layer.iterdir()) == ["python"]
    assert sorted(path.name for path in code.iterdir()) == ["app"]
    assert answer(code, code, layer / "python") == response("Hello, world!")


def test_h6_compiled_packages_are_for_the_functions_architecture(project: Path, tmp_path: Path) -> None:
    # The Python of the function need not be on this machine either.
    for architecture, machine in (("x86_64", X86_64), ("arm64", AARCH64)):
        dest = tmp_path / f"{architecture}.zip"
        result = pack(project, dest, architecture=architecture, python_version="3.13")
        assert machines(dest) == {machine}
        with zipfile.ZipFile(dest) as archive:
            assert [name for name in archive.namelist() if name.endswith(".so") and "cpython-313" in name]
        assert pack(project, dest, architecture=architecture, python_version="3.13")["changed"] is False
        assert result["unzipped_size"] < 262144000


def test_h6_the_guides_workspace_with_a_member(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "project"
    shutil.copytree(project, copy)
    for command in (["init", "--lib", "library"], ["add", "--no-sync", "./library"]):
        subprocess.run([UV, *command], cwd=copy, check=True, capture_output=True)
    main = copy / "app/main.py"
    text = main.read_text().replace('return "Hello, world!"', "return hello()")
    main.write_text(
        text.replace("from mangum import Mangum\n", "from mangum import Mangum\n\nfrom library import hello\n")
    )
    result = pack(copy, tmp_path / "package.zip")
    assert "library" in {one["name"] for one in result["packages"]}
    assert answer(unpack(tmp_path / "package.zip", tmp_path / "function")) == response("Hello from library!")
