# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout
short_description: Decides between the steps of a rollout on the controller
version_added: "0.1.0"
description:
  - Opens a rollout, tells each host whether it may switch, notes failures, tells which hosts go back after a failed rollout, and reports.
    Touches no host.
  - A failing task would end the run when it concerns a whole batch, and nobody would lead back the hosts that switched already. The
    steps of a rollout therefore note failures, and the step V(verdict) at the end fails the hosts.
author:
  - pyfleet contributors (@pyfleet)
options:
  name:
    description: Name of the application.
    type: str
    required: true
  step:
    description:
      - V(gate) opens the rollout, or refuses it before anything has changed. Runs once.
      - V(go) tells whether this host may switch now.
      - V(failed) notes that this host failed, with O(message).
      - V(revert) tells whether this host goes back, and to which release.
      - V(report) sums up, and writes O(report). Runs once.
      - V(verdict) fails this host when the rollout failed on it.
    type: str
    choices: [gate, go, failed, revert, report, verdict]
    required: true
  what:
    description: Kind of the rollout, for V(gate).
    type: str
    choices: [deploy, rollback, restart]
    default: deploy
  release:
    description: Release to roll back to, for V(gate). The previous one of all hosts when empty.
    type: str
    default: ""
  force:
    description: Let a rollback take a release that failed, for V(gate).
    type: bool
    default: false
  failure_budget:
    description: How many hosts may fail without ending the rollout, a number or a percentage, for V(gate).
    type: raw
    default: 0
  serial:
    description: Sizes of the batches, for V(gate); the lookup P(pyfleet.runtime.batches#lookup) returns them to later plays.
    type: raw
    default: 100%
  lease_seconds:
    description: For how long this run holds the application on a host without being heard of, for V(gate).
    type: int
    default: 3600
  lease_takeover:
    description: Id of a dead run whose lease is taken over, for V(gate).
    type: str
    default: ""
  before_switch:
    description: File with tasks before the switch of a host.
    type: str
    default: ""
  after_switch:
    description: File with tasks after the switch of a host.
    type: str
    default: ""
  message:
    description: What went wrong, for V(failed).
    type: str
    default: ""
  report:
    description: Path of the report on the controller, for V(report). No file when empty.
    type: str
    default: ""
attributes:
  check_mode:
    description: Touches no host.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Ask whether the rollout goes on
  pyfleet.runtime.rollout:
    name: shop
    step: go
  register: shop_go
"""

RETURN = r"""
work:
  description: Whether any host has anything to do.
  returned: O(step=gate)
  type: bool
hosts:
  description: Hosts of the rollout.
  returned: O(step=gate)
  type: list
  elements: str
go:
  description: Whether this host switches, or goes back.
  returned: O(step=go) or O(step=revert)
  type: bool
release:
  description: Release that this host goes back to.
  returned: O(step=revert)
  type: str
why:
  description: Why the rollout has ended.
  returned: O(step=go) or O(step=revert)
  type: str
before_switch:
  description: Absolute path of the tasks before the switch.
  returned: O(step=go) or O(step=revert)
  type: str
after_switch:
  description: Absolute path of the tasks after the switch.
  returned: O(step=go) or O(step=revert)
  type: str
summary:
  description: The rollout in brief, as it is exported as the stat C(pyfleet).
  returned: O(step=report)
  type: dict
  sample: {"app": "shop", "what": "deploy", "release": "0123456789ab", "outcome": "succeeded", "failed": [], "hosts": {}}
outcome:
  description: Outcome of this host.
  returned: O(step=verdict)
  type: str
  sample: switched
"""
