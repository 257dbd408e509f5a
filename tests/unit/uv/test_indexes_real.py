# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private indexes (H2) in both kinds of build, with a real uv: variables, netrc, keyring, refusals. The index is a stand-in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import indexes
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import to_environment_file
from ansible_collections.pyfleet.runtime.plugins.modules import legacy_build, uv_sync
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.indexes import declared
from ansible_collections.pyfleet.runtime.tests.stand_ins import index as stand_in
from ansible_collections.pyfleet.runtime.tests.unit.uv.modules import run_module
from ansible_collections.pyfleet.runtime.tests.unit.uv.toys import make_wheel
from ansible_collections.pyfleet.runtime.tests.unit.uv_bundle.projects import pyproject

UV = shutil.which("uv", path=str(Path(sys.executable).parent) + ":" + os.environ.get("PATH", "")) or ""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not UV, reason="no uv in the development environment or on PATH"),
]
SECRET = "hunter2/of@the:index"


class Site:
    """A project whose only package lies on an index that asks for credentials."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.project = folder / "shop"
        self.project.mkdir()
        (folder / "home").mkdir()
        (self.project / "requirements.txt").write_text("toya\n")

    def lock(self, named: bool) -> None:
        """A project and its lock; the project names the index, or leaves that to UV_INDEX."""
        table = f'[[tool.uv.index]]\nname = "corp"\nurl = "{self.url}"\ndefault = true\n' if named else ""
        (self.project / "pyproject.toml").write_text(pyproject("shop", ("toya",), table))
        self._lock({} if named else {"UV_INDEX": f"corp={self.url}"})

    def lock_workspace(self) -> None:
        """A project without an index of its own, and a member of its workspace that names one for what it needs."""
        workspace = '[tool.uv.sources]\nlib = { workspace = true }\n[tool.uv.workspace]\nmembers = ["libs/*"]\n'
        index = f'[tool.uv.sources]\ntoya = {{ index = "corp" }}\n[[tool.uv.index]]\nname = "corp"\nurl = "{self.url}"\nexplicit = true\n'
        (self.project / "libs" / "lib").mkdir(parents=True)
        (self.project / "pyproject.toml").write_text(pyproject("shop", ("lib",), workspace))
        (self.project / "libs" / "lib" / "pyproject.toml").write_text(pyproject("lib", ("toya",), index))
        self._lock({})

    def _lock(self, more: dict[str, str]) -> None:
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder / "developer"),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_INDEX_CORP_USERNAME": "deploy",
            "UV_INDEX_CORP_PASSWORD": SECRET,
            **more,
        }
        subprocess.run([UV, "lock", "-q"], cwd=self.project, env=environment, check=True)
        assert SECRET not in (self.project / "uv.lock").read_text()

    def build(self, entry: dict[str, Any] | None, legacy: bool = False, **more: Any) -> dict[str, Any]:
        """Builds as the roles do, with what the plan makes of `app_indexes` and `app_netrc`."""
        texts = {str(path.relative_to(self.project)): path.read_text() for path in self.project.rglob("pyproject.toml")}
        named = [] if legacy else declared(texts, "")
        env: dict[str, str] = more.pop("env", {})
        given = indexes.read([entry] if entry else [], more.pop("netrc", ""), env, declared=named, host={})
        assert given.findings == ()
        variables = {
            "HOME": str(self.folder / "home"),
            "UV_HTTP_RETRIES": "0",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_CACHE": "1",
            "XDG_CONFIG_DIRS": str(self.folder),
            **env,
            **given.variables,
            **dict.fromkeys(given.tokens, SECRET),
        }
        file = self.folder / "shop.build"
        file.write_text(to_environment_file(variables))
        arguments: dict[str, Any] = {"project": str(self.project), "executable": UV, "environment_file": str(file)}
        arguments["indexes"] = list(given.shown)
        if legacy:
            python: dict[str, Any] = {"python": "/usr/bin/python3", "requirements": "requirements.txt"}
            result = run_module(legacy_build.main, **arguments, **python, **more)
        else:
            result = run_module(uv_sync.main, **arguments, **more)
        assert SECRET not in result["raw"]
        assert sorted(path.name for path in self.folder.glob("shop.*")) == [], "neither variables nor netrc stay"
        return result


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The site; its index knows `deploy` with SECRET."""
    make_wheel(tmp_path / "index" / "toya", "toya", "1.0.0")
    with stand_in.serving(tmp_path / "index", "127.0.0.1", "deploy", SECRET) as served:
        yield Site(tmp_path, served.url)


GOOD = {"name": "corp", "username": "deploy", "password": SECRET}
Build = Callable[..., "dict[str, Any]"]


