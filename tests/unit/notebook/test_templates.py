# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role notebook's unit and kernel script, as Ansible renders them; systemd reads the one, a shell runs the other."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pyfleet.runtime.tests.tools import stage_tree
from ansible_collections.pyfleet.runtime.tests.unit import templating

pytestmark = pytest.mark.rule("H4")

ROLE = stage_tree.ROOT / "roles/notebook"
TOKEN = "t0ken-of-the-test"


def variables(**changes: Any) -> dict[str, Any]:
    return {
        "ansible_managed": "Ansible managed",
        **templating.variables_of(ROLE / "defaults/main.yml"),
        **templating.variables_of(ROLE / "vars/main.yml"),
        "notebook_token": TOKEN,
        "notebook__host": {"token_file": "/etc/pyfleet-notebooks/main/token", "groups": [], "files": [], "changes": []},
        **changes,
    }


def rendered(name: str, **changes: Any) -> str:
    folder = ROLE / "templates"
    return str(templating.rendered((folder / name).read_text(), variables(**changes), folder))


def settings(unit: str, name: str) -> list[str]:
    """The values of a setting."""
    return [line.partition("=")[2] for line in unit.splitlines() if line.startswith(f"{name}=")]


def command(unit: str) -> list[str]:
    (line,) = settings(unit, "ExecStart")
    return shlex.split(line)


def test_h4_jupyter_as_a_service() -> None:
    unit = rendered("notebook.service.j2", notebook_base_url="/tools/", notebook_arguments=['--a="50 %" $HOME \\'])
    assert command(unit) == [
        "/usr/bin/env", "JUPYTER_TOKEN_FILE=${CREDENTIALS_DIRECTORY}/token", "/opt/pyfleet/notebooks/main/bin/jupyter-lab",
        "--no-browser", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=8888", "--ServerApp.port_retries=0",
        "--ServerApp.base_url=/tools/", "--ServerApp.root_dir=/srv/notebooks/main", '--a="50 %%" $$HOME \\',
    ]  # fmt: skip
    assert settings(unit, "LoadCredential") == ["token:/etc/pyfleet-notebooks/main/token"]
    assert "JUPYTER_PATH=/etc/pyfleet-notebooks/main/jupyter" in settings(unit, "Environment")
    assert TOKEN not in unit


@pytest.mark.parametrize(
    ("base_url", "given"), [("/", []), ("/edit/", ["--base-url", "/edit"]), ("/a/b", ["--base-url", "/a/b"])]
)
def test_h4_marimo_as_a_service(base_url: str, given: list[str]) -> None:
    unit = rendered(
        "notebook.service.j2", notebook_kind="marimo", notebook_base_url=base_url, notebook_arguments=["--watch"]
    )
    # --quiet, because it would write its token into the journal; --no-sandbox, because it would install at start.
    assert command(unit) == [
        "/opt/pyfleet/notebooks/main/bin/marimo", "--quiet", "edit", "--headless", "--skip-update-check", "--no-sandbox",
        "--host", "127.0.0.1", "--port", "8888", *given, "--token-password-file", "${CREDENTIALS_DIRECTORY}/token", "--watch",
        "/srv/notebooks/main",
    ]  # fmt: skip
    assert TOKEN not in unit


def test_h4_a_kernels_group_reads_and_what_else_the_group_may_read_is_hidden() -> None:
    host = {**variables()["notebook__host"], "groups": ["app-shop", "app-stock"]}
    unit = rendered("notebook.service.j2", notebook__host=host)
    assert settings(unit, "SupplementaryGroups") == ["app-shop", "app-stock"]
    assert {"/etc/pyfleet", "/run/pyfleet"} <= {
        path.lstrip("-") for path in settings(unit, "InaccessiblePaths")[0].split()
    }
    assert settings(unit, "ReadWritePaths") == ["/srv/notebooks/main"]
    for name, value in (
        ("ProtectSystem", "strict"),
        ("NoNewPrivileges", "yes"),
        ("ProtectHome", "yes"),
        ("ProtectProc", "invisible"),
    ):
        assert settings(unit, name) == [value]
    assert settings(rendered("notebook.service.j2"), "SupplementaryGroups") == []


