# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of the module `release` that a fleet adds, and what the others do under a lease, against fakes of the host."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import bytecode, front, orphans, release_states
from ansible_collections.pyfleet.runtime.plugins.module_utils.lease import LeaseError, Leases, Request
from ansible_collections.pyfleet.runtime.plugins.module_utils.release_files import ReleaseFiles
from ansible_collections.pyfleet.runtime.plugins.module_utils.release_states import Guard, Releases, locked
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import Description, Layout, State, SwitchError
from ansible_collections.pyfleet.runtime.plugins.modules import app_info
from ansible_collections.pyfleet.runtime.plugins.modules.release import act
from ansible_collections.pyfleet.runtime.tests.unit.app.test_switch import NEW, OLD, World, units
from ansible_collections.pyfleet.runtime.tests.unit.app.test_switch_flow import FlowWorld, hop
from ansible_collections.pyfleet.runtime.tests.unit.app.test_switch_legacy import LegacyWorld, nginx, socket

OLDEST = "f" * 12
RUN = {"run": "mine", "holder": "ann@desk", "what": "deploy"}
PARAMS: dict[str, Any] = {
    "release": None,
    "pre_run": "run",
    "pre_run_host": None,
    "withdraw": None,
    "keep": 0,
    "cache_max_mb": 0,
    "force": False,
    "user": None,
    "remove_home": False,
}


class FakeModule:
    """What the states use of AnsibleModule."""

    def __init__(self, **params: Any) -> None:
        self.check_mode = bool(params.pop("check_mode", False))
        self.params: dict[str, Any] = {**PARAMS, **params}
        self.warnings: list[str] = []

    def warn(self, words: str) -> None:
        self.warnings.append(words)


