# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module of the same name and says plainly when the host cannot be entered as root.

It is the first thing that any playbook of the collection does on a host, so this is where missing rights show.
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import finding, render_findings
from ansible_collections.pyfleet.runtime.plugins.module_utils.rollout import LOST
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.journal import Journal

#: Words by which sudo, su, doas and Ansible's become plugins say that they refuse.
REFUSALS = (
    "sudo: not found",
    "sudo: command not found",
    "is not in the sudoers file",
    "a password is required",
    "incorrect password attempt",
    "missing sudo password",
    "incorrect sudo password",
    "not allowed to execute",
    "may not run sudo",
    "authentication failure",
    "doas: operation not permitted",
)


class ActionModule(ActionBase):
    """The task `pyfleet.runtime.app_info`."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Runs the module; a refusal of privilege escalation becomes a finding."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        host = str((task_vars or {}).get("inventory_hostname"))
        journal = Journal.of(str(self._task.args.get("name") or "the host itself"))
        try:
            with journal.phase(host, "look") as phase:
                answer = self._execute_module(module_args=dict(self._task.args), task_vars=task_vars)
                phase["ok"] = not answer.get("failed")
        except AnsibleConnectionFailure as error:
            words = f"The host cannot be reached: {error}"
            journal.note(host, outcome=LOST, message=words)
            if not self._task.args.get("tolerant"):
                raise
            return {**result, "changed": False, "lost": True, "msg": words, "warnings": [f"{host}: {words}"]}
        except Exception as error:  # noqa: BLE001 - become plugins raise what they like
            answer = {"failed": True, "msg": str(error)}
        words = " ".join(str(answer.get(name, "")) for name in ("msg", "module_stderr", "module_stdout"))
        if answer.get("failed") and any(refusal in words.lower() for refusal in REFUSALS):
            user = str(self._connection.get_option("remote_user") or "the login user")
            problem = finding("become_refused", variable="ansible_become", value=user, words=words.strip()[:300])
            answer["msg"] = render_findings([problem])
        if not answer.get("failed"):
            journal.note(host, **facts(answer.get("app") or {}))
        return {**result, **answer}


def _age(release: tuple[str, dict[str, Any]]) -> float:
    return float(release[1].get("prepared_at") or 0)


def facts(app: dict[str, Any]) -> dict[str, Any]:
    """What the journal wants to know of an application's state."""
    return {
        "current": app.get("current"),
        "previous": app.get("previous"),
        "serving": bool(app.get("serving")),
        "releases": {name: each.get("result") for name, each in sorted((app.get("releases") or {}).items(), key=_age)},
        "lease": app.get("lease"),
        "recorded_number": app.get("instance_number"),
    }
