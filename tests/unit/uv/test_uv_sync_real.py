# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""uv_sync as a whole, on a real uv binary, toy projects and an index made on the spot. No network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import to_environment_file
from ansible_collections.pyfleet.runtime.plugins.modules import uv_sync
from ansible_collections.pyfleet.runtime.tests.unit.uv import toys
from ansible_collections.pyfleet.runtime.tests.unit.uv.modules import run_module

UV = shutil.which("uv", path=str(Path(sys.executable).parent) + ":" + os.environ.get("PATH", "")) or ""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not UV, reason="no uv in the development environment or on PATH"),
]
SECRET = "hunter2-correct-horse"


class Site:
    """A home, an index and a project for one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.links = toys.make_index(folder / "links")
        self.project = folder / "shop"
        self.home = folder / "home"
        self.home.mkdir()
        # No retries: an index that is down is meant to be down. No configuration of this machine either.
        self.variables = {
            "HOME": str(self.home),
            "UV_HTTP_RETRIES": "0",
            "XDG_CONFIG_DIRS": str(folder),
            "UV_PYTHON_DOWNLOADS": "never",
        }

    def want(self, toya: str, lock: bool = True) -> None:
        """The project asks for a version of toya."""
        toys.write_project(self.project, self.links, toya)
        if lock:
            self.lock(self.project)

    def lock(self, project: Path) -> None:
        """Runs `uv lock`."""
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder / "developer"), "UV_PYTHON_DOWNLOADS": "never"}
        subprocess.run([UV, "lock", "--quiet"], cwd=project, env=environment, check=True)

    def sync(self, check: bool = False, diff: bool = False, **arguments: Any) -> dict[str, Any]:
        """Runs the module."""
        variables = {**self.variables, **arguments.pop("environment", {})}
        arguments.setdefault("project", str(self.project))
        arguments.setdefault("executable", UV)
        return run_module(uv_sync.main, check=check, diff=diff, environment=variables, **arguments)

    def both(self, **arguments: Any) -> dict[str, Any]:
        """Check mode, then the real run: the first writes nothing, and both say the same. Returns the real result."""
        before = self.snapshot()
        predicted = self.sync(check=True, diff=True, **arguments)
        assert self.snapshot() == before, "check mode wrote something"
        real = self.sync(diff=True, **arguments)
        for key in ("failed", "changed", "packages", "diff", "reason"):
            assert predicted.get(key) == real.get(key), key
        return real

    def snapshot(self) -> dict[str, float]:
        """Every path below the site and when it changed. uv's cache directory counts once it is there."""
        return {
            str(path): path.lstat().st_mtime
            for path in sorted(self.folder.rglob("*"))
            if ".cache" not in path.relative_to(self.folder).parts[1:2]
        } | {"cache": float((self.home / ".cache").exists())}

    def installed(self) -> set[str]:
        """What lies in the environment."""
        return {
            path.name.split(".dist-info")[0]
            for path in self.project.glob(".venv/lib/python*/site-packages/*.dist-info")
        }


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with a locked project."""
    result = Site(tmp_path)
    result.want("1.1.0")
    return result


def actions(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The package changes, briefly."""
    assert not result.get("failed"), result["msg"]
    return [(item["name"], item["action"]) for item in result["packages"]]


FRESH = [("toya", "install"), ("toyb", "install"), ("toyc", "install")]


@pytest.mark.rule("B1")
def test_b1_fresh_environment_then_nothing_to_do(site: Site) -> None:
    result = site.both(no_dev=True)
    assert actions(result) == FRESH
    assert result["changed"] is True
    assert result["venv"]["action"] == "create"
    assert result["venv"]["path"] == str(site.project / ".venv")
    assert result["diff"]["before"] == ""
    assert "toya==1.1.0\ntoyb==0.5.0\ntoyc==3.0\n" in result["diff"]["after"]
    assert result["commands"] == [f"{UV} sync --locked --no-progress --no-dev --output-format json"]
    assert site.installed() == {"toya-1.1.0", "toyb-0.5.0", "toyc-3.0"}

    again = site.both(no_dev=True)
    assert actions(again) == []
    assert again["changed"] is False
    assert again["diff"]["before"] == again["diff"]["after"] == ""
    assert again["msg"] == "nothing to do"


