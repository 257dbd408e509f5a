# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users and image builders get: the built collection's content, and its execution environment by ansible-builder.

No image is built here, because that needs a registry. The build context is made by the tool itself, from the checkout and from
an installed collection.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pyfleet.runtime.tests.tools import stage_tree

ROOT = stage_tree.ROOT
META = "meta/execution-environment.yml"
#: Everything at the top of the artefact; a new file either belongs to users, and comes here, or into `build_ignore`.
SHIPPED = {
    "CONTRIBUTING.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md", "changelogs", "docs", "ee-bindep.txt",
    "ee-requirements.txt", "meta", "playbooks", "plugins", "roles",
}  # fmt: skip


def program(name: str) -> str:
    """A development tool; the environments of test_core_versions hold Ansible only, so theirs may be the checkout's."""
    for folder in (Path(sys.executable).parent, ROOT / ".venv" / "bin"):
        if (folder / name).exists():
            return str(folder / name)
    raise AssertionError(f"{name} is not installed: run 'make setup'")


def run(*command: str, cwd: Path) -> str:
    """Run a command that has to succeed, with no setting of the caller's; its standard output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment.update(HOME=str(cwd), PYTHONWARNINGS="ignore")
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection as `ansible-galaxy collection build` makes it in a checkout that was worked in."""
    folder = tmp_path_factory.mktemp("artefact")
    tree = folder / "runtime"
    stage_tree.stage(ROOT, tree, stage_tree.listed(ROOT))
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split() if line.endswith("/")]
    for litter in [*ignored, ".git", ".github/workflows", "plugins/modules/__pycache__"]:
        (tree / litter).mkdir(parents=True, exist_ok=True)
        (tree / litter / "litter.pyc").write_text("")
        if not litter.startswith("plugins") and litter != "__pycache__":
            (tree / litter / "litter.txt").write_text("")
    (tree / "pyfleet-runtime-0.0.1.tar.gz").write_bytes(b"")
    run(program("ansible-galaxy"), "collection", "build", "--output-path", str(folder), cwd=tree)
    (path,) = folder.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def installed(artefact: Path) -> Path:
    """A folder of collections that holds the built one."""
    folder = artefact.parent / "installed"
    run(
        program("ansible-galaxy"), "collection", "install", "--offline", "-p", str(folder), str(artefact), cwd=artefact.parent
    )  # fmt: skip
    return folder


def test_the_artefact_holds_what_users_need_and_nothing_else(artefact: Path) -> None:
    with tarfile.open(artefact) as tar:
        names = {name.removeprefix("./").rstrip("/") for name in tar.getnames()}
    assert {name.partition("/")[0] for name in names} == SHIPPED
    assert not [name for name in names if "litter" in name]
    expected = {
        name
        for name in stage_tree.listed(ROOT)
        if name.startswith(("playbooks/", "plugins/", "roles/", "meta/", "docs/")) and not name.endswith((".pyc", "~"))
    }
    assert expected - names == set(), "files that users need are missing"


def test_the_installed_collection_tells_its_dependencies(installed: Path) -> None:
    found = yaml.safe_load(run(program("ansible-builder"), "introspect", str(installed), cwd=installed))
    stated = {kind: [line.partition("#")[0].strip() for line in lines] for kind, lines in found.items()}
    assert stated == {
        "python": ["pip"],
        "system": [
            "git [platform:dpkg platform:rpm]",
            "openssh-client [platform:dpkg]",
            "openssh-clients [platform:rpm]",
        ],
    }


@pytest.mark.parametrize("place", ["checkout", "installed"])
def test_ansible_builder_makes_a_build_context(place: str, installed: Path, tmp_path: Path) -> None:
    root = ROOT if place == "checkout" else installed / "ansible_collections/pyfleet/runtime"
    run(program("ansible-builder"), "create", "-f", str(root / META), "-c", str(tmp_path / "context"), cwd=tmp_path)
    build = tmp_path / "context" / "_build"
    assert yaml.safe_load((build / "requirements.yml").read_text()) == {"collections": [{"name": "pyfleet.runtime"}]}
    for name, ours in (("requirements.txt", "ee-requirements.txt"), ("bindep.txt", "ee-bindep.txt")):
        assert (build / name).read_text() == (ROOT / "meta" / ours).read_text()
    steps = (tmp_path / "context" / "Containerfile").read_text()
    for words in ("ansible-core>=2.18 ansible-runner", "collection install $ANSIBLE_GALAXY_CLI_COLLECTION_OPTS -r requirements.yml",
                  "COPY _build/requirements.txt requirements.txt", "COPY _build/bindep.txt bindep.txt"):  # fmt: skip
        assert words in steps


def test_ansible_builder_takes_the_definition_that_the_documentation_shows(artefact: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs/awx.md").read_text()
    (shown,) = re.findall(r"^```yaml\n(version: 3\n.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "execution-environment.yml").write_text(shown)
    name = yaml.safe_load(shown)["additional_build_files"][0]["src"]
    shutil.copy(artefact, tmp_path / name)
    assert name == artefact.name
    run(program("ansible-builder"), "create", cwd=tmp_path)
    build = tmp_path / "context" / "_build"
    (collection,) = yaml.safe_load((build / "requirements.yml").read_text())["collections"]
    assert (build / collection["name"]).read_bytes() == artefact.read_bytes()


def test_a_wrong_definition_is_refused(tmp_path: Path) -> None:
    """The tool does look: a file that is not there, which is what this definition once named, ends it."""
    shutil.copytree(ROOT / "meta", tmp_path / "meta")
    (tmp_path / META).write_text((ROOT / META).read_text().replace(" ee-requirements.txt", " meta/ee-requirements.txt"))
    with pytest.raises(AssertionError, match=r"Dependency file .*meta/meta/ee-requirements\.txt does not exist"):
        run(program("ansible-builder"), "create", "-f", str(tmp_path / META), "-c", str(tmp_path / "c"), cwd=tmp_path)


def definition() -> dict[str, Any]:
    """The execution environment's definition."""
    content: dict[str, Any] = yaml.safe_load((ROOT / META).read_text())
    return content


def test_its_ansible_core_is_the_one_that_the_collection_requires() -> None:
    required = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["requires_ansible"]
    core = definition()["dependencies"]["ansible_core"]["package_pip"]
    assert core == f"ansible-core{required.removesuffix('.0')}"


def test_the_controller_needs_no_other_program_than_those_stated() -> None:
    """Programs that the controller's code starts, by the words that start them."""
    stated = (ROOT / "meta/ee-bindep.txt").read_text() + (ROOT / "meta/ee-requirements.txt").read_text()
    sources = [*(ROOT / "plugins/plugin_utils").glob("*.py"), *(ROOT / "plugins/action").glob("*.py")]
    starting = {path.name for path in sources if "subprocess.run(" in path.read_text() or "Popen(" in path.read_text()}
    assert starting == {"source.py", "uv_fetch.py"}, "another file starts programs: state them in meta/ee-bindep.txt"
    assert "git" in stated.split()
    assert "pip" in stated.split()
