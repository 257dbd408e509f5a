# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host's part in a rollout: when it acts, with which lease, and what is noted of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible import constants
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.pyfleet.runtime.plugins.plugin_utils import rolling
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.journal import Journal, run_id
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.rolling import Rolling

OLD, NEW = "0" * 12, "1" * 12


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder of a run of its own."""
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path / "ansible-local-1234"))


def opened(*hosts: str, **facts: Any) -> Journal:
    """A rollout from OLD to NEW."""
    journal = Journal.of("shop")
    run = {"run": "r1", "holder": "me@here", "what": "deploy", "started": 1.0, "lease_seconds": 60, "controller": {}}
    journal.note_run(**{**run, "hosts": list(hosts), **facts})
    for host in hosts:
        journal.note(host, action="build", release=NEW, before=OLD, current=OLD)
    return journal


def part(host: str = "web1") -> Rolling:
    return Rolling("shop", host)


def test_the_journal_keeps_hosts_and_run_apart_and_survives_odd_names() -> None:
    journal = Journal.of("shop")
    journal.note("web/1 ../ä", action="none")
    journal.note("web/1 ../ä", release=NEW)
    journal.note_run(app="shop", started=2.0)
    assert journal.entries() == {"web/1 ../ä": {"host": "web/1 ../ä", "action": "none", "release": NEW}}
    assert journal.run() == {"app": "shop", "started": 2.0}
    assert Journal.of("other").entries() == {}
    Journal.of("other").note_run(started=1.0)
    assert Journal.latest().run()["app"] == "shop"


def test_phases_have_a_beginning_and_an_end_also_when_they_raise() -> None:
    journal = Journal.of("shop")
    with journal.phase("web1", "look") as phase:
        phase["ok"] = True
    with pytest.raises(RuntimeError), journal.phase("web1", "build"):
        raise RuntimeError
    look, build = journal.entry("web1")["phases"]
    assert (look["name"], look["ok"], build["name"], build["ok"]) == ("look", True, "build", None)
    assert look["started"] <= look["ended"] <= build["started"] <= build["ended"]


def test_runs_have_different_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_id()
    assert first == run_id()
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", "/other/ansible-local-9")
    assert run_id() != first


def test_a_playbook_without_a_rollout_is_left_alone() -> None:
    alone = part()
    assert not alone.active
    assert alone.skips("leased") == ""
    assert alone.lease("active") is None
    assert alone.run_module("active", lambda: {"changed": True}) == {"changed": True}
    with pytest.raises(AnsibleConnectionFailure):
        alone.run_module("active", _lost)
    assert Journal.of("shop").entries() == {}


def _lost() -> dict[str, Any]:
    raise AnsibleConnectionFailure("no route")


def test_a_single_host_takes_its_lease_in_passing_and_ends_it_with_the_switch() -> None:
    opened("web1")
    assert "in passing" in part().skips("leased")
    claimed = part().lease("prepared")
    assert claimed is not None
    assert (claimed["claim"], claimed["end"], claimed["expect_current"]) == (True, False, OLD)
    part().run_module("prepared", lambda: {"lease": {"run": "r1"}})
    moved = part().lease("active")
    assert moved is not None
    assert (moved["claim"], moved["end"]) == (False, True)
    part().run_module("active", lambda: {"release": NEW, "lease": {"ended": True}})
    assert "ended its lease" in part().skips("finished")
    assert Journal.of("shop").entry("web1")["outcome"] == "switched"


def test_tasks_after_the_switch_keep_the_lease_of_a_single_host() -> None:
    opened("web1", after_switch=True)
    lease = part().lease("active")
    assert lease is not None
    assert not lease["end"]


def test_a_refusal_is_noted_and_told_only_when_all_were_asked() -> None:
    opened("web1", "web2")
    assert part().skips("let_go") != ""
    answer = part().run_module("leased", lambda: {"failed": True, "msg": "held by alice"})
    assert not answer["failed"]
    part("web2").run_module("leased", lambda: {"lease": {"run": "r1"}})
    assert part("web2").refusals() == {"web1": "held by alice"}
    assert part("web2").skips("let_go") == ""


def test_a_lost_host_is_a_failed_one_and_is_left_in_peace_but_for_going_back() -> None:
    opened("web1", "web2")
    answer = part().run_module("active", _lost)
    assert answer["failed"]
    assert "by itself" in answer["msg"]
    assert Journal.of("shop").entry("web1")["outcome"] == "lost"
    for state in ("prepared", "active", "finished"):
        assert part().skips(state) == "The host cannot be reached."
    assert part().skips("rolled_back") == ""


def test_what_served_before_an_interrupted_run_is_what_to_go_back_to() -> None:
    opened("web1", "web2")
    part().run_module("leased", lambda: {"lease": {"before": "f" * 12, "taken_over": "run r0"}})
    assert Journal.of("shop").entry("web1")["before"] == "f" * 12


def test_going_back_is_an_outcome_of_its_own() -> None:
    opened("web1", "web2")
    part().run_module("active", lambda: {"release": NEW})
    part().run_module("rolled_back", lambda: {"release": OLD}, withdraw=True)
    entry = Journal.of("shop").entry("web1")
    assert (entry["outcome"], entry["serves"]) == ("rolled_back", OLD)
    assert [phase["name"] for phase in entry["phases"]] == ["switch", "revert"]
    part("web2").run_module("rolled_back", lambda: {"failed": True, "msg": "no"}, withdraw=True)
    assert Journal.of("shop").entry("web2")["outcome"] == "rollback_failed"


def test_a_hook_that_runs_once_runs_on_one_host_and_ends_the_rollout_when_it_fails() -> None:
    opened("web1", "web2")
    assert part().skips("hooked") == ""
    assert part("web2").skips("hooked") != ""
    part().run_module("hooked", lambda: {"failed": True, "msg": "no migration"})
    assert Journal.of("shop").run()["stopped"] == "CC_PRE_RUN_HOOK failed on web1."
    Journal.of("shop").note("web1", outcome="")
    part().run_module("hooked", lambda: {"lease": {"run": "r1"}})
    assert part("web2").hook_host() == "web1"


def test_the_hook_does_not_run_for_a_rollout_that_failed_while_it_built() -> None:
    opened("web1", "web2", "web3").note("web3", outcome="failed")
    assert "ends before the hook" in part().skips("hooked")
    Journal.of("shop").note_run(budget=1)
    assert part().skips("hooked") == ""


def test_what_cannot_be_tidied_up_is_a_warning_and_no_failure() -> None:
    opened("web1", "web2")
    answer = part().run_module("finished", lambda: {"failed": True, "msg": "the disk is full"})
    assert not answer["failed"]
    assert "the disk is full" in answer["warnings"][0]


def test_check_mode_notes_no_outcome() -> None:
    opened("web1", "web2")
    Rolling("shop", "web1", check_mode=True).run_module("active", lambda: {"failed": True})
    assert "outcome" not in Journal.of("shop").entry("web1")


def test_a_run_is_dead_when_its_process_is_gone_or_another_has_its_number() -> None:
    mine = rolling.controller()
    assert mine["pid"] > 0
    assert not rolling.is_dead(mine)
    with subprocess.Popen([sys.executable, "-c", "pass"]) as gone:
        gone.wait()
    assert rolling.is_dead({**mine, "pid": gone.pid})
    assert rolling.is_dead({**mine, "pid_started": mine["pid_started"] - 1})


@pytest.mark.parametrize("other", [{}, {"boot": "x"}, {"pid_namespace": "pid:[1]"}])
def test_nobody_can_tell_from_another_machine_or_container(other: dict[str, Any]) -> None:
    mine = {**rolling.controller(), "pid": 0}
    assert not rolling.is_dead({**mine, **other} if other else {})


def test_a_dead_run_is_named_to_the_host() -> None:
    journal = opened("web1", "web2")
    journal.note("web1", lease={"run": "r0", "controller": {**rolling.controller(), "pid": 2**22 + 1}})
    lease = part().lease("leased")
    assert lease is not None
    assert lease["dead"] == ["r0"]


def test_a_job_of_awx_is_the_holder() -> None:
    assert rolling.holder({"awx_job_id": 42, "awx_user_name": "alice"}) == "AWX job 42 (alice)"
    assert "@" in rolling.holder({})
