# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Both ends of the supported ansible-core versions: the oldest, and the newest that a Python at hand can run."""

from __future__ import annotations

import glob
import os
import pathlib
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.hosts_e2e.conftest import Application

OLDEST = "ansible-core>=2.18,<2.19"
NEWEST = "ansible-core"


def interpreters() -> list[str]:
    """Pythons of this machine from 3.11 on, oldest first."""
    found: dict[int, str] = {}
    candidates: list[str | None] = [shutil.which(f"python3.{minor}") for minor in range(11, 16)]
    candidates += [
        *glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python3")),
        "/usr/bin/python3",
        sys.executable,
    ]
    for path in filter(None, candidates):
        answer = subprocess.run(
            [path, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True
        )
        match = re.fullmatch(r"3 (\d+)\s*", answer.stdout)
        if match and int(match[1]) >= 11:
            found.setdefault(int(match[1]), path)
    return [found[minor] for minor in sorted(found)]


@pytest.fixture(scope="module", params=["oldest", "newest"])
def core(request: pytest.FixtureRequest) -> pathlib.Path:
    """The bin directory of an environment with that ansible-core, made once per checkout."""
    python = interpreters()[0 if request.param == "oldest" else -1]
    folder: pathlib.Path = CHECKOUT / ".work" / "cores" / request.param
    uv = str(CHECKOUT / ".venv" / "bin" / "uv")
    dev = ["pytest==9.2.0", "pytest-xdist==3.8.0", "hypothesis==6.170.15", "pyyaml", "jinja2", "uv==0.13.8"]
    dev += ["pyte==0.8.2", "ansible-builder==3.2.0", "ansible-runner==2.4.3"]
    environment = {**os.environ, "UV_EXCLUDE_NEWER": "2026-11-20T00:00:00Z"}
    if not list(folder.glob("lib/python3.*/site-packages/xdist")):
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", python, str(folder)], check=True, env=environment)
        wanted = [OLDEST if request.param == "oldest" else NEWEST, *dev]
        command = [uv, "pip", "install", "--quiet", "--python", str(folder), *wanted]
        subprocess.run(command, check=True, env=environment)
    version = subprocess.run([folder / "bin" / "ansible", "--version"], capture_output=True, text=True, check=True)
    print(f"\n{request.param}: {version.stdout.splitlines()[0]} with {python}")
    if request.param == "oldest":
        assert "core 2.18." in version.stdout
    return folder / "bin"


def test_unit_tests_pass(core: pathlib.Path) -> None:
    """All but those of the pure functions and of real builds, to which it is the same."""
    command = [str(core / "python"), "-m", "pytest", "-q", "-x", "-n", "2", "-p", "no:cacheprovider"]
    command += ["-m", "not slow", "tests/unit", "--ignore=tests/unit/plan", "--ignore=tests/unit/benchmark"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert re.search(r"\d{3,} passed", done.stdout), done.stdout[-300:]


def test_provision_and_deploy(core: pathlib.Path, app: Application) -> None:
    environment = {"PATH": f"{core}:/usr/bin:/bin"}
    options: dict[str, Any] = {"ansible_playbook": str(core / "ansible-playbook"), "environment": environment}
    app.bed.play("playbooks/provision.yml", limit="bookworm1", **options).succeeded()
    app.deploy(**options).succeeded()
    assert app.version() == "1.0.0"
    assert app.deploy(**options).succeeded().changed == 0
    failed = app.deploy({"BEHAVIOUR": "500_on:/health"}, variables={"app_health_deadline": 10}, **options).failed()
    assert "- GET /health returned 500." in failed.message(), failed.output[-3000:]
    assert app.play("rollback", variables={"app_release": app.linked()}, **options).succeeded().changed == 0
    assert "shop: healthy" in app.play("status", **options).succeeded().stdout
