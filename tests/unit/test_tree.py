# Copyright: pyfleet contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Guards over the whole tree: what no file may hold, and what every plugin must."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pyfleet.runtime.tests.tools import stage_tree

ROOT = stage_tree.ROOT
FILES = [ROOT / name for name in stage_tree.listed(ROOT)]
TEXTS = [path for path in FILES if path.is_file() and not path.is_symlink() and b"\0" not in path.read_bytes()[:4096]]
PLUGINS = sorted(path for path in FILES if path.suffix == ".py" and path.is_relative_to(ROOT / "plugins"))
MODULES = [path for path in PLUGINS if path.parent.name == "modules" and path.name != "__init__.py"]
DOCUMENTED = [path for path in PLUGINS if path.parent.name in {"modules", "filter", "lookup", "callback"}]

#: Hosts of package, image and collection registries, in halves so that this file does not hold them. What is fetched comes
#: from what a user configures: a name in a file would bypass a mirror, and work on its author's network only.
REGISTRIES = [
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "files.python" + "hosted",
    "galaxy.ansible" + ".com",
    "docker" + ".io",
    "hub.docker" + ".com",
    "ghcr" + ".io",
    "quay" + ".io",
    "registry.npmjs" + ".org",
    "proxy.golang" + ".org",
    "deb.debian" + ".org",
    "releases.astral" + ".sh",
]


def relative(path: Path) -> str:
    """Return a path as messages and parameters show it."""
    return path.relative_to(ROOT).as_posix()


def constants(path: Path) -> dict[str, Any]:
    """Return the module-level string constants of a Python file."""
    return {
        target.id: statement.value.value
        for statement in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def holding(pattern: re.Pattern[str]) -> list[str]:
    """Return `file:line` of every line that the pattern matches."""
    return [
        f"{relative(path)}:{number}"
        for path in TEXTS
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_the_host_of_a_registry() -> None:
    assert not holding(re.compile("|".join(map(re.escape, REGISTRIES)), re.IGNORECASE))


def test_no_file_holds_the_path_of_this_checkout() -> None:
    # A checkout at `/collection` or the like would match half of the documentation: only a deeper path says something.
    if len(ROOT.parts) < 3:
        pytest.skip(f"{ROOT} is too short a path to look for")
    assert not holding(re.compile(re.escape(str(ROOT)) + r"(?![\w-])"))


def test_no_lock_file_is_tracked() -> None:
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], check=True, capture_output=True, text=True)
    assert not [name for name in tracked.stdout.split("\0") if Path(name).name == "uv.lock"]


def test_every_fixture_application_has_a_project() -> None:
    folders = [path for path in (ROOT / "tests/fixtures/apps").iterdir() if path.is_dir()]
    assert folders
    projects = (
        "pyproject.toml",
        "requirements.txt",
        "shop.py",
    )  # uv mode, legacy mode, legacy mode without requirements
    assert not [relative(path) for path in folders if not any(list(path.rglob(name)) for name in projects)]


@pytest.mark.parametrize("path", PLUGINS, ids=relative)
def test_plugins_postpone_annotations(path: Path) -> None:
    imports = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)]
    if path.name != "__init__.py" or imports:
        assert any(node.module == "__future__" and node.names[0].name == "annotations" for node in imports)


@pytest.mark.parametrize("path", PLUGINS, ids=relative)
def test_plugins_carry_the_licence(path: Path) -> None:
    head = path.read_text(encoding="utf-8")[:400]
    if head:
        assert "SPDX-License-Identifier: GPL-3.0-or-later" in head
        assert "Copyright" in head


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_modules_state_check_and_diff_mode(path: Path) -> None:
    documentation = yaml.safe_load(constants(path)["DOCUMENTATION"])
    for attribute in ("check_mode", "diff_mode"):
        stated = documentation.get("attributes", {}).get(attribute, {})
        assert stated.get("support") in {"full", "partial", "none", "N/A"}, attribute
        assert stated.get("description"), attribute
    assert documentation.get("version_added")


#: Modules that write nothing, whose work is an action's on the controller, or whose file has the mode that a person asks for.
WITHOUT_UMASK = {"app_info", "batch", "healthcheck", "plan", "rollout", "uv_bundle"}


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_modules_write_for_users_of_services_whatever_the_umask_of_the_host_is(path: Path) -> None:
    found = [node for node in ast.parse(path.read_text("utf-8")).body if getattr(node, "name", "") == "main"]
    first = [ast.unparse(node.body[1]) for node in found if isinstance(node, ast.FunctionDef)]
    assert (first == ["os.umask(18)"]) != (path.stem in WITHOUT_UMASK)


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_modules_are_documented_completely(path: Path) -> None:
    found = constants(path)
    assert {"DOCUMENTATION", "EXAMPLES", "RETURN"} <= set(found)
    assert yaml.safe_load(found["EXAMPLES"])


@pytest.mark.parametrize("path", DOCUMENTED, ids=relative)
def test_documentation_is_yaml_of_the_plugin(path: Path) -> None:
    documentation = constants(path).get("DOCUMENTATION")
    if documentation is not None:
        loaded = yaml.safe_load(documentation)
        assert loaded.get("module", loaded.get("name", path.stem)).rpartition(".")[2] == path.stem


def test_plugins_compile_on_the_oldest_python_of_hosts() -> None:
    candidates = [shutil.which("python3.9"), *map(str, sorted(Path.home().glob(".pyenv/versions/3.9.*/bin/python3.9")))]
    # A shim of pyenv lies on PATH for versions that it will not run.
    python = next(
        (name for name in candidates if name and not subprocess.run([name, "-V"], capture_output=True).returncode), None
    )
    if python is None:
        pytest.skip("there is no Python 3.9 at hand; ruff holds the syntax to it, and the bullseye hosts run it")
    program = "import sys\nfor name in sys.argv[1:]:\n    compile(open(name, encoding='utf-8').read(), name, 'exec')"
    done = subprocess.run([python, "-c", program, *map(str, PLUGINS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_playbooks_act_on_python_hosts_unless_told_otherwise() -> None:
    playbooks = sorted((ROOT / "playbooks").glob("*.yml"))
    patterns = {
        relative(path): play["hosts"]
        for path in playbooks
        for play in yaml.safe_load(path.read_text(encoding="utf-8"))
        if "hosts" in play
    }
    assert patterns
    assert not {
        name: hosts
        for name, hosts in patterns.items()
        if hosts != "localhost" and not ("target" in hosts and "python_hosts" in hosts)
    }
