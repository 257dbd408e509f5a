# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decisions between the steps of a rollout, made on the controller from its journal. No host is touched."""

from __future__ import annotations

import os
import time
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.pyfleet.runtime.plugins.module_utils import rollout
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding, render_findings
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.journal import Journal, run_id
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.report import write
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.rolling import controller, holder

#: Deployments, rollbacks and restarts; what `gate` may be told that the run is.
KINDS = ("deploy", "rollback", "restart")


class ActionModule(ActionBase):
    """The task `pyfleet.runtime.rollout`; one method per step."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(
        (
            "name",
            "step",
            "what",
            "release",
            "force",
            "failure_budget",
            "serial",
            "lease_seconds",
            "lease_takeover",
            "before_switch",
            "after_switch",
            "message",
            "report",
        )
    )

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Runs one step."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.variables = task_vars or {}
        self.given: dict[str, Any] = dict(self._task.args)
        self.host = str(self.variables.get("inventory_hostname"))
        self.journal = Journal.of(str(self.given.get("name")))
        steps = {
            "gate": self._gate,
            "go": self._go,
            "failed": self._failed,
            "revert": self._revert,
            "report": self._report,
            "verdict": self._verdict,
        }
        step = steps.get(str(self.given.get("step")))
        if step is None:
            return {
                **result,
                "failed": True,
                "msg": f"step is one of {', '.join(steps)}, not {self.given.get('step')}.",
            }
        return {**result, "changed": False, **step()}

    # -- before anything changes -------------------------------------------------------------------------------------------

    def _gate(self) -> dict[str, Any]:
        """Runs once: opens the rollout, unless too many hosts are away or something cannot be done on all of them."""
        what = str(self.given.get("what") or "deploy")
        order = list(self.variables.get("ansible_play_batch") or [self.host])
        entries = self.journal.entries()
        findings: list[Finding] = []
        allowed = self._budget(len(order), findings)
        serial = self._serial(findings)
        seconds = self._seconds(findings)
        for name in ("before_switch", "after_switch"):
            path = str(self.given.get(name) or "")
            if path and not os.path.isfile(path):
                findings.append(finding("task_file_missing", f"app_{name}", path))
        lost = [host for host in order if entries.get(host, {}).get("outcome") == rollout.LOST]
        if len(lost) > allowed:
            names = ", ".join(lost)
            findings.append(finding("hosts_away", "", "", hosts=names, allowed=allowed, all=len(order)))
        if what != "deploy":
            findings += self._targets(what, order, entries)
        if findings:
            return {"failed": True, "msg": render_findings(findings), "codes": [each.code for each in findings]}
        entries = self.journal.entries()
        work = any(entries.get(host, {}).get("action") not in (None, *rollout.IDLE) for host in order)
        self.journal.note_run(
            app=str(self.given.get("name")),
            what=what,
            run=run_id(),
            holder=holder(self.variables),
            controller=controller(),
            started=time.time(),
            hosts=order,
            budget=allowed,
            serial=serial,
            lease_seconds=seconds,
            takeover=str(self.given.get("lease_takeover") or ""),
            after_switch=bool(self.given.get("after_switch")),
            work=work,
            check=bool(self._task.check_mode),
        )
        return {"work": work, "hosts": order}

    def _budget(self, hosts: int, findings: list[Finding]) -> int:
        value = self.given.get("failure_budget", 0)
        try:
            return rollout.budget(value, hosts)
        except ValueError:
            expected = "a number of hosts, or a percentage of them"
            findings.append(finding("option_invalid", "app_failure_budget", value, expected=expected, example="10%"))
            return 0

    def _serial(self, findings: list[Finding]) -> list[str]:
        value = self.given.get("serial", "100%")
        try:
            return rollout.batch_sizes(value)
        except ValueError:
            expected = "a number of hosts, a percentage, or a list of both"
            findings.append(finding("option_invalid", "app_serial", value, expected=expected, example="[1, '50%']"))
            return ["100%"]

    def _seconds(self, findings: list[Finding]) -> int:
        value = self.given.get("lease_seconds", 3600)
        if str(value).isdecimal() and int(value) >= 60:
            return int(value)
        expected = "a number of seconds, 60 or more"
        findings.append(finding("option_invalid", "app_lease_seconds", value, expected=expected, example="3600"))
        return 3600

    def _targets(self, what: str, order: list[str], entries: dict[str, dict[str, Any]]) -> list[Finding]:
        """Notes for each host to which release it is led by a rollback or a restart."""
        release, force = str(self.given.get("release") or ""), boolean(self.given.get("force") or False, strict=False)
        findings: list[Finding] = []
        if what == "rollback":
            going, findings = rollout.rollback_targets(entries, order, release, force=force)
        else:
            known = {
                host: entries.get(host, {}) for host in order if entries.get(host, {}).get("outcome") != rollout.LOST
            }
            going = {host: str(entry["current"]) for host, entry in known.items() if entry.get("current")}
            missing = [host for host in known if host not in going]
            if missing:
                findings.append(finding("nothing_serves", "app_name", self.given.get("name"), hosts=", ".join(missing)))
        for host in order if not findings else []:
            entry = entries.get(host, {})
            facts = {"before": entry.get("current"), "before_previous": entry.get("previous")}
            action = what if host in going else "none"
            self.journal.note(host, action=action, release=going.get(host) or entry.get("current"), **facts)
        return findings

    # -- between the hosts' switches ---------------------------------------------------------------------------------------

    def _go(self) -> dict[str, Any]:
        """Whether this host may switch."""
        run, entry = self.journal.run(), self.journal.entry(self.host)
        decided = self._decide(run)
        if not decided.go:
            return {"go": False, "why": decided.why, **self._task_files()}
        if not rollout.has_a_turn(entry):
            return {"go": False, "why": "", **self._task_files()}
        batch = self.variables.get("ansible_play_batch") or [self.host]
        self.journal.note(self.host, batch=batch[0])
        return {"go": True, "why": "", **self._task_files()}

    def _decide(self, run: dict[str, Any], *, closed: bool = False) -> rollout.Verdict:
        """The verdict, noted when it ends the rollout. All hosts of a batch come to the same."""
        order = list(run.get("hosts") or [])
        if (
            not closed
        ):  # those that Ansible dropped while they prepared; hosts that have no turn are not in this play at all
            everybody = self.variables.get("ansible_play_hosts_all") or []
            for host in set(everybody) - set(self.variables.get("ansible_play_hosts") or everybody):
                if rollout.has_a_turn(self.journal.entry(host)):
                    words = "Ansible lost this host before it could switch."
                    self.journal.note(host, outcome=rollout.LOST, message=words)
        stop = str(run.get("stopped") or "")
        decided = rollout.verdict(self.journal.entries(), order, int(run.get("budget") or 0), stop, closed=closed)
        if not decided.go and not stop:
            self.journal.note_run(stopped=decided.why)
        return decided

    def _task_files(self) -> dict[str, str]:
        """The tasks around the switch; a relative path starts where ansible-playbook was started, as app_source does."""
        found = {}
        for name in ("before_switch", "after_switch"):
            path = str(self.given.get(name) or "")
            found[name] = os.path.abspath(path) if path else ""
        return found

    def _failed(self) -> dict[str, Any]:
        """Notes a failure that the step itself could not note, as one of the people's own tasks around the switch."""
        if not self.journal.run() or self._task.check_mode:
            return {}
        entry, words = self.journal.entry(self.host), str(self.given.get("message") or "A task failed.")
        if entry.get("outcome") not in rollout.BROKEN:
            self.journal.note(self.host, outcome=rollout.FAILED, message=words)
        elif str(entry.get("message") or "") in words:  # the same and more
            self.journal.note(self.host, message=words)
        return {}

    def _revert(self) -> dict[str, Any]:
        """Whether this host goes back, and to which release, because the rollout failed."""
        run = self.journal.run()
        if not run or self._decide(run, closed=True).go or run.get("what") == "restart":
            return {"go": False, "release": "", "why": "", **self._task_files()}
        back = rollout.to_revert(self.journal.entries(), list(run["hosts"])).get(self.host, "")
        return {"go": bool(back), "release": back, "why": self.journal.run()["stopped"], **self._task_files()}

    # -- at the end --------------------------------------------------------------------------------------------------------

    def _report(self) -> dict[str, Any]:
        """Runs once: what happened, for stats and people, and as a file where one is wanted."""
        run = self.journal.run()
        if not run:
            return {"summary": {}}
        if not self._task.check_mode:
            self._decide(run, closed=True)
            self.journal.note_run(ended=time.time())
        run, entries = self.journal.run(), self.journal.entries()
        summary = rollout.report(entries, run)
        answer: dict[str, Any] = {"summary": summary}
        path = str(self.given.get("report") or "")
        if path and not self._task.check_mode:
            warning = write(
                path, {**run, "outcome": summary["outcome"]}, {host: entries.get(host, {}) for host in run["hosts"]}
            )
            answer["warnings"] = [warning] if warning else []
        return answer

    def _verdict(self) -> dict[str, Any]:
        """Fails the host where the rollout failed, now that nothing is left to be done for it."""
        run, entry = self.journal.run(), self.journal.entry(self.host)
        if not run or self._task.check_mode:
            return {}
        stopped = str(run.get("stopped") or "")
        how = rollout.outcome(entry, run)
        if rollout.broke(entry, how):
            return {
                "failed": True,
                "outcome": how,
                "msg": str(entry.get("message") or "It is not known what this host does."),
            }
        return {"outcome": how, "msg": stopped if how in (rollout.STOPPED, rollout.ROLLED_BACK) else ""}
