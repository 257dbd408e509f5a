# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parser and the verdicts, against what five real uv versions printed (tests/tools/record_uv_json.py)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.pyfleet.runtime.plugins.module_utils import uv

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "uv_json"
WITHOUT_PACKAGES = ("0.7.21", "0.9.18")
WITH_PACKAGES = ("0.9.19", "0.11.20", "0.13.8")
ALL = WITHOUT_PACKAGES + WITH_PACKAGES


def load(version: str, case: str) -> dict[str, Any]:
    """One recorded run."""
    data: dict[str, Any] = json.loads((FIXTURES / version / f"{case}.json").read_text(encoding="utf-8"))
    return data


Change = tuple[str, str, Optional[str], Optional[str]]


def changes(report: uv.SyncReport) -> list[Change]:
    """The package changes as tuples."""
    return [(item.name, item.action, item.before, item.after) for item in report.changes or ()]


INSTALLS: list[Change] = [
    ("toya", "install", None, "1.1.0"),
    ("toyb", "install", None, "0.5.0"),
    ("toyc", "install", None, "3.0"),
]
DEV: list[Change] = [("toydev", "install", None, "0.1")]
CASES: dict[str, list[Change]] = {
    "fresh": INSTALLS,
    "fresh_dry_run": INSTALLS,
    "noop": [],
    "noop_dry_run": [],
    "dev_on": DEV,
    "dev_off": [("toydev", "remove", "0.1", None)],
    "dev_off_dry_run": [("toydev", "remove", "0.1", None)],
    "upgrade": [("toya", "upgrade", "1.1.0", "2.0.0")],
    "upgrade_dry_run": [("toya", "upgrade", "1.1.0", "2.0.0")],
    "downgrade": [("toya", "downgrade", "2.0.0", "1.0.0")],
    "reinstall": [("toya", "reinstall", "1.0.0", "1.0.0")],
    "frozen": [],
    "lock_update": [("toya", "upgrade", "1.0.0", "1.1.0")],
    "lock_update_dry_run": [("toya", "upgrade", "1.0.0", "1.1.0")],
    "workspace_member": [("toya", "install", None, "1.0.0")],
    "workspace_package": [("toya", "remove", "1.0.0", None), *INSTALLS[1:]],
    "other_python": INSTALLS + DEV,
    "other_python_dry_run": INSTALLS + DEV,
}


@pytest.mark.parametrize("version", WITH_PACKAGES)
@pytest.mark.parametrize("case", CASES)
def test_report_of_a_real_uv_names_every_change(version: str, case: str) -> None:
    report = uv.parse_sync_report(load(version, case)["stdout"])
    assert changes(report) == CASES[case]
    assert report.changed is bool(CASES[case])
    assert report.missing == ()
    assert report.unknown == ()
    assert report.dry_run is case.endswith("_dry_run")


@pytest.mark.parametrize("version", ALL)
def test_environment_action_tells_created_from_replaced(version: str) -> None:
    assert uv.parse_sync_report(load(version, "fresh")["stdout"]).environment_action == "create"
    assert uv.parse_sync_report(load(version, "noop")["stdout"]).environment_action == "check"
    # uv says "replace" for what it would do and "update" for what it did: both mean that the environment was made anew.
    for case in ("other_python", "other_python_dry_run"):
        report = uv.parse_sync_report(load(version, case)["stdout"])
        assert report.replaced, case
        assert report.changed


@pytest.mark.parametrize("version", WITHOUT_PACKAGES)
def test_report_without_packages_says_what_is_missing_and_does_not_guess(version: str) -> None:
    upgrade, noop = (uv.parse_sync_report(load(version, case)["stdout"]) for case in ("upgrade", "noop"))
    assert upgrade.missing == noop.missing == ("sync.changes",)
    # The two reports of this version are the same although one run changed a package.
    assert upgrade.changed is None
    assert noop.changed is None
    assert uv.parse_sync_report(load(version, "fresh")["stdout"]).changed is True


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("stale_lock", "lock_stale"),
        ("stale_lock_dry_run", "lock_stale"),
        ("unparsable_lock", "lock_unparsable"),
        ("missing_lock", "lock_missing"),
        ("missing_lock_frozen", "lock_missing"),
        ("python_missing", "python_not_found"),
        ("python_incompatible", "python_incompatible"),
        ("index_down", "index_unreachable"),
        ("flags_invalid", "flags_invalid"),
        ("build_failed", "build_failed"),
    ],
)
def test_b4_failure_of_a_real_uv_gets_its_verdict(version: str, case: str, reason: str) -> None:
    run = load(version, case)
    assert run["returncode"] != 0
    assert uv.classify_failure(run["stderr"]).reason == reason


