# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people read: the status of an application, and what a lock file changes."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.filter.app_status import app_status
from ansible_collections.pyfleet.runtime.plugins.module_utils import lock

A, B = "a" * 12, "b" * 12
LOCK = """version = 1
requires-python = ">=3.9"

[[package]]
name = "anyio"
version = "4.0.0"

[[package]]
name = "numpy"
version = "2.0"

[[package]]
name = "numpy"
version = "1.26"
"""


def state(**changes: Any) -> dict[str, Any]:
    return {
        "current": A,
        "previous": B,
        "serving": True,
        "mode": "uv",
        "port": 18080,
        "public_port": 8080,
        "switch": "side_by_side",
        "health": {"ok": True, "log": ["Response from GET /health is 200"]},
        "units": {
            f"app-shop@{A}.service": {"active": "active", "since": "Fri 2026-11-20 10:00:00 UTC", "restarts": 2},
            f"app-shop-worker@{A}:0.service": {"active": "failed", "since": "", "restarts": 5},
        },
        "releases": {
            A: {"result": "good", "commit": "c0ffee", "prepared_at": 2.0, "activated_at": 1_700_000_000.0},
            B: {"result": "failed", "why": "health check failed", "prepared_at": 1.0},
        },
        **changes,
    }


def test_status_tells_release_commit_mode_health_and_since_when() -> None:
    lines = app_status(state(), "shop")
    assert lines[0] == "shop: healthy"
    assert lines[1] == f"release {A}, commit c0ffee, mode uv"
    assert app_status(state(accelerator="cu128"), "shop")[1].endswith(", mode uv, accelerator cu128")
    assert "port 8080 leads to 18080" in lines[2]
    assert "serving since 2023-11-14 22:13:20 UTC" in lines[3]
    assert "2 restarts" in lines[3]
    assert f"app-shop-worker@{A}:0.service: failed, 5 restarts" in lines
    assert any(line.startswith(f"{B} (previous) failed: health check failed") for line in lines)


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"current": None}, "shop: not deployed"),
        ({"health": {"ok": False, "log": []}}, "shop: UNHEALTHY"),
        ({"serving": False}, "shop: DOWN, the unit is active"),
        ({"serving": False, "units": {}}, "shop: DOWN, the unit is not loaded"),
    ],
)
def test_status_begins_with_the_verdict(changes: dict[str, Any], first: str) -> None:
    assert app_status(state(**changes), "shop")[0] == first


def test_a_locks_packages_with_all_versions_of_a_fork() -> None:
    assert lock.packages(LOCK) == {"anyio": "4.0.0", "numpy": "1.26, 2.0"}
    assert lock.packages(LOCK.replace("\n", "\r\n")) == lock.packages(LOCK)
    assert lock.packages("not a lock") == {}


def test_changes_are_told_by_name() -> None:
    assert lock.changes({"a": "1", "b": "1", "c": "1"}, {"b": "2", "c": "1", "d": "1"}) == [
        "- a 1",
        "~ b 1 -> 2",
        "+ d 1",
    ]
