# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds that outlive their run: found by what D5 puts into their environment, and ended."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import orphans

#: Tests that run at the same time would end one another's builds of one application.
SHOP = f"shop-{os.getpid()}"
BUILD = {"INSTANCE_TYPE": "build", "CC_APP_NAME": SHOP}
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a shell with an environment; it has said that it is there when this returns."""
    started: list[subprocess.Popen[str]] = []

    def shell(environment: dict[str, str], text: str = "") -> subprocess.Popen[str]:
        command = ["bash", "-c", f"{text}\necho; while :; do sleep 0.05; done"]
        process = subprocess.Popen(
            command,
            env={"PATH": "/usr/bin:/bin", **environment},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield shell
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.communicate()


@pytest.mark.rule("D5")
def test_d5_a_build_is_ended_and_nothing_else(start: Start) -> None:
    build = start(BUILD)
    others = [
        start({**BUILD, "CC_APP_NAME": f"{SHOP}2"}),
        start({**BUILD, "INSTANCE_TYPE": "production"}),
        start({"CC_APP_NAME": SHOP, "TEXT": "INSTANCE_TYPE=build"}),
        start({}),
    ]
    assert build.pid in orphans.of_builds(os.geteuid(), SHOP)
    assert orphans.end_builds(os.geteuid(), SHOP)
    assert build.wait(timeout=5) == -15
    assert [process.poll() for process in others] == [None] * len(others)
    assert not orphans.end_builds(os.geteuid(), SHOP)


def test_a_build_of_another_user_is_not_ours(start: Start) -> None:
    process = start(BUILD)
    assert orphans.of_builds(os.geteuid() + 1, SHOP) == []
    assert not orphans.end_builds(os.geteuid() + 1, SHOP)
    assert process.poll() is None


def test_a_build_that_does_not_listen_is_killed(start: Start) -> None:
    process = start(BUILD, "trap : TERM")
    begun = time.monotonic()
    assert orphans.end_builds(os.geteuid(), SHOP, patience=0.5)
    assert process.wait(timeout=5) == -9
    assert time.monotonic() - begun >= 0.5


def test_a_process_that_cannot_be_ended_is_named(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(BUILD)
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    monkeypatch.setattr(orphans, "DYING", 0.2)
    with pytest.raises(TimeoutError, match=str(process.pid)):
        orphans.end_builds(os.geteuid(), SHOP, patience=0.1)
