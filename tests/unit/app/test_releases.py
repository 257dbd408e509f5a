# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases on a host: links, state, what may be pruned, and what is left to do for a release to serve."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.action.plan import _facts
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import (
    Layout,
    State,
    prunable,
    write_file,
)
from ansible_collections.pyfleet.runtime.plugins.plugin_utils import ship
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.deployment import (
    Deployment,
    DeploymentError,
    decide,
    deployment,
    release_id,
)
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.source import Source

A, B, C, D = ("a" * 12, "b" * 12, "c" * 12, "d" * 12)
SETTINGS = {
    "name": "shop",
    "public_port": 8080,
    "port": 9000,
    "release_ports": [],
    "switch": "auto",
    "instance_number": 0,
    "health_deadline": 60,
    "health_accept_2xx": False,
    "drain_seconds": 30,
    "stop_seconds": 30,
    "user": "app-shop",
    "root": "/srv/pyfleet",
    "host_name": "web1",
}
ENV = {"CC_PYTHON_UV_RUN_COMMAND": "uv run python server.py --port $PORT", "TOKEN": "s3cr3t-value"}


def test_links_are_moved_atomically_and_relative(tmp_path: Path) -> None:
    layout = Layout("shop", str(tmp_path))
    os.makedirs(layout.release(A))
    assert layout.linked("current") is None
    layout.set_link("current", A)
    layout.set_link("current", B)
    assert layout.linked("current") == B
    assert os.readlink(layout.link("current")) == f"releases/{B}"
    layout.set_link("current", None)
    assert not os.path.lexists(layout.link("current"))


def test_state_survives_and_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    state = State.load(path)
    state.mark(A, result="good")
    state.last_gap_seconds = 1.5
    state.save(path)
    assert State.load(path) == state
    Path(path).write_text("[]")
    with pytest.raises(ValueError, match="not a state file"):
        State.load(path)


def test_a_file_never_exists_with_a_wider_mode(tmp_path: Path) -> None:
    path = tmp_path / "environment"
    write_file(str(path), "SECRET=1\n", 0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    write_file(str(path), "SECRET=2\r\n", 0o600)
    assert path.read_bytes() == b"SECRET=2\r\n"
    assert os.listdir(tmp_path) == ["environment"]


def releases(**results: str) -> State:
    order = {name: {"result": result, "prepared_at": number} for number, (name, result) in enumerate(results.items())}
    return State(order)


def test_pruning_keeps_the_newest_good_ones_and_whatever_is_protected() -> None:
    state = releases(r1="good", r2="good", r3="failed", r4="good", r5="good", r6="building")
    assert prunable(state, keep=1, protected=["r1", None]) == ["r2", "r3", "r4", "r6"]
    assert prunable(state, keep=0, protected=["r6"]) == ["r1", "r2", "r3", "r4", "r5"]
    state.releases["r2"]["pinned"] = True
    assert prunable(state, keep=5, protected=[]) == ["r3", "r6"]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, "build"),
        ({"releases": {A: {"result": "building"}}}, "build"),
        ({"releases": {A: {"result": "failed"}}, "current": B}, "build"),
        ({"releases": {A: {"result": "good"}}, "current": B}, "switch"),
        ({"releases": {A: {"result": "good"}}, "current": A, "serving": True}, "none"),
        ({"releases": {A: {"result": "good"}}, "current": A, "serving": False}, "restart"),
        ({"releases": {A: {"result": "building"}}, "current": A, "serving": True}, "restart"),
        ({"releases": {}, "current": A, "serving": True}, "restart"),
    ],
)
def test_what_is_left_to_do(state: dict[str, Any], expected: str) -> None:
    assert decide(state, A) == expected


def source(digest: str = "1" * 64, commit: str = "c0ffee") -> Source:
    return Source("path", "./shop", digest, commit, "/archive", 10, ("uv.lock",), {}, {})


def test_the_id_depends_on_source_commit_environment_and_settings_only() -> None:
    first = release_id(SETTINGS, ENV, source())
    assert first == release_id(
        {**SETTINGS, "host_name": "web2", "instance_number": 7}, dict(reversed(ENV.items())), source()
    )
    others = {
        release_id(SETTINGS, {**ENV, "TOKEN": "other"}, source()),
        release_id(SETTINGS, ENV, source(digest="2" * 64)),
        release_id(SETTINGS, ENV, source(commit="beef")),
        release_id({**SETTINGS, "public_port": 8090}, ENV, source()),
        release_id({**SETTINGS, "name": "shop2"}, ENV, source()),
    }
    assert len(others | {first}) == 6


