# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One line per host for a person at a terminal. What is said is decided in `plugin_utils/display.py`; this writes it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout
type: stdout
short_description: One line per host, with phase, time and outcome
version_added: "1.0.0"
description:
  - Shows a rollout, and any other playbook, as one line per host, redrawn in place on a terminal. Where hosts outnumber the terminal's
    lines, busy and failed ones come first and the rest is counted.
  - Where the output is no terminal, or one of E(NO_COLOR), E(ANSIBLE_NOCOLOR) and E(TERM=dumb) asks for it, there is a line per host
    and phase, without escape codes.
  - What did not matter is left out. What failed is told in full, with message, health check and journal; once, when several hosts said
    the same. Arguments of modules are never printed, nor is anything of a task with C(no_log).
  - With C(--diff) the differences are shown per host. With C(-v) every task has a line besides, and with C(-vv) its result.
extends_documentation_fragment:
  - ansible.builtin.result_format_callback
requirements:
  - set as stdout in configuration
notes:
  - Under ansible-runner and AWX the lines are always plain.
author:
  - pyfleet contributors (@pyfleet)
"""

EXAMPLES = r"""
# ansible.cfg
# [defaults]
# stdout_callback = pyfleet.runtime.rollout
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible import constants, context
from ansible.plugins.callback import CallbackBase
from ansible.utils import color

from ansible_collections.pyfleet.runtime.plugins.plugin_utils.display import (
    ASCII,
    Board,
    Line,
    Screen,
    Signs,
    Task,
    batch_number,
    clean,
    describe,
    is_hidden,
)

#: Seconds between two frames.
PERIOD = 0.25
#: Ansible's own colours, which its configuration can change.
COLOURS = {
    "ok": "COLOR_OK",
    "changed": "COLOR_CHANGED",
    "warn": "COLOR_WARN",
    "failed": "COLOR_ERROR",
    "quiet": "COLOR_DEBUG",
}
#: Keys of results that repeat arguments.
ARGUMENTS = ("cmd", "diff", "invocation", "item", "_ansible_item_label")
#: Methods of Ansible's display that ask a person something.
PROMPTS = ("prompt", "prompt_until", "do_var_prompt")


def colour_of(style: str) -> str | None:
    """Ansible's name of a style's colour."""
    return getattr(constants, COLOURS[style], None) if style in COLOURS else None


def part(result: Any, name: str) -> Any:
    """An attribute of a task's result: ansible-core 2.19 gave them public names."""
    return getattr(result, name) if hasattr(result, name) else getattr(result, f"_{name}")


def without_arguments(data: Mapping[str, Any]) -> dict[str, Any]:
    """A result without what the module was called with, nor that of its items."""
    kept = {key: value for key, value in data.items() if key not in ARGUMENTS}
    if isinstance(kept.get("results"), list):
        kept["results"] = [without_arguments(item) if isinstance(item, Mapping) else item for item in kept["results"]]
    return kept


