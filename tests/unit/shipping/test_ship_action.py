# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build once, ship many, on the controller: what a key is made of, and which step of which host costs a round trip."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.action import uv_cache as action
from ansible_collections.pyfleet.runtime.plugins.plugin_utils import ship
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.deployment import Deployment
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.journal import Journal
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.source import Source

HOST = {"architecture": "x86_64", "distribution": "debian", "release": "12", "uv_version": "0.13.8"}


def deployment(
    folder: Path, files: Mapping[str, str], host: Mapping[str, Any] = HOST, python: str = "3.11.2", **build: Any
) -> Deployment:
    content = "".join(f"{name}{text}" for name, text in sorted(files.items()))
    archive = folder / f"{hashlib.sha256(content.encode()).hexdigest()[:12]}.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            packed.addfile(info, io.BytesIO(text.encode()))
    plan = {
        "mode": "uv",
        "project_root": "",
        "python": {"version": python},
        "build": {"argv": ["sync", "--locked"], "environment": {}, **build},
    }
    source = Source("path", "", "d" * 64, "c", str(archive), 1, tuple(files), {}, {})
    return Deployment({}, source, plan, host, {"shipped": ["k0"]}, "r" * 12, "build")


FILES = {
    "uv.lock": "one",
    "main.py": "code",
    "robots.txt": "text",
    "requirements.txt": "-r base.txt\nflask\n",
    "base.txt": "click\n",
}


def key(*arguments: Any, **more: Any) -> str:
    return str(ship.facts(deployment(*arguments, **more))["key"])


def test_a_key_follows_the_packages_and_not_the_code(tmp_path: Path) -> None:
    first = key(tmp_path, FILES)
    assert first == key(tmp_path, {**FILES, "main.py": "other code", "robots.txt": "other text"})
    different = [
        key(tmp_path, {**FILES, "uv.lock": "two"}),
        key(tmp_path, {**FILES, "requirements.txt": "-r base.txt\nflask==3\n"}),
        key(tmp_path, {**FILES, "base.txt": "click==8\n"}),
        key(tmp_path, {**FILES, "member/pyproject.toml": "[project]"}),
        key(tmp_path, FILES, argv=["sync", "--locked", "--group", "x"]),
        key(tmp_path, FILES, environment={"UV_DEFAULT_INDEX": "https://other.example/simple"}),
        key(tmp_path, FILES, host={**HOST, "release": "13"}),
        key(tmp_path, FILES, host={**HOST, "uv_version": "0.13.9"}),
        key(tmp_path, FILES, python="3.13.5"),
    ]
    assert len({first, *different}) == len(different) + 1
    secret = {"UV_INDEX_CORP_PASSWORD": "one"}
    assert key(tmp_path, FILES, environment=secret) == first, "a key tells nothing of a password"


@pytest.mark.rule("H3")
def test_h3_hosts_of_one_kind_have_the_same_accelerator_and_branch_of_its_driver(tmp_path: Path) -> None:
    def facts(version: str, *variant: str) -> Any:
        return ship.facts(deployment(tmp_path, FILES, variant=variant, environment={"UV_CUDA_DRIVER_VERSION": version}))

    plain, patched = facts("550.54.14", "auto", "nvidia", "550"), facts("550.90.07", "auto", "nvidia", "550")
    assert plain == patched
    for other in (facts("550.54.14"), facts("580.65.06", "auto", "nvidia", "580"), facts("", "cpu")):
        assert other["kind"] != plain["kind"]
        assert other["key"] != plain["key"]


def test_a_named_requirements_file_counts_whatever_it_is_called(tmp_path: Path) -> None:
    named = {"requirements": "deps/web", "mode": "legacy"}
    files = {"deps/web": "-r more\nflask\n", "deps/more": "click\n", "other": "x"}
    first = key(tmp_path, files, **named)
    assert first == key(tmp_path, {**files, "other": "y"}, **named)
    assert first != key(tmp_path, {**files, "deps/web": "-r more\nflask==3\n"}, **named)


def test_kind_and_what_is_held(tmp_path: Path) -> None:
    facts = ship.facts(deployment(tmp_path, FILES))
    assert facts["kind"] == "x86_64 debian 12 python 3.11.2 uv 0.13.8"
    assert facts["held"] == ["k0"]
    assert ship.facts(deployment(tmp_path, FILES, python="2.7.18"))["kind"] == ""
    assert ship.facts(deployment(tmp_path, FILES, host={**HOST, "uv_version": ""}))["kind"] == ""
    made = deployment(tmp_path, FILES, environment={"UV_INDEX_CORP_PASSWORD": "s", "A": "b"})
    assert ship.for_receiver(made).plan["build"]["environment"] == {"A": "b", "UV_OFFLINE": "1"}
    assert made.plan["build"]["environment"]["UV_INDEX_CORP_PASSWORD"] == "s", "the builder's own stays"


