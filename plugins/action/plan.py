# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the deployment plan on the controller; no host is touched."""

from __future__ import annotations

import os
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase

from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import from_dict
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.deployment import Deployment, DeploymentError, deployment


def make(arguments: dict[str, Any], *, check_mode: bool) -> Deployment:
    """Makes the deployment that `arguments` describe; the source's archive is shared by all hosts of the run."""
    return deployment(
        arguments["settings"],
        arguments.get("env") or {},
        arguments.get("source"),
        arguments.get("info") or {},
        cache=os.path.join(constants.DEFAULT_LOCAL_TMP, "pyfleet-sources"),
        check_mode=check_mode,
    )


class ActionModule(ActionBase):
    """The task `pyfleet.runtime.plan`."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(("settings", "env", "source", "info", "show"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns the public part of the plan, or fails with every finding at once."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            made = make(self._task.args, check_mode=self._task.check_mode)
        except DeploymentError as error:
            codes = [finding.code for finding in error.findings]
            return {**result, "failed": True, "msg": str(error), "codes": codes}
        host_name = str((task_vars or {}).get("inventory_hostname", ""))
        warnings = [from_dict(item).render() for item in made.plan["warnings"]]
        if self._task.args.get("show"):
            self._display.display(made.text(host_name))
        return {**result, **made.public(), "changed": False, "text": made.text(host_name), "warnings": warnings}
