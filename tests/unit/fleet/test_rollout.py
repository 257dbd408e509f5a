# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decisions of a rollout, without Ansible."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pyfleet.runtime.plugins.action import app_info
from ansible_collections.pyfleet.runtime.plugins.module_utils import rollout

OLD, NEW = "0" * 12, "1" * 12
HOSTS = ["web1", "web2", "web3", "web4", "web5", "web6"]


def entry(outcome: str = "", **facts: Any) -> dict[str, Any]:
    """A host that has built the new release and serves the old one, unless `facts` say otherwise."""
    made: dict[str, Any] = {"action": "build", "release": NEW, "before": OLD, "current": OLD}
    made.update({"outcome": outcome} if outcome else {})
    made.update({"serves": NEW} if outcome == rollout.SWITCHED else {})
    return {**made, **facts}


def fleet(**outcomes: str) -> dict[str, dict[str, Any]]:
    """Six hosts in batches of one, two and three; those named have an outcome."""
    batch = {"web1": "web1", "web2": "web2", "web3": "web2", "web4": "web4", "web5": "web4", "web6": "web4"}
    return {
        host: entry(outcomes.get(host, ""), **({"batch": batch[host]} if host in outcomes else {})) for host in HOSTS
    }


@pytest.mark.parametrize(
    ("value", "hosts", "expected"),
    [(0, 10, 0), ("2", 10, 2), ("10%", 50, 5), ("10%", 9, 0), ("100%", 3, 3), (99, 3, 3), (" 25 %", 8, 2)],
)
def test_a_budget_is_a_number_or_a_percentage(value: Any, hosts: int, expected: int) -> None:
    assert rollout.budget(value, hosts) == expected


@pytest.mark.parametrize("value", ["", "some", "-1", True, 1.5, None, "5 %%"])
def test_what_is_no_budget_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r".*"):
        rollout.budget(value, 10)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, ["1"]),
        ("50%", ["50%"]),
        ([1, "50%"], ["1", "50%"]),
        ("1,50%", ["1", "50%"]),
        ('[1, "25%", 10]', ["1", "25%", "10"]),
        ("100%", ["100%"]),
    ],
)
def test_batch_sizes_come_as_numbers_lists_and_texts_of_surveys(value: Any, expected: list[str]) -> None:
    assert rollout.batch_sizes(value) == expected


@pytest.mark.parametrize("value", [0, "", [], "0%", "150%", "half", [1, None], "[1,"])
def test_what_is_no_batch_size_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r".*"):
        rollout.batch_sizes(value)


def test_a_rollout_goes_on_while_nothing_fails() -> None:
    assert rollout.verdict(fleet(web1="switched"), HOSTS, 0) == rollout.Verdict(True)


def test_a_failure_ends_it_and_names_the_host_and_the_variable() -> None:
    found = rollout.verdict(fleet(web1="switched", web2="failed", web3="switched"), HOSTS, 0)
    assert not found.go
    assert found.failed == ("web2",)
    assert "web2 failed" in found.why
    assert "app_failure_budget" in found.why


def test_the_budget_allows_failures_up_to_its_size() -> None:
    one = fleet(web1="switched", web2="failed", web3="switched")
    assert rollout.verdict(one, HOSTS, 1).go
    two = fleet(web1="switched", web2="failed", web3="lost")
    assert not rollout.verdict(two, HOSTS, 1).go
    assert rollout.verdict(two, HOSTS, 2).go


def test_a_failing_canary_ends_it_whatever_the_budget() -> None:
    found = rollout.verdict(fleet(web1="failed"), HOSTS, 6)
    assert not found.go
    assert "canary web1" in found.why


def test_a_single_batch_has_no_canary() -> None:
    entries = {host: entry("failed" if host == "web1" else "switched", batch="web1") for host in HOSTS}
    assert rollout.verdict(entries, HOSTS, 1).go
    assert not rollout.verdict(entries, HOSTS, 0).go


def test_a_host_that_fell_silent_counts_once_all_had_their_turn() -> None:
    entries = fleet(web1="switched", web2="switched")
    assert rollout.verdict(entries, HOSTS, 0).go
    closed = rollout.verdict(entries, HOSTS, 0, closed=True)
    assert not closed.go
    assert closed.failed == ("web3", "web4", "web5", "web6")


def test_a_reason_that_concerns_all_ends_it() -> None:
    assert (
        rollout.verdict(fleet(), HOSTS, 6, "CC_PRE_RUN_HOOK failed on web1.").why == "CC_PRE_RUN_HOOK failed on web1."
    )


