# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers beside the application (D7)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.pyfleet.runtime.plugins.module_utils import command as commands
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import secret_values, show
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding

RESTART = ("on-failure", "always", "no")
LONGEST_DELAY = 86400
_NAME = re.compile(r"CC_WORKER_COMMAND(?:_(.*))?\Z", re.DOTALL)


@dataclass(frozen=True)
class Worker:
    """One worker. `index` counts from 0 in the order of the variables; `delay` is in seconds."""

    index: int
    variable: str
    command: str
    script: str
    restart: str
    delay: int | float

    def to_dict(self) -> dict[str, object]:
        """JSON-able form."""
        return {
            "index": self.index,
            "variable": self.variable,
            "command": self.command,
            "script": self.script,
            "restart": self.restart,
            "delay": self.delay,
        }


def read_workers(env: Mapping[str, str], uv_mode: bool = True) -> tuple[list[Worker], list[Finding]]:
    """D7: the workers, CC_WORKER_COMMAND first, then by index. Indexes need not be without a gap."""
    findings: list[Finding] = []
    found: list[tuple[int, str]] = []
    for name in sorted(env, key=lambda name: (len(name), name)):
        match = _NAME.match(name)
        if not match:
            continue
        index = match.group(1)
        if index is None:
            found.append((-1, name))
        elif re.match(r"(0|[1-9][0-9]{0,8})\Z", index, re.ASCII):
            found.append((int(index), name))
        else:
            shown = show(name, env[name], secret_values(env))
            findings.append(finding("index_malformed", name, shown, example="CC_WORKER_COMMAND_0"))
    restart, delay, found_policy = read_policy(env)
    findings += found_policy
    workers: list[Worker] = []
    for _index, name in sorted(found):
        command = env[name]
        why = commands.problem(command)
        if not command.strip():
            findings.append(finding("worker_command_empty", name, "(empty)"))
        elif why:
            findings.append(finding("worker_command_invalid", name, show(name, command, secret_values(env)), why=why))
        else:
            script = commands.start(command, uv_mode).script
            workers.append(Worker(len(workers), name, command, script, restart, delay))
    return workers, findings


def read_policy(env: Mapping[str, str]) -> tuple[str, int | float, list[Finding]]:
    """D7: how and after how many seconds every worker is started again."""
    findings: list[Finding] = []
    restart = env.get("CC_WORKER_RESTART", "").strip() or RESTART[0]
    if restart not in RESTART:
        findings.append(finding("worker_restart_invalid", "CC_WORKER_RESTART", restart))
        restart = RESTART[0]
    text = env.get("CC_WORKER_RESTART_DELAY", "").strip() or "1"
    delay: int | float = 1
    if re.match(r"[0-9]{1,6}(\.[0-9]{1,6})?\Z", text, re.ASCII) and float(text) <= LONGEST_DELAY:
        delay = float(text)
        delay = int(delay) if delay == int(delay) else delay
    else:
        findings.append(finding("worker_delay_invalid", "CC_WORKER_RESTART_DELAY", text))
    return restart, delay, findings
