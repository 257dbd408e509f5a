# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of private indexes (H2): tokens, the indexes of a project, and ids that no token changes."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible import constants

from ansible_collections.pyfleet.runtime.plugins.action.plan import make
from ansible_collections.pyfleet.runtime.plugins.plugin_utils import indexes
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.deployment import DeploymentError, release_id
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.indexes import TokenError, declared, token

from .test_releases import ENV, SETTINGS, A, source

SECRET = "hunter2-token"
CORP = {"name": "corp", "url": "https://index.example/simple", "username": "u"}


def script(folder: Path, body: str) -> list[str]:
    """A command that notes that it was called."""
    path = folder / "print-token"
    path.write_text(f"#!/bin/sh\necho called >> {folder}/calls\n{body}\n")
    path.chmod(0o755)
    return [str(path), "an argument; with $(shell) in it"]


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text().splitlines()) if (folder / "calls").exists() else 0


def test_h2_a_token_is_fetched_once_in_a_run_and_lies_nowhere_in_the_open(tmp_path: Path) -> None:
    command = script(tmp_path, f'echo "Logged in as $1" >&2; echo hello; echo "  {SECRET}  "; echo')
    cache, found = tmp_path / "cache", []
    threads = [
        threading.Thread(target=lambda: found.append(token("app_indexes", "corp", command, str(cache))))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [SECRET] * 5
    assert calls(tmp_path) == 1
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    for path in cache.iterdir():
        assert SECRET.encode() not in path.read_bytes()
        assert not path.stat().st_mode & 0o077 or path.suffix == ".lock"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            f"echo {SECRET}; echo no session: {SECRET} >&2; exit 3",
            "it ended with status 3. It says: no session: ********",
        ),
        ("echo ' '", "it printed nothing. It says: (nothing on stderr)"),
        ("printf 'a\\033[0m\\n'", "the last line that it printed is no token"),
        ("sleep 30", "it did not end within 0.5 s"),
    ],
)
def test_h2_a_command_without_a_token_is_an_error_with_its_stderr_and_never_its_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, why: str
) -> None:
    monkeypatch.setattr(indexes, "TOKEN_TIMEOUT", 0.5 if "sleep" in body else 20.0)
    command = script(tmp_path, body)
    for _host in range(2):
        with pytest.raises(TokenError) as caught:
            token("app_indexes", "corp", command, str(tmp_path / "cache"))
        text = caught.value.finding.render()
        assert why in text
        assert "index corp" in text
        assert SECRET not in text
    assert calls(tmp_path) == 1, "a failure is remembered, too"


def test_h2_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="/nowhere/az on the controller printed none, it could not be started"):
        token("app_indexes", "corp", ["/nowhere/az", SECRET], str(tmp_path / "cache"))
    with pytest.raises(TokenError) as caught:
        token("app_indexes", "corp", ["/nowhere/az", SECRET], str(tmp_path / "cache"))
    assert SECRET not in caught.value.finding.render()