def test_upgrade_and_downgrade_name_both_versions(site: Site) -> None:
    site.sync(no_dev=True)
    site.want("2.0.0")
    result = site.both(no_dev=True)
    assert result["packages"] == [{"name": "toya", "action": "upgrade", "from": "1.1.0", "to": "2.0.0"}]
    assert result["diff"]["before"] == "toya==1.1.0\n"
    assert result["diff"]["after"] == "toya==2.0.0\n"
    site.want("1.0.0")
    result = site.both(no_dev=True)
    assert result["packages"] == [{"name": "toya", "action": "downgrade", "from": "2.0.0", "to": "1.0.0"}]
    assert "toya-1.0.0" in site.installed()


def test_dev_group_on_and_off(site: Site) -> None:
    site.sync(no_dev=True)
    assert actions(site.both()) == [("toydev", "install")]
    assert actions(site.both(no_dev=True)) == [("toydev", "remove")]
    assert actions(site.both(no_dev=True, groups=["batch"])) == [("toydev", "install")]


@pytest.mark.rule("B4")
def test_b4_stale_lock_fails_in_uvs_own_words_and_touches_nothing(site: Site) -> None:
    site.sync(no_dev=True)
    site.want("2.0.0", lock=False)
    result = site.both(no_dev=True)
    assert result["failed"]
    assert result["reason"] == "lock_stale"
    assert result["msg"].splitlines()[0] == "uv.lock does not match pyproject.toml."
    assert "The lockfile at `uv.lock` needs to be updated, but `--locked` was provided." in result["msg"]
    assert "Next step: Run `uv lock` in the project" in result["msg"]
    assert "toya-1.1.0" in site.installed()


@pytest.mark.rule("B4")
def test_b4_unparsable_lock(site: Site) -> None:
    (site.project / "uv.lock").write_text("<<<<<<< ours\n", encoding="utf-8")
    result = site.both()
    assert result["reason"] == "lock_unparsable"
    assert "Failed to parse `uv.lock`" in result["msg"]
    assert "merge conflict" in result["msg"]


def test_missing_lock(site: Site) -> None:
    (site.project / "uv.lock").unlink()
    for flags in ({}, {"frozen": True}):
        result = site.both(**flags)
        assert result["reason"] == "lock_missing"
        assert result["msg"].startswith("There is no uv.lock in the project.")


def test_without_locked_the_lock_is_made_and_reported(site: Site) -> None:
    site.sync(no_dev=True)
    site.want("2.0.0", lock=False)
    result = site.both(no_dev=True, locked=False)
    assert result["lock_action"] == "update"
    assert "uv.lock updated" in result["msg"]
    assert "# uv.lock: update" in result["diff"]["after"]


def test_index_down_with_an_empty_cache(site: Site) -> None:
    toys.write_unreachable(site.project)
    result = site.sync()
    assert result["failed"]
    assert result["reason"] == "index_unreachable"
    assert "Failed to download `toya==1.1.0`" in result["msg"]
    assert "Next step: Check the address" in result["msg"]


def second_python() -> str | None:
    """Another interpreter than the default one."""
    for pattern in (
        "/usr/bin/python3.*",
        "/usr/local/bin/python3.*",
        str(Path.home() / ".pyenv/versions/3.*/bin/python3"),
    ):
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            done = subprocess.run(
                [path, "-c", "import sys; print(sys.version_info[:2] >= (3, 9))"], capture_output=True, text=True
            )
            if done.stdout.strip() == "True" and path.resolve() != Path("/usr/bin/python3").resolve():
                return str(path)
    return None


def test_environment_of_another_python_is_replaced_and_said_so(site: Site) -> None:
    other = second_python()
    if other is None or not Path("/usr/bin/python3").exists():
        pytest.skip("this machine has only one Python of 3.9 or newer")
    first = site.sync(no_dev=True, python="/usr/bin/python3")
    result = site.both(no_dev=True, python=other)
    assert result["changed"]
    assert result["venv"]["action"] == "update"
    assert result["venv"]["previous_python_version"] == first["venv"]["python_version"]
    assert result["msg"].startswith(
        f"environment of Python {first['venv']['python_version']} replaced by one of Python"
    )
    assert f"# Python {first['venv']['python_version']}" in result["diff"]["before"]


@pytest.mark.rule("C5")
def test_c5_missing_python_is_named_with_the_variable_to_change(site: Site) -> None:
    result = site.both(python="3.99")
    assert result["reason"] == "python_not_found"
    assert "CC_PYTHON_VERSION" in result["msg"]


