# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes one JSON line per task result to the file that TESTBED_EVENTS names; `tests/testbed.py` reads them.

ansible-core has no such callback of its own, and the tests need no further collection for it.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: testbed_events
type: notification
short_description: Task results as JSON lines
description:
  - Writes a JSON line per task result and a last one with the statistics to the file that the environment variable
    E(TESTBED_EVENTS) names.
options: {}
author:
  - pyfleet.runtime contributors
"""


def _part(result: Any, name: str) -> Any:
    # ansible-core 2.19 gave the attributes public names
    return getattr(result, name) if hasattr(result, name) else getattr(result, f"_{name}")


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """The callback; see the module's text."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "testbed_events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._path = os.environ.get("TESTBED_EVENTS", "")
        self._play = ""

    def _write(self, line: dict[str, object]) -> None:
        if self._path:
            with open(self._path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(line, default=str) + "\n")

    def _event(self, status: str, result: Any, ignored: bool = False) -> None:
        task, data = _part(result, "task"), _part(result, "result")
        self._write(
            {
                "status": status,
                "host": _part(result, "host").get_name(),
                "play": self._play,
                "task": task.get_name(),
                "action": task.action,
                "changed": bool(data.get("changed")),
                "ignored": ignored,
                "result": dict(data),
                "time": time.time(),
            }
        )

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Remember which play the next results belong to."""
        self._play = play.get_name()

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task that did its work."""
        self._event("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task that failed."""
        self._event("failed", result, ignore_errors)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A task that was not to run."""
        self._event("skipped", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A task whose host did not answer."""
        self._event("unreachable", result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The last line: the counts per host."""
        self._write({"stats": {host: stats.summarize(host) for host in sorted(stats.processed)}})