def make(tmp_path: Path, **changes: Any) -> Deployment:
    root = tmp_path / "app"
    root.mkdir(exist_ok=True)
    (root / "uv.lock").write_text('version = 1\n\n[[package]]\nname = "anyio"\nversion = "4.1"\n')
    (root / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "1"\n')
    info = {"host": {"pythons": [{"version": "3.13.5", "path": "/usr/bin/python3", "managed": False}]}, **changes}
    today = datetime.date(2026, 11, 20)
    return deployment(SETTINGS, ENV, {"path": str(root)}, info, cache=str(tmp_path / "cache"), today=today)


def builds(tmp_path: Path, wanted: str, *found: dict[str, Any], **settings: Any) -> Deployment:
    """The deployment of a project with two accelerators on a host with this hardware."""
    root = tmp_path / "app"
    root.mkdir(exist_ok=True)
    (root / "uv.lock").write_text("version = 1\n")
    (root / "pyproject.toml").write_text(
        '[project]\nname = "shop"\nversion = "1"\n[project.optional-dependencies]\ncpu = []\ncu128 = []\ndocs = []\n'
    )
    info = {"host": {"accelerators": list(found)}}
    given = {**SETTINGS, "accelerator": wanted, **settings}
    today = datetime.date(2026, 11, 20)
    return deployment(given, ENV, {"path": str(root)}, info, cache=str(tmp_path / "cache"), today=today)


NVIDIA = {"vendor": "nvidia", "driver": "570.86.10", "ready": True}


@pytest.mark.rule("H3")
def test_h3_the_id_follows_what_a_host_builds_with_and_not_how_that_was_found(tmp_path: Path) -> None:
    none, cpu, cuda = (builds(tmp_path, wanted).release for wanted in ("", "cpu", "cu128"))
    assert len({none, cpu, cuda}) == 3
    assert len({name[:8] for name in (none, cpu, cuda)}) == 1, "one deployment"
    assert {len(name) for name in (none, cpu, cuda)} == {12}
    assert builds(tmp_path, "auto").release == cpu
    assert builds(tmp_path, "auto", NVIDIA).release == cuda, "a new GPU makes a new release"
    assert builds(tmp_path, "auto", {**NVIDIA, "driver": "575.51.03"}).release == cuda, "a new driver alone does not"
    assert builds(tmp_path, "CPU").release == cpu
    assert builds(tmp_path, "", extras=["cpu"]).release == cpu
    more = builds(tmp_path, "cpu", extras=["docs"]).release
    assert more not in (none, cpu, cuda)
    assert more == builds(tmp_path, "", extras=["CPU", "docs"]).release
    assert builds(tmp_path, "", port=9001).release[:8] != none[:8]


@pytest.mark.rule("H3")
def test_h3_a_release_knows_its_accelerator_and_kinds_of_hosts_differ_by_it(tmp_path: Path) -> None:
    made = {wanted: builds(tmp_path, wanted) for wanted in ("", "cpu", "cu128")}
    described = {wanted: json.loads(each.payload())["description"] for wanted, each in made.items()}
    assert {wanted: each["accelerator"] for wanted, each in described.items()} == {name: name for name in made}
    assert [_facts(each)["kind"].split()[-1] for each in made.values()][1:] == ["cpu", "cu128"]
    host = {"architecture": "x86_64", "distribution": "debian", "release": "12", "uv_version": "0.13.8"}
    kinds = {ship.facts(dataclasses.replace(each, host=host))["kind"] for each in made.values()}
    assert len(kinds) == 3


@pytest.mark.rule("H3")
def test_h3_a_hook_that_ran_once_does_not_run_again_for_new_hardware(tmp_path: Path) -> None:
    ran = {"ok": True, "host": "web1"}
    made = builds(tmp_path, "cu128")
    before = builds(tmp_path, "cpu").release
    state = {"releases": {before: {"result": "good", "pre_run": ran}}}
    assert _facts(dataclasses.replace(made, state=state))["pre_run"] == ran
    state = {"releases": {"0" * 12: {"result": "good", "pre_run": ran}}}
    assert _facts(dataclasses.replace(made, state=state))["pre_run"] == {}
    assert (
        decide({"current": before, "serving": True, "releases": {before: {"result": "good"}}}, made.release) == "build"
    )


def test_the_public_result_and_the_text_hold_no_secret(tmp_path: Path) -> None:
    made = make(tmp_path)
    assert "s3cr3t-value" not in json.dumps(made.public()) + made.text("web1")
    assert "s3cr3t-value" in made.payload()


def test_b8_credentials_of_the_build_never_enter_the_release(tmp_path: Path) -> None:
    root = tmp_path / "app"
    root.mkdir()
    (root / "uv.lock").write_text("version = 1\n")
    env = {**ENV, "UV_INDEX_PRIVATE_PASSWORD": "1ndex-p4ss"}
    made = deployment(SETTINGS, env, {"path": str(root)}, {}, cache=str(tmp_path / "cache"))
    payload = json.loads(made.payload())
    assert "1ndex-p4ss" in payload["build_environment"]
    del payload["build_environment"]
    assert "1ndex-p4ss" not in json.dumps(payload)


@pytest.mark.rule("H5")
@pytest.mark.parametrize("compiles", [True, "True", False, None])
def test_h5_a_build_that_compiles_does_it_where_the_unit_looks(tmp_path: Path, compiles: object) -> None:
    made = make(tmp_path)
    made = dataclasses.replace(made, settings={**made.settings, "build": {"compile_bytecode": compiles}})
    payload = json.loads(made.payload())
    told = f'PYTHONPYCACHEPREFIX="/var/cache/app-{SETTINGS["name"]}/{made.release}"\n'
    assert (told in payload["build_environment"]) is (compiles in (True, "True"))
    assert "PYTHONPYCACHEPREFIX" not in payload["environment"]  # the unit has it


def test_c5_without_a_host_no_python_is_missed(tmp_path: Path) -> None:
    root = tmp_path / "app"
    root.mkdir()
    (root / "uv.lock").write_text("version = 1\n")
    made = deployment(
        SETTINGS, {**ENV, "CC_PYTHON_VERSION": "3.13"}, {"path": str(root)}, {}, cache=str(tmp_path / "cache")
    )
    assert made.plan["python"]["request"] == "3.13"
    assert not [item for item in made.plan["warnings"] if item["variable"] == "CC_PYTHON_VERSION"]


def test_package_and_environment_changes_are_told_before_anything_happens(tmp_path: Path) -> None:
    app = {"current": B, "packages": {"anyio": "4.0", "old": "1"}, "environment_names": ["GONE", "TOKEN"]}
    made = make(tmp_path, app=app)
    assert made.package_changes() == ["~ anyio 4.0 -> 4.1", "- old 1"]
    assert "- GONE" in made.environment_changes()
    assert "- TOKEN" not in made.environment_changes()


@pytest.mark.rule("H2", "H3")
def test_a_project_that_only_uv_can_read_is_refused_where_a_variable_must_be_compared_with_it(tmp_path: Path) -> None:
    root = tmp_path / "app"
    root.mkdir()

    def codes(**settings: Any) -> list[str]:
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)  # a run reads a source once
        try:
            deployment({**SETTINGS, **settings}, ENV, {"path": str(root)}, {}, cache=str(tmp_path / "cache"))
        except DeploymentError as error:
            return [item.code for item in error.findings]
        return []

    corp = [{"name": "corp", "url": "https://index.example/simple"}]
    text = '[project]\nname = "shop"\nversion = "1"\n[project.optional-dependencies]\ncu128 = []\n'
    (root / "uv.lock").write_text("version = 1\n")
    (root / "pyproject.toml").write_text(f"\ufeff{text}")  # an editor on Windows; uv takes it
    assert codes(extras=["cu128"], indexes=corp) == []
    assert codes(extras=["cpu"]) == ["extra_unknown"]
    (root / "pyproject.toml").write_text(f"{text}[tool.x]\na = {{\n  b = 1,\n}}\n")  # TOML 1.1; uv takes it
    assert codes() == []
    assert codes(extras=["cu128"], indexes=corp, accelerator="auto") == ["project_unreadable"] * 3