def test_workspace_member_and_package(site: Site) -> None:
    root = toys.write_workspace(site.folder / "workspace", site.links)
    site.lock(root)
    result = site.both(project=str(root / "packages" / "api"), no_dev=True)
    assert actions(result) == [("toya", "install")]
    assert result["venv"]["path"] == str(root / ".venv")
    assert actions(site.both(project=str(root), package="worker", no_dev=True)) == [
        ("toya", "remove"), ("toyb", "install"), ("toyc", "install"),
    ]  # fmt: skip
    assert actions(site.both(project=str(root), all_packages=True, no_dev=True)) == [("toya", "install")]


@pytest.mark.rule("B3")
def test_b3_argv_replaces_the_flags_and_keeps_the_report(site: Site) -> None:
    result = site.both(argv=["sync", "--frozen", "-q", "--output-format", "text", "--no-dev"])
    assert actions(result) == FRESH
    assert result["commands"] == [f"{UV} sync --frozen --no-dev --output-format json"]
    assert site.sync(argv=["pip", "install", "x"])["reason"] == "argv_invalid"
    result = site.sync(argv=["sync", "--no-such-flag"])
    assert result["reason"] == "flags_invalid"
    assert "CC_PYTHON_UV_SYNC_FLAGS" in result["msg"]


def test_what_steers_uv_from_outside_is_dropped_and_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = site.folder / "elsewhere"
    monkeypatch.setenv("UV_PROJECT_ENVIRONMENT", str(elsewhere))
    monkeypatch.setenv("VIRTUAL_ENV", str(elsewhere))
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    result = site.sync(no_dev=True)
    assert actions(result) == FRESH
    assert {"UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV", "UV_DEFAULT_INDEX"} <= set(result["dropped"])
    assert not elsewhere.exists()
    # What the caller gives is not from outside.
    given = site.sync(no_dev=True, environment={"UV_PROJECT_ENVIRONMENT": str(elsewhere)})
    assert given["venv"]["path"] == str(elsewhere)


@pytest.mark.rule("B8")
def test_b8_build_sees_the_environment_file_and_nothing_of_it_is_shown(site: Site) -> None:
    values = {"TOKEN": SECRET, "TEXT": 'a "b" $c\nd\\e', "STAGE": "11"}
    path = site.folder / "build.environment"
    path.write_text(to_environment_file(values), encoding="utf-8")
    hook = 'printf "%s" "$TEXT" > text; echo "$STAGE $TOKEN"'
    result = site.sync(pre_build_hook=hook, environment_file=str(path), environment={"STAGE": "22"}, no_dev=True)
    assert not result.get("failed"), result["msg"]
    assert (site.project / "text").read_text(encoding="utf-8") == values["TEXT"]
    assert result["hooks"][0]["output"] == "22 ********"
    assert SECRET not in result["raw"]
    assert not path.exists()
    missing = site.sync(environment_file=str(path))
    assert missing["reason"] == "environment_file_unreadable"


