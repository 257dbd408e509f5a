#!/usr/bin/python
# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: healthcheck
short_description: Checks that an application listens publicly and answers on its health paths
version_added: "0.1.0"
description:
  - Looks for listeners first, then requests every path, with growing delay until everything passes in one round or the deadline is over.
  - The log and the failure use the words of the contract (section E). Redirects of the application are answers and are not followed.
  - Reads only, and runs in check mode too.
author:
  - pyfleet contributors (@pyfleet)
options:
  public_port:
    description: The port that users call.
    type: int
    default: 8080
  port:
    description:
      - The port to check. The default is the port that the public one currently leads to on this host, or else O(public_port) itself.
    type: int
  paths:
    description: Paths to request. Each must begin with a slash. Without any, V(/) is requested and any answer from 200 to 499 passes.
    type: list
    elements: str
    default: []
  accept:
    description: Which answers pass. The default is V(200) where O(paths) are given, and V(200-499) where not.
    type: str
    choices: ["200", "2xx", "200-499"]
  deadline:
    description: Seconds after which the check fails. V(0) tries once.
    type: float
    default: 60
  timeout:
    description: Seconds that one request may take.
    type: float
    default: 10
  unit:
    description:
      - Systemd unit of the application. Only its processes count as listeners, and the check ends early, saying why, when it has ended.
    type: str
  also:
    description: Further ports that must listen, such as those of the inner hops of a chain and of the application behind it.
    type: list
    elements: int
    default: []
  loopback:
    description: Whether a listener on the loopback will do, for what is not meant to be reached from elsewhere.
    type: bool
    default: false
  host:
    description: Value of the header C(Host).
    type: str
    default: localhost
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: none
"""

EXAMPLES = r"""
- name: The application answers on both paths
  pyfleet.runtime.healthcheck:
    paths: [/health, /ready]

- name: One look at a release that runs beside the current one
  pyfleet.runtime.healthcheck:
    port: 28080
    deadline: 0
    unit: app-shop@0123456789ab.service
"""

RETURN = r"""
log:
  description: One line per path and answer; on failure with the contract's last lines.
  returned: always
  type: list
  elements: str
  sample: ["Response from GET /health is 200"]
port:
  description: The port that was checked.
  returned: always
  type: int
statuses:
  description: Last status of each path, or in words why there was none.
  returned: always
  type: dict
attempts:
  description: How often was tried.
  returned: always
  type: int
elapsed:
  description: Seconds the check took.
  returned: always
  type: float
schedule:
  description: The planned attempts, in seconds after the start.
  returned: always
  type: list
  elements: float
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils import health, probe, redirect

ARGUMENT_SPEC: dict[str, Any] = {
    "public_port": {"type": "int", "default": 8080},
    "port": {"type": "int"},
    "paths": {"type": "list", "elements": "str", "default": []},
    "accept": {"type": "str", "choices": ["200", "2xx", "200-499"]},
    "deadline": {"type": "float", "default": 60},
    "timeout": {"type": "float", "default": 10},
    "unit": {"type": "str"},
    "also": {"type": "list", "elements": "int", "default": []},
    "loopback": {"type": "bool", "default": False},
    "host": {"type": "str", "default": "localhost"},
}


def problems_of(options: dict[str, Any]) -> list[str]:
    """Everything that is wrong with the options, each with variable, value, rule and next step."""
    problems: list[str] = []
    whys = [(path, health.path_problem(path)) for path in options["paths"]]
    problems += [
        f"paths: {path!r}: {why}. Rule: E1. Next step: write a path such as /health." for path, why in whys if why
    ]
    for name in ("public_port", "port"):
        if options[name] is not None and not 1 <= options[name] <= 65535:
            problems.append(f"{name}: {options[name]} is not a port. Rule: 1 to 65535. Next step: correct it.")
    problems += [
        f"also: {port} is not a port. Rule: 1 to 65535. Next step: correct it."
        for port in options["also"]
        if not 1 <= port <= 65535
    ]
    if options["deadline"] < 0:
        problems.append(
            f"deadline: {options['deadline']:g} is negative. Rule: E5. Next step: give seconds, or 0 to try once."
        )
    if options["timeout"] <= 0:
        problems.append(f"timeout: {options['timeout']:g} is not positive. Rule: E5. Next step: give seconds.")
    if any(character in options["host"] for character in "\r\n\0"):
        problems.append(f"host: {options['host']!r} holds a line break. Rule: one header line. Next step: give a name.")
    return problems


def current_port(public_port: int) -> int:
    """Where the public port leads on this host; itself when there is no redirect or it cannot be read."""
    try:
        return redirect.Redirect().current().get(public_port, public_port)
    except redirect.RedirectError:
        return public_port


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    options = module.params
    problems = problems_of(options)
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        module.fail_json(msg="\n".join([f"The health check has {count}:", *problems]))
    port = options["port"] or current_port(options["public_port"])
    result = probe.run_check(
        probe.CheckRequest(
            port=port,
            public_port=options["public_port"],
            paths=options["paths"] or ["/"],
            accept=options["accept"] or health.accept_rule(options["paths"]),
            schedule=health.schedule(options["deadline"]),
            timeout=options["timeout"],
            unit=options["unit"],
            host=options["host"],
            mark=redirect.PROBE_MARK,
            also=options["also"],
            inner=options["loopback"],
        )
    )
    report: dict[str, Any] = {
        "changed": False,
        "log": result.log,
        "port": port,
        "statuses": result.statuses,
        "attempts": result.attempts,
        "elapsed": round(result.elapsed, 3),
        "schedule": result.schedule,
    }
    if not result.ok:
        module.fail_json(msg="\n".join(result.failure), **report)
    module.exit_json(**report)


if __name__ == "__main__":
    main()
