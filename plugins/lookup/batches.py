# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many hosts switch at once, for `serial` of a play."""

from __future__ import annotations

DOCUMENTATION = r"""
name: batches
short_description: Sizes of the batches in which an application's hosts switch
version_added: "0.1.0"
author:
  - pyfleet contributors (@pyfleet)
description:
  - What C(app_serial) says, for the keyword C(serial) of a play. There Ansible knows extra variables only, not those of the inventory; this
    lookup knows what M(pyfleet.runtime.rollout) was given when it opened the rollout in an earlier play.
options:
  last:
    description: Return the size of the last batch only, which repeats.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Switch in batches
  hosts: python_hosts
  serial: "{{ query('pyfleet.runtime.batches') }}"
  tasks: []
"""

RETURN = r"""
_raw:
  description: Sizes of the batches.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.pyfleet.runtime.plugins.plugin_utils.journal import Journal


class LookupModule(LookupBase):
    """The lookup `pyfleet.runtime.batches`."""

    def run(
        self,
        terms: list[str],  # noqa: ARG002 - the interface of lookups
        variables: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Returns the sizes of the batches; all hosts at once when no rollout is open."""
        self.set_options(var_options=variables, direct=kwargs)
        sizes = list(Journal.latest().run().get("serial") or ["100%"])
        return sizes[-1:] if self.get_option("last") else sizes
