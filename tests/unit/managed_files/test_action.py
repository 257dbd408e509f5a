# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of managed_files, through ansible-playbook itself, in a role with templates."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SECRET = "correct-horse-battery"

PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    work: WORK
    greeting: "grüß {{ name }}"
    name: göttin
  roles: [shop]
"""

TASKS = """
- name: The set
  pyfleet.runtime.managed_files:
    set: shop
    state_dir: "{{ work }}/state"
    files:
      - path: "{{ work }}/etc/a.conf"
        src: a.conf.j2
      - path: "{{ work }}/etc/json"
        src: json.j2
      - path: "{{ work }}/etc/one"
        src: worker.j2
        vars: {worker: 1}
      - path: "{{ work }}/etc/two"
        src: worker.j2
        vars: {worker: 2}
      - path: "{{ work }}/etc/number"
        content: "{{ 5 }}"
      - path: "{{ work }}/etc/environment"
        content: "PASSWORD=SECRET\\n"
        secret: true
  register: outcome

- name: The same by the builtin module
  ansible.builtin.template:
    src: a.conf.j2
    dest: "{{ work }}/a.conf"
    mode: "0644"

- name: The report
  ansible.builtin.debug:
    msg: "{{ outcome.changes | map(attribute='action') | join(',') }} {{ outcome is changed }}"
"""


class Project:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.etc = root / "etc"
        templates = root / "roles/shop/templates"
        templates.mkdir(parents=True)
        (templates / "a.conf.j2").write_text(
            "{% if true %}\n  {{ greeting }}{# comment #}\n  {% include 'part.j2' %}\n{% endif %}\n{{ ansible_managed }}\n"
        )
        (templates / "part.j2").write_text("part of {{ template_destpath | basename }}\n")
        (templates / "json.j2").write_text('{"a": 1}')
        (templates / "worker.j2").write_text("{{ worker }}")
        (root / "roles/shop/tasks").mkdir()
        self.tasks = root / "roles/shop/tasks/main.yml"
        self.tasks.write_text(TASKS.replace("SECRET", SECRET))
        (root / "site.yml").write_text(PLAYBOOK.replace("WORK", str(root)))

    def play(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "site.yml", *arguments],
            cwd=self.root,
            env={**os.environ, "ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(name="project")
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(Path(__file__).resolve().parents[3] / ".work/collections"))
    return Project(tmp_path)


def test_i_templates_become_files_and_no_output_shows_the_secret(project: Project) -> None:
    first = project.play("-vvvv", "--diff")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "created,created,created,created,created,created True" in first.stdout
    assert {path.name: path.read_text() for path in project.etc.iterdir()} == {
        "a.conf": (project.root / "a.conf").read_text(),
        "json": '{"a": 1}',
        "one": "1",
        "two": "2",
        "number": "5",
        "environment": f"PASSWORD={SECRET}\n",
    }
    assert (project.root / "a.conf").read_text() == "  grüß göttin  part of a.confAnsible managed\n"
    assert SECRET not in first.stdout + first.stderr
    assert "DEPRECATION" not in first.stdout + first.stderr
    again = project.play("--check", "--diff")
    assert "changed=0" in again.stdout, again.stdout


def test_template_problems_are_listed_all_at_once(project: Project) -> None:
    text = project.tasks.read_text().replace("src: json.j2", "src: missing.j2").replace("vars: {worker: 2}", "vars: {}")
    project.tasks.write_text(text)
    result = project.play()
    assert result.returncode != 0
    for words in ("2 problems on the controller", "missing.j2", "files[3]: worker.j2", "worker"):
        assert words in result.stdout + result.stderr
    assert not project.etc.exists()