class Fleet:
    """A world whose module is called with states."""

    def __init__(self, world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        plain = world.layout
        self.layout = Layout("shop", plain.root, plain.config, str(folder / "run"), str(folder / "lib"))
        self.leases = Leases(self.layout)
        self.warnings: list[str] = []
        self.guard = Guard(self.leases, None, "")
        public: dict[int, int] = {}
        world.redirect.current = lambda: public  # type: ignore[attr-defined]
        flip = world.redirect.flip

        def remembered(app: str, ports: dict[int, int], internal: Any = ()) -> bool:
            public.clear()  # the real one replaces all ports of an application, too
            public.update(ports)
            return flip(app, ports, internal)

        world.redirect.flip = remembered  # type: ignore[method-assign]
        self.public = public
        if not isinstance(world, (LegacyWorld, FlowWorld)):
            monkeypatch.setattr(front.Front.__init__, "__defaults__", (None, str(folder / "no-units")))
        monkeypatch.setattr(release_states, "Systemd", lambda: world.systemd)
        for name in ("Front", "Flow"):
            real = getattr(release_states, name)
            monkeypatch.setattr(
                release_states, name, lambda layout, systemd=None, real=real: real(layout, world.systemd)
            )
        monkeypatch.setattr(release_states, "Redirect", lambda config: world.redirect)
        monkeypatch.setattr(Releases, "_hook", lambda states, *given: world.hook(*given))
        monkeypatch.setattr(signal, "signal", lambda number, handler: signal.SIG_DFL)

    def call(self, state: str, release: str | None = None, lease: dict[str, Any] | None = None, **params: Any) -> Any:
        module = FakeModule(state=state, release=release, **params)
        self.guard = Guard(self.leases, Request.of({**RUN, **lease} if lease is not None else None), state)
        try:
            return act(module, Releases(module, self.layout, self.guard))
        finally:
            self.warnings = module.warnings

    def state(self) -> State:
        return State.load(self.layout.state_file)

    def mark(self, **results: str) -> None:
        state = self.state()
        for number, (name, result) in enumerate(results.items()):
            state.mark({"old": OLD, "new": NEW, "oldest": OLDEST}[name], result=result, prepared_at=number)
        state.save(self.layout.state_file)

    def links(self) -> tuple[str | None, str | None]:
        return self.layout.linked("current"), self.layout.linked("previous")

    def somebody(self, **facts: Any) -> None:
        self.leases.claim(Request(**{"run": "theirs", "holder": "bob@lap", "what": "deploy", **facts}))


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """OLD serves and went into the fleet before; NEW is prepared."""
    world = World(tmp_path, monkeypatch)
    world.serving(OLD, 18080)
    made = Fleet(world, tmp_path, monkeypatch)
    made.public[8080] = 18080
    made.mark(old="good", new="building")
    return made


# -- the lease around the states -------------------------------------------------------------------------------------------


def test_a_run_takes_its_lease_and_lets_go(fleet: Fleet) -> None:
    assert fleet.call("leased", lease={}) == {"changed": False}
    facts = fleet.guard.facts()["lease"]
    assert (facts["run"], facts["before"], facts["before_previous"], facts["taken_over"]) == ("mine", OLD, None, "")
    assert "controller" not in facts
    fleet.call("let_go", lease={})
    assert fleet.leases.read() is None


def test_letting_go_leaves_the_lease_of_another_run_alone(fleet: Fleet) -> None:
    fleet.somebody()
    assert fleet.call("let_go", lease={}) == {"changed": False}
    assert fleet.leases.read() is not None


@pytest.mark.parametrize("state", ["hooked", "active", "rolled_back", "restarted", "discarded"])
@pytest.mark.parametrize("lease", [None, {}, {"claim": True, "wait": 0.0}])
def test_nothing_changes_under_the_lease_of_another_run(fleet: Fleet, state: str, lease: dict[str, Any] | None) -> None:
    fleet.somebody(started=1.0)
    before = fleet.state()
    with pytest.raises(LeaseError, match=r"Another run holds shop on this host: bob@lap \(deploy\), run theirs"):
        fleet.call(state, NEW, lease)
    assert (fleet.world.events, fleet.state(), fleet.links()) == ([], before, (OLD, None))


@pytest.mark.parametrize("state", ["pruned", "finished", "absent"])
def test_nothing_is_removed_under_the_lease_of_another_run(fleet: Fleet, state: str) -> None:
    fleet.mark(old="good", new="failed")
    fleet.somebody()
    with pytest.raises(LeaseError, match="run theirs"):
        fleet.call(state, lease={} if state == "finished" else None)
    assert os.path.isdir(fleet.layout.release(NEW))


def test_a_step_without_its_lease_changes_nothing_and_with_claim_takes_it(fleet: Fleet) -> None:
    with pytest.raises(LeaseError, match="This run has no lease of shop"):
        fleet.call("active", NEW, {})
    assert fleet.world.events == []
    fleet.call("active", NEW, {"claim": True})
    assert fleet.links() == (NEW, OLD)
    lease = fleet.leases.read()
    assert lease is not None
    assert (lease.run, lease.before) == ("mine", OLD)


def test_check_mode_takes_no_lease_and_warns_of_another_run(fleet: Fleet) -> None:
    fleet.call("leased", lease={}, check_mode=True)
    assert (fleet.leases.read(), fleet.warnings) == (None, [])
    fleet.somebody()
    assert fleet.call("active", NEW, {}, check_mode=True)["changed"] is True
    assert len(fleet.warnings) == 1
    assert fleet.warnings[0].startswith("Another run holds shop on this host: bob@lap (deploy), run theirs")
    fleet.call("let_go", lease={"run": "theirs"}, check_mode=True)
    fleet.call("finished", lease={"run": "theirs"}, check_mode=True)
    assert fleet.leases.read() is not None


@pytest.mark.parametrize("healthy", [True, False])
def test_the_last_call_of_a_run_ends_the_lease_however_it_ends(fleet: Fleet, healthy: bool) -> None:
    fleet.world.healthy = healthy
    try:
        fleet.call("active", NEW, {"claim": True, "end": True})
    except SwitchError:
        assert not healthy
    assert fleet.leases.read() is None
    assert fleet.guard.facts()["lease"]["ended"] is True


def test_two_calls_never_act_at_once_and_a_claim_does_not_wait_for_the_lock(fleet: Fleet) -> None:
    with locked(fleet.layout):
        with pytest.raises(SwitchError, match="Another run is acting on shop"), locked(fleet.layout, 0.2):
            pass
        fleet.call("leased", lease={})
        assert release_states.acting(fleet.layout)
        with pytest.raises(LeaseError, match="Another run is acting on shop"):
            Leases(fleet.layout, busy=lambda: release_states.acting(fleet.layout)).claim(
                Request("other", dead=["mine"], wait=0.0)
            )
    assert not release_states.acting(fleet.layout)


def test_a_release_that_was_switched_by_hand_forgets_a_lease_that_is_over(fleet: Fleet) -> None:
    fleet.somebody(seconds=0)
    fleet.call("restarted")
    fleet.call("hooked", NEW)
    assert fleet.leases.read() is not None  # what served before the run that broke off is still what served before
    fleet.call("active", NEW)
    assert fleet.leases.read() is None


# -- pruning ---------------------------------------------------------------------------------------------------------------


def test_active_prunes_without_a_lease_and_at_the_run_s_last_call_only(fleet: Fleet) -> None:
    fleet.world.prepare(OLDEST)
    fleet.mark(oldest="good", old="good", new="building")
    assert "removed" not in fleet.call("active", NEW, {"claim": True})
    assert os.path.isdir(fleet.layout.release(OLDEST))
    assert fleet.call("active", NEW, {"end": True})["removed"] == [OLDEST]
    assert not os.path.isdir(fleet.layout.release(OLDEST))


def test_active_prunes_as_ever_when_somebody_calls_the_module(fleet: Fleet) -> None:
    fleet.world.prepare(OLDEST)
    fleet.mark(oldest="good", old="good", new="building")
    assert fleet.call("active", NEW)["removed"] == [OLDEST]


def test_what_served_before_an_unfinished_run_is_not_pruned(fleet: Fleet) -> None:
    fleet.world.prepare(OLDEST)
    fleet.mark(oldest="good", old="good", new="good")
    fleet.layout.set_link("current", OLDEST)
    fleet.layout.set_link("previous", OLD)
    fleet.somebody(seconds=0)  # it broke off, and its time is over
    fleet.layout.set_link("current", NEW)
    fleet.layout.set_link("previous", None)
    fleet.world.systemd.running.clear()
    assert fleet.call("pruned", check_mode=True)["removed"] == []
    fleet.leases.remove()
    assert fleet.call("pruned", check_mode=True)["removed"] == [OLDEST, OLD]


def test_finished_ends_the_lease_and_removes_what_nobody_needs(fleet: Fleet) -> None:
    fleet.world.prepare(OLDEST)
    fleet.mark(oldest="good", old="good", new="building")
    fleet.call("leased", lease={})
    fleet.call("active", NEW, {})
    assert fleet.call("finished", lease={}) == {"changed": True, "removed": [OLDEST]}
    assert fleet.leases.read() is None
    assert fleet.call("finished", lease={}) == {"changed": False, "removed": []}


def test_finished_leaves_what_failed_in_this_run_for_people_to_look_at(fleet: Fleet) -> None:
    fleet.world.prepare(OLDEST)
    fleet.mark(old="good", new="failed", oldest="failed")
    state = fleet.state()
    state.mark(NEW, failed_at=2000.0)
    state.mark(OLDEST, failed_at=1000.0)
    state.save(fleet.layout.state_file)
    assert fleet.call("finished", lease={"started": 1500.0})["removed"] == [OLDEST]
    assert fleet.call("finished", lease={"started": 2500.0})["removed"] == [NEW]


def test_finished_ends_the_lease_even_when_nothing_can_be_removed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.call("leased", lease={})

    def fail(states: Releases, failed_since: float) -> Any:
        raise OSError("the disk is gone")

    monkeypatch.setattr(Releases, "pruned", fail)
    fleet.call("finished", lease={})
    assert fleet.leases.read() is None
    assert fleet.warnings == ["Releases that nobody needs any more cannot be removed: the disk is gone"]


# -- going back ------------------------------------------------------------------------------------------------------------


def test_a_rollback_as_ever_leads_back_and_forth(fleet: Fleet) -> None:
    fleet.call("active", NEW)
    fleet.call("rolled_back")
    assert fleet.links() == (OLD, NEW)
    assert fleet.world.result(NEW) == "good"


def test_a_release_that_is_withdrawn_is_nowhere_to_go_back_to(fleet: Fleet) -> None:
    fleet.world.prepare(OLDEST)
    fleet.mark(oldest="good", old="good", new="building")
    fleet.layout.set_link("previous", OLDEST)
    fleet.call("leased", lease={})
    fleet.call("active", NEW, {})
    assert fleet.links() == (NEW, OLD)
    fleet.call("rolled_back", lease={}, withdraw="the rollout failed on web2")
    assert fleet.links() == (OLD, OLDEST)
    facts = fleet.state().releases[NEW]
    assert (facts["result"], facts["why"]) == ("failed", "the rollout failed on web2")
    assert units(OLD) in fleet.world.systemd.running
    fleet.call("rolled_back", lease={})
    assert fleet.links() == (OLDEST, OLD)


def test_where_nothing_served_before_that_there_is_no_previous_release(fleet: Fleet) -> None:
    fleet.call("leased", lease={})
    fleet.call("active", NEW, {})
    fleet.call("rolled_back", OLD, {}, withdraw="why")
    assert fleet.links() == (OLD, None)


def test_a_previous_release_that_is_gone_is_not_linked_again(fleet: Fleet) -> None:
    fleet.layout.set_link("previous", OLDEST)  # no folder
    fleet.call("leased", lease={})
    fleet.call("active", NEW, {})
    fleet.call("rolled_back", lease={}, withdraw="why")
    assert fleet.links() == (OLD, None)


def test_after_a_crash_a_host_goes_back_to_what_served_before_the_crashed_run(fleet: Fleet) -> None:
    fleet.call("leased", lease={"run": "crashed"})
    fleet.call("active", NEW, {"run": "crashed"})
    fleet.call("leased", lease={"dead": ["crashed"], "expect_current": NEW})
    facts = fleet.guard.facts()["lease"]
    assert facts["before"] == OLD
    assert facts["taken_over"].endswith("its process is gone")
    fleet.call("rolled_back", lease={}, withdraw="why")
    assert fleet.links() == (OLD, None)


def test_a_host_that_serves_what_it_should_is_left_alone(fleet: Fleet) -> None:
    fleet.call("leased", lease={})
    answer = fleet.call("rolled_back", OLD, {}, withdraw="why")
    assert answer == {"changed": False, "log": [f"{OLD} serves already."]}
    assert fleet.world.events == []


def test_a_link_alone_does_not_serve(fleet: Fleet) -> None:
    fleet.public[8080] = 28080  # a switch broke off between the flip and the link
    assert fleet.call("rolled_back", OLD)["changed"] is True
    assert fleet.public[8080] == 18080


def test_a_failed_release_is_not_rolled_back_onto(fleet: Fleet) -> None:
    fleet.mark(old="good", new="failed")
    with pytest.raises(SwitchError, match="is not a good one"):
        fleet.call("rolled_back", NEW)


# -- restarting ------------------------------------------------------------------------------------------------------------


def test_a_restart_stops_starts_and_checks_what_serves(fleet: Fleet) -> None:
    answer = fleet.call("restarted")
    assert fleet.world.events == [
        f"stop {units(OLD)}",
        f"start {units(OLD)}",
        "check 18080",
        "flip 8080 18080",
        "start app-shop.target",
    ]
    assert answer["changed"] is True
    assert answer["gap_seconds"] >= 0
    assert fleet.links() == (OLD, None)
    assert answer["log"] == ["Response from GET / is 200"]


def test_a_restart_in_check_mode_changes_nothing(fleet: Fleet) -> None:
    assert fleet.call("restarted", check_mode=True)["changed"] is True
    assert fleet.world.events == []


def test_a_restart_that_fails_says_so_with_last_words_and_stops_nothing(fleet: Fleet) -> None:
    fleet.world.serving(NEW, 28080)  # the fake's checks fail for NEW
    fleet.world.healthy = False
    with pytest.raises(SwitchError) as caught:
        fleet.call("restarted")
    words = str(caught.value)
    assert words.startswith("Health check failed:\n- GET / returned 500.\n")
    assert f"{NEW} was restarted and does not serve; systemd goes on starting it." in words
    assert "Last words:\n  last words with " in words
    assert "s3cr3t-token" not in words
    assert units(NEW) in fleet.world.systemd.running
    assert fleet.world.result(NEW) != "failed"


def test_a_restart_includes_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, workers=[{"index": 0, "restart": "always", "delay": 1}])
    world.serving(OLD, 18080)
    worker = world.layout.worker_unit(OLD, 0)
    world.systemd.running.add(worker)
    Fleet(world, tmp_path, monkeypatch).call("restarted")
    assert world.events[-3:] == [f"stop {worker}", f"start {worker}", "start app-shop.target"]


