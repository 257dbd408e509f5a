# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands the release module what only the controller has: the plan's payload and the source's archive."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.pyfleet.runtime.plugins.action.plan import make
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.deployment import DeploymentError

#: A source up to this size, in bytes, travels inside the module's arguments: one round trip instead of four.
INLINE_LIMIT = 384 * 1024


class ActionModule(ActionBase):
    """The task `pyfleet.runtime.release`."""

    #: A temporary folder is made only for a large source: each of its commands is a round trip.
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Runs the module; uploads the source first when a release is prepared and the source is large."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        described = arguments.pop("deployment", None)
        if arguments.get("state") != "prepared":
            return {**result, **self._execute_module(module_args=arguments, task_vars=task_vars)}
        try:
            made = make(described, check_mode=self._task.check_mode)
        except DeploymentError as error:
            return {**result, "failed": True, "msg": str(error)}
        arguments.update(release=made.release, payload=made.payload(), user=made.settings["user"])
        if self._task.check_mode:
            pass
        elif made.source.size <= INLINE_LIMIT:
            arguments["archive_content"] = base64.b64encode(Path(made.source.archive).read_bytes()).decode()
        else:
            folder = self._make_tmp_path()
            arguments["archive"] = self._connection._shell.join_path(folder, "source.tar.gz")
            self._transfer_file(made.source.archive, arguments["archive"])
            self._fixup_perms2([folder, arguments["archive"]])
        try:
            return {**result, **self._execute_module(module_args=arguments, task_vars=task_vars)}
        finally:
            if "archive" in arguments:
                self._remove_tmp_path(os.path.dirname(arguments["archive"]), force=True)
