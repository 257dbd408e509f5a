# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Makes the deployment plan of an application on the controller
version_added: "0.1.0"
description:
  - Resolves the application's source (directory, git or archive), and computes from its files, its environment and the facts of
    the host all that a deployment would do. Touches no host.
  - Every error is reported at once, with the variable, its value, the rule and the next step.
author:
  - pyfleet contributors (@pyfleet)
options:
  settings:
    description: Settings of the application, as the role C(app) collects them.
    type: dict
    required: true
  env:
    description: Environment of the application. No value is shown.
    type: dict
    default: {}
  source:
    description: One of C({path, exclude}), C({git, version, exclude}) or C({archive, checksum, exclude}).
    type: dict
    required: true
  info:
    description: Result of M(pyfleet.runtime.app_info).
    type: dict
    default: {}
  show:
    description: Print the plan for a person.
    type: bool
    default: false
attributes:
  check_mode:
    description: Touches no host.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Make the plan
  pyfleet.runtime.plan:
    settings: "{{ app__settings }}"
    env: "{{ app_env }}"
    source: "{{ app_source }}"
    info: "{{ app__info }}"
"""

RETURN = r"""
release:
  description: Id of the release. The same inputs give the same id.
  returned: success
  type: str
  sample: 0123456789ab
action:
  description: What is left to do on the host, one of V(none), V(restart), V(switch) and V(build).
  returned: success
  type: str
  sample: build
plan:
  description: The plan without the environment's values.
  returned: success
  type: dict
packages:
  description: Package changes against the release that serves.
  returned: success
  type: list
  elements: str
text:
  description: The plan for a person.
  returned: success
  type: str
codes:
  description: Codes of the errors, as docs/troubleshooting.md lists them.
  returned: failure
  type: list
  elements: str
  sample: ["source_kind"]
"""