@pytest.mark.parametrize("check_mode", [False, True])
def test_d9_a_task_is_not_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check_mode: bool) -> None:
    world = World(tmp_path, monkeypatch, task=True)
    world.serving(OLD, 8080)
    with pytest.raises(SwitchError, match="shop is a task and cannot be restarted"):
        Fleet(world, tmp_path, monkeypatch).call("restarted", check_mode=check_mode)
    assert world.events == []


def test_where_nothing_serves_there_is_nothing_to_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(World(tmp_path, monkeypatch), tmp_path, monkeypatch)
    with pytest.raises(SwitchError, match="No release of shop serves on this host"):
        fleet.call("restarted")


def test_g_systemd_s_socket_and_nginx_stay_through_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = LegacyWorld(tmp_path, monkeypatch)
    world.front.install_units(_description(world, OLD))
    world.serve()
    world.events.clear()
    answer = Fleet(world, tmp_path, monkeypatch).call("restarted")
    assert world.events[:2] == [f"stop {units(OLD)}", f"start {units(OLD)}"]
    touched = [event for event in world.events if nginx() in event or socket(OLD) in event]
    assert touched == []
    assert answer["gap_seconds"] == 0.0
    assert any("waited in the backend's socket" in line for line in answer["log"])


def test_a_dead_nginx_comes_back_with_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = LegacyWorld(tmp_path, monkeypatch)
    world.serve()
    world.systemd.running.remove(nginx())
    Fleet(world, tmp_path, monkeypatch).call("restarted")
    assert f"start {nginx()}" in world.events
    assert f"start {socket(OLD)}" not in world.events


