# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host's part in a rollout, as the action plugins see it: whether to act, with which lease, and what came of it.

Ansible ends a run when a whole batch has failed, and then nobody leads the hosts back that switched already. No step of a rollout
therefore fails a host, or loses it, before the very end: failures are noted in the journal, and every step asks it first.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action.normal import ActionModule as NormalAction

from ansible_collections.pyfleet.runtime.plugins.module_utils.rollout import (
    FAILED,
    LOST,
    ROLLBACK_FAILED,
    hook_host,
    verdict,
)
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.journal import Journal

#: The phase of the time line to which a state of the module `release` belongs.
PHASES = {
    "leased": "lease",
    "let_go": "finish",
    "prepared": "prepare",
    "discarded": "prepare",
    "hooked": "hook",
    "active": "switch",
    "rolled_back": "switch",
    "restarted": "switch",
    "finished": "finish",
}
#: States that move traffic, after which a host is either switched or failed.
MOVES = ("active", "rolled_back", "restarted")
#: States of the module that take no part in a rollout.
ALONE = ("pruned", "absent")


def holder(variables: Mapping[str, Any]) -> str:
    """Who deploys, for the person who waits: user and machine, or AWX's job."""
    with contextlib.suppress(KeyError, OSError):
        who = f"{getpass.getuser()}@{socket.gethostname()}"
        job = variables.get("awx_job_id") or variables.get("tower_job_id")
        if not job:
            return who
        user = variables.get("awx_user_name") or variables.get("tower_user_name")
        return f"AWX job {job}" + (f" ({user})" if user else "")
    return socket.gethostname()


def controller() -> dict[str, Any]:
    """Names this run's process so that a later run on the same machine can tell whether it still lives.

    Empty where there is no /proc: then a lease has to expire, or to be taken over by name.
    """
    pid = os.getppid()  # tasks run in forks of ansible-playbook
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            boot = file.read().strip()
        return {
            "boot": boot,
            "pid_namespace": os.readlink("/proc/self/ns/pid"),
            "pid": pid,
            "pid_started": _started(pid),
        }
    except OSError:
        return {}


def is_dead(other: Mapping[str, Any]) -> bool:
    """Whether the run of `controller()` somewhere else is known to have ended: only its own machine, since its last start, knows."""
    mine = controller()
    same = mine and all(other.get(name) == mine[name] for name in ("boot", "pid_namespace"))
    if not same:
        return False
    try:
        return _started(int(other.get("pid") or 0)) != other.get("pid_started")
    except OSError:
        return True


def _started(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[19])


