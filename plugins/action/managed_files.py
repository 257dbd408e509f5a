# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders the templates of a set on the controller and hands all files to the module in one go."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError

from ansible_collections.pyfleet.runtime.plugins.module_utils.set_state import settled
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.rendering import RenderingAction


class ActionModule(RenderingAction):
    """The controller's half of the module of the same name."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        variables = task_vars if task_vars is not None else {}
        result: dict[str, Any] = super().run(tmp, variables)
        arguments = dict(self._task.args)
        known = arguments.pop("known", None)
        files = arguments.get("files") or []
        if isinstance(files, Mapping) or not isinstance(files, (list, tuple)):
            raise AnsibleActionFail("files is not a list. Next step: write one entry per file, each with a path.")
        problems: list[str] = []
        arguments["files"] = [
            self._file(entry, f"files[{position}]", variables, problems) for position, entry in enumerate(files)
        ]
        if problems:
            count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
            raise AnsibleActionFail(
                "\n".join(
                    [f"Set {arguments.get('set', '')}: {count} on the controller, nothing was changed:", *problems]
                )
            )
        if settled(arguments, known):
            nothing: dict[str, Any] = {"changes": [], "commands": [], "skipped": [], "backups": []}
            return {**result, **nothing, "changed": False, "daemon_reloaded": False}
        result.update(
            self._execute_module(
                module_name="pyfleet.runtime.managed_files", module_args=arguments, task_vars=variables
            )
        )
        result.pop("invocation", None)  # it would print every file
        return result

    def _file(self, entry: Any, where: str, variables: dict[str, Any], problems: list[str]) -> Any:
        """One entry with its content encoded; what is wrong with it in other ways, the module says."""
        if not isinstance(entry, Mapping):
            return entry
        ready = dict(entry)
        more = ready.pop("vars", None) or {}
        content = ready.get("content")
        if ready.get("src") is not None and content is None and ready.get("encoded") is None:
            try:
                content = self.render(str(ready["src"]), str(ready.get("path", "")), variables, more)
            except AnsibleError as error:
                problems.append(f"{where}: {ready['src']}: {error}")
                content = ""
            del ready["src"]
        if content is None:
            return ready
        if isinstance(content, (Mapping, list, tuple)):
            problems.append(f"{where}: content is not text. Next step: write it with a filter such as to_nice_json.")
            return ready
        ready.pop("content", None)
        ready["encoded"] = base64.b64encode(str(content).encode("utf-8", "surrogateescape")).decode("ascii")
        return ready