def test_f_a_chain_stays_through_a_restart_and_a_dead_one_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = FlowWorld(tmp_path, monkeypatch)
    fleet = Fleet(world, tmp_path, monkeypatch)
    world.serve()
    led = dict(fleet.public)
    fleet.call("restarted")
    moved = [event for event in world.events if event.startswith(("start ", "stop "))]
    assert moved == [f"stop {units(OLD)}", f"start {units(OLD)}", "start app-shop.target"]
    assert [event for event in world.events if event.startswith("check ")] == ["check 19000", "check 18080"]
    assert fleet.public == led
    world.events.clear()
    world.systemd.running.remove(hop(0, "varnish", 18080))
    fleet.call("restarted")
    started = world.events.index(f"start {hop(0, 'varnish', 18080)}")
    assert "flip 8080 18080" in world.events[:started]  # users are led to the chain all along
    assert fleet.public == led


def _description(world: World, release: str) -> Description:
    found = Description.load(world.layout, release)
    assert found is not None
    return found


# -- the hook that runs once -----------------------------------------------------------------------------------------------


def test_d8_the_hook_runs_once_for_a_release_and_its_success_is_recorded(fleet: Fleet) -> None:
    began = time.time()
    assert fleet.call("hooked", NEW, {"claim": True}, pre_run_host="web1")["changed"] is True
    record = fleet.state().releases[NEW]["pre_run"]
    assert (record["host"], record["ok"]) == ("web1", True)
    assert began <= record["at"] <= time.time()
    answer = fleet.call("hooked", NEW, {}, pre_run_host="web2")
    assert answer["changed"] is False
    assert answer["log"] == ["CC_PRE_RUN_HOOK of this release ran already, on web1."]
    assert fleet.world.events == ["hook migrate"]
    fleet.call("active", NEW, {}, pre_run="elsewhere", pre_run_host="web2")
    assert fleet.world.events.count("hook migrate") == 1
    assert fleet.state().releases[NEW]["pre_run"] == record