class Rolling:
    """The part of one host in this run's rollout of one application. Without a rollout (`active` is False) nothing is noted."""

    def __init__(self, app: str, host: str, *, check_mode: bool = False) -> None:
        self.journal = Journal.of(app)
        self.host = host
        self.run = self.journal.run()
        self.entry = self.journal.entry(host)
        self.check_mode = check_mode

    @property
    def active(self) -> bool:
        """Whether the task belongs to a rollout, and not to somebody's own playbook."""
        return bool(self.run) and self.host in self.run.get("hosts", [])

    @property
    def solo(self) -> bool:
        """Whether this is the only host: then no step has to wait for others, and calls can be saved."""
        return len(self.run.get("hosts", [])) == 1

    def skips(self, state: str) -> str:
        """Why the module `release` has nothing to do here in this state; empty when it has."""
        if not self.active or state in ALONE:
            return ""
        refused = self.refusals()
        lost = self.entry.get("outcome") == LOST and state != "rolled_back"
        reasons = {
            "The host cannot be reached.": lost,
            "A single host takes its lease in passing.": state == "leased" and self.solo,
            "Nobody holds a host against this run.": state == "let_go" and not refused,
            "This run has ended its lease already.": state == "finished" and not self.entry.get("leased"),
            "The rollout ends before the hook, because hosts have failed.": state == "hooked" and not self._goes_on(),
            "The hook runs on another host, or ran before.": state == "hooked" and not self._runs_hook(),
        }
        return next((words for words, true in reasons.items() if true), "")

    def _goes_on(self) -> bool:
        """Whether the failures so far leave the rollout going: nobody migrates a database for one that will not happen."""
        run = self.run
        return verdict(
            self.journal.entries(), run.get("hosts", []), int(run.get("budget") or 0), str(run.get("stopped") or "")
        ).go

    def _runs_hook(self) -> bool:
        return self._hook_hosts()[0] == self.host

    def hook_host(self) -> str:
        """Where CC_PRE_RUN_HOOK runs, or ran, when it runs once for all hosts; empty when that is not known."""
        to_run, ran = self._hook_hosts()
        return ran or to_run

    def _hook_hosts(self) -> tuple[str, str]:
        return hook_host(self.journal.entries(), self.run.get("hosts", []), str(self.entry.get("release")))

    def refusals(self) -> dict[str, str]:
        """What the hosts said that another run holds, by host."""
        entries = self.journal.entries()
        return {host: str(entry["refused"]) for host, entry in entries.items() if entry.get("refused")}

    def lease(self, state: str) -> dict[str, Any] | None:
        """The module's option `lease`; None for what needs none."""
        if not self.active or state in ALONE:
            return None
        run, other = self.run, self.entry.get("lease") or {}
        dead = [other["run"]] if other.get("run") and is_dead(other.get("controller") or {}) else []
        claim = not self.entry.get("leased")
        given = {
            "run": run["run"],
            "holder": run["holder"],
            "what": run["what"],
            "target": str(self.entry.get("release") or ""),
            "started": run["started"],
            "seconds": run["lease_seconds"],
            "controller": run["controller"],
            "takeover": run.get("takeover") or "",
            "dead": dead,
            "claim": claim,
            "end": state in MOVES and self.solo and not run.get("after_switch"),
        }
        if claim:
            given["expect_current"] = self.entry.get("serves") or self.entry.get("current") or ""
        return given

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[dict[str, Any]]:
        """The phase in the time line; nothing is noted without a rollout."""
        if not self.active:
            yield {}
            return
        with self.journal.phase(self.host, name) as phase:
            yield phase

    def run_module(
        self, state: str, execute: Callable[[], dict[str, Any]], *, withdraw: bool = False
    ) -> dict[str, Any]:
        """Runs a state of the module `release` and notes what came of it. A lost connection becomes a failure."""
        if not self.active:
            return execute()
        with self.phase("revert" if withdraw else PHASES.get(state, state)) as phase:
            answer = self._execute(execute)
            phase["ok"] = not answer.get("failed")
            phase["words"] = "" if phase["ok"] else str(answer.get("msg") or "").partition("\n")[0][:200]
        self._note(state, answer, withdraw=withdraw)
        taken = (answer.get("lease") or {}).get("taken_over")
        if taken:
            words = f"The lease of a run that never ended it was taken over: {taken}."
            answer = {**answer, "warnings": [*(answer.get("warnings") or []), words]}
        if state == "leased" and answer.get("failed"):  # every host is asked before anybody gives up
            return {**answer, "failed": False, "refused": True}
        if state == "finished" and answer.get("failed"):  # the release serves all the same
            warning = f"The rollout is not tidied up on {self.host}: {answer.get('msg', '')}"
            return {**answer, "failed": False, "warnings": [*answer.get("warnings", []), warning]}
        return answer

    def _execute(self, execute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return execute()
        except AnsibleConnectionFailure as error:
            return {
                "failed": True,
                "lost": True,
                "msg": f"The connection to {self.host} is lost: {error}\nThe host finishes what it has begun, or goes back, by itself.\n"
                "Next step: look at it with the playbook status.yml, then run the same playbook again.",
            }

    def _note(self, state: str, answer: Mapping[str, Any], *, withdraw: bool) -> None:
        failed, message = bool(answer.get("failed")), str(answer.get("msg") or "")
        facts: dict[str, Any] = {}
        if self.check_mode:
            return
        if answer.get("lost"):
            facts.update(outcome=LOST, message=message)
        elif state == "leased":
            facts = {"refused": message} if failed else {"leased": True}
        elif state in ("prepared", "hooked"):
            facts.update(leased=bool(answer.get("lease")) or self.entry.get("leased", False))
            if failed:
                facts.update(outcome=FAILED, message=message)
            elif state == "hooked":
                facts.update(pre_run={"ok": True, "host": self.host})
            if failed and state == "hooked":  # what runs once concerns all
                self.journal.note_run(stopped=f"CC_PRE_RUN_HOOK failed on {self.host}.")
        elif state in MOVES and failed:
            outcome = ROLLBACK_FAILED if withdraw else FAILED
            facts.update(
                outcome=outcome, message=message, log=answer.get("log") or [], journal=answer.get("journal") or []
            )
        elif state in MOVES:
            facts.update(outcome="rolled_back" if withdraw else "switched", serves=answer.get("release"))
            facts.update(
                log=answer.get("log") or [], gap_seconds=answer.get("gap_seconds"), drained=answer.get("drained") or ""
            )
        elif state in ("finished", "let_go") and not failed:
            facts.update(leased=False)
        lease = answer.get("lease") or {}
        if lease.get("before"):  # that of a rollout which never ended counts
            facts.update(before=lease["before"], taken_over=lease.get("taken_over") or "")
        if state in MOVES and lease:
            facts.update(leased=not lease.get("ended"))
        if facts:
            self.journal.note(self.host, **facts)


class BuildAction(NormalAction):  # type: ignore[misc]
    """Base of the action plugins `uv_sync` and `legacy_build`: in a rollout a build is a phase, and a lost host a failed one."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Runs the module of the same name."""
        variables = task_vars or {}

        def execute() -> dict[str, Any]:
            answer: dict[str, Any] = super(BuildAction, self).run(tmp, task_vars)
            return answer

        rolling = Rolling(
            str(variables.get("app_name") or ""),
            str(variables.get("inventory_hostname") or ""),
            check_mode=self._task.check_mode,
        )
        return rolling.run_module("build", execute)


__all__ = ["ALONE", "MOVES", "PHASES", "BuildAction", "Rolling", "controller", "holder", "is_dead"]