@pytest.mark.rule("B6")
def test_b6_hooks_run_around_the_sync_in_the_builds_environment(site: Site) -> None:
    log = site.folder / "log"
    hook = f'echo "$STAGE $(ls -d .venv 2>/dev/null || echo none)" >> {log}'
    result = site.sync(pre_build_hook=hook, post_build_hook=hook, environment={"STAGE": "build"}, no_dev=True)
    assert log.read_text(encoding="utf-8") == "build none\nbuild .venv\n"
    assert [(entry["name"], entry["ran"], entry["status"]) for entry in result["hooks"]] == [
        ("CC_PRE_BUILD_HOOK", True, 0), ("CC_POST_BUILD_HOOK", True, 0),
    ]  # fmt: skip
    predicted = site.sync(check=True, pre_build_hook=hook, no_dev=True)
    assert predicted["hooks"] == [{"name": "CC_PRE_BUILD_HOOK", "ran": False}]
    assert len(log.read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.rule("B6")
def test_b6_failing_pre_build_hook_ends_before_any_dependency(site: Site) -> None:
    result = site.sync(pre_build_hook="echo preparing; echo 'no such table' >&2; exit 7")
    assert result["failed"]
    assert result["reason"] == "hook_failed"
    assert result["msg"].splitlines()[0] == "CC_PRE_BUILD_HOOK failed: it ended with exit status 7."
    assert "no such table" in result["msg"]
    assert not (site.project / ".venv").exists()


@pytest.mark.rule("B6")
def test_b6_failing_post_build_hook_fails_too(site: Site) -> None:
    result = site.sync(post_build_hook="kill -9 $$")
    assert result["msg"].splitlines()[0] == "CC_POST_BUILD_HOOK failed: it was ended by signal 9."


def test_hook_that_leaves_a_child_behind_does_not_hang(site: Site) -> None:
    result = site.sync(post_build_hook="sleep 60 & echo started", no_dev=True)
    assert not result.get("failed")
    assert result["hooks"][0]["output"] == "started"


def test_timeout_ends_the_whole_session(site: Site) -> None:
    result = site.sync(pre_build_hook="sleep 60", timeout=1)
    assert result["msg"].startswith("CC_PRE_BUILD_HOOK failed: it did not end within 1 s.")


def test_i_no_secret_in_the_result(site: Site) -> None:
    hook = 'echo "token $TOKEN password $UV_INDEX_MY_INDEX_PASSWORD"; tr "\\0" " " < /proc/$$/cmdline; exit 1'
    credentials = {"my-index": {"username": "deployer-name", "password": SECRET + "-index"}}
    result = site.sync(
        pre_build_hook=hook, environment={"TOKEN": SECRET, "DEBUG": "1"}, index_credentials=credentials, diff=True
    )
    assert result["failed"]
    assert SECRET not in result["raw"]
    assert "deployer-name" not in result["raw"]
    assert "token ********" in result["msg"]
    # A short value is no reason to tear holes into everything else.
    assert "exit status 1" in result["msg"]
    if "invocation" in result:  # ansible-core 2.21 echoes the arguments no more
        assert result["invocation"]["module_args"]["environment"]["TOKEN"] == "(hidden)"


@pytest.mark.rule("H2")
def test_h2_credentials_reach_uv_by_index_name(site: Site) -> None:
    hook = 'test "$UV_INDEX_MY_INDEX_USERNAME:$UV_INDEX_MY_INDEX_PASSWORD" = "u:pass:word"'
    result = site.sync(
        pre_build_hook=hook, index_credentials={"my-index": {"username": "u", "password": "pass:word"}}, no_dev=True
    )
    assert not result.get("failed"), result["msg"]
    result = site.sync(index_credentials={"my-index": {"user": "u"}})
    assert result["reason"] == "credentials_invalid"


@pytest.mark.rule("H5")
def test_h5_bytecode_link_mode_cache_and_intermediate_layers(site: Site) -> None:
    site.sync(
        no_dev=True,
        compile_bytecode=True,
        link_mode="copy",
        cache_dir=str(site.folder / "cache"),
        no_install_project=True,
    )
    assert (site.folder / "cache").is_dir()
    assert not (site.home / ".cache").exists()
    assert list(site.project.glob(".venv/lib/python*/site-packages/toya/__pycache__/*.pyc"))


@pytest.mark.rule("B5")
def test_b5_cache_in_the_builds_home_serves_the_next_environment(site: Site) -> None:
    site.sync(no_dev=True)
    assert (site.home / ".cache" / "uv").is_dir()
    shutil.rmtree(site.project / ".venv")
    for wheel in site.links.iterdir():
        wheel.chmod(0o000)
    assert actions(site.sync(no_dev=True, environment={"UV_OFFLINE": "1"})) == FRESH


def stub(path: Path, script: str) -> str:
    """A program that stands in for uv where a real one cannot be brought to misbehave."""
    path.write_text("#!/bin/sh\n" + script, encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_old_uv_is_refused_before_anything_runs(site: Site) -> None:
    old = stub(site.folder / "uv-old", '[ "$1" = --version ] && echo "uv 0.7.20" && exit 0\ntouch ran\n')
    result = site.sync(executable=old, pre_build_hook="touch hooked")
    assert result["reason"] == "uv_too_old"
    assert result["msg"].startswith("uv 0.7.20 is too old: this needs 0.9.19 or newer.")
    assert not (site.project / "ran").exists()
    assert not (site.project / "hooked").exists()


def test_report_that_does_not_say_is_a_failure_and_never_a_guess(site: Site) -> None:
    silent = 'echo "{\\"sync\\": {\\"action\\": \\"check\\", \\"environment\\": {}}, \\"dry_run\\": false}"\n'
    vague = stub(site.folder / "uv-vague", '[ "$1" = --version ] && echo "uv 99.0" && exit 0\n' + silent)
    result = site.sync(executable=vague)
    assert result["reason"] == "report_incomplete"
    assert "sync.changes" in result["msg"]


def test_check_mode_on_a_host_that_has_nothing_yet(site: Site) -> None:
    for arguments, reason in (
        ({"project": str(site.folder / "nowhere")}, "project_missing"),
        ({"executable": str(site.folder / "no-uv")}, "uv_missing"),
        ({"run_as": "nobody-of-this-name"}, "user_missing"),
        ({"python": "3.99", "environment": {"UV_PYTHON_DOWNLOADS": "automatic"}}, "python_missing"),
    ):
        predicted = site.sync(check=True, diff=True, **arguments)
        assert not predicted.get("failed"), predicted["msg"]
        assert predicted["changed"] is True
        assert predicted["reason"] == reason
        if reason != "python_missing":
            assert site.sync(**arguments)["reason"] == reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can build as another user")
@pytest.mark.rule("B1")
def test_b1_environment_belongs_to_the_builds_user() -> None:
    user = "nobody"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        site = Site(Path(folder))
        site.want("1.1.0")
        for path in (site.project, site.home, *site.project.rglob("*")):
            shutil.chown(path, user)
        binary = site.folder / "uv"
        shutil.copy(UV, binary)  # the development environment may lie where the user cannot go
        hook = f'test "$(id -un)" = {user} && test "$USER" = {user} && touch made && umask'
        arguments: dict[str, Any] = {
            "run_as": user,
            "executable": str(binary),
            "no_dev": True,
            "python": "/usr/bin/python3",
        }
        result = site.sync(post_build_hook=hook, **arguments)
        assert actions(result) == FRESH
        assert result["hooks"][0]["output"] == "0022"
        assert {(site.project / name).owner() for name in (".venv", "made", ".venv/pyvenv.cfg")} == {user}
        # Where that user may not write, uv's own words and the verdict say so.
        shutil.rmtree(site.project / ".venv")
        shutil.chown(site.project, "root")
        assert site.sync(**arguments)["reason"] == "permission_denied"


APPLICATION: dict[str, Any] = {
    "app": {"name": "shop"},
    "env": {
        "CC_PYTHON_UV_RUN_COMMAND": "uv run python -m toya --port $PORT",
        "CC_PRE_BUILD_HOOK": "touch hooked",
        "TOKEN": SECRET,
    },
    "today": "2026-11-20",
}


@pytest.mark.rule("A1", "B1")
def test_a1_b1_application_mode_decides_and_builds_in_one_call(site: Site) -> None:
    application = {**APPLICATION, "env": {**APPLICATION["env"], "HOME": str(site.home)}}
    result = site.sync(application=application)
    assert actions(result) == FRESH
    assert result["plan"]["mode"] == "uv"
    assert result["commands"][-1] == f"{UV} sync --locked --no-progress --no-dev --output-format json"
    assert (site.project / "hooked").exists()
    assert SECRET not in result["raw"]
    assert site.sync(application=application)["changed"] is False


@pytest.mark.rule("A2")
def test_a2_application_mode_builds_below_app_folder(site: Site) -> None:
    application = {**APPLICATION, "env": {**APPLICATION["env"], "APP_FOLDER": "shop", "HOME": str(site.home)}}
    result = site.sync(project=str(site.folder), application=application)
    assert actions(result) == FRESH
    assert (site.project / ".venv").is_dir()


@pytest.mark.rule("A5")
def test_a5_application_mode_with_nothing_to_run_fails_with_the_plans_words(site: Site) -> None:
    result = site.sync(application={"app": {"name": "shop"}, "env": {}, "today": "2026-11-20"})
    assert result["failed"]
    assert "CC_PYTHON_CELERY_MODULE" in result["msg"]
    assert not (site.project / ".venv").exists()


def test_module_runs_as_a_process_of_its_own(site: Site) -> None:
    """As Ansible starts it, but for the packing: a new process, arguments on stdin."""
    import json

    arguments = {"project": str(site.project), "executable": UV, "no_dev": True, "environment": site.variables}
    done = subprocess.run(
        [sys.executable, "-c", "from ansible.module_utils import basic; basic._ANSIBLE_PROFILE = 'legacy'\n"
         "from ansible_collections.pyfleet.runtime.plugins.modules import uv_sync; uv_sync.main()"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}), capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)},
    )  # fmt: skip
    assert json.loads(done.stdout)["changed"] is True, done.stderr
