# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch, step by step, against a service manager and a redirect that only write down what they are told.

What the real ones do is tested on real hosts (tests/hosts_e2e); here it is the order that matters, and what is left when
a step fails.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import sockets, switch
from ansible_collections.pyfleet.runtime.plugins.module_utils.probe import CheckResult
from ansible_collections.pyfleet.runtime.plugins.module_utils.redirect import RedirectError
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import (
    Description,
    Layout,
    State,
    SwitchError,
    write_file,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.switch import Switch

OLD, NEW = "0" * 12, "1" * 12


class FakeSystemd:
    """Units that run as soon as they are started."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.running: set[str] = set()

    def state(self, unit: str) -> dict[str, str]:
        return {"ActiveState": "active" if unit in self.running else "inactive", "NRestarts": "0"}

    def show(self, units: list[str], properties: list[str]) -> dict[str, dict[str, str]]:
        return {unit: {"UnitFileState": "enabled"} for unit in units}

    def list_units(self, *patterns: str) -> list[str]:
        prefixes = [pattern.partition("*")[0] for pattern in patterns]
        return sorted(unit for unit in self.running if any(unit.startswith(prefix) for prefix in prefixes))

    def disable(self, *units: str) -> None:
        self.events += [f"disable {unit}" for unit in units]

    def start(self, *units: str, timeout: float | None = None) -> None:
        self.events += [f"start {unit}" for unit in units]
        self.running |= set(units)

    def stop(self, *units: str, timeout: float | None = None) -> None:
        self.events += [f"stop {unit}" for unit in units]
        self.running -= set(units)

    def run_later(self, name: str, seconds: float, argv: list[str]) -> None:
        self.events.append(f"later {seconds:g} {argv[-1]}")

    def journal(self, unit: str, lines: int, since: float) -> list[str]:
        return ["last words with s3cr3t-token"]

    def reset_failed(self, *units: str) -> None: ...
    def processes(self, unit: str) -> list[int]:
        return []


class FakeRedirect:
    """Writes flips down; fails when told to."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.broken = False

    def flip(self, app: str, ports: dict[int, int], internal: Any = ()) -> bool:
        if self.broken:
            raise RedirectError("nft refused")
        self.events += [f"flip {public} {port}" for public, port in ports.items()]
        return True

    def clear(self, app: str) -> bool:
        self.events.append(f"clear {app}")
        return True


class World:
    """One application with a serving release OLD and a prepared release NEW."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        self.events: list[str] = []
        self.systemd = FakeSystemd(self.events)
        self.redirect = FakeRedirect(self.events)
        self.layout = Layout("shop", str(tmp_path / "srv"), str(tmp_path / "etc"))
        self.healthy = True
        self.hook_status = 0
        self.connections = 0
        for release in (OLD, NEW):
            self.prepare(release, **changes)
        monkeypatch.setattr(switch, "run_check", self.check)
        monkeypatch.setattr(sockets, "listeners", lambda ports: [])
        monkeypatch.setattr(sockets, "established", lambda port: self.connections)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def prepare(self, release: str, **changes: Any) -> None:
        os.makedirs(self.layout.release(release))
        os.makedirs(self.layout.release_settings(release))
        facts = {
            "release": release,
            "app": "shop",
            "mode": "uv",
            "commit": "c",
            "user": "app-shop",
            "public_port": 8080,
            "candidates": [18080, 28080],
            "switch": "side_by_side",
            "hooks": {"pre_run": "migrate", "run_succeeded": "cheer", "run_failed": "mourn"},
            **changes,
        }
        folder = Path(self.layout.release_settings(release))
        (folder / "release.json").write_text(json.dumps(facts))
        write_file(str(folder / "environment"), 'TOKEN="s3cr3t-token"\n', 0o600)

    def serving(self, release: str, port: int) -> None:
        description = Description.load(self.layout, release)
        assert description is not None
        description.save_ports(self.layout, {"application": port})
        self.layout.set_link("current", release)
        self.systemd.running.add(self.layout.unit(release))

    def check(self, request: Any, alive: Any = None) -> CheckResult:
        self.events.append(f"check {request.port}")
        ok = self.healthy or OLD in request.unit
        failure = [] if ok else ["Health check failed:", "- GET / returned 500."]
        return CheckResult(ok=ok, log=["Response from GET / is 200"] if ok else [], failure=failure)

    def hook(self, text: str, description: Description, environment: dict[str, str]) -> tuple[int, str]:
        self.events.append(f"hook {text}")
        return self.hook_status, "said s3cr3t-token\n"

    def switch(self) -> Switch:
        return Switch(self.layout, self.systemd, self.redirect, self.hook)  # type: ignore[arg-type]

    def result(self, release: str) -> str:
        return str(State.load(self.layout.state_file).releases.get(release, {}).get("result"))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path, monkeypatch)
    made.serving(OLD, 18080)
    return made


def units(release: str) -> str:
    return f"app-shop@{release}.service"


def test_d2_side_by_side_order(world: World) -> None:
    report = world.switch().activate(NEW)
    assert world.events == [
        "hook migrate",
        f"start {units(NEW)}",
        "check 28080",
        "flip 8080 28080",
        "start app-shop.target",
        f"stop {units(OLD)}",
        "hook cheer",
    ]
    assert (world.layout.linked("current"), world.layout.linked("previous")) == (NEW, OLD)
    assert (report.port, report.gap_seconds, world.result(NEW)) == (28080, None, "good")


def test_e6_failed_check_leaves_the_old_release_serving(world: World) -> None:
    world.healthy = False
    with pytest.raises(SwitchError, match="Health check failed:") as caught:
        world.switch().activate(NEW)
    assert world.events[-2:] == [f"stop {units(NEW)}", "hook mourn"]
    assert units(OLD) in world.systemd.running
    assert not any(event.startswith("flip") for event in world.events)
    assert (world.layout.linked("current"), world.result(NEW)) == (OLD, "failed")
    assert caught.value.journal[0].startswith("last words with ")
    assert "s3cr3t-token" not in str(caught.value.journal)


def test_d8_failing_pre_run_hook_starts_nothing(world: World) -> None:
    world.hook_status = 3
    with pytest.raises(SwitchError, match="CC_PRE_RUN_HOOK failed with status 3") as caught:
        world.switch().activate(NEW)
    assert world.events == ["hook migrate", "hook mourn"]
    assert "s3cr3t-token" not in str(caught.value) + str(caught.value.log)


def test_d8_a_failing_succeeded_hook_is_a_warning(world: World) -> None:
    runs = iter([0, 7])
    world.hook = lambda text, description, environment: (next(runs), "")  # type: ignore[method-assign]
    report = world.switch().activate(NEW)
    assert report.warnings == ["CC_RUN_SUCCEEDED_HOOK failed with status 7; the deployment's result stands."]
    assert world.result(NEW) == "good"


def test_d8_rollback_does_not_run_the_pre_run_hook_again(world: World) -> None:
    world.switch().activate(NEW, first_time=False)
    assert "hook migrate" not in world.events


def test_a_refused_flip_reverts(world: World) -> None:
    world.redirect.broken = True
    with pytest.raises(SwitchError, match="nft refused"):
        world.switch().activate(NEW)
    assert units(NEW) not in world.systemd.running
    assert world.layout.linked("current") == OLD


def test_connected_clients_keep_the_old_release_until_it_drained(world: World) -> None:
    world.connections = 3
    report = world.switch().activate(NEW)
    assert f"later 30 {units(OLD)}" in world.events
    assert units(OLD) in world.systemd.running
    assert "3 connections" in report.drained


def test_rolling_back_onto_a_draining_release_is_only_the_flip(world: World) -> None:
    world.connections = 3
    world.switch().activate(NEW)
    world.systemd.running.add("app-shop-drain-" + OLD + ".timer")
    world.events.clear()
    world.switch().activate(OLD, first_time=False)
    assert world.events[:3] == [f"stop app-shop-drain-{OLD}.timer", "check 18080", "flip 8080 18080"]
    assert f"start {units(OLD)}" not in world.events


def test_an_interrupted_switch_is_completed_without_a_second_start(world: World) -> None:
    description = Description.load(world.layout, NEW)
    assert description is not None
    description.save_ports(world.layout, {"application": 28080})
    world.systemd.running.add(units(NEW))
    world.switch().activate(NEW)
    assert f"start {units(NEW)}" not in world.events
    assert world.events[0] == "check 28080"
    assert world.layout.linked("current") == NEW


def test_e6_an_interrupted_switch_that_turns_out_unhealthy_is_reverted(world: World) -> None:
    description = Description.load(world.layout, NEW)
    assert description is not None
    description.save_ports(world.layout, {"application": 28080})
    world.systemd.running.add(units(NEW))
    world.healthy = False
    with pytest.raises(SwitchError, match="Health check failed:"):
        world.switch().activate(NEW)
    assert units(NEW) not in world.systemd.running
    assert (world.layout.linked("current"), world.result(NEW)) == (OLD, "failed")


def test_what_serves_is_not_stopped_for_a_failed_second_look(world: World) -> None:
    world.serving(NEW, 28080)
    world.healthy = False
    with pytest.raises(SwitchError):
        world.switch().activate(NEW)
    assert units(NEW) in world.systemd.running
    assert world.result(NEW) != "failed"


def test_in_place_stops_first_and_measures_the_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, candidates=[8080], switch="in_place")
    world.serving(OLD, 8080)
    report = world.switch().activate(NEW)
    assert world.events[1:4] == [f"stop {units(OLD)}", f"start {units(NEW)}", "check 8080"]
    assert report.gap_seconds is not None
    assert State.load(world.layout.state_file).last_gap_seconds == report.gap_seconds


def test_e6_in_place_failure_starts_the_old_release_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, candidates=[8080], switch="in_place")
    world.serving(OLD, 8080)
    world.healthy = False
    with pytest.raises(SwitchError, match="The previous release was started again"):
        world.switch().activate(NEW)
    assert world.events[-4:] == [f"stop {units(NEW)}", f"start {units(OLD)}", "check 8080", "hook mourn"]
    assert world.layout.linked("current") == OLD


def test_moving_from_in_place_to_side_by_side_has_no_gap(world: World) -> None:
    world.serving(OLD, 8080)
    report = world.switch().activate(NEW)
    assert report.gap_seconds is None
    assert world.events.index(f"stop {units(OLD)}") > world.events.index("flip 8080 18080")


def test_d7_workers_never_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = [{"index": 0, "restart": "always", "delay": 1}]
    world = World(tmp_path, monkeypatch, workers=workers)
    world.serving(OLD, 18080)
    world.systemd.running.add(world.layout.worker_unit(OLD, 0))
    world.switch().activate(NEW)
    stopped = world.events.index(f"stop {world.layout.worker_unit(OLD, 0)}")
    assert stopped < world.events.index(f"start {world.layout.worker_unit(NEW, 0)}")


def test_a_port_of_somebody_else_is_named_before_anything_starts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Listener:
        port, pid, process = 28080, 4711, "nginx"

    monkeypatch.setattr(sockets, "listeners", lambda ports: [Listener])
    with pytest.raises(SwitchError, match="Port 28080 is in use by nginx"):
        world.switch().activate(NEW)
    assert world.events == []


def test_a_release_that_does_not_exist_is_named(world: World) -> None:
    with pytest.raises(SwitchError, match="There is no release 222222222222"):
        world.switch().activate("2" * 12)


def test_d9_an_application_that_becomes_a_task_serves_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, workers=[{"index": 0, "restart": "no", "delay": 1}])
    world.serving(OLD, 18080)
    world.systemd.running.add(f"app-shop-worker@{OLD}:0.service")
    path = Path(world.layout.release_settings(NEW), "release.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "task": True}))
    world.switch().activate(NEW)
    assert world.events == [
        "hook migrate",
        f"start app-shop-task@{NEW}.service",
        "disable app-shop.target",
        "clear shop",
        f"stop app-shop-worker@{OLD}:0.service",
        f"stop {units(OLD)}",
        "hook cheer",
    ]
    assert (world.layout.linked("current"), world.result(NEW)) == (NEW, "good")
