# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders the templates of a set on the controller and hands all files to the module in one go."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.pyfleet.runtime.plugins.module_utils.set_state import settled

try:
    from ansible.template import trust_as_template
except ImportError:  # ansible-core 2.18, where every text is a template
    trust_as_template = None


class ActionModule(ActionBase):
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
                content = self._render(str(ready["src"]), str(ready.get("path", "")), variables, more)
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

    def _render(self, name: str, target: str, variables: dict[str, Any], more: Mapping[str, Any]) -> str:
        """Render a template as the builtin action does: same search path, same whitespace rules."""
        source = self._find_needle("templates", name)
        roots = [*variables.get("ansible_search_path", []), self._loader.get_basedir(), os.path.dirname(source)]
        search = [place for root in roots for place in (os.path.join(root, "templates"), root)]
        available = {
            "ansible_managed": "Ansible managed",
            **variables,
            **more,
            "template_path": name,
            "template_fullpath": source,
            "template_destpath": target,
        }
        text = self._text(source)
        overrides = {"trim_blocks": True, "lstrip_blocks": False, "newline_sequence": "\n"}
        templar = self._templar.copy_with_new_env(searchpath=search, available_variables=available)
        if trust_as_template is None:  # there, `template` would turn text that looks like data into data
            rendered = templar.do_template(
                text, preserve_trailing_newlines=True, escape_backslashes=False, overrides=overrides
            )
        else:
            rendered = templar.template(text, escape_backslashes=False, overrides=overrides)
        return "" if rendered is None else str(rendered)

    def _text(self, source: str) -> Any:
        """The template's text, decrypted when it is a vault. Not a plain str: the core's mark of trust must survive."""
        if trust_as_template is not None:
            return trust_as_template(self._loader.get_text_file_contents(source))
        with open(self._loader.get_real_file(source), encoding="utf-8") as stream:
            return stream.read()
