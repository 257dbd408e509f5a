# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of one part of a rollout, for `hosts` of a play."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_hosts
short_description: Hosts that have a part in the next play of a rollout
version_added: "0.1.0"
author:
  - pyfleet contributors (@pyfleet)
description:
  - For the keyword C(hosts) of a play, so that the play costs nothing when there is nothing to do.
options:
  _terms:
    description:
      - V(switching) returns the hosts that have something to do, V(reverting) those that go back to what they served because the rollout
        failed.
    required: true
    choices: [switching, reverting]
"""

EXAMPLES = r"""
- name: Lead the hosts back when the rollout failed
  hosts: "{{ query('pyfleet.runtime.rollout_hosts', 'reverting') }}"
  tasks: []
"""

RETURN = r"""
_raw:
  description: Names of hosts.
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ansible_collections.pyfleet.runtime.plugins.module_utils import rollout
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.journal import Journal


class LookupModule(LookupBase):
    """The lookup `pyfleet.runtime.rollout_hosts`."""

    def run(self, terms: list[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Returns the hosts' names, in the order of the inventory."""
        self.set_options(var_options=variables, direct=kwargs)
        journal = Journal.latest()
        run, entries = journal.run(), journal.entries()
        order = list(run.get("hosts", []))
        if terms == ["switching"]:
            return [host for host in order if rollout.has_a_turn(entries.get(host, {}))]
        if terms != ["reverting"]:
            raise AnsibleError(f"pyfleet.runtime.rollout_hosts takes switching or reverting, not {terms}.")
        decided = rollout.verdict(entries, order, run.get("budget", 0), run.get("stopped", ""), closed=True)
        return [] if decided.go else list(rollout.to_revert(entries, order))