def test_hosts_that_switched_go_back_and_others_stay() -> None:
    entries = fleet(web1="switched", web2="failed", web3="switched")
    assert rollout.to_revert(entries, HOSTS) == {"web1": OLD, "web3": OLD}


def test_a_host_that_an_interrupted_run_switched_goes_back_too() -> None:
    entries = fleet(web2="failed")
    entries["web1"] = entry(
        action="none", current=NEW, outcome=""
    )  # `before` comes from the lease of the run that broke off
    assert rollout.to_revert(entries, HOSTS) == {"web1": OLD}


def test_a_host_that_was_lost_while_it_switched_is_asked_to_go_back() -> None:
    assert rollout.to_revert(fleet(web1="switched", web2="lost"), HOSTS) == {"web1": OLD, "web2": OLD}
    away = fleet(web1="switched")
    away["web6"] = {"outcome": "lost"}
    assert "web6" not in rollout.to_revert(away, HOSTS), "it never began"


def test_nothing_to_go_back_to_after_a_first_deployment() -> None:
    entries = {host: entry("switched", before=None) for host in HOSTS}
    assert rollout.to_revert(entries, HOSTS) == {}


@given(
    outcomes=st.lists(st.sampled_from(["", "switched", "failed", "lost", "unchanged"]), min_size=6, max_size=6),
    allowed=st.integers(0, 6),
)
def test_after_a_failed_rollout_no_reachable_host_is_left_on_the_new_release(outcomes: list[str], allowed: int) -> None:
    entries = {host: entry(outcome, batch=host) for host, outcome in zip(HOSTS, outcomes)}
    found = rollout.verdict(entries, HOSTS, allowed, closed=True)
    back = rollout.to_revert(entries, HOSTS)
    for host, outcome in zip(HOSTS, outcomes):
        serves = OLD if not found.go and host in back else entries[host].get("serves", OLD)
        assert found.go or outcome == "lost" or serves == OLD
    assert found.go or found.why


@pytest.mark.rule("D5")
def test_d5_numbers_are_places_and_stay_when_hosts_come_and_go() -> None:
    first = rollout.instance_numbers({}, ["a", "b", "c"])
    assert first == {"a": 0, "b": 1, "c": 2}
    later = rollout.instance_numbers({"b": 1, "c": 2}, ["new", "b", "c"])
    assert later == {"new": 0, "b": 1, "c": 2}
    grown = rollout.instance_numbers({"b": 1, "c": 2}, ["b", "x", "c", "y"])
    assert (grown["b"], grown["c"]) == (1, 2)
    assert sorted(grown.values()) == sorted(set(grown.values()))


@pytest.mark.rule("D5")
def test_d5_a_cloned_host_gets_a_number_of_its_own() -> None:
    assert rollout.instance_numbers({"a": 0, "clone": 0}, ["a", "clone"]) == {"a": 0, "clone": 1}


@pytest.mark.rule("D5")
@given(
    recorded=st.dictionaries(st.sampled_from("abcdef"), st.none() | st.integers(0, 8)), order=st.permutations("abcdef")
)
def test_d5_numbers_are_never_shared(recorded: dict[str, int | None], order: list[str]) -> None:
    given_numbers = rollout.instance_numbers(recorded, order)
    assert set(given_numbers) == set(order)
    assert len(set(given_numbers.values())) == len(order)
    known = [number for number in recorded.values() if number is not None]
    for host, number in recorded.items():
        if number is not None and known.count(number) == 1:
            assert given_numbers[host] == number


def test_the_hook_runs_on_the_first_host_that_gets_the_release() -> None:
    entries = fleet()
    entries["web1"]["action"] = "none"
    assert rollout.hook_host(entries, HOSTS, NEW) == ("web2", "")


def test_the_hook_is_not_run_again_once_it_ran_for_a_release() -> None:
    entries = fleet()
    entries["web5"]["pre_run"] = {"ok": True, "host": "web3"}
    assert rollout.hook_host(entries, HOSTS, NEW) == ("", "web3")
    entries["web5"]["pre_run"] = {"ok": False, "host": "web3"}
    assert rollout.hook_host(entries, HOSTS, NEW) == ("web1", "")


def served(current: str, previous: str | None, **releases: str) -> dict[str, Any]:
    known = {name.strip("r"): result for name, result in releases.items()}
    return {"current": current, "previous": previous, "serving": True, "releases": known}


