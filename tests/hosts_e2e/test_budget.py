# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The budget of remote round trips, counted where they happen: at ssh. tests/benchmark measures the time as well."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

from ansible_collections.pyfleet.runtime.tests.benchmark.counting import GOALS, most
from ansible_collections.pyfleet.runtime.tests.benchmark.recorder import Recorder


def test_a_run_without_changes_and_a_code_change_stay_within_their_budget(
    make_app: Callable[..., Any], tmp_path: pathlib.Path
) -> None:
    recorder = Recorder(tmp_path / "recorder")
    app = make_app("budget")
    app.deploy().succeeded()
    used = {}
    for scenario in ("none", "code"):
        if scenario == "code":
            app.change()
        recorder.clear()
        played = app.deploy(environment=recorder.environment).succeeded()
        assert (played.changed == 0) is (scenario == "none")
        used[scenario], _commands = most(recorder.trips())
    assert app.version() == "2.0.0"
    assert 0 < used["none"] <= GOALS["none"][0], used
    assert used["none"] < used["code"] <= GOALS["code"][0], used
