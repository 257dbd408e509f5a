# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: batch
short_description: Runs a script over many inputs on many hosts
version_added: "0.1.0"
description:
  - Opens a batch, lets each host work through its shards with M(pyfleet.runtime.batch_shard), and reports. The role C(batch) is these
    three steps.
  - No step loses a host for Ansible. A host that is lost is a warning as long as others finish its shards.
author:
  - pyfleet contributors (@pyfleet)
options:
  step:
    description:
      - V(open) says what is wrong, before any host changes, and what is left to do. Runs once.
      - V(work) works through the queue with this host until nothing is left for it.
      - V(report) sums up, and fails when an input has no result. Runs once.
    type: str
    choices: [open, work, report]
    required: true
  settings:
    description: The variables of the role C(batch) without their prefix.
    type: dict
    required: true
  env:
    description: Environment of the script. Values count as secret.
    type: dict
    default: {}
attributes:
  check_mode:
    description: V(open) tells how much is left; nothing runs.
    support: full
  diff_mode:
    description: Results are new files; there is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Run a batch
  ansible.builtin.include_role:
    name: pyfleet.runtime.batch
  vars:
    batch_name: resize
    batch_script: resize.py
    batch_inputs_file: images.txt
    batch_memory_max: 512M
"""

RETURN = r"""
id:
  description: Names the batch after all that decides about its results.
  returned: O(step=open)
  type: str
shards:
  description: How many shards the batch has.
  returned: O(step=open)
  type: int
left:
  description: How many of them are not done yet.
  returned: O(step=open)
  type: int
results:
  description: Folder of the results.
  returned: O(step=open) or O(step=report)
  type: str
ran:
  description: How many shards this host has done.
  returned: O(step=work)
  type: int
state:
  description: Whether the host V(left) the batch because all was done, was V(lost), or V(failed).
  returned: O(step=work)
  type: str
summary:
  description: The batch in brief, as it stands in C(summary.json). C(remarkable) are shards that failed, or needed more than one attempt.
  returned: O(step=report)
  type: dict
  sample: {name: resize, id: 0123456789ab, outcome: succeeded, shards: 120, done: 120, failed: 0, left: 0, hosts: {}, remarkable: {}}
"""
