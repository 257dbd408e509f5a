# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the run after an interrupted one decides: the lease that was never ended says that something may be left to do."""

from __future__ import annotations

from ansible_collections.pyfleet.runtime.plugins.module_utils import rollout
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.deployment import decide

FIRST, BROKEN_OFF, NEXT = "0123456789ab", "123456789abc", "23456789abcd"
SERVING = {"current": NEXT, "serving": True, "releases": {NEXT: {"result": "good"}}}


def test_a_host_that_serves_the_release_is_gone_over_when_a_run_never_ended_there() -> None:
    assert decide(SERVING, NEXT) == "none"
    assert decide({**SERVING, "lease": {"run": "0" * 12}}, NEXT) == "restart"


def test_a_rollback_goes_over_such_a_host_too() -> None:
    entry = {"current": NEXT, "serving": True, "releases": {NEXT: "good"}, "outcome": ""}
    assert rollout.rollback_targets({"web1": entry}, ["web1"], NEXT) == ({}, [])
    assert rollout.rollback_targets({"web1": {**entry, "lease": {"run": "0" * 12}}}, ["web1"], NEXT) == (
        {"web1": NEXT},
        [],
    )


def test_hosts_go_back_past_the_release_of_a_run_that_broke_off() -> None:
    entries = {
        # the interrupted run reached this one; `before` comes from its lease
        "web1": {"action": "build", "release": NEXT, "current": BROKEN_OFF, "before": FIRST, "outcome": "failed"},
        "web2": {"action": "build", "release": NEXT, "current": FIRST, "before": FIRST, "outcome": ""},
    }
    assert rollout.to_revert(entries, ["web1", "web2"]) == {"web1": FIRST}


def test_a_host_that_was_lost_and_went_back_has_failed_all_the_same() -> None:
    lost = {"outcome": "rolled_back", "message": "The connection to web1 is lost.", "before": FIRST, "serves": FIRST}
    innocent = {"outcome": "rolled_back", "message": "", "before": FIRST, "serves": FIRST}
    summary = rollout.report({"web1": lost, "web2": innocent}, {"hosts": ["web1", "web2"], "stopped": "web1 failed."})
    assert (summary["failed"], summary["outcome"]) == (["web1"], "rolled_back")
    assert [rollout.broke(each, "rolled_back") for each in (lost, innocent)] == [True, False]