def test_d8_a_hook_that_failed_is_recorded_and_runs_again(fleet: Fleet) -> None:
    fleet.world.hook_status = 3
    with pytest.raises(SwitchError, match="CC_PRE_RUN_HOOK failed with status 3") as caught:
        fleet.call("hooked", NEW)
    assert "Last words:" in str(caught.value)
    facts = fleet.state().releases[NEW]
    assert (facts["pre_run"]["ok"], facts["result"]) == (False, "failed")
    assert fleet.links() == (OLD, None)
    fleet.world.hook_status = 0
    fleet.call("hooked", NEW)
    assert fleet.state().releases[NEW]["pre_run"]["ok"] is True


def test_d8_a_host_records_that_the_hook_ran_on_another_one(fleet: Fleet) -> None:
    fleet.call("active", NEW, pre_run="elsewhere", pre_run_host="web1")
    assert "hook migrate" not in fleet.world.events
    assert fleet.state().releases[NEW]["pre_run"]["host"] == "web1"


def test_d8_by_default_every_host_runs_the_hook_under_its_own_name(fleet: Fleet) -> None:
    fleet.call("active", NEW)
    assert fleet.world.events[0] == "hook migrate"
    assert fleet.state().releases[NEW]["pre_run"]["host"] == os.uname().nodename


