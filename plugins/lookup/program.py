# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The path of a program on the controller, fetched and checked."""

from __future__ import annotations

DOCUMENTATION = r"""
name: program
short_description: Fetches a program to the controller and returns its path
version_added: "1.0.0"
description:
  - Fetches each term, a URL or a file on the controller, checks it against O(checksum), and takes the program O(name) out of it when it is
    an archive. What was fetched stays in a cache, so that many hosts and runs cost one download.
author:
  - pyfleet contributors (@pyfleet)
options:
  _terms:
    description: URL, or path on the controller, of the program or of an archive (tar, zip) that holds it.
    type: list
    elements: str
    required: true
  name:
    description: Name of the program, and of its file in an archive.
    type: str
    required: true
  checksum:
    description: The sha256 of what lies at the URL or path.
    type: str
    required: true
  cache:
    description: Folder on the controller. Empty means C(~/.cache/pyfleet/programs).
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Install oauth2-proxy
  ansible.builtin.copy:
    src: "{{ lookup('pyfleet.runtime.program', 'https://mirror.example/oauth2-proxy.tar.gz', name='oauth2-proxy', checksum=digest) }}"
    dest: /opt/pyfleet/bin/oauth2-proxy
    mode: "0755"
"""

RETURN = r"""
_raw:
  description: Path of the program on the controller.
  type: list
  elements: path
"""

import os
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.pyfleet.runtime.plugins.plugin_utils.program_fetch import ProgramError, fetch


class LookupModule(LookupBase):
    """One program per term."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        given = str(self.get_option("cache") or "")
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        cache = Path(given).expanduser() if given else root / "pyfleet" / "programs"
        name, checksum = str(self.get_option("name")), str(self.get_option("checksum"))
        try:
            return [str(fetch(name, str(term), checksum, cache)) for term in terms]
        except (ProgramError, OSError) as error:
            raise AnsibleLookupError(str(error)) from error
