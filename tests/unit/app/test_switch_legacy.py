# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch of releases behind an Nginx of their own (legacy mode): which units, links and ports move, and in which order."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import front, sockets
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import Description, Layout, SwitchError
from ansible_collections.pyfleet.runtime.plugins.module_utils.switch import probe_release
from ansible_collections.pyfleet.runtime.tests.unit.app.test_switch import NEW, OLD, World, units

KEY, OTHER = "a" * 12, "b" * 12
LEGACY: dict[str, Any] = {"mode": "legacy", "backend": "gunicorn", "socket": True, "front": KEY, "hooks": {}}


def nginx(key: str = KEY) -> str:
    return f"app-shop-nginx@{key}.service"


def socket(release: str) -> str:
    return f"app-shop@{release}.socket"


class LegacyWorld(World):
    """Releases with an Nginx in front; whether the backend's socket has connections is `waiting`."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        super().__init__(tmp_path, monkeypatch, **{**LEGACY, **changes})
        self.units = tmp_path / "units"
        self.units.mkdir()
        self.waiting = 0
        monkeypatch.setattr(sockets, "connected", lambda path: self.waiting)
        monkeypatch.setattr(front, "UNITS", str(self.units))
        monkeypatch.setattr(front.Front.__init__, "__defaults__", (None, str(self.units)))
        self.systemd.daemon_reload = lambda: self.events.append("reload")  # type: ignore[attr-defined]

    def prepare(self, release: str, **changes: Any) -> None:
        super().prepare(release, **changes)
        key = changes.get("front")
        settings = Path(self.layout.release_settings(release))
        (settings / "units").mkdir()
        for name in ("app-shop@.socket", "app-shop-nginx@.service"):
            (settings / "units" / name).write_text(f"# {name}\n")
        if key:
            folder = Path(self.layout.front(key))
            folder.mkdir(exist_ok=True)
            (folder / "token").write_text("t0ken\n")
            (settings / "front").write_text(key + "\n")

    def again(self, release: str, **changes: Any) -> None:
        """Describes a release differently."""
        folder = Path(self.layout.release_settings(release))
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
        os.rmdir(self.layout.release(release))
        self.prepare(release, **{**LEGACY, "user": "app-shop", **changes})

    def serve(self, release: str = OLD, port: int = 18080, key: str = KEY, inner: int = 0) -> None:
        description = Description.load(self.layout, release)
        assert description is not None
        description.save_ports(self.layout, {"nginx": port, **({"application": inner} if inner else {})})
        self.layout.set_link("current", release)
        self.systemd.running |= set(self.layout.main_units(description))
        self.front.lead(key, "serving", release)

    @property
    def front(self) -> front.Front:
        return front.Front(self.layout, self.systemd, str(self.units))  # type: ignore[arg-type]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LegacyWorld:
    return LegacyWorld(tmp_path, monkeypatch)


def port_file(layout: Layout, release: str) -> str:
    return (Path(layout.release_settings(release)) / "port").read_text()


def test_d2_g_the_first_release_gets_socket_backend_and_nginx(world: LegacyWorld) -> None:
    report = world.switch().activate(NEW)
    expected = ["reload", f"start {socket(NEW)}", f"start {units(NEW)}", f"start {nginx()}", "check 18080"]
    assert world.events[: len(expected)] == expected
    assert "flip 8080 18080" in world.events
    assert world.front.follows(KEY) == world.front.follows(KEY, "probed") == NEW
    assert "listen 0.0.0.0:18080 backlog=" in (Path(world.layout.front(KEY)) / "listen.conf").read_text()
    assert port_file(world.layout, NEW) == "PORT=8080\n"  # what users call; the backend has a socket
    assert report.port == 18080
    assert sorted(os.listdir(world.units)) == ["app-shop-nginx@.service", "app-shop@.socket"]


def test_d2_a_release_with_the_same_settings_keeps_nginx_and_its_clients(world: LegacyWorld) -> None:
    world.serve()
    world.connections = 12  # clients of Nginx: none of them has to go
    world.switch().activate(NEW)
    assert f"start {nginx()}" not in world.events
    assert f"stop {nginx()}" not in world.events
    assert "flip 8080 18080" in world.events  # to the port that it has: nothing changes
    assert world.front.follows(KEY) == NEW
    stopped = [event for event in world.events if event.startswith("stop ")]
    assert stopped == [f"stop {socket(OLD)}", f"stop {units(OLD)}"]
    assert world.systemd.running >= {socket(NEW), units(NEW), nginx()}


def test_requests_in_flight_keep_the_old_backend_alive(world: LegacyWorld) -> None:
    world.serve()
    world.waiting = 2
    report = world.switch().activate(NEW)
    assert report.drained.startswith(f"draining: {OLD} (2 connections")
    assert units(OLD) in world.systemd.running
    later = next(event for event in world.events if event.startswith("later 30"))
    assert f"systemctl stop {socket(OLD)} {units(OLD)}" in later


def test_other_nginx_settings_get_an_nginx_of_their_own_and_the_redirect_flips(world: LegacyWorld) -> None:
    world.serve()
    world.again(NEW, front=OTHER)
    world.switch().activate(NEW)
    assert world.events.index(f"start {nginx(OTHER)}") < world.events.index("check 28080")
    assert world.events.index("check 28080") < world.events.index("flip 8080 28080")
    assert world.events.index("flip 8080 28080") < world.events.index(f"stop {nginx(KEY)}")
    assert world.front.follows(KEY) == OLD
    assert world.front.follows(OTHER) == NEW


def test_e6_a_failed_check_touches_neither_nginx_nor_the_link(world: LegacyWorld) -> None:
    world.serve()
    world.healthy = False
    with pytest.raises(SwitchError, match=re.escape("GET / returned 500")):
        world.switch().activate(NEW)
    assert world.front.follows(KEY) == world.front.follows(KEY, "probed") == OLD
    assert world.systemd.running == {socket(OLD), units(OLD), nginx()}
    assert not any(event.startswith("flip") for event in world.events)


def test_e6_a_failed_check_stops_the_nginx_that_was_started_for_it(world: LegacyWorld) -> None:
    world.serve()
    world.again(NEW, front=OTHER)
    world.healthy = False
    with pytest.raises(SwitchError):
        world.switch().activate(NEW)
    assert world.systemd.running == {socket(OLD), units(OLD), nginx(KEY)}


def test_e6_the_socket_stops_before_the_backend_which_it_would_start_again(
    world: LegacyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.serve()
    world.healthy = False
    jobs: list[tuple[str, ...]] = []
    stop = world.systemd.stop

    def noted(*names: str, timeout: float | None = None) -> None:
        jobs.append(names)
        stop(*names, timeout=timeout)

    monkeypatch.setattr(world.systemd, "stop", noted)
    with pytest.raises(SwitchError):
        world.switch().activate(NEW)
    assert jobs == [(socket(NEW), units(NEW))]


def test_e6_the_words_of_a_backend_that_ends_again_and_again_are_those_before_its_end(
    world: LegacyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.serve()
    world.healthy = False
    once = ["starts", "No module named 'x'", f"{units(NEW)}: Main process exited, code=exited"]
    said = {units(NEW): [*once, *once, "starts"], nginx(): ["GET / of a client"] * 50}
    monkeypatch.setattr(world.systemd, "journal", lambda unit, _lines, since: said[unit])
    with pytest.raises(SwitchError) as caught:
        world.switch().activate(NEW)
    assert caught.value.journal[-2:] == once[1:]


def test_rollback_onto_a_draining_release_moves_the_link_back(world: LegacyWorld) -> None:
    world.serve()
    world.waiting = 1
    world.switch().activate(NEW)
    world.events.clear()
    world.waiting = 0
    world.switch().activate(OLD, first_time=False)
    assert world.front.follows(KEY) == OLD
    assert not any(event.startswith("start app-shop@") for event in world.events)
    assert units(NEW) not in world.systemd.running


def test_d3_uv_mode_leaves_no_unit_behind_and_a_rollback_brings_them_back(world: LegacyWorld) -> None:
    world.front.install_units(Description.load(world.layout, OLD))  # type: ignore[arg-type]
    world.serve()
    world.again(NEW, mode="uv", backend="", socket=False, front="")
    world.switch().activate(NEW)
    assert world.events.index("flip 8080 28080") < world.events.index(f"stop {nginx()}")
    assert os.listdir(world.units) == []
    assert world.systemd.running == {units(NEW), "app-shop.target"}
    world.events.clear()
    world.switch().activate(OLD, first_time=False)
    assert len(os.listdir(world.units)) == 2
    assert "flip 8080 18080" in world.events
    assert {socket(OLD), units(OLD), nginx()} <= world.systemd.running


def test_d3_units_stay_while_the_old_release_drains_and_go_with_it(world: LegacyWorld) -> None:
    world.front.install_units(Description.load(world.layout, OLD))  # type: ignore[arg-type]
    world.serve()
    world.connections = 3
    world.again(NEW, mode="uv", backend="", socket=False, front="")
    world.switch().activate(NEW)
    assert len(os.listdir(world.units)) == 2
    later = next(event for event in world.events if event.startswith("later"))
    assert "rm -f" in later
    assert later.index(f"systemctl stop {nginx()}") < later.index(f"systemctl stop {socket(OLD)} {units(OLD)}")


COMMAND = {"backend": "command", "socket": False}


def behind(*candidates: int) -> list[dict[str, Any]]:
    return [{"kind": "application", "call": 9000, "candidates": list(candidates)}]


def test_g_a_command_with_a_fixed_port_switches_in_place_behind_nginx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = LegacyWorld(tmp_path, monkeypatch, **COMMAND, inner=behind(9000))
    world.serve(inner=9000)
    report = world.switch().activate(NEW)
    assert world.events.index(f"stop {units(OLD)}") < world.events.index(f"start {units(NEW)}")
    assert report.gap_seconds is not None
    assert f"stop {nginx()}" not in world.events
    assert port_file(world.layout, NEW) == "PORT=9000\n"


def test_g_a_command_that_honours_port_gets_its_own_and_both_redirects_flip_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = LegacyWorld(tmp_path, monkeypatch, **COMMAND, inner=behind(19000, 29000))
    world.serve(inner=19000)
    report = world.switch().activate(NEW)
    assert report.gap_seconds is None
    assert world.events.index("check 18080") < world.events.index("flip 8080 18080")
    assert world.events.index("flip 9000 29000") < world.events.index(f"stop {units(OLD)}")
    assert port_file(world.layout, NEW) == "PORT=29000\n"


def test_celery_alone_has_nginx_and_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = LegacyWorld(tmp_path, monkeypatch, backend="none", socket=False, workers=[{"index": 0}])
    world.serve()
    world.switch().activate(NEW)
    assert units(NEW) not in world.systemd.running
    assert world.front.follows(KEY) == NEW
    assert f"start app-shop-worker@{NEW}:0.service" in world.events


def test_e4_a_probe_takes_the_clients_way_with_the_configurations_token(
    world: LegacyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        "ansible_collections.pyfleet.runtime.plugins.module_utils.switch.run_check",
        lambda request, alive=None: seen.append(request),
    )
    world.serve()
    description = Description.load(world.layout, OLD)
    assert description is not None
    probe_release(world.layout, description)
    assert seen[0].headers == {"X-Pyfleet-Probe": "t0ken"}
    assert (seen[0].port, seen[0].unit, seen[0].also, seen[0].http_port) == (18080, nginx(), [], 0)


def test_i_passwords_are_salted_hashes_that_the_systems_crypt_accepts() -> None:
    first, second = front.hashed("s3cr3t"), front.hashed("s3cr3t")
    assert first != second
    assert first.startswith("$6$")
    assert len(first) > 90
