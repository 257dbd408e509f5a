# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mappings that come as text, as from a survey of AWX, and the environment of an application in maintenance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible import constants

from ansible_collections.pyfleet.runtime.plugins.action import plan
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.deployment import Deployment, DeploymentError

ENV = {"CC_PYTHON_UV_RUN_COMMAND": "uv run python server.py --port $PORT", "COUNT": 3}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a lock file."""
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path / "local"))
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "uv.lock").write_text('version = 1\nrequires-python = ">=3.9"\n')
    (folder / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.9"\n')
    return folder


def made(source: Any, env: Any, **settings: Any) -> Deployment:
    host = {"pythons": [{"version": "3.13.5", "path": "/usr/bin/python3.13", "managed": False}], "provisioned": True}
    host.update(uv_version="0.13.8", cores=2, memory_mb=4096, systemd=257, haproxy="3.0.11", distribution="debian")
    given = {"name": "shop", "user": "app-shop", "root": "/srv/pyfleet", "instance_number": -1, "drain_seconds": 1}
    given.update(stop_seconds=1, public_port=8080, port=9000, switch="auto", **settings)
    return plan.make(
        {"settings": given, "env": env, "source": source, "info": {"host": host}}, check_mode=False, number=4
    )


def test_text_of_a_survey_is_read_as_the_mapping_that_it_is(source: Path) -> None:
    text = "CC_PYTHON_UV_RUN_COMMAND: uv run python server.py --port $PORT\nCOUNT: 3\n"
    by_text = made(f"path: {source}", text)
    assert by_text.release == made({"path": str(source)}, ENV).release
    assert by_text.plan["environment"]["COUNT"] == "3"
    assert by_text.plan["environment"]["INSTANCE_NUMBER"] == "4"


@pytest.mark.parametrize("env", ["just words", "[1, 2]", "a: [", 5, ["A=1"]])
def test_what_is_no_mapping_is_refused_without_showing_it(source: Path, env: Any) -> None:
    with pytest.raises(DeploymentError) as refused:
        made({"path": str(source)}, env)
    assert "app_env is not usable" in str(refused.value)
    assert "just words" not in str(refused.value)


@pytest.mark.rule("F6")
def test_f6_maintenance_blocks_whatever_the_environment_says(source: Path) -> None:
    open_ = made({"path": str(source)}, {**ENV, "CC_REQUEST_FLOW": "disable"}, maintenance=False)
    closed = made({"path": str(source)}, {**ENV, "CC_REQUEST_FLOW": "disable"}, maintenance=True)
    assert not open_.plan["chain"]["block"]
    assert closed.plan["chain"]["block"]
    assert closed.release != open_.release