def test_all_errors_of_source_and_environment_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError) as caught:
        deployment(
            {**SETTINGS, "name": "Shop!"},
            {**ENV, "1X": "y", "CC_HEALTH_CHECK_PATH": "health"},
            {"path": "x", "git": "y"},
            {},
            cache=str(tmp_path),
        )
    codes = {finding.code for finding in caught.value.findings}
    assert {"source_kind", "app_name_invalid", "env_name_invalid", "health_path_invalid"} <= codes
    assert str(caught.value).startswith("4 problems, nothing was changed:")


def test_a_host_that_was_never_provisioned_is_refused_and_only_warned_about_in_check_mode(tmp_path: Path) -> None:
    root = tmp_path / "app"
    root.mkdir()
    (root / "uv.lock").write_text("version = 1\n")
    info = {"host": {"provisioned": False, "uv_version": ""}}
    with pytest.raises(DeploymentError) as caught:
        deployment(SETTINGS, ENV, {"path": str(root)}, info, cache=str(tmp_path / "cache"))
    assert "host_not_provisioned" in {finding.code for finding in caught.value.findings}
    assert "the redirect table (pyfleet-redirect.service) and uv (app_uv_executable)" in str(caught.value)
    made = deployment(SETTINGS, ENV, {"path": str(root)}, info, cache=str(tmp_path / "cache"), check_mode=True)
    assert "host_not_provisioned" in {warning["code"] for warning in made.plan["warnings"]}
    info = {"host": {"provisioned": True, "uv_version": "0.13.8"}}
    deployment(SETTINGS, ENV, {"path": str(root)}, info, cache=str(tmp_path / "cache"))