class Live:
    """The frame on a terminal.

    Ansible forks while it holds the lock of its display, so that no child inherits a lock that another thread holds. The thread that
    lets the times go on therefore takes that lock, and no other, for whatever it does. All that anybody else prints passes through the
    display's method `display`, which is replaced for the time of a playbook: the frame makes room for it. While somebody is asked
    something, nothing is drawn.
    """

    def __init__(self, display: Any, board: Board, clock: Callable[[], float]) -> None:
        self._display, self._board, self._clock = display, board, clock
        self.lock: Any = display._lock
        self._screen = Screen()
        self._pid = os.getpid()
        self._asking = 0
        self._drawn_at = -PERIOD
        self._end = threading.Event()
        self._print: Callable[..., Any] = display.display
        self._replaced = {name: getattr(display, name) for name in ("display", *PROMPTS) if hasattr(display, name)}
        self._before = {name: vars(display)[name] for name in self._replaced if name in vars(display)}

    def open(self) -> None:
        """Begins to draw."""
        self._display.display = self._make_room
        for name in PROMPTS:
            if name in self._replaced:
                setattr(self._display, name, self._asks(self._replaced[name]))
        threading.Thread(target=self._tick, name="pyfleet-rollout", daemon=True).start()

    def close(self) -> None:
        """Stops to draw and takes the frame away."""
        with self.lock:
            self._end.set()
            self._erase()
            for name in self._replaced:
                vars(self._display).pop(name, None)
            vars(self._display).update(self._before)

    def draw(self, *, force: bool = False) -> None:
        """Draws the frame unless that was done a moment ago: then the thread does it soon."""
        with self.lock:
            now = self._clock()
            if self._asking or self._end.is_set() or (not force and now - self._drawn_at < PERIOD):
                return
            width, height = size()
            # The last column stays empty: terminals disagree on what follows a character there.
            lines = self._board.frame(width - 1, height - 1)
            encoding = sys.stdout.encoding or "utf-8"
            texts = [(line, line.text.encode(encoding, "replace").decode(encoding, "replace")) for line in lines]
            coloured = [
                (text, color.stringc(text, colour_of(line.style)) if colour_of(line.style) else text)
                for line, text in texts
            ]
            self._write(self._screen.paint(coloured, width, height))
            self._drawn_at = now

    def show(self, lines: Sequence[Line]) -> None:
        """Prints lines that stay above the frame."""
        with self.lock:
            self._erase()
            for line in lines:
                self._print(line.text, color=colour_of(line.style))
            self.draw(force=True)

    def _make_room(self, *args: Any, **kwargs: Any) -> None:
        """What `Display.display` does, with the frame out of the way. In a fork it only hands the text to the parent."""
        if os.getpid() != self._pid or kwargs.get("log_only"):
            self._print(*args, **kwargs)
            return
        with self.lock:
            self._erase()
            self._print(*args, **kwargs)
            if kwargs.get("newline", True) is False:
                return  # the line goes on
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            self.draw(force=self._clock() - self._drawn_at > PERIOD / 5)

    def _asks(self, prompt: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*args: Any, **kwargs: Any) -> Any:
            if os.getpid() != self._pid:
                return prompt(*args, **kwargs)
            with self.lock:
                self._asking += 1
                self._erase()
            try:
                return prompt(*args, **kwargs)
            finally:
                with self.lock:
                    self._asking -= 1

        return ask

    def _tick(self) -> None:
        while not self._end.wait(PERIOD):
            self.draw(force=True)

    def _erase(self) -> None:
        if self._screen.drawn:
            self._write(self._screen.erase(*size()))

    def _write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except (OSError, ValueError):  # the terminal is gone; the run goes on
            self._end.set()


def size() -> tuple[int, int]:
    """Columns and lines of the terminal, now."""
    try:
        found = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return 80, 24
    return found.columns or 80, found.lines or 24