@pytest.mark.parametrize("kind", ["jupyter", "marimo"])
def test_h4_systemd_accepts_the_unit(kind: str, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze")
    text = rendered("notebook.service.j2", notebook_kind=kind, notebook_unit_lines=["MemoryMax=4G"])
    # The programs and the account are a host's.
    text = text.replace("/opt/pyfleet/notebooks/main/bin/marimo", "/usr/bin/env").replace("=notebook-main", "=root")
    unit = tmp_path / "notebook-main.service"
    unit.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    told = [line for line in done.stderr.splitlines() if "notebook-main" in line]
    assert told == []
    assert "MemoryMax=4G" in text


@pytest.mark.parametrize(
    ("kind", "base_url", "path"),
    [("jupyter", "/", "/api"), ("jupyter", "/a/", "/a/api"), ("marimo", "/", "/health"), ("marimo", "/a", "/a/health")],
)
def test_h4_where_a_server_says_that_it_is_there(kind: str, base_url: str, path: str) -> None:
    assert templating.evaluated("notebook__health", variables(notebook_kind=kind, notebook_base_url=base_url)) == path


@pytest.mark.parametrize(
    ("tool", "stale", "changes", "written", "restart"),
    [
        (False, False, [], [], False),
        (True, False, [], [], True),
        (False, True, [], [], True),
        (False, False, ["token"], [], True),
        (False, False, ["directory /srv/notebooks/main"], [], False),
        (False, False, [], ["/etc/systemd/system/notebook-main.service"], True),
        (False, False, [], ["/etc/pyfleet-notebooks/main/jupyter/kernels/shop/kernel.json"], False),
    ],
)
def test_h4_what_ends_the_kernels_of_those_who_work(
    tool: bool, stale: bool, changes: list[str], written: list[str], restart: bool
) -> None:
    found = templating.evaluated(
        "notebook__restart",
        variables(
            notebook__tool={"changed": tool},
            notebook__host={"changes": changes, "stale": stale},
            notebook__written={"changes": [{"path": path, "action": "created"} for path in written]},
        ),
    )
    assert found in (restart, str(restart))


def test_h4_the_versions_are_pinned_and_those_of_the_tests() -> None:
    project = (stage_tree.ROOT / "tests/fixtures/apps/notebooks/pyproject.toml").read_text()
    script = (stage_tree.ROOT / "tests/fixtures/apps/notebooks/orders.py").read_text()
    for kind, text in (("jupyter", project), ("marimo", script)):
        version = templating.evaluated("notebook__version", variables(notebook_kind=kind))
        package = templating.evaluated("notebook__package", variables(notebook_kind=kind))
        assert f'"{package}=={version}"' in text
    assert templating.evaluated("notebook__version", variables(notebook_version="4.5.0")) == "4.5.0"


# -- the kernel's script, run ------------------------------------------------------------------------------------------------------

#: In place of an application's Python, with which Jupyter would have to be installed: it tells how it was started.
PYTHON = """#!/bin/sh
echo "$0"; printf '%s|' "$@"; echo; echo "$PATH"; echo "$VIRTUAL_ENV"; echo "$PYTHONPATH"; echo "$PYTHONDONTWRITEBYTECODE"
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "kernel"
    path.write_text(rendered("kernel.j2"))
    path.chmod(0o755)
    return path


def release(folder: Path, name: str, root: str = "") -> Path:
    """A release that serves from now on; returns its project's root."""
    project = folder / "releases" / name / root
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/bin/python").write_text(PYTHON)
    (project / ".venv/bin/python").chmod(0o755)
    link = folder / "current"
    link.unlink(missing_ok=True)
    link.symlink_to(f"releases/{name}")
    return project


@pytest.mark.parametrize("root", ["", "backend", "a b/c"])
def test_h4_a_kernel_starts_in_the_release_that_serves_and_stays_in_it(script: Path, tmp_path: Path, root: str) -> None:
    folder = tmp_path / "shop"
    for name in ("r1", "r2"):
        project = release(folder, name, root)
        done = subprocess.run(
            [script, folder, root, "-f", "/run/a b.json"],
            capture_output=True,
            text=True,
            check=True,
            env={"PATH": os.environ["PATH"]},
        )
        program, arguments, path, venv, modules, bytecode = done.stdout.splitlines()
        assert program == str(project / ".venv/bin/python"), "not by way of `current`"
        assert arguments == "-m|ipykernel_launcher|-f|/run/a b.json|"
        assert path.startswith(f"{project}/.venv/bin:")
        assert (venv, modules, bytecode) == (str(project / ".venv"), str(project), "1")


def test_h4_a_kernel_of_an_application_that_is_gone_ends(script: Path, tmp_path: Path) -> None:
    done = subprocess.run([script, tmp_path / "nothing", "", "-f", "x"], capture_output=True, text=True)
    assert done.returncode != 0


# -- the page ----------------------------------------------------------------------------------------------------------------------


def test_h4_the_page_keeps_tokens_off_command_lines_and_out_of_the_journal() -> None:
    page = (stage_tree.ROOT / "docs/notebooks.md").read_text()
    recipes = [yaml.safe_load(part.partition("```")[0]) for part in page.split("```yaml\n")[1:]]
    commands = [
        text
        for recipe in recipes
        for name, text in (recipe.get("app_env") or {}).items()
        if name.endswith("RUN_COMMAND")
    ]
    assert len(commands) == 4
    for text in commands:
        words = shlex.split(text)
        assert not [
            word for word in words if "TOKEN" in word or word.startswith(("--token-password=", "--IdentityProvider"))
        ]
        assert ("--quiet" in words) == ("marimo" in words)
        assert "$PORT" in words, "so that releases switch side by side"
    assert json.dumps(recipes).count("{{ vault_") == 3
