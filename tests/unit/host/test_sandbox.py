# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part that all units of a release share: what the application may write and which devices it sees."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.tests.tools.prepare_app import ROOT
from ansible_collections.pyfleet.runtime.tests.unit.templating import rendered

TEMPLATE = ROOT / "roles" / "app" / "templates" / "release.j2"
UV = {"mode": "uv", "project_root": "", "server": None}


def unit(plan: Mapping[str, Any] = UV, **accelerator: object) -> str:
    """The part of a unit that runs a release, for a plan with this accelerator."""
    build = {"accelerator": {"devices": False, "groups": [], **accelerator}} if accelerator else {}
    plan = {**plan, "build": build}
    given = {"app_name": "shop", "app_user": "app-shop", "app_root": "/srv/pyfleet", "app_stop_seconds": 30}
    lists = {"app_unit_lines": [], "app_writable_paths": [], "app_hardening": True}
    return str(rendered(TEMPLATE.read_text(), {**given, **lists, "app__plan": {"plan": plan}}, TEMPLATE.parent))


@pytest.mark.rule("H3")
def test_h3_the_sandbox_shows_gpus_to_what_runs_on_them_and_nothing_to_others() -> None:
    for closed in (unit(), unit(devices=False, groups=["render"])):
        assert "PrivateDevices=yes\n" in closed
        assert "Device" not in closed.replace("PrivateDevices", "")
        assert "SupplementaryGroups" not in closed
    opened = unit(devices=True, groups=["render", "video"])
    assert "PrivateDevices" not in opened
    assert "DevicePolicy=closed\n" in opened
    allowed = re.findall(r"^DeviceAllow=(.*)$", opened, re.MULTILINE)
    assert allowed == ["char-nvidia* rw", "char-drm rw", "char-kfd rw", "char-accel rw"]
    assert "SupplementaryGroups=render video\n" in opened
    assert "SupplementaryGroups" not in unit(devices=True)


@pytest.mark.rule("D9")
def test_d9_a_task_of_legacy_mode_has_no_server_and_may_install_as_any_command() -> None:
    read_only = "ReadOnlyPaths=-/srv/pyfleet/shop/releases/%i/.venv"
    assert read_only in unit()
    assert read_only in unit({**UV, "mode": "legacy", "server": {"backend": "gunicorn"}})
    for server in (None, {"backend": "command"}):
        assert read_only not in unit({**UV, "mode": "legacy", "server": server})
