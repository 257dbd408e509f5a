# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file of host tests runs in which lane: the same ones in the same order every time, so that a run that failed can be had again.

pytest-xdist by itself gives the next file to whoever is free, and which files meet on the same hosts is then a matter of seconds.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterable
from typing import Any

from xdist.scheduler.loadscope import LoadScopeScheduling

#: How long a file takes beside another one, in minutes. Those that are not here take about one.
MINUTES: dict[str, float] = {
    "test_interruption": 12.0,
    "test_rollout": 7.5,
    "test_deploy": 6.5,
    "test_legacy_frameworks": 5.5,
    "test_failures": 4.5,
    "test_core_versions": 4.5,
    "test_ship": 4.0,
    "test_legacy_life": 4.0,
    "test_batches": 4.0,
    "test_flow_life": 3.5,
    "test_legacy_failures": 2.5,
    "test_hardened_hosts": 2.5,
    "test_python_versions": 2.5,
    "test_flow_services": 2.5,
    "test_workers_and_hooks": 2.5,
    "test_awx_runner": 2.5,
    "test_notebooks": 2.5,
    "test_reboot": 2.0,
    "test_bad_input": 2.0,
    "test_images": 2.0,
}


def file_of(nodeid: str) -> str:
    """The name of a test's file, without folder and ending."""
    return pathlib.PurePath(nodeid.partition("::")[0]).stem


def assigned(files: Iterable[str], lanes: int) -> dict[str, int]:
    """The lane of each file, counted from 0: the longest first, each to the lane that has least to do."""
    load = [0.0] * lanes
    found: dict[str, int] = {}
    for name in sorted(dict.fromkeys(files), key=lambda name: -MINUTES.get(name, 1.0)):
        found[name] = load.index(min(load))
        load[found[name]] += MINUTES.get(name, 1.0)
    return found


class Lanes(LoadScopeScheduling):
    """One piece of work per process: its lane."""

    #: Processes, and what each has to do.
    assigned_work: dict[Any, dict[str, dict[str, bool]]]

    def schedule(self) -> None:
        """Called when the processes have collected; they are taken by name, not in the order in which they were ready."""
        self.assigned_work = dict(sorted(self.assigned_work.items(), key=lambda entry: str(entry[0].gateway.id)))
        super().schedule()

    @functools.cached_property
    def _lanes(self) -> dict[str, int]:
        return assigned(map(file_of, self.collection), len(self.nodes))

    def _split_scope(self, nodeid: str) -> str:
        return f"lane {self._lanes[file_of(nodeid)]}"
