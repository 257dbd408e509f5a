# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An environment that Clever Cloud (or Heroku) exported, for `app_env`."""

from __future__ import annotations

DOCUMENTATION = r"""
name: clever_env
short_description: Reads an environment that Clever Cloud exported
version_added: "0.1.0"
author:
  - pyfleet contributors (@pyfleet)
description:
  - Returns the variables of an application of Clever Cloud as a mapping for C(app_env), byte for byte. The file is what
    C(clever env) writes, in any of its formats, or what the console shows in its text or JSON editor.
  - The configuration of a Heroku application is read as well.
  - Variables of add-ons and of linked applications come along. Where the application sets one of them itself, its own value counts, and
    a warning names the variable.
  - Variables that Clever Cloud sets for every instance itself, such as C(APP_ID), C(INSTANCE_ID) or C(CC_DEPLOYMENT_ID), are left out,
    since a deployment sets its own (rule D5), and so is C(CC_REVERSE_PROXY_IPS). A warning names those that were in the file.
  - A file that cannot be read with certainty is an error, which names the file, the line and the variable. Neither errors nor warnings
    hold a value.
notes:
  - The file holds secrets. It may be encrypted with C(ansible-vault).
  - C(clever env) writes a backslash at the end of a value in a way that sometimes has two readings, which is an error then. Its JSON has
    one reading always.
options:
  _terms:
    description:
      - Files on the controller. A relative path starts from the folder in which C(ansible-playbook) was started.
    type: list
    elements: str
    required: true
  format:
    description:
      - V(env) is the text of C(clever env) and of C(clever env --format shell), or of the console.
      - V(json) is C(clever env --format json), the console's array of objects with C(name) and C(value), or one object of names and
        texts such as C(heroku config --json) writes.
      - V(heroku) is the text of C(heroku config --shell), which quotes in another way.
      - V(auto) takes what begins with a brace or a bracket for V(json) and anything else for V(env).
    type: str
    choices: [auto, env, json, heroku]
    default: auto
  drop:
    description: Names of further variables to leave out, without a warning.
    type: list
    elements: str
    default: []
seealso:
  - plugin: ansible.builtin.file
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Deploy with the environment that the application has on Clever Cloud
  ansible.builtin.import_playbook: pyfleet.runtime.deploy
  vars:
    app_name: shop
    app_source: {path: ./shop}
    app_env: "{{ lookup('pyfleet.runtime.clever_env', 'shop.clever.json') }}"

- name: Leave variables out, and set others
  ansible.builtin.import_playbook: pyfleet.runtime.deploy
  vars:
    app_name: shop
    app_source: {path: ./shop}
    app_env: "{{ lookup('pyfleet.runtime.clever_env', 'shop.clever.json', drop=['PORT']) | combine(shop_env) }}"
    shop_env:
      CC_PYTHON_UV_RUN_COMMAND: uv run uvicorn shop:app --host 0.0.0.0 --port $PORT
"""

RETURN = r"""
_raw:
  description: Per file a mapping of names to values. With one file C(lookup) returns the mapping itself.
  type: list
  elements: dict
"""

import os
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError, AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display

from ansible_collections.pyfleet.runtime.plugins.module_utils import exported_env
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import SECRET, finding, render_findings

display = Display()


class LookupModule(LookupBase):
    """The lookup `pyfleet.runtime.clever_env`."""

    def run(self, terms: list[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[dict[str, str]]:
        """Returns one mapping per file, or fails with everything that is wrong with all of them."""
        self.set_options(var_options=variables, direct=kwargs)
        form, drop = str(self.get_option("format")), [str(name) for name in self.get_option("drop")]
        found: list[dict[str, str]] = []
        problems = []
        for term in terms:
            file = str(term)
            try:
                content = self._content(file)
            except (AnsibleError, OSError) as error:
                why = getattr(error, "strerror", None) or str(error).rstrip(".")
                problems.append(finding("export_unreadable", "", SECRET, file=file, why=why))
                continue
            exported, wrong = exported_env.read(content, file, form, drop)
            problems += wrong
            if exported is not None:
                for text in exported_env.warnings(exported, file):
                    display.warning(text)
                found.append(exported.variables)
        if problems:
            raise AnsibleLookupError(render_findings(problems))
        return found

    def _content(self, file: str) -> bytes:
        """The bytes of the file, decrypted where it is one of ansible-vault."""
        path = os.path.abspath(os.path.expanduser(file))
        with open(path, "rb"):  # says in the system's words what is wrong
            content, _plain = self._loader._get_file_contents(path)
        return bytes(content)
