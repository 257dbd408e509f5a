# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugins that render templates on the controller and send the text along with their module's arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.unsafe_proxy import wrap_var

try:
    from ansible.template import trust_as_template
except ImportError:  # ansible-core 2.18, where every text is a template unless it is marked
    trust_as_template = None


class RenderingAction(ActionBase):
    """Base of the action plugins `managed_files` and `release`."""

    def render(self, name: str, target: str, variables: dict[str, Any], more: Mapping[str, Any]) -> str:
        """Render a template as the builtin action does: same search path, same whitespace rules.

        `more` are variables whose texts are data, whatever they look like.
        """
        source = self._find_needle("templates", name)
        roots = [*variables.get("ansible_search_path", []), self._loader.get_basedir(), os.path.dirname(source)]
        search = [place for root in roots for place in (os.path.join(root, "templates"), root)]
        available = {
            "ansible_managed": "Ansible managed",
            **variables,
            **(more if trust_as_template is not None else wrap_var(dict(more))),
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