@pytest.mark.parametrize("version", ALL)
def test_b4_uvs_own_words_begin_at_its_error(version: str) -> None:
    words = uv.error_words(load(version, "stale_lock_dry_run")["stderr"])
    assert "needs to be updated" in words.splitlines()[0]
    assert "Would install" not in words


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("error: Failed to write to the cache\n  cause: No space left on device (os error 28)", "disk_full"),
        (
            "error: Failed to build `x`\n  cause: error sending request for url (…)\n  cause: dns error",
            "index_unreachable",
        ),
        (
            "error: Failed to fetch: `…`\n  cause: HTTP status client error (401 Unauthorized) for url (…)",
            "index_unauthorized",
        ),
        ("error: Failed to read `…`\n  cause: Hash mismatch for `toya==1.1.0`", "hash_mismatch"),
        ("error: failed to create directory `/srv/x/.venv`: Permission denied (os error 13)", "permission_denied"),
        ("error: No `pyproject.toml` found in current directory or any parent directory", "project_missing"),
        (
            "warning: Failed to inspect Python interpreter\n  cause: Python installation is missing `distutils`, which is required\n"
            "error: No interpreter found for Python >=3.9",
            "python_incomplete",
        ),
        ("× No solution found when resolving dependencies:", "unsatisfiable"),
        ("something new", "sync_failed"),
    ],
)
def test_verdict_names_the_cause_not_the_symptom(words: str, reason: str) -> None:
    verdict = uv.classify_failure(words)
    assert verdict.reason == reason
    assert verdict.what.endswith(".")
    assert verdict.next_step


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no JSON report"), ("Resolved 5 packages", "no JSON report"), ('{"sync": ', "not valid JSON")],
)
def test_what_is_no_report_is_refused(text: str, message: str) -> None:
    with pytest.raises(uv.ReportError, match=message):
        uv.parse_sync_report(text)


def test_report_of_a_future_version_is_read_as_far_as_it_goes() -> None:
    report = uv.parse_sync_report(
        '{"schema": {"version": "v2"}, "sync": {"action": "polish", "environment": {"path": "/x/.venv"},'
        ' "changes": [{"name": "a", "action": "moved"}, {"action": "installed"}, 7]}, "lock": {"action": "sealed"}}'
    )
    assert report.environment_path == "/x/.venv"
    assert report.changed
    assert set(report.unknown) == {"sync.action=polish", "sync.changes[0].action=moved", "lock.action=sealed"}
    assert set(report.missing) >= {"sync.environment.python", "sync.changes[1].name", "sync.changes[2].name", "dry_run"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["sync", "changes", "action", "name", "version", "environment", "python", "lock"]), inner
        )
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(["sync", "lock", "dry_run"]), JSON))
def test_any_json_object_is_a_report_and_never_a_traceback(data: dict[str, Any]) -> None:
    report = uv.parse_sync_report(json.dumps(data))
    assert report.changed in (True, False, None)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("0.9.9", "0.9.19"), ("0.9.18", "0.9.19"), ("1.0", "1.0.1"), ("1.0a1", "1.0"), ("1.0rc1", "1.0"), ("1.0.dev1", "1.0a1"),
        ("1.0", "1.0.post1"), ("2.0", "1!0.1"), ("1.0", "1.0+local.1"), ("1.0+local.2", "1.0+local.10"), ("1.0b2", "1.0b10"),
    ],
)  # fmt: skip
def test_versions_are_ordered_as_pep_440_says(older: str, newer: str) -> None:
    assert uv.is_older(older, newer)
    assert not uv.is_older(newer, older)


def test_equal_versions_in_two_spellings_are_equal() -> None:
    assert uv.version_key("1.0.0") == uv.version_key("v1") == uv.version_key("1.0")
    assert uv.version_key("not a version") is None


@pytest.mark.parametrize(
    ("version", "why"), [("0.7.20", "from 0.7.21 on"), ("0.9.18", "package changes"), ("0.5.25", "from 0.7.21 on")]
)
def test_old_uv_is_refused_with_value_rule_and_next_step(version: str, why: str) -> None:
    with pytest.raises(uv.UvError) as caught:
        uv.require_version(version)
    message = str(caught.value)
    assert caught.value.reason == "uv_too_old"
    assert message.startswith(f"uv {version} is too old: this needs 0.9.19 or newer.")
    assert why in message
    assert "Next step: Set uv_version to 0.9.19 or newer" in message


def test_minimum_is_the_first_recorded_version_that_lists_packages() -> None:
    uv.require_version(uv.MINIMUM_VERSION)
    assert uv.parse_sync_report(load(uv.MINIMUM_VERSION, "upgrade")["stdout"]).changed is True
    assert uv.parse_sync_report(load("0.9.18", "upgrade")["stdout"]).changed is None


@pytest.mark.parametrize("version", ALL)
def test_recordings_hold_nothing_of_the_machine_that_made_them(version: str) -> None:
    for path in (FIXTURES / version).iterdir():
        text = path.read_text(encoding="utf-8")
        hosts = set(re.findall(r"https?://([^/`\\ )\"]+)", text))
        assert hosts <= {"127.0.0.1:9"}, path
        assert not re.search(r"/(?:root|home|tmp|work)/", text), path


def test_executable_is_found_by_option_then_place_then_path() -> None:
    def at(*present: str) -> Any:
        return lambda name: name in present

    assert uv.find_executable(None, "/usr/bin", at("/usr/local/bin/uv", "/usr/bin/uv")) == "/usr/local/bin/uv"
    assert uv.find_executable(None, "/usr/bin:relative", at("/usr/bin/uv")) == "/usr/bin/uv"
    assert uv.find_executable("/opt/uv", "/usr/bin", at("/opt/uv", "/usr/bin/uv")) == "/opt/uv"
    assert uv.find_executable("uv-old", "/usr/bin", at("/usr/bin/uv-old", "/usr/local/bin/uv")) == "/usr/bin/uv-old"
    with pytest.raises(uv.UvError, match="There is no uv on this host"):
        uv.find_executable("/opt/uv", "/usr/bin", at("/usr/local/bin/uv"))


@pytest.mark.rule("H2")
@pytest.mark.parametrize(("name", "stem"), [("internal", "INTERNAL"), ("my-index.eu", "MY_INDEX_EU")])
def test_h2_credentials_variable_follows_the_index_name(name: str, stem: str) -> None:
    assert uv.index_variable_stem(name) == stem