class CallbackModule(CallbackBase):
    """The callback; see DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "pyfleet.runtime.rollout"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clock: Callable[[], float] = time.monotonic
        self._board = Board(self._clock)
        self._live: Live | None = None
        self._open = False
        self._pid = os.getpid()
        self._tasks: dict[str, Task] = {}

    # -- playbooks and plays -----------------------------------------------------------------------------------------------

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """A playbook starts."""
        live = self._can_draw()
        self._board = Board(self._clock, live=live, verbosity=self._display.verbosity, signs=signs())
        self._board.begin(Path(str(getattr(playbook, "_file_name", "") or "run")).stem)
        if not self._open:
            atexit.register(self._left)
        self._open = True
        if live:
            self._live = Live(self._display, self._board, self._clock)
            self._live.open()

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """A play starts, or its next batch."""
        hosts, everyone = self._hosts(play)
        serial = [value for value in getattr(play, "serial", None) or [] if value]
        check = bool(getattr(play, "check_mode", False) or self._argument("check"))
        self._show(
            self._board.play(play.get_name().strip(), hosts, batch=batch_number(everyone, serial, hosts), check=check)
        )
        self._board.expect(everyone)
        self._draw()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:  # noqa: ARG002 - Ansible's signature
        """A task starts on whatever hosts."""
        self._begin(task)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """A handler starts."""
        self._begin(task)

    def v2_playbook_on_cleanup_task_start(self, task: Any) -> None:
        """A task of an older kind starts."""
        self._begin(task)

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """A play has nobody to act on."""
        self._show(self._board.nobody("No host matches."))

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        """A play has lost all its hosts."""
        self._show(self._board.nobody_left())

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The playbook is over."""
        counts = {str(host): stats.summarize(host) for host in sorted(stats.processed)}
        self._close(lambda: self._board.finish(counts))

    def _left(self) -> None:
        """The process ends and the playbook does not: Ctrl-C, or an error of Ansible's. Ansible tells callbacks neither."""
        if self._open and os.getpid() == self._pid:
            self._close(self._board.interrupt)

    def _close(self, end: Callable[[], list[Line]]) -> None:
        self._open = False
        atexit.unregister(self._left)
        live, self._live = self._live, None
        lines = end()
        if live is None:
            self._show(lines)
            return
        live.close()
        width, height = size()
        # words of the last failures, then the hosts as they ended, then the summary, which begins with an empty line
        summary = next((place for place, line in enumerate(lines) if not line.text), len(lines))
        rows = self._board.results(width - 1, max(3, height - len(lines) + summary - 2))
        self._show([*lines[:summary], *rows, *lines[summary:]])
        sys.stdout.flush()

    # -- results -----------------------------------------------------------------------------------------------------------

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A host starts with a task."""
        on = str(getattr(task, "delegate_to", None) or "")
        self._board.start(host.get_name(), self._task(task), "" if "{" in on else on)
        self._draw()

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task did its work."""
        host, task, data, on = self._take(result)
        self._show(self._board.done(host, task, data, on))
        self._verbose("changed" if data.get("changed") else "ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task failed."""
        host, task, data, on = self._take(result)
        self._show(self._board.failed(host, task, data, ignored=ignore_errors, on=on))
        self._verbose("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host did not answer."""
        host, task, data, _on = self._take(result)
        ignored = bool(getattr(part(result, "task"), "ignore_unreachable", False))
        self._show(self._board.unreachable(host, task, data, ignored=ignored))
        self._verbose("unreachable", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A task was not to run."""
        host, task, _data, _on = self._take(result)
        self._board.skipped(host, task)
        self._draw()
        self._verbose("skipped", result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """An item of a loop."""
        self._item(result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """An item of a loop."""
        self._item(result, failed=True)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        """An item of a loop."""
        self._item(result)

    def _item(self, result: Any, *, failed: bool = False) -> None:
        host, _task, data, _on = self._take(result)
        labelled = getattr(getattr(part(result, "task"), "loop_control", None), "label", None)
        self._board.item(
            host, data, failed=failed, label=str(data.get("_ansible_item_label") or "") if labelled else ""
        )

    def v2_runner_retry(self, result: Any) -> None:
        """A task failed and is tried again."""
        data = part(result, "result")
        attempt, attempts = int(data.get("attempts") or 0), int(data.get("retries") or 0)
        host, task = part(result, "host").get_name(), self._task(part(result, "task"))
        self._show(self._board.retry(host, task, attempt, attempts))
        self._verbose("retry", result)

    def v2_runner_on_async_poll(self, result: Any) -> None:
        """A task goes on in the background."""
        self._board.poll(part(result, "host").get_name())
        self._draw()

    def v2_on_file_diff(self, result: Any) -> None:
        """The differences that a task made or would make."""
        data = part(result, "result")
        if is_hidden(data):
            return
        results = data["results"] if isinstance(data.get("results"), list) else [data]
        for each in results:
            if not isinstance(each, Mapping) or is_hidden(each) or not each.get("diff") or not each.get("changed"):
                continue
            text = self._get_diff(each["diff"])
            if text:
                head = f"{part(result, 'host').get_name()}: {self._task(part(result, 'task')).name}"
                self._show(
                    [Line(head, "title"), Line(text.rstrip("\n") if color.ANSIBLE_COLOR else clean(text).rstrip("\n"))]
                )

    # -- helpers -----------------------------------------------------------------------------------------------------------

    def _take(self, result: Any) -> tuple[str, Task, Mapping[str, Any], str]:
        """Host, task, data and the host that it was delegated to; warnings of the task are shown, by Ansible's display once."""
        data = part(result, "result")
        if is_hidden(data):  # a warning may quote what it warns of
            for name in ("warnings", "deprecations", "exception"):
                data.pop(name, None)
        self._handle_warnings(data)
        task = part(result, "task")
        on = str(task.delegate_to or "")
        return part(result, "host").get_name(), self._task(task, str(result.task_name or "")), data, on

    def _begin(self, task: Any) -> None:
        if self._live is not None and getattr(task, "debugger", None) not in (None, "never"):
            self._live.close()  # the debugger asks without Ansible's display
            self._live = None
            self._board.stay()
        self._show(self._board.task(self._task(task, fresh=True)))

    def _task(self, task: Any, name: str = "", *, fresh: bool = False) -> Task:
        """The board's view of a task. Its name has its variables filled in only while the task is announced."""
        key = str(task._uuid)
        if fresh or key not in self._tasks:
            action = str(getattr(task, "resolved_action", None) or task.action)
            args = task.args if isinstance(task.args, Mapping) else {}
            self._tasks[key] = describe(key, name or str(task.get_name()).strip(), action, args)
        return self._tasks[key]

    def _verbose(self, outcome: str, result: Any) -> None:
        """The line per task of `-v`, with its result from `-vv` on; what it was called with is never shown."""
        if not self._display.verbosity:
            return
        task, data = part(result, "task"), part(result, "result")
        text = f"{outcome}: [{self.host_label(result)}] {self._task(task).name}"
        if self._display.verbosity > 1 and not is_hidden(data):
            text += f" => {self._dump_results(without_arguments(data))}"
        lines = [clean(text)]
        if self._display.verbosity > 2 and task.get_path():
            lines.append(f"task path: {task.get_path()}")
        self._show([Line(line, "failed" if outcome in ("failed", "unreachable") else "quiet") for line in lines])

    def _show(self, lines: Sequence[Line]) -> None:
        for line in lines:
            if line.log_only:
                self._display.display(line.text, color=colour_of(line.style), log_only=True)
        staying = [line for line in lines if not line.log_only]
        if self._live is None:
            for line in staying:
                self._display.display(line.text, color=colour_of(line.style))
        elif staying:
            self._live.show(staying)
        else:
            self._live.draw()

    def _draw(self) -> None:
        if self._live is not None:
            self._live.draw()

    def _can_draw(self) -> bool:
        """Whether the output is a terminal on which nobody else draws or asks."""
        asked_not = (
            constants.ANSIBLE_NOCOLOR or os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") in ("", "dumb")
        )
        # ansible-runner derives its own callback from this one and reads what is printed
        derived = CallbackBase not in type(self).__bases__
        asks = constants.ENABLE_TASK_DEBUGGER or self._argument("step")
        terminal = hasattr(sys.stdout, "isatty") and sys.stdout.isatty()
        supported = hasattr(self._display, "_lock")
        return bool(terminal and supported and not (asked_not or derived or asks or self._display.verbosity > 2))

    @staticmethod
    def _argument(name: str) -> Any:
        return context.CLIARGS.get(name)

    @staticmethod
    def _hosts(play: Any) -> tuple[list[str], list[str]]:
        """Hosts of this batch, and of the whole play; empty where Ansible does not tell."""
        inventory = getattr(play.get_variable_manager(), "_inventory", None)
        if inventory is None:
            return [], []
        names = [
            [host.get_name() for host in inventory.get_hosts(play.hosts, order=play.order, **more)]
            for more in ({}, {"ignore_restrictions": True})
        ]
        return names[0], names[1]


def signs() -> Signs:
    """The characters that the output can take."""
    try:
        "".join(vars(Signs()).values()).encode(sys.stdout.encoding or "ascii")
    except (UnicodeError, LookupError):
        return ASCII
    return Signs()