def test_a_rollback_goes_to_the_previous_release_of_all() -> None:
    entries = {host: served(NEW, OLD) for host in HOSTS}
    assert rollout.rollback_targets(entries, HOSTS) == (dict.fromkeys(HOSTS, OLD), [])


def test_a_rollback_to_different_releases_is_refused() -> None:
    entries = {**{host: served(NEW, OLD) for host in HOSTS}, "web2": served(OLD, "2" * 12)}
    targets, findings = rollout.rollback_targets(entries, HOSTS)
    assert targets == {}
    assert [each.code for each in findings] == ["rollback_ambiguous"]
    assert "web2" in findings[0].value


def test_a_rollback_without_a_previous_release_is_refused() -> None:
    _targets, findings = rollout.rollback_targets({host: served(NEW, None) for host in HOSTS}, HOSTS)
    assert [each.code for each in findings] == ["rollback_impossible"]


def test_a_named_release_leaves_hosts_alone_that_serve_it() -> None:
    entries = {host: {**served(NEW, None), "releases": {OLD: "good"}} for host in HOSTS}
    entries["web1"] = {**served(OLD, None), "releases": {OLD: "good"}}
    assert rollout.rollback_targets(entries, HOSTS, OLD) == (dict.fromkeys(HOSTS[1:], OLD), [])


@pytest.mark.parametrize(
    ("releases", "force", "codes"),
    [
        ({}, False, ["rollback_unknown"]),
        ({OLD: "failed"}, False, ["rollback_to_failed"]),
        ({OLD: "building"}, False, ["rollback_to_failed"]),
        ({OLD: "failed"}, True, []),
    ],
)
@pytest.mark.rule("E6")
def test_e6_a_release_must_be_there_and_good_on_every_host(
    releases: dict[str, str], force: bool, codes: list[str]
) -> None:
    entries = {host: {**served(NEW, None), "releases": {OLD: "good"}} for host in HOSTS}
    entries["web4"]["releases"] = releases
    _targets, findings = rollout.rollback_targets(entries, HOSTS, OLD, force=force)
    assert [each.code for each in findings] == codes


#: Two releases of one deployment, for different hardware, and two of the one before.
CPU, GPU, CPU_BEFORE, GPU_BEFORE = "1111111100aa", "1111111100bb", "2222222200aa", "2222222200bb"


def mixed() -> dict[str, dict[str, Any]]:
    """A fleet of which web2 has a GPU."""
    before = {CPU_BEFORE: "good", CPU: "good"}
    made = {host: {**served(CPU, CPU_BEFORE), "releases": before} for host in HOSTS}
    made["web2"] = {**served(GPU, GPU_BEFORE), "releases": {GPU_BEFORE: "good", GPU: "good"}}
    return made


@pytest.mark.rule("H3")
def test_h3_hosts_of_different_hardware_go_back_together_each_to_its_own() -> None:
    expected = {**dict.fromkeys(HOSTS, CPU_BEFORE), "web2": GPU_BEFORE}
    for name in ("", CPU_BEFORE, GPU_BEFORE, "22222222"):
        assert rollout.rollback_targets(mixed(), HOSTS, name) == (expected, []), name
    assert rollout.rollback_targets(mixed(), HOSTS, CPU) == ({}, []), "everybody serves that deployment"
    for name in ("33333333", "2222222", "2"):
        assert [each.code for each in rollout.rollback_targets(mixed(), HOSTS, name)[1]] == ["rollback_unknown"], name


@pytest.mark.rule("H3")
def test_h3_a_full_id_means_that_release_where_a_host_has_it() -> None:
    fleet_of_two = {"web1": mixed()["web1"], "web2": mixed()["web2"]}
    fleet_of_two["web2"]["releases"] = {CPU_BEFORE: "good", GPU_BEFORE: "good", GPU: "good"}
    order = ["web1", "web2"]
    assert rollout.rollback_targets(fleet_of_two, order, CPU_BEFORE)[0]["web2"] == CPU_BEFORE
    assert rollout.rollback_targets(fleet_of_two, order, "22222222")[0]["web2"] == GPU_BEFORE, "the later one"
    fleet_of_two["web2"]["releases"][GPU_BEFORE] = "failed"
    assert rollout.rollback_targets(fleet_of_two, order, "22222222")[0]["web2"] == CPU_BEFORE, "the good one"
    del fleet_of_two["web2"]["releases"][CPU_BEFORE]
    assert [each.code for each in rollout.rollback_targets(fleet_of_two, order, "22222222")[1]] == [
        "rollback_to_failed"
    ]