def test_a_release_without_a_hook_has_nothing_to_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, hooks={})
    fleet = Fleet(world, tmp_path, monkeypatch)
    assert fleet.call("hooked", NEW)["changed"] is False
    fleet.call("active", NEW, pre_run="elsewhere", pre_run_host="web1")
    assert "pre_run" not in fleet.state().releases[NEW]


# -- preparing, removing, looking ------------------------------------------------------------------------------------------


def _payload(**description: Any) -> str:
    facts = {
        "release": NEW,
        "app": "shop",
        "mode": "uv",
        "commit": "c",
        "user": "root",
        "public_port": 8080,
        "candidates": [18080],
        "switch": "side_by_side",
        "project_root": "",
        **description,
    }
    return json.dumps(
        {"description": facts, "environment": "", "run": "", "workers": {}, "build_environment": "", "flow": None}
    )


def test_a_host_keeps_its_number_and_a_release_the_record_of_its_hook(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("unpack", "make_folders"):
        monkeypatch.setattr(ReleaseFiles, name, lambda *given: None)
    monkeypatch.setattr(bytecode, "carry", lambda *given: None)
    monkeypatch.setattr(os, "chown", lambda *given, **more: None)
    monkeypatch.setattr(orphans, "end_builds", lambda *given: False)  # of this machine, and of tests beside this one
    os.makedirs(fleet.layout.run, exist_ok=True)
    params: dict[str, Any] = {"archive": None, "archive_content": ""}
    fleet.call("hooked", NEW, pre_run_host="web1")
    fleet.call("prepared", NEW, payload=_payload(instance_number=4), **params)
    state = fleet.state()
    assert state.instance_number == 4
    assert (state.releases[NEW]["result"], state.releases[NEW]["pre_run"]["host"]) == ("building", "web1")
    assert _description(fleet.world, NEW).instance_number == 4
    fleet.call("prepared", NEW, payload=_payload(), **params)
    assert fleet.state().instance_number == 4


def test_a_state_of_an_earlier_version_has_no_number(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"releases": {}, "last_gap_seconds": 1.5}')
    state = State.load(str(path))
    assert (state.instance_number, state.last_gap_seconds) == (None, 1.5)


@pytest.mark.parametrize("lease", [None, {}, {"takeover": "theirs"}])
def test_removing_an_application_removes_its_lease(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, lease: dict[str, Any] | None
) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors=False: None)
    if lease == {"takeover": "theirs"}:
        fleet.somebody()
    elif lease is None:
        fleet.somebody(seconds=0)
    else:
        fleet.call("leased", lease={})
    assert fleet.call("absent", lease=lease)["changed"] is True
    assert os.listdir(os.path.dirname(fleet.layout.lease_file)) == []


def test_looking_reports_the_lease_and_the_host_s_number(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_info, "is_booted", lambda: False)
    looked = app_info.app_state(FakeModule(health=False), fleet.layout)
    assert (looked["lease"], looked["instance_number"]) == (None, None)
    state = fleet.state()
    state.instance_number = 2
    state.save(fleet.layout.state_file)
    fleet.somebody(controller={"pid": 7})
    looked = app_info.app_state(FakeModule(health=False), fleet.layout)
    assert (looked["lease"]["run"], looked["lease"]["expired"], looked["instance_number"]) == ("theirs", False, 2)
    assert looked["lease"]["controller"] == {"pid": 7}
