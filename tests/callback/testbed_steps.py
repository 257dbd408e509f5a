# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a line per task that starts to the file that TESTBED_STEPS names, and dies in front of the one TESTBED_KILL_AT numbers.

Under a task that did something on some host stands a line `*`: dying in front of one that did not is dying in front of the next one.

`tests/hosts_e2e/test_interruption.py` ends ansible-playbook with it as the power would: no cleanup, no last words.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: testbed_steps
type: notification
short_description: Lists the steps of a run, and kills it in front of one of them
description:
  - Writes the play and the task that starts to the file that the environment variable E(TESTBED_STEPS) names, a line each, and C(*) under
    those that did something.
  - Kills ansible-playbook and all that it started in front of the step that E(TESTBED_KILL_AT) numbers, from 1 on.
options: {}
author:
  - pyfleet.runtime contributors
"""


#: Actions that end with the controller, whatever they did.
WORDS_ONLY = ("debug", "include_role", "include_tasks", "set_stats")


def descendants(pid: int) -> list[int]:
    """All that a process started, and what those started; ssh's shared connections belong to nobody and stay."""
    parents: dict[int, list[int]] = {}
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found[1:]


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """The callback; see the module's text."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "testbed_steps"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._path = os.environ.get("TESTBED_STEPS", "")
        self._last = int(os.environ.get("TESTBED_KILL_AT", "0"))
        self._count = 0
        self._play = ""

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Remember which play the next tasks belong to."""
        self._play = play.get_name()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A step; the last one when it is the one to die at."""
        self._step(task)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """A handler is a step, too."""
        self._step(task)

    def v2_runner_on_ok(self, result: Any) -> None:
        """A step that did something; skipped ones do not come here."""
        task = result.task if hasattr(result, "task") else result._task  # ansible-core 2.19 gave it a public name
        data = result.result if hasattr(result, "result") else result._result
        if task.action.rpartition(".")[2] not in WORDS_ONLY and not data.get("skipped"):
            self._write("*")

    def _write(self, line: str) -> None:
        if self._path:
            with open(self._path, "a", encoding="utf-8") as handle:
                handle.write(f"{line}\n")

    def _step(self, task: Any) -> None:
        self._count += 1
        self._write(f"{self._play} | {task.get_name()}")
        if self._count == self._last:
            for pid in descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
