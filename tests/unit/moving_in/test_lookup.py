# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup `clever_env` in plays, through ansible-playbook itself: what Ansible makes of values, files, vaults and errors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pyfleet.runtime.tests.tools import stage_tree

from .exports import CLEVER, DROPPED, FOLDER, HEROKU

pytestmark = pytest.mark.slow
PLANTED = "pl4nted"


class Project:
    """A folder with exports, from which playbooks are started; they lie in another one, as those of a collection do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "start"
        self.book = folder / "playbooks" / "site.yml"
        self.book.parent.mkdir()
        shutil.copytree(FOLDER, self.folder)

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        environment.update(
            ANSIBLE_COLLECTIONS_PATH=str(stage_tree.ROOT / ".work" / "collections"),
            ANSIBLE_LOCALHOST_WARNING="false",
            ANSIBLE_NOCOLOR="1",
            LC_ALL="C.UTF-8",
        )
        command = [str(Path(sys.executable).with_name(program)), *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300)

    def play(self, variables: dict[str, str], *arguments: str) -> tuple[str, Any]:
        """What is on the screen of a play that writes variables of an importing playbook to a file, and the file's content."""
        written = self.folder / "written.json"
        content = "{{ {" + ", ".join(f"'{name}': {name}" for name in variables) + "} | to_json }}"
        task = {"name": "Write", "ansible.builtin.copy": {"dest": str(written), "content": content, "mode": "0600"}}
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}
        (self.book.parent / "inner.yml").write_text(yaml.safe_dump([play]))
        python = {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        outer = {"import_playbook": "inner.yml", "vars": {**python, **variables}}
        self.book.write_text(yaml.safe_dump([outer]))
        done = self.run("ansible-playbook", "-i", "localhost,", str(self.book), *arguments)
        # Ansible breaks warnings into lines of the terminal's width.
        return " ".join((done.stdout + done.stderr).split()), json.loads(
            written.read_text()
        ) if written.exists() else None


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.rule("D6", "D5", "I")
def test_d6_values_reach_a_play_as_they_are_also_out_of_a_vault(project: Project) -> None:
    (project.folder / "password").write_text("of the vault\n")
    encrypted = project.run("ansible-vault", "encrypt", "--vault-password-file", "password", "clever.json")
    assert encrypted.returncode == 0, encrypted.stderr
    assert (project.folder / "clever.json").read_text().startswith("$ANSIBLE_VAULT")
    lookup = "lookup('pyfleet.runtime.clever_env', "
    screen, written = project.play(
        {
            "text": "{{ " + lookup + "'clever.env') }}",
            "encrypted": "{{ " + lookup + "'clever.json') }}",
            "absolute": "{{ "
            + lookup
            + f"'{project.folder}/console.json', drop=['LOG_LEVEL', 'APP_ID']) | combine(more) }}}}",
            "heroku": "{{ " + lookup + "'heroku.shell', format='heroku') }}",
            "several": "{{ query('pyfleet.runtime.clever_env', 'heroku.json', 'console.env') }}",
            "more": "{{ {'MORE': 'than that'} }}",
        },
        "--vault-password-file",
        "password",
        "-vvv",
    )
    assert written is not None, screen
    assert written["text"] == written["encrypted"] == CLEVER
    assert written["absolute"] == {
        **{name: CLEVER[name] for name in CLEVER if name != "LOG_LEVEL"},
        "MORE": "than that",
    }
    assert written["heroku"] == HEROKU
    assert written["several"] == [HEROKU, CLEVER]
    assert f"clever.env holds {', '.join(DROPPED)}: they are not taken over" in screen
    assert "console.json holds CC_DEPLOYMENT_ID, INSTANCE_ID: they" in screen
    assert "clever.env has LOG_LEVEL from the application stock and from the application itself" in screen
    assert PLANTED not in screen


@pytest.mark.rule("I")
def test_i_everything_that_is_wrong_with_several_files_is_told_at_once_and_no_value(project: Project) -> None:
    (project.folder / "broken.env").write_text(f'A="1"\nB="{PLANTED}\n')
    (project.folder / "empty.env").write_text("")
    files = "'missing.env', 'broken.env', 'clever.env', 'empty.env', '.'"
    screen, written = project.play({"app_env": "{{ query('pyfleet.runtime.clever_env', " + files + ") }}"}, "-vvv")
    assert written is None
    for words in (
        "4 problems, nothing was changed:",
        "The exported environment missing.env cannot be read: No such file or directory.",
        "Line 2 of broken.env cannot be read: its value has no closing quote.",
        "empty.env is empty.",
        "The exported environment . cannot be read: Is a directory.",
    ):
        assert words in screen.replace("\\n", " ").replace("  ", " "), screen
    assert PLANTED not in screen


def test_a_vault_without_its_password_and_a_format_that_does_not_exist(project: Project) -> None:
    (project.folder / "password").write_text("of the vault\n")
    project.run("ansible-vault", "encrypt", "--vault-password-file", "password", "clever.json")
    screen, _written = project.play({"app_env": "{{ lookup('pyfleet.runtime.clever_env', 'clever.json') }}"})
    assert (
        "The exported environment clever.json cannot be read: Attempting to decrypt but no vault secrets found."
        in screen
    )
    screen, _written = project.play(
        {"app_env": "{{ lookup('pyfleet.runtime.clever_env', 'clever.env', format='yaml') }}"}
    )
    assert "auto, env, json, heroku" in screen.replace("'", "")
