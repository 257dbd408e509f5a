# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch of releases behind a chain of reverse proxies: slots, inner ports, and what a change of code leaves alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import flow, front, varnish
from ansible_collections.pyfleet.runtime.plugins.module_utils.probe import CheckResult
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import Description, SwitchError
from ansible_collections.pyfleet.runtime.tests.unit.app.test_switch import NEW, OLD, World, units

KEY, OTHER = "a" * 12, "b" * 12
BEHIND = [{"kind": "application", "call": 9000, "candidates": [19000, 29000]}]


def chain(key: str, *services: str, block: bool = False) -> dict[str, Any]:
    return {"key": key, "services": list(services), "inner_ports": [9000, 39000], "block": block}


TWO = chain(KEY, "varnish", "custom")


def hop(index: int, service: str, slot: int) -> str:
    return f"app-shop-flow-{index}-{service}@{slot}.service"


class FlowWorld(World):
    """Releases behind a chain. `sick` names ports whose check fails."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        self.units = tmp_path / "units"
        self.units.mkdir()
        self.sick: set[int] = set()
        self.requests: list[Any] = []
        super().__init__(tmp_path, monkeypatch, **{"hooks": {}, "flow": TWO, "inner": BEHIND, **changes})
        for which in (flow.Flow, front.Front):
            monkeypatch.setattr(which.__init__, "__defaults__", (None, str(self.units)))
        self.systemd.daemon_reload = lambda: None  # type: ignore[attr-defined]
        self.vcl: list[str] = []
        monkeypatch.setattr(varnish, "loaded", lambda instance: {})
        monkeypatch.setattr(varnish, "load", lambda instance, name, path: self.vcl.append(f"load {name}"))
        monkeypatch.setattr(varnish, "use", lambda instance, name: self.vcl.append(f"use {name}"))
        monkeypatch.setattr(varnish, "discard_cold", lambda instance, keep: [])

    def prepare(self, release: str, **changes: Any) -> None:
        super().prepare(release, **changes)
        settings = Path(self.layout.release_settings(release))
        (settings / "run").write_text("")
        (settings / "default.vcl").write_text("vcl 4.1; # @FORWARD_PORT@\n")
        (settings / "units").mkdir()
        given = changes.get("flow")
        if not given:
            return
        files = [f"{index}-{service}/environment" for index, service in enumerate(given["services"])]
        flow.Flow(self.layout, self.systemd, str(self.units)).write(  # type: ignore[arg-type]
            given["key"], dict.fromkeys(files, "listen @LISTEN_ADDRESS@:@LISTEN_PORT@ forward @FORWARD_PORT@")
        )
        for index, service in enumerate(given["services"]):
            (settings / "units" / f"app-shop-flow-{index}-{service}@.service").write_text("# unit\n")

    def again(self, release: str, **changes: Any) -> None:
        shutil.rmtree(self.layout.release_settings(release))
        os.rmdir(self.layout.release(release))
        self.prepare(release, hooks={}, **changes)

    def serve(self, release: str = OLD) -> None:
        """Lets a release serve through a switch of its own."""
        self.switch().activate(release)
        self.events.clear()
        self.requests.clear()

    def check(self, request: Any, alive: Any = None) -> CheckResult:
        self.requests.append(request)
        self.events.append(f"check {request.port}")
        ok = request.port not in self.sick
        return CheckResult(ok=ok, log=[], failure=[] if ok else ["Your application is not listening on 8080"])

    def file(self, slot: int, name: str) -> str:
        return (Path(self.layout.flow_slot(slot)) / name).read_text()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FlowWorld:
    return FlowWorld(tmp_path, monkeypatch)


def test_f4_hops_start_from_the_application_outwards_and_get_their_ports(world: FlowWorld) -> None:
    world.switch().activate(NEW)
    order = [
        f"start {units(NEW)}",
        "flip 9000 19000",
        f"start {hop(1, 'custom', 18080)}",
        f"start {hop(0, 'varnish', 18080)}",
        "check 19000",
        "check 18080",
        "flip 8080 18080",
        "flip 9000 19000",
        "flip 8081 18081",
    ]
    assert [event for event in world.events if event in order][: len(order)] == order
    assert world.file(18080, "0-varnish/environment") == "listen 0.0.0.0:18080 forward 18081"
    assert world.file(18080, "1-custom/environment") == "listen 127.0.0.1:18081 forward 9000"
    assert world.file(18080, "0-varnish/default.vcl") == "vcl 4.1; # 18081\n"
    port = Path(world.layout.release_settings(NEW), "port").read_text()
    assert port == "PORT=19000\n"


def test_e4_the_chain_is_asked_for_by_the_ports_of_the_contract(world: FlowWorld) -> None:
    world.switch().activate(NEW)
    direct, through = world.requests
    assert direct.unit == units(NEW)
    assert [through.name(port) for port in (through.port, *through.also)] == [8080, 8081, 9000]
    assert through.paths == ["/"]


def test_a_change_of_code_leaves_the_chain_alone(world: FlowWorld) -> None:
    world.serve()
    world.switch().activate(NEW)
    assert not any("flow-" in event and event.startswith(("start", "stop")) for event in world.events)
    assert world.events.index("check 29000") < world.events.index("flip 9000 29000")
    assert "flip 8080 18080" in world.events
    direct, through = world.requests
    assert through.paths == []  # the requests would reach the old release
    assert direct.port == 29000
    assert world.vcl == []


def test_f8_another_vcl_is_loaded_before_and_used_with_the_flip(world: FlowWorld) -> None:
    world.serve()
    Path(world.layout.release_settings(NEW), "default.vcl").write_text("vcl 4.1; # new @FORWARD_PORT@\n")
    world.switch().activate(NEW)
    assert world.vcl == [f"load r_{NEW}", f"use r_{NEW}"]
    assert world.file(18080, "0-varnish/default.vcl") == "vcl 4.1; # new 18081\n"


def test_f8_a_vcl_that_varnish_refuses_leaves_everything_as_it_was(
    world: FlowWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.serve()
    Path(world.layout.release_settings(NEW), "default.vcl").write_text("nonsense\n")
    monkeypatch.setattr(varnish, "load", lambda instance, name, path: "Expected ';' got 'nonsense'")
    with pytest.raises(SwitchError, match="Expected ';'"):
        world.switch().activate(NEW)
    assert world.layout.linked("current") == OLD
    assert world.file(18080, "0-varnish/default.vcl") == "vcl 4.1; # 18081\n"
    assert {units(OLD), hop(0, "varnish", 18080), hop(1, "custom", 18080)} <= world.systemd.running
    assert units(NEW) not in world.systemd.running


def test_another_chain_is_checked_on_the_other_slot_before_the_public_port_flips(world: FlowWorld) -> None:
    world.serve()
    world.again(NEW, flow=chain(OTHER, "custom", "varnish"), inner=BEHIND)
    world.switch().activate(NEW)
    assert world.events.index("flip 39000 29000") < world.events.index(f"start {hop(1, 'varnish', 28080)}")
    assert world.events.index("check 28080") < world.events.index("flip 8080 28080")
    assert world.events.index("flip 8080 28080") < world.events.index(f"stop {hop(0, 'varnish', 18080)}")
    assert world.file(28080, "1-varnish/environment") == "listen 127.0.0.1:28081 forward 39000"
    assert sorted(path.name for path in world.units.iterdir()) == [
        "app-shop-flow-0-custom@.service",
        "app-shop-flow-1-varnish@.service",
    ]


def test_e6_a_chain_that_does_not_answer_is_stopped_and_nothing_leads_to_it(world: FlowWorld) -> None:
    world.serve()
    world.again(NEW, flow=chain(OTHER, "custom"), inner=BEHIND)
    world.sick = {28080}
    with pytest.raises(SwitchError, match="not listening on 8080"):
        world.switch().activate(NEW)
    assert world.systemd.running == {units(OLD), hop(0, "varnish", 18080), hop(1, "custom", 18080), "app-shop.target"}
    flips = [event for event in world.events if event.startswith("flip")]
    assert "flip 8080 28080" not in flips
    assert flips[-4:] == ["flip 8080 18080", "flip 9000 19000", "flip 8081 18081"] or "flip 8080 18080" in flips[-4:]


def test_f7_without_a_chain_its_hops_and_its_inner_port_go(world: FlowWorld) -> None:
    world.serve()
    world.again(NEW, flow={}, inner=[], candidates=[18080, 28080])
    world.switch().activate(NEW)
    assert world.systemd.running == {units(NEW), "app-shop.target"}
    assert list(world.units.iterdir()) == []
    assert world.events[-1] == "flip 8080 28080"  # and nothing else: 9000 leads nowhere any more


def test_f7_while_the_old_chain_drains_its_clients_go_on_to_the_new_release(world: FlowWorld) -> None:
    world.serve()
    world.connections = 2
    world.again(NEW, flow={}, inner=[], candidates=[18080, 28080])
    world.switch().activate(NEW)
    assert "flip 9000 28080" in world.events
    later = next(event for event in world.events if event.startswith("later"))
    assert "redirect.nft" in later
    assert f"systemctl stop {hop(0, 'varnish', 18080)}" in later


def test_f6_with_block_only_the_blocking_service_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = FlowWorld(tmp_path, monkeypatch, flow=chain(KEY, "block", block=True), health={"paths": ["/deep"]})
    world.switch().activate(NEW)
    (only,) = world.requests
    assert (only.port, only.paths, only.accept, only.also) == (18080, ["/"], "200", [])
    assert units(NEW) in world.systemd.running


def test_f12_every_port_but_the_public_one_is_internal(world: FlowWorld) -> None:
    description = Description.load(world.layout, NEW)
    assert description is not None
    description.ports = {"flow": 18080, "application": 19000}
    ports, internal = world.switch()._ways(description)
    assert ports == {8080: 18080, 8081: 18081, 9000: 19000}
    assert internal == {8081, 9000, 39000, 18080, 18081, 28080, 28081, 19000, 29000}