# -- the action plugin -----------------------------------------------------------------------------------------------------


class Fleet:
    """Two hosts of one kind and one of another, in a journal of their own; no connection."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ansible.constants.DEFAULT_LOCAL_TMP", str(folder))
        self.journal = Journal.of("shop")
        self.journal.note_run(hosts=["a", "b", "c"], run="r")
        for host, kind in (("a", "one"), ("b", "one"), ("c", "two")):
            self.journal.note(host, action="build", ship={"kind": kind, "key": "k1", "held": []})
        self.modules: list[tuple[str, dict[str, Any]]] = []

    def task(self, host: str, state: str, *, check: bool = False) -> dict[str, Any]:
        """Runs the action plugin for one host; a round trip is noted instead of made."""
        plugin = object.__new__(action.ActionModule)

        def execute(**options: Any) -> dict[str, Any]:
            self.modules.append((host, options["module_args"]))
            return {"changed": False}

        plugin._task = SimpleNamespace(args={"name": "shop", "state": state}, check_mode=check, async_val=0)
        plugin._execute_module = execute
        plugin._connection = None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ansible.plugins.action.ActionBase.run", lambda *_arguments, **_options: {})
            answer: dict[str, Any] = plugin.run(None, {"inventory_hostname": host})
        return answer


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    return Fleet(tmp_path, monkeypatch)


def test_parts_are_given_once_and_cost_no_round_trip(fleet: Fleet) -> None:
    assert [fleet.task(host, "elected")["role"] for host in "abc"] == ["builder", "receiver", "alone"]
    fleet.journal.note("a", outcome="failed")
    assert fleet.journal.entry("b")["ship"]["builder"] == "a", "a failure in between makes nobody else the builder"
    assert fleet.modules == []


def test_a_receiver_waits_for_its_builder_and_no_longer(fleet: Fleet) -> None:
    for host in "abc":
        fleet.task(host, "elected")
    fleet.journal.note("a", bundle={"path": "/x", "sha256": "0", "bytes": 1, "key": "k1"})
    assert [fleet.task(host, "awaited")["go"] for host in "abc"] == [False, True, True]
    assert fleet.journal.run().get("stopped") is None


def test_without_its_builder_a_receiver_is_not_attempted_and_the_rollout_stops(fleet: Fleet) -> None:
    for host in "abc":
        fleet.task(host, "elected")
    fleet.journal.note("a", outcome="failed")
    answer = fleet.task("b", "awaited")
    assert not answer["go"]
    assert "a, which builds for all hosts of its kind (app_build: once), did not deliver" in answer["msg"]
    assert fleet.journal.entry("b")["outcome"] == "stopped"
    assert "a could not build" in fleet.journal.run()["stopped"]
    assert fleet.task("c", "awaited")["go"]
    assert fleet.task("b", "unpacked")["skipped"]
    assert fleet.modules == []


def test_who_holds_everything_is_sent_nothing(fleet: Fleet) -> None:
    fleet.journal.note("b", ship={"kind": "one", "key": "k1", "held": ["k1"]})
    for host in "abc":
        fleet.task(host, "elected")
    assert all(fleet.task(host, "packed")["skipped"] for host in "abc")
    assert fleet.task("b", "awaited")["go"]
    assert all(fleet.task(host, "unpacked")["skipped"] for host in "abc")
    assert fleet.modules == []


def test_a_dry_run_ships_nothing_and_says_what_it_would(fleet: Fleet) -> None:
    for host in "abc":
        fleet.task(host, "elected", check=True)
        assert not fleet.task(host, "packed", check=True)["changed"]
    assert fleet.task("b", "awaited", check=True)["go"]
    assert fleet.task("b", "unpacked", check=True)["changed"]
    assert fleet.modules == []


def test_outside_of_a_rollout_everybody_builds(fleet: Fleet) -> None:
    assert fleet.task("stranger", "elected")["role"] == "alone"
    assert fleet.task("stranger", "awaited")["go"]
    assert fleet.task("stranger", "packed")["skipped"]
    fleet.task("stranger", "bounded")
    assert fleet.modules == [("stranger", {"name": "shop", "state": "bounded"})]