@pytest.mark.rule("H3")
def test_h3_the_journal_knows_a_hosts_releases_in_the_order_of_their_age() -> None:
    releases = {
        CPU: {"result": "good", "prepared_at": 3.0},
        GPU: {"result": "good", "prepared_at": 1.0},
        OLD: {"result": "failed"},
    }
    assert list(app_info.facts({"releases": releases})["releases"].items()) == [
        (OLD, "failed"),
        (GPU, "good"),
        (CPU, "good"),
    ]


@pytest.mark.rule("H3")
def test_h3_new_hardware_since_then_makes_a_rollback_without_a_name_ambiguous() -> None:
    entries = {**mixed(), "web2": {**served(GPU, CPU), "releases": {CPU: "good", GPU: "good"}}}
    assert [each.code for each in rollout.rollback_targets(entries, HOSTS)[1]] == ["rollback_ambiguous"]


@pytest.mark.rule("H3")
def test_h3_what_runs_once_runs_once_for_all_hardware() -> None:
    entries = {host: entry(release=CPU) for host in HOSTS}
    entries["web1"] = entry(release=GPU)
    assert rollout.hook_host(entries, HOSTS, CPU) == ("web1", "")
    assert rollout.hook_host(entries, HOSTS, GPU) == ("web1", "")
    entries["web1"] = entry(release=GPU_BEFORE)
    assert rollout.hook_host(entries, HOSTS, CPU) == ("web2", ""), "another deployment"


@pytest.mark.rule("H3")
def test_h3_a_report_names_the_deployment_of_different_releases() -> None:
    entries = {"web1": entry("switched", release=CPU), "web2": entry("switched", release=GPU)}
    run = {"hosts": ["web1", "web2"]}
    assert rollout.report(entries, run)["release"] == "11111111"
    assert rollout.report({"web1": entries["web1"]}, {"hosts": ["web1"]})["release"] == CPU
    entries["web2"] = entry("switched", release=GPU_BEFORE)
    assert rollout.report(entries, run)["release"] == ""


@pytest.mark.parametrize(
    ("entries", "stopped", "expected"),
    [
        ({host: entry(action="none", current=NEW) for host in HOSTS}, "", "unchanged"),
        ({host: entry("switched") for host in HOSTS}, "", "succeeded"),
        ({**{host: entry("switched") for host in HOSTS}, "web6": entry("failed")}, "", "partial"),
        (
            {**{host: entry("rolled_back", serves=OLD) for host in HOSTS}, "web6": entry("failed")},
            "web6 failed",
            "rolled_back",
        ),
        (
            {**{host: entry("rollback_failed", serves=NEW) for host in HOSTS}, "web6": entry("failed")},
            "web6 failed",
            "failed",
        ),
        ({**fleet(), "web1": entry("failed")}, "The canary web1 failed.", "rolled_back"),
        ({**fleet(), "web1": entry("lost", batch="web1")}, "The canary web1 failed.", "failed"),
    ],
)
def test_the_report_names_the_whole_outcome(entries: dict[str, Any], stopped: str, expected: str) -> None:
    found = rollout.report(entries, {"app": "shop", "what": "deploy", "hosts": HOSTS, "stopped": stopped})
    assert found["outcome"] == expected
    assert list(found["hosts"]) == HOSTS
    assert found["release"] == NEW


def test_a_first_deployment_that_failed_half_way_is_not_called_rolled_back() -> None:
    entries = {**fleet(web1="switched", web2="failed")}
    for host in HOSTS:
        entries[host].update(before=None, current=None)
    assert rollout.report(entries, {"hosts": HOSTS, "stopped": "web2 failed."})["outcome"] == "failed"


def test_check_mode_plans_and_loses_nobody() -> None:
    entries = {**fleet(), "web1": entry(action="none")}
    found = rollout.report(entries, {"hosts": HOSTS, "check": True})
    assert found["outcome"] == "planned"
    assert [each["outcome"] for each in found["hosts"].values()] == ["unchanged", *["planned"] * 5]


def test_the_report_says_what_became_of_hosts_nobody_came_to() -> None:
    entries = {**fleet(), "web1": entry("failed")}
    found = rollout.report(entries, {"hosts": HOSTS, "stopped": "The canary web1 failed."})
    assert {found["hosts"][host]["outcome"] for host in HOSTS[1:]} == {"stopped"}
    assert found["failed"] == ["web1"]
    assert found["why"] == "The canary web1 failed."