@pytest.mark.parametrize("named", [True, False])
def test_h2_a_token_reaches_the_build_of_a_lock(site: Site, named: bool) -> None:
    site.lock(named)
    entry = {"name": "corp", "url": site.url, "username": "deploy", "token_command": ["x"]}
    result = site.build(entry)
    assert not result.get("failed"), result
    assert result["packages"][0]["name"] == "toya"


def test_h2_credentials_reach_the_index_of_a_member_of_the_workspace_by_its_name(site: Site) -> None:
    site.lock_workspace()
    refused = site.build(None)
    assert "Give corp credentials in app_indexes" in refused["msg"]
    result = site.build(GOOD)
    assert not result.get("failed"), result
    assert "toya" in {package["name"] for package in result["packages"]}


def test_h2_an_index_that_only_app_indexes_names_serves_the_pip_interface_too(site: Site) -> None:
    result = site.build({**GOOD, "url": site.url, "default": True}, legacy=True)
    assert not result.get("failed"), result
    shutil.rmtree(site.project / ".venv")
    wrong = site.build({**GOOD, "url": site.url, "default": True, "password": "wrong"}, legacy=True)
    assert wrong["reason"] == "index_unauthorized"
    assert wrong["msg"].startswith("The package index corp refused the build: 401 Unauthorized.")


def test_h2_a_wrong_and_a_missing_password_name_the_index_and_where_it_came_from(site: Site) -> None:
    site.lock(True)
    expired = site.build({"name": "corp", "username": "deploy", "password": "old-" + "token"})
    assert expired["reason"] == "index_unauthorized"
    assert expired["msg"].startswith("The package index corp refused the build: 401 Unauthorized.")
    assert f"Index:     corp ({site.url})" in expired["msg"]
    assert "the user name and password of app_indexes" in expired["msg"]
    assert "old-token" not in expired["raw"]
    none = site.build(None)
    assert "Give corp credentials in app_indexes" in none["msg"]
    env = site.build(None, env={"UV_INDEX_CORP_USERNAME": "x", "UV_INDEX_CORP_PASSWORD": "y"})
    assert "Correct the two variables of corp in app_env" in env["msg"]


def test_h2_a_netrc_is_a_file_of_the_build_alone_and_goes_with_it(site: Site) -> None:
    site.lock(True)
    (site.folder / "shop.netrc").write_text("of a build that was killed")
    hook = f"cat $NETRC; stat -c '%a %n' $NETRC > {site.folder}/seen; echo \"<$PYFLEET_NETRC>\" >> {site.folder}/seen"
    netrc = f"machine 127.0.0.1 login deploy password {SECRET}\n"
    result = site.build(None, netrc=netrc, pre_build_hook=hook)
    assert not result.get("failed"), result
    assert (site.folder / "seen").read_text().splitlines() == [f"600 {site.folder}/shop.netrc", "<>"]
    refused = site.build(None, netrc=netrc.replace(SECRET, "wrong-password"), post_build_hook=hook, legacy=False)
    assert not refused.get("failed"), "what is installed needs no index"


def test_h2_a_netrc_goes_when_the_build_fails_too(site: Site) -> None:
    site.lock(True)
    refused = site.build(None, netrc="machine 127.0.0.1 login deploy password wrong-password\n")
    assert refused["reason"] == "index_unauthorized"
    assert "Correct the machine of http://127.0.0.1" in refused["msg"]
    assert "wrong-password" not in refused["raw"]


def test_h2_a_keyring_is_asked_for_the_index_and_its_user(site: Site) -> None:
    site.lock(True)
    programs = site.folder / "bin"
    programs.mkdir()
    keyring = programs / "keyring"
    keyring.write_text(f'#!/bin/sh\necho "$@" >> {site.folder}/asked\necho "{SECRET}"\n')
    keyring.chmod(0o755)
    entry = {"name": "corp", "username": "deploy", "keyring": True}
    path = {"PATH": f"{programs}:/usr/bin:/bin"}
    result = site.build(entry, env=path)
    assert not result.get("failed"), result
    assert set((site.folder / "asked").read_text().splitlines()) == {f"get {site.url} deploy"}
    shutil.rmtree(site.project / ".venv")
    keyring.write_text("#!/bin/sh\necho no session >&2; exit 1\n")
    refused = site.build(entry, env=path)
    assert "no session" in refused["stderr"]
    assert f"keyring get {site.url} USER" in refused["msg"]


def test_h2_an_empty_user_name_with_a_token_is_sent_as_it_is(tmp_path: Path) -> None:
    make_wheel(tmp_path / "index" / "toya", "toya", "1.0.0")
    with ExitStack() as stack:
        served = stack.enter_context(stand_in.serving(tmp_path / "index", "127.0.0.1", "", SECRET))
        site = Site(tmp_path, served.url)
        entry = {"name": "corp", "url": site.url, "username": "", "token_command": ["jf"], "default": True}
        result = site.build(entry, legacy=True)
        assert not result.get("failed"), result