def arguments(folder: Path, *entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Arguments of the plan for a small application with these indexes."""
    root = folder / "app"
    root.mkdir(exist_ok=True)
    (root / "uv.lock").write_text("version = 1\n")
    return {"settings": {**SETTINGS, "indexes": list(entries)}, "env": ENV, "source": {"path": str(root)}, **more}


def test_h2_only_a_run_that_builds_fetches_tokens_and_before_any_host_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path / "run"))
    os.makedirs(tmp_path / "run")
    entry = {**CORP, "token_command": script(tmp_path, f"echo {SECRET}")}
    given = arguments(tmp_path, entry)
    release = make(given, check_mode=False).release
    make(given, check_mode=True, builds=True)
    there = {"app": {"current": release, "serving": True, "releases": {release: {"result": "good"}}}}
    make({**given, "info": there}, check_mode=False, builds=True)
    make({**given, "info": {"app": {**there["app"], "current": A}}}, check_mode=False, builds=True)
    assert calls(tmp_path) == 0
    made = [make(given, check_mode=False, builds=True) for _host in range(3)]
    assert calls(tmp_path) == 1
    payload = json.loads(made[0].payload())
    assert f'UV_INDEX_CORP_PASSWORD="{SECRET}"' in payload.pop("build_environment")
    assert SECRET not in json.dumps(payload) + json.dumps(made[0].public()) + made[0].text("web1")

    broken = {**CORP, "name": "two", "token_command": ["/nowhere/one"]}
    other = {**CORP, "name": "three", "token_command": ["/nowhere/two"]}
    with pytest.raises(DeploymentError) as caught:
        make(arguments(tmp_path, entry, broken, other), check_mode=False, builds=True)
    assert [item.code for item in caught.value.findings] == ["index_token"] * 2


def test_h2_a_missing_keyring_is_an_error_and_only_a_warning_in_a_dry_run(tmp_path: Path) -> None:
    given = arguments(tmp_path, {**CORP, "keyring": True})
    info = {"host": {"provisioned": True, "uv_version": "0.13.8", "keyring": False, "indexes": {}}}
    with pytest.raises(DeploymentError, match="no program keyring"):
        make({**given, "info": info}, check_mode=False)
    made = make({**given, "info": info}, check_mode=True)
    assert "index_keyring_missing" in {warning["code"] for warning in made.plan["warnings"]}


def test_h2_no_credential_of_an_index_makes_another_release() -> None:
    def of(env: dict[str, Any] | None = None, **changes: Any) -> str:
        return release_id({**SETTINGS, **changes}, {**ENV, **(env or {})}, source())

    assert of() == of(indexes=[]) == of(netrc="machine a login b password c")
    for name in ("UV_INDEX_CORP_PASSWORD", "UV_INDEX_CORP_USERNAME", "NETRC", "UV_KEYRING_PROVIDER"):
        assert of({name: "one"}) == of({name: "two"}) == of(), name
    assert of({"UV_INDEX_URL": "https://u:one@x/simple"}) == of({"UV_INDEX_URL": "https://u:two@x/simple"}) != of()
    # What the application itself sees makes another one, as before.
    for name in ("SSL_CLIENT_CERT", "TOKEN", "DATABASE_URL"):
        assert of({name: "https://u:one@x"}) != of({name: "https://u:two@x"}), name
    entry = {**CORP, "password": "one"}
    named = of(indexes=[entry])
    assert named != of()
    assert named == of(indexes=[{**entry, "password": "two"}]) == of(indexes=[{**CORP, "token_command": ["az"]}])
    assert named != of(indexes=[{**entry, "url": "https://other.example"}])


def test_h2_the_indexes_of_a_project_are_those_of_its_workspace_too() -> None:
    def table(name: str, prefix: str = "tool.uv.") -> str:
        return f'[[{prefix}index]]\nname = "{name}"\nurl = "https://{name}.example"\n'

    texts = {"api/pyproject.toml": table("api"), "pyproject.toml": table("root")}
    assert [each["name"] for each in declared(texts, "api") or []] == ["api", "root"]
    assert [each["name"] for each in declared(texts, "") or []] == ["root"]
    assert [each["name"] for each in declared({**texts, "uv.toml": table("own", "")}, "") or []] == ["own"]
    assert declared({"pyproject.toml": "[["}, "") is None
    assert declared({}, "") == []


@pytest.mark.rule("H2")
def test_h2_the_indexes_of_members_of_the_workspace_count() -> None:
    def project(name: str, place: str, more: str = "") -> str:
        return f'[[tool.uv.index]]\nname = "{name}"\nurl = "https://{place}.example"\n{more}'

    workspace = '[tool.uv.workspace]\nmembers = ["libs/*", "./apps/**/web"]\nexclude = ["libs/old"]\n'
    texts = {
        "pyproject.toml": project("corp", "root", workspace),
        "libs/a/pyproject.toml": project("a", "a"),
        "libs/b/pyproject.toml": project("corp", "b"),
        "libs/c/pyproject.toml": project("corp", "root"),
        "libs/old/pyproject.toml": project("old", "old"),
        "libs/a/deep/pyproject.toml": project("deep", "deep"),
        "apps/web/pyproject.toml": project("web", "web"),
        "apps/x/y/web/pyproject.toml": project("far", "far"),
        "other/pyproject.toml": project("other", "other"),
        "libs/a/uv.toml": "[[index]]\nname = 'ignored'\nurl = 'https://ignored.example'\n",
    }

    def of(root: str, **changes: str) -> list[tuple[str, str]]:
        found = declared({**texts, **changes}, root)
        return [(each["name"], each["url"].split("/")[2].split(".")[0]) for each in found or []]

    inside = [("web", "web"), ("far", "far"), ("a", "a"), ("corp", "b")]
    assert of("") == [("corp", "root"), *inside]
    assert of("libs/b") == [("corp", "b"), ("web", "web"), ("far", "far"), ("a", "a"), ("corp", "root")]
    # uv reads a uv.toml instead of the indexes beside it, and the workspace all the same.
    assert of("", **{"uv.toml": ""}) == [*inside, ("corp", "root")]
    assert declared({**texts, "libs/a/pyproject.toml": "[["}, "") is None
    assert declared({**texts, "other/pyproject.toml": "[["}, "") is not None
    # A workspace that is not at the top has its members below it.
    below = {
        "ws/pyproject.toml": "[tool.uv.workspace]\nmembers = ['**']\n",
        "ws/x/pyproject.toml": texts["libs/a/pyproject.toml"],
    }
    found = declared({**below, "other/pyproject.toml": texts["other/pyproject.toml"]}, "ws")
    assert [each["name"] for each in found or []] == ["a"]
    for wrong in ("members = 'libs/*'", "members = [1]", "exclude = []"):
        assert declared({**texts, "pyproject.toml": f"[tool.uv.workspace]\n{wrong}\n"}, "") == []
