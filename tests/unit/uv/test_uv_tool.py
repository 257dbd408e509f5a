# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""uv_tool: reading `uv tool list`, deciding, and the module on a real uv with an index made on the spot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.modules import uv_tool
from ansible_collections.pyfleet.runtime.plugins.modules.uv_tool import Tool
from ansible_collections.pyfleet.runtime.tests.unit.uv import toys
from ansible_collections.pyfleet.runtime.tests.unit.uv.modules import run_module

UV = shutil.which("uv", path=str(Path(sys.executable).parent) + ":" + os.environ.get("PATH", "")) or ""
needs_uv = pytest.mark.skipif(not UV, reason="no uv in the development environment or on PATH")

LISTED = """\
keyring v25.6.0 [required: ==25.6.0] [extras: completion] [with: Keyrings.Some_Auth==1.1.2, other[a,b]>=1, <2] [CPython 3.13.5]
- keyring
marimo v0.17.0 [CPython 3.12.4]
- marimo
"""


def test_list_of_uv_is_read_with_everything_it_shows() -> None:
    tools = uv_tool.parse_list(LISTED)
    assert tools == {
        "keyring": Tool(
            "25.6.0", frozenset({"completion"}), frozenset({"keyrings-some-auth==1.1.2", "other[a,b]<2,>=1"}), "3.13.5"
        ),
        "marimo": Tool("0.17.0", frozenset(), frozenset(), "3.12.4"),
    }
    assert uv_tool.parse_list("No tools installed\n") == {}


INSTALLED = Tool("1.1.0", frozenset(), frozenset({"plugin==1.0"}), "3.13.5")


@pytest.mark.parametrize(
    ("wanted", "action", "why"),
    [
        ({"with": ["Plugin == 1.0"]}, "none", ""),
        ({"with": ["plugin==1.0"], "version": "1.1"}, "none", ""),
        ({"with": ["plugin==1.0"], "version": "1.2.0"}, "upgrade", "version"),
        ({"with": ["plugin==1.0"], "version": "1.0.9"}, "downgrade", "version"),
        ({}, "reinstall", "with"),
        ({"with": ["plugin==1.0"], "extras": ["x"], "python": "3.1"}, "reinstall", "extras, python"),
        ({"with": ["plugin==1.0"], "python": "3.13"}, "none", ""),
        ({"state": "absent"}, "remove", ""),
    ],
)
def test_every_difference_has_its_action(wanted: dict[str, Any], action: str, why: str) -> None:
    entry = {"name": "tool", "version": None, "extras": [], "with": [], "python": None, "state": "present", **wanted}
    step = uv_tool.decide(entry, INSTALLED)
    assert (step.action, step.why) == (action, why)


class Site:
    """An index with two versions of a tool, and the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        links = toys.make_index(folder / "links")
        for version in ("1.0.0", "2.0.0"):
            toys.make_wheel(links, "toytool", version, command="toytool")
        (folder / "uv").mkdir()
        (folder / "uv" / "uv.toml").write_text(f'no-index = true\nfind-links = ["{links}"]\n', encoding="utf-8")

    def run(
        self,
        check: bool = False,
        tools: list[dict[str, Any]] | None = None,
        executable: str = UV,
        python_install_dir: str | None = None,
        **tool: Any,
    ) -> dict[str, Any]:
        """Runs the module for one tool."""
        variables = {
            "HOME": str(self.folder / "home"),
            "XDG_CONFIG_DIRS": str(self.folder),
            "UV_PYTHON_DOWNLOADS": "never",
        }
        return run_module(
            uv_tool.main,
            check=check,
            diff=True,
            tools=tools or [{"name": "toytool", **tool}],
            tool_dir=str(self.folder / "tools"),
            bin_dir=str(self.folder / "bin"),
            executable=executable,
            environment=variables,
            **({"python_install_dir": python_install_dir} if python_install_dir else {}),
        )

    def both(self, **tool: Any) -> dict[str, Any]:
        """Check mode, then the real run; both say the same."""
        before = sorted(self.folder.rglob("*"))
        predicted = self.run(check=True, **tool)
        assert sorted(self.folder.rglob("*")) == before, "check mode wrote something"
        real = self.run(**tool)
        assert not real.get("failed"), real["msg"]
        for key in ("changed", "tools", "diff"):
            assert predicted[key] == real[key], key
        return real


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site without any tool."""
    return Site(tmp_path)


def done(result: dict[str, Any]) -> tuple[str, str | None, str | None]:
    """What happened to the tool."""
    entry = result["tools"][0]
    return entry["action"], entry["from"], entry["to"]


@needs_uv
@pytest.mark.rule("H2")
def test_h2_tool_is_installed_upgraded_extended_and_removed(site: Site) -> None:
    assert done(site.both(version="1.0.0")) == ("install", None, "1.0.0")
    command = site.folder / "bin" / "toytool"
    assert subprocess.check_output([command], text=True) == "toytool 1.0.0\n"
    assert site.both(version="1.0.0")["changed"] is False
    assert site.both()["changed"] is False
    assert done(site.both(version="2.0.0")) == ("upgrade", "1.0.0", "2.0.0")
    result = site.both(version="2.0.0", **{"with": ["toya==1.1.0"]})
    assert done(result) == ("reinstall", "2.0.0", "2.0.0")
    assert result["diff"]["after"] == "toytool==2.0.0 + toya==1.1.0\n"
    assert site.both(version="2.0.0", **{"with": ["toya==1.1.0"]})["changed"] is False
    assert done(site.both(version="1.0.0")) == ("downgrade", "2.0.0", "1.0.0")
    assert done(site.both(state="absent")) == ("remove", "1.0.0", None)
    assert not command.exists()
    assert site.both(state="absent")["changed"] is False


@needs_uv
def test_everybody_may_start_a_tool_and_its_python_is_not_below_the_home_of_root(site: Site) -> None:
    seen = site.folder / "seen"
    recorder = site.folder / "uv-recorder"
    recorder.write_text(f'#!/bin/sh\necho "$UV_PYTHON_INSTALL_DIR" >> {seen}\nexec {UV} "$@"\n', encoding="utf-8")
    recorder.chmod(0o755)
    before = os.umask(0o077)
    try:
        result = site.run(executable=str(recorder), python_install_dir="/opt/nowhere/python", version="1.0.0")
    finally:
        os.umask(before)
    assert result["changed"], result
    assert set(seen.read_text(encoding="utf-8").splitlines()) == {"/opt/nowhere/python"}
    for path in (site.folder / "bin", site.folder / "bin" / "toytool", site.folder / "tools" / "toytool"):
        assert path.stat().st_mode & 0o055 == 0o055, path


@needs_uv
def test_command_that_uv_did_not_put_there_is_not_replaced(site: Site) -> None:
    (site.folder / "bin").mkdir()
    (site.folder / "bin" / "toytool").write_text("mine\n", encoding="utf-8")
    result = site.run(version="1.0.0")
    assert result["failed"]
    assert "force: true" in result["msg"]
    assert (site.folder / "bin" / "toytool").read_text(encoding="utf-8") == "mine\n"


@needs_uv
def test_unknown_version_fails_in_uvs_own_words(site: Site) -> None:
    result = site.run(version="9.9")
    assert result["reason"] == "install_failed"
    assert "toytool==9.9" in result["msg"]
