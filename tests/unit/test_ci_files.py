# Copyright: pyfleet contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The files for continuous integration and dependency bots (H8), held against pyproject.toml and the Makefile."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pyfleet.runtime.tests.tools import stage_tree

pytestmark = pytest.mark.rule("H8")

ROOT = stage_tree.ROOT
GITHUB = ROOT / ".github/workflows/ci.yml"
GITLAB = ROOT / ".gitlab-ci.yml"


def pinned(name: str) -> str:
    """Return the version of a development tool that pyproject.toml pins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = dict(pin.split("==") for pin in project["dependency-groups"]["dev"])
    return str(pins[name])


def load(path: Path) -> dict[Any, Any]:
    """Return a YAML file's mapping."""
    content: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def test_github_keeps_and_prunes_uvs_cache_and_runs_make_test() -> None:
    workflow = load(GITHUB)
    assert workflow["env"]["UV_VERSION"] == pinned("uv")
    commands = []
    for name, job in workflow["jobs"].items():
        setup = next(step for step in job["steps"] if step.get("uses", "").startswith("astral-sh/setup-uv@"))
        assert setup["with"]["enable-cache"] is True, name
        assert setup["with"]["version"] == "${{ env.UV_VERSION }}", name
        # No lock file is committed, so the key must come from what is.
        assert (ROOT / setup["with"]["cache-dependency-glob"]).is_file(), name
        runs = [step["run"] for step in job["steps"] if "run" in step]
        assert runs[-1] == "uv cache prune --ci", name
        commands += runs
    assert any(command.endswith("make test") for command in commands)


def test_gitlab_keeps_and_prunes_uvs_cache_and_runs_make_test() -> None:
    pipeline = load(GITLAB)
    assert pipeline["variables"]["UV_VERSION"] == pinned("uv")
    cached = [path for cache in pipeline["default"]["cache"] for path in cache["paths"]]
    assert pipeline["variables"]["UV_CACHE_DIR"] in {f"$CI_PROJECT_DIR/{path}" for path in cached}
    assert all((ROOT / file).is_file() for cache in pipeline["default"]["cache"] for file in cache["key"]["files"])
    jobs = {name: job for name, job in pipeline.items() if isinstance(job, dict) and "script" in job}
    assert all(re.search(r"\buv cache prune --ci$", job["script"][-1]) for job in jobs.values())
    assert any("make test" in job["script"] for job in jobs.values())


def test_the_targets_that_they_call_exist() -> None:
    makefile = ROOT / "Makefile"
    if not makefile.exists():
        pytest.skip("there is no Makefile yet")
    targets = set(re.findall(r"^([a-z-]+):", makefile.read_text(), re.MULTILINE))
    called = set()
    for path in (GITHUB, GITLAB):
        for words in re.findall(r"\bmake ([a-z -]+)$", path.read_text(), re.MULTILINE):
            called |= set(words.split())
    assert called
    assert called <= targets


def test_pre_commit_has_uvs_hook_in_the_pinned_version_and_ours() -> None:
    repositories = load(ROOT / ".pre-commit-config.yaml")["repos"]
    official = next(entry for entry in repositories if entry["repo"].endswith("/uv-pre-commit"))
    assert official["rev"] == pinned("uv")
    assert {hook["id"] for hook in official["hooks"]} == {"uv-lock"}
    local = next(entry for entry in repositories if entry["repo"] == "local")
    assert {"ruff-check", "ruff-format", "yamllint", "types-and-ansible", "rules", "docs"} <= {
        hook["id"] for hook in local["hooks"]
    }
    for hook in local["hooks"]:
        for script in re.findall(r"\btests/tools/\S+", hook["entry"]):
            assert (ROOT / script).is_file(), hook["id"]


def test_renovate_refreshes_lock_files() -> None:
    text = (ROOT / "renovate.json5").read_text()
    assert re.search(r"lockFileMaintenance: \{\s*enabled: true", text)


def test_renovate_finds_uvs_version_in_the_ci_files() -> None:
    text = (ROOT / "renovate.json5").read_text()
    written = re.search(r'matchStrings: \["(.+)"\]', text)
    assert written
    pattern = written[1].replace('\\"', '"').replace("\\\\", "\\").replace("(?<", "(?P<")
    for path in (GITHUB, GITLAB):
        found = re.search(pattern, path.read_text())
        assert found, path.name
        assert found["currentValue"] == pinned("uv")


def test_dependabot_covers_uv_and_the_actions() -> None:
    updates = load(ROOT / ".github/dependabot.yml")["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"uv", "github-actions"}
    assert all(update["schedule"]["interval"] == "weekly" for update in updates)


def test_the_files_to_copy_are_complete() -> None:
    page = (ROOT / "docs/continuous-integration.md").read_text()
    blocks = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)]
    github, gitlab, pre_commit, dependabot = blocks
    assert github["env"]["UV_VERSION"] == pinned("uv")
    assert github["jobs"]["test"]["steps"][-1] == {"run": "uv cache prune --ci"}
    assert gitlab["test"]["script"][-1] == "uv cache prune --ci"
    assert gitlab["test"]["cache"][0]["key"]["files"] == ["uv.lock"]
    assert pre_commit["repos"][0]["rev"] == pinned("uv")
    assert dependabot["updates"][0]["package-ecosystem"] == "uv"
    assert "lockFileMaintenance: { enabled: true }" in page


def test_development_tools_are_pinned_exactly() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tools = project["dependency-groups"]["dev"]
    assert not [tool for tool in tools if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9.]*", tool)]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT00:00:00Z", project["tool"]["uv"]["exclude-newer"])
