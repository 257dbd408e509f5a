# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person sees of a run: from events of tasks to lines, without Ansible.

`Board` keeps one row per host and turns events into lines: those that stay, and the frame that a terminal shows meanwhile. `Screen`
says how a frame is drawn over the one before. The callback `rollout` feeds both and writes what they return. Times come from a
clock that the caller gives, in seconds.
"""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

#: Task → phase. A key is the name of an action of this collection, and the value of its `state` or `step` if that matters.
PHASES = {
    "app_info": "look",
    "plan": "plan",
    "rollout.gate": "check",
    "rollout.go": "check",
    "rollout.failed": "check",
    "rollout.revert": "check",
    "rollout.report": "report",
    "rollout.verdict": "report",
    "release.leased": "lease",
    "managed_files": "files",
    "release.prepared": "prepare",
    "uv_sync": "build",
    "legacy_build": "build",
    "release.hooked": "hook",
    "release": "switch",
    "release.active": "switch",
    "release.restarted": "switch",
    "release.rolled_back": "switch",
    "release.withdrawn": "revert",
    "release.discarded": "discard",
    "release.pruned": "prune",
    "release.finished": "finish",
    "release.let_go": "finish",
    "release.absent": "remove",
    "healthcheck": "health",
    "uv_install": "uv",
    "uv_python": "python",
    "uv_tool": "tool",
    "rollout": "rollout",
    "ansible.builtin.setup": "facts",
    "ansible.builtin.gather_facts": "facts",
}
#: Tasks that take no time worth a phase, and say nothing unless they fail.
QUIET = {
    *("rollout.gate", "rollout.go", "rollout.failed", "rollout.revert", "rollout.report", "rollout.verdict"),
    *(
        f"ansible.builtin.{name}"
        for name in (
            *("add_host", "assert", "debug", "fail", "group_by", "import_playbook", "import_role", "import_tasks"),
            *(
                "include_role",
                "include_tasks",
                "include_vars",
                "meta",
                "set_fact",
                "set_stats",
                "validate_argument_spec",
            ),
        )
    ),
}
#: Phases that change no host: where a play has no others, what its debug tasks say is what it was run for.
LOOKS = {"look", "plan", "check", "health", "facts", "report"}
#: Phases after which the release of the result serves.
SERVES = {"switch", "revert"}

#: Outcomes of hosts, the worst last, so that it stands next to the prompt; with the style of their line.
OUTCOMES = {
    "unchanged": "ok",
    "would change": "changed",
    "prepared": "changed",
    "changed": "changed",
    "switched": "changed",
    "rescued": "warn",
    "stopped": "warn",
    "rolled back": "warn",
    "not reached": "warn",
    "interrupted": "failed",
    "lost": "failed",
    "unreachable": "failed",
    "rollback failed": "failed",
    "failed": "failed",
}
HIDDEN = "Hidden, because the task has no_log."

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
#: How many names of hosts a line of the summary has where nothing is wrong with them.
NAMES = 8
LONGEST_NAME, LONGEST_PHASE = 32, 28


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of the output. Styles: "" (plain), ok, changed, warn, failed, quiet, title."""

    text: str
    style: str = ""
    #: On a terminal the frame shows it already: it is for the log file only.
    log_only: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
    """A task as the board knows it. It has no arguments: they may hold secrets, and the board prints what it has."""

    key: str
    name: str
    phase: str
    action: str
    quiet: bool = False
    #: Whether it is one of this collection's own, whose phases are always worth a line.
    ours: bool = False


@dataclasses.dataclass(frozen=True)
class Signs:
    """Characters beyond ASCII, and what stands for them where the output cannot take them."""

    waiting: str = "·"
    busy: str = "▸"
    done: str = "✓"
    failed: str = "✗"
    arrow: str = "→"
    dot: str = "·"
    more: str = "…"


ASCII = Signs(".", ">", "+", "x", "->", "-", "~")


@dataclasses.dataclass
class _Row:
    """A host. Times are the clock's; `ended` is None while a task runs."""

    name: str
    phase: str = ""
    began: float | None = None
    ended: float | None = None
    #: When the last task began, and the seconds that all tasks took.
    task_began: float | None = None
    spent: float = 0.0
    note: str = ""
    style: str = ""
    #: First line of what went wrong, and the phase that it went wrong in.
    failure: str = ""
    failed_phase: str = ""
    unreachable: bool = False
    changed: bool = False
    before: str | None = None
    after: str | None = None
    retried: str = ""

    @property
    def busy(self) -> bool:
        return self.began is not None and self.ended is None

    @property
    def rank(self) -> int:
        """The order on a screen that is too small: 0 failed, 1 busy, 2 has done its part for now, 3 has not begun."""
        if self.failure:
            return 0
        return 1 if self.busy else 3 if self.began is None else 2

    def taken(self, now: float) -> float:
        """Seconds in this phase."""
        return 0.0 if self.began is None else (now if self.ended is None else self.ended) - self.began


def clean(text: str) -> str:
    """Takes out of a text what would steer a terminal; line breaks and tabs stay."""
    text = _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _CONTROLS.sub("", text)


def cells(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return len(text) if text.isascii() else sum(map(_cell, text))


def _cell(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clip(text: str, width: int, more: str = "…") -> str:
    """The text on one line of at most `width` columns; `more` ends one that was cut."""
    text = " ".join(text.split()) if "\n" in text or "\t" in text else text
    if cells(text) <= width:
        return text
    left, kept = width - cells(more), []
    for character in text:
        left -= _cell(character)
        if left < 0:
            break
        kept.append(character)
    return ("".join(kept).rstrip() + more) if width >= cells(more) else ""


def pad(text: str, width: int) -> str:
    """The text with spaces up to `width` columns."""
    return text + " " * (width - cells(text))


def duration(seconds: float, *, ticking: bool = False) -> str:
    """Seconds for a person: 3.2 s, 42 s, 1:05, 1:00:03. A time that goes on has whole seconds, which are calmer."""
    if seconds < 10 and not ticking:
        return f"{max(0.0, seconds):.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{max(0, whole)} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its word: 1 host, 2 hosts."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def batch_number(everyone: Sequence[str], serial: Sequence[Any], hosts: Sequence[str]) -> tuple[int, int]:
    """Which batch of a play `hosts` are, and of how many; (1, 1) without batches or when it cannot be told.

    `serial` is the play's own list of numbers and percentages, whose last one repeats.
    """
    total, start, number, found = len(everyone), 0, 0, 0
    sizes = [_size(value, total) for value in serial]
    if not hosts or not everyone or not sizes or hosts[0] not in everyone:
        return 1, 1
    place = list(everyone).index(hosts[0])
    while start < total:
        size = sizes[min(number, len(sizes) - 1)]
        if size <= 0:  # Ansible takes it for all that are left
            size = total - start
        number += 1
        if start <= place < start + size:
            found = number
        start += size
    return found, number


def _size(value: Any, total: int) -> int:
    text = str(value).strip()
    try:
        return max(1, int(int(text[:-1]) / 100 * total)) if text.endswith("%") else int(text)
    except ValueError:
        return 0


def describe(key: str, name: str, action: str, args: Mapping[str, Any] | None = None) -> Task:
    """The task for the board. Of its arguments only `state`, `step` and `withdraw` are looked at, for words of this module's table."""
    collection, _dot, short = action.rpartition(".")
    ours = collection == "pyfleet.runtime"
    variant = str((args or {}).get("state") or (args or {}).get("step") or "")
    if variant == "rolled_back" and (args or {}).get("withdraw"):
        variant = "withdrawn"
    if ours:
        full = f"{short}.{variant}" if f"{short}.{variant}" in PHASES else short
    else:
        full = f"ansible.builtin.{short}" if collection in ("", "ansible.builtin", "ansible.legacy") else action
    title = clean(name.rpartition(" : ")[2] or name).strip() or short
    phase = PHASES.get(full) if ours or full in PHASES else None
    return Task(key, title, phase or clip(title, LONGEST_PHASE), full, full in QUIET, ours)


def is_hidden(data: Mapping[str, Any]) -> bool:
    """Whether nothing of a result may be shown."""
    return bool(data.get("_ansible_no_log")) or "censored" in data


def words(data: Mapping[str, Any]) -> list[str]:
    """What a failed task has to say, in full: its message, health lines, journal, output."""
    if is_hidden(data):
        return [HIDDEN]
    message = _lines(data.get("msg"))
    if len(message) == 1 and "non-zero return code" in message[0] and data.get("rc") is not None:
        message = [f"The command ended with status {data['rc']}."]
    journal = _lines(data.get("journal"))
    if "Last words:" in message and journal:  # the message has the end of what follows in full
        end = len(message) - message[::-1].index("Last words:") - 1
        if {line.strip() for line in message[end + 1 :]} <= {line.strip() for line in journal}:
            message = message[:end]
    found = message
    output = "stderr" if str(data.get("stderr") or "").strip() else "stdout"
    raw = "module_stderr" if str(data.get("module_stderr") or "").strip() else "module_stdout"
    titles = {"log": "Health check:", "journal": "Journal:", output: "Output:", raw: "Output of the module:"}
    for name, title in titles.items():
        lines = _lines(data.get(name))
        told = {line.strip() for line in found}
        if name == "log":
            lines = [line for line in lines if line.strip() not in told]
        if any(line.strip() not in told for line in lines):
            found = [*found, title, *(f"  {line}" for line in lines)]
    return found or ["The task failed and gave no reason."]


def headline(said: Sequence[str]) -> str:
    """The first words of a failure, for a row: with what stands below a title."""
    return f"{said[0]} {said[1].strip()}" if said[0].endswith(":") and len(said) > 1 else said[0]


def _lines(value: Any) -> list[str]:
    """Text, a list of texts or anything else as clean lines, without empty ones at the end."""
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [line for each in value for line in (_lines(each) or [""])]
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return clean(text).rstrip().expandtabs().split("\n") if text.strip() else []


def note(task: Task, data: Mapping[str, Any]) -> str:
    """What a task's result says in a few words."""
    if is_hidden(data):
        return "changed" if data.get("changed") else ""
    reader = _NOTES.get(task.action.partition(".")[0]) if task.ours else None
    if task.phase in ("lease", "finish"):  # which are not about a release
        data = {**data, "release": ""}
    text = reader(data) if reader else ""
    if not text and data.get("changed"):
        text = "changed"
    return clean(text)


def _note_look(data: Mapping[str, Any]) -> str:
    app = data.get("app")
    if not isinstance(app, Mapping) or not app:
        return ""
    return f"serves {app['current']}" if app.get("current") else "has no release yet"


def _note_plan(data: Mapping[str, Any]) -> str:
    action = str(data.get("action") or "")
    return "nothing to do" if action == "none" else f"{action} {data.get('release') or ''}".strip()


def _note_build(data: Mapping[str, Any]) -> str:
    if data.get("cached"):
        return "shared environment"
    packages = data.get("packages")
    return counted(len(packages), "package") if isinstance(packages, list) and packages else ""


def _note_files(data: Mapping[str, Any]) -> str:
    changes = data.get("changes")
    return counted(len(changes), "file") if isinstance(changes, list) and changes else ""


def _note_release(data: Mapping[str, Any]) -> str:
    if data.get("refused"):
        return f"refused: {headline(words(data))}"
    parts = [str(data["release"])] if data.get("release") else []
    if isinstance(data.get("gap_seconds"), (int, float)) and data["gap_seconds"]:
        parts.append(f"gap {duration(float(data['gap_seconds']))}")
    if data.get("drained"):
        parts.append(f"{data['drained']} drains")
    if isinstance(data.get("removed"), list) and data["removed"]:
        parts.append(f"{len(data['removed'])} removed")
    return ", ".join(parts)


_NOTES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "app_info": _note_look,
    "plan": _note_plan,
    "uv_sync": _note_build,
    "legacy_build": _note_build,
    "managed_files": _note_files,
    "release": _note_release,
}


class Board:
    """Keeps a row per host. Every method that takes an event returns the lines that stay; `frame` shows how things stand now."""

    def __init__(
        self, clock: Callable[[], float], *, live: bool = False, verbosity: int = 0, signs: Signs | None = None
    ) -> None:
        self._clock, self._live, self._verbosity = clock, live, verbosity
        self.signs = signs or Signs()
        self._rows: dict[str, _Row] = {}
        #: Columns. They only grow, so that nothing jumps.
        self._widest_name, self._widest_phase = 0, 8
        #: What a row was before a task that may turn out to be skipped.
        self._kept: dict[str, _Row] = {}
        self._title, self._play, self._batch, self._check = "", "", (1, 1), False
        self._began = clock()
        self._current = ""
        #: The title of a play, until there is something to say about it.
        self._head: list[str] = []
        #: Failures whose words wait for other hosts that may say the same: host, phase, words, whether it was unreachable.
        self._pending: list[tuple[str, str, tuple[str, ...], bool]] = []
        #: Items of a loop that each host has been through: how many, and the words of the failed ones.
        self._items: dict[str, tuple[int, list[str]]] = {}
        self._told: dict[tuple[str, ...], str] = {}
        self._told_of: dict[str, set[str]] = {}
        #: What debug tasks of this play said, and whether the play does more than look.
        self._said: dict[tuple[str, ...], list[str]] = {}
        self._acts = False
        self._summary: dict[str, Any] = {}
        self._ends: dict[str, str] = {}
        self._commit = ""

    # -- events ------------------------------------------------------------------------------------------------------------

    def begin(self, title: str) -> None:
        """A playbook starts; `title` names it."""
        self._title = clean(title)

    def stay(self) -> None:
        """From now on there is no frame."""
        self._live = False

    def play(
        self, name: str, hosts: Sequence[str], *, batch: tuple[int, int] = (1, 1), check: bool = False
    ) -> list[Line]:
        """A play, or the next batch of one, starts for `hosts`."""
        lines = self._flush()
        self._play, self._batch, self._check, self._current = clean(name), batch, check, ""
        for host in hosts:
            self._row(host)
        parts = [counted(len(hosts), "host"), *self._batch_words(), *(["check mode"] if check else [])]
        self._head = [f"{self._play or 'Play'} ({', '.join(parts)})"]
        return lines

    def expect(self, hosts: Iterable[str]) -> None:
        """Hosts of the play that are not in its first batch."""
        for host in hosts:
            self._row(host)

    def task(self, task: Task) -> list[Line]:
        """The hosts go on to another task, so nobody adds to what was said about the last one."""
        if task.key == self._current:
            return []
        self._current = task.key
        return self._tell()

    def start(self, host: str, task: Task, on: str = "") -> None:
        """A host starts with a task; `on` is the host that it is delegated to."""
        if task.quiet:
            return
        row, now = self._row(host), self._clock()
        self._kept[host] = dataclasses.replace(row)
        row.task_began = now
        if row.phase != task.phase or row.began is None:
            row.began = now  # a phase may have several tasks
        row.phase, row.ended, row.style = task.phase, None, ""
        row.note = f"on {clean(on)}" if on and on != host else ""

    def done(self, host: str, task: Task, data: Mapping[str, Any], on: str = "") -> list[Line]:
        """A task did its work on a host."""
        self._learn(host, task, data)
        if task.quiet:
            if task.action == "ansible.builtin.debug" and not self._verbosity and not is_hidden(data):
                self._say(host, data)
            return []
        row = self._end(host, task)
        if task.ours and "failed_when_result" in data and data.get("msg"):  # a failure that a later step tells
            row.note, row.style = f"failed: {headline(words(data))}", "warn"
            return self._mark([self._phase_line(row, row.note)])
        row.note = note(task, data)
        if on and on != host:
            row.note = f"on {clean(on)}" + (f": {row.note}" if row.note else "")
        changed = bool(data.get("changed"))
        row.changed, row.style = row.changed or changed, "changed" if changed else "ok"
        self._acts = self._acts or task.phase not in LOOKS
        return self._mark([self._phase_line(row, row.note or "ok")] if task.ours or changed else [])

    def item(self, host: str, data: Mapping[str, Any], *, failed: bool = False, label: str = "") -> None:
        """A task is through with an item of its loop. Items are numbered: one is as secret as an argument, unless it has a label."""
        number, said = self._items.get(host, (0, []))
        number += 1
        if failed:
            title = (
                f"Item {number} ({clip(clean(label), LONGEST_NAME)})"
                if label and not is_hidden(data)
                else f"Item {number}"
            )
            said = [*said, f"{title}:", *(f"  {line}" for line in words(data))]
        self._items[host] = (number, said)

    def skipped(self, host: str, task: Task) -> None:
        """A task was not to run on a host: the row is as it was before."""
        self._items.pop(host, None)
        kept = self._kept.pop(host, None)
        if kept is not None and not task.quiet:
            self._rows[host] = kept

    def failed(
        self,
        host: str,
        task: Task,
        data: Mapping[str, Any],
        *,
        ignored: bool = False,
        on: str = "",
    ) -> list[Line]:
        """A task failed on a host. Its words are told when the others had their chance to say the same."""
        said = self._items.pop(host, (0, []))[1] or words(data)
        self._learn(host, task, data, failed=True)
        if task.action == "rollout.verdict" and self._row(host).failure:  # it repeats what was told when it happened
            return []
        row = self._end(host, task)
        where = f"on {clean(on)}: " if on and on != host else ""
        if ignored:
            row.note, row.style = f"{where}failed, ignored: {headline(said)}", "warn"
            return self._mark([dataclasses.replace(self._phase_line(row, row.note), log_only=False)])
        row.failure, row.failed_phase, row.style = where + headline(said), row.phase, "failed"
        row.note = ""
        self._pending.append((host, row.phase, tuple(said), False))
        self._acts = True
        return self._mark([self._phase_line(row, f"failed: {row.failure}")])

    def unreachable(self, host: str, task: Task, data: Mapping[str, Any], *, ignored: bool = False) -> list[Line]:
        """A host could not be entered."""
        row = self._end(host, task)
        said = words(data)
        if ignored:
            row.note, row.style = f"unreachable, ignored: {headline(said)}", "warn"
            return self._mark([dataclasses.replace(self._phase_line(row, row.note), log_only=False)])
        row.failure, row.failed_phase, row.unreachable, row.style = headline(said), row.phase, True, "failed"
        self._pending.append((host, row.phase, tuple(said), True))
        return self._mark([self._phase_line(row, f"unreachable: {row.failure}")])

    def retry(self, host: str, task: Task, attempt: int, attempts: int) -> list[Line]:
        """Attempt number `attempt` failed and there will be another; only the first time is worth a line."""
        row = self._row(host)
        row.note = f"attempt {attempt + 1} of {attempts}"
        first, row.retried = row.retried != task.key, task.key
        return self._mark([self._phase_line(row, f"failed, tries again: {row.note}")] if first else [])

    def poll(self, host: str) -> None:
        """A task runs in the background."""
        self._row(host).note = "runs in the background"

    def results(self, width: int, height: int) -> list[Line]:
        """The rows of the last frame, once the run has ended: outcomes instead of phases, with the time that the host was at work."""
        rows = list(self._rows.values())
        rest: list[_Row] = []
        if len(rows) > height:
            rows, rest = self._choose(rows, height - 1)
        self._widest_phase = max((cells(self._ends.get(row.name, "")) for row in rows), default=0)
        lines = []
        for row in rows:
            end = self._ends.get(row.name, "")
            style = OUTCOMES.get(end, "failed")
            sign = self.signs.failed if style == "failed" else self.signs.waiting if not row.spent else self.signs.done
            text = f"in {row.failed_phase}: {row.failure}" if row.failure else ""
            ended = dataclasses.replace(row, phase=end)
            lines.append(Line(f"{sign} {self._columns(ended, duration(row.spent))}  {text}".rstrip(), style))
        if rest:
            lines.append(Line(f"  and {len(rest)} more", "quiet"))
        return [Line(clip(line.text, width, self.signs.more), line.style) for line in lines]

    def nobody(self, text: str) -> list[Line]:
        """A play has no hosts. That is worth a word only when no other play had any: a rollout has plays for what seldom happens."""
        return [] if self._rows else [Line(text, "warn")]

    def nobody_left(self) -> list[Line]:
        """A play has lost all its hosts."""
        return [*self._tell(), Line("No host is left.", "warn")]

    def finish(self, stats: Mapping[str, Mapping[str, int]]) -> list[Line]:
        """The playbook is over. `stats` are Ansible's counts per host."""
        return [*self._flush(), *self._end_lines(lambda row: self._outcome(row, stats), "")]

    def interrupt(self) -> list[Line]:
        """The run ends before its end: Ctrl-C, or an error of the playbook."""
        lines = self._tell()
        busy = [f"{row.name} ({row.phase})" for row in self._rows.values() if row.busy]
        if busy and not self._live:  # a frame's last state says it
            lines.append(Line(f"At work when the run ended: {', '.join(busy)}", "warn"))

        def outcome(row: _Row) -> str:
            return "interrupted" if row.busy and not row.failure else self._outcome(row, {})

        return [*lines, *self._end_lines(outcome, "interrupted")]

    # -- what is shown -----------------------------------------------------------------------------------------------------

    def frame(self, width: int, height: int) -> list[Line]:
        """How things stand, in at most `height` lines of at most `width` columns. Busy and failed hosts come first if not all fit."""
        now, room = self._clock(), height - 1
        if room < 1 or width < 10:
            return []
        parts = [self._title or "Run", self._play, *self._batch_words(), *(["check mode"] if self._check else [])]
        head = f" {self.signs.dot} ".join(
            [part for part in parts if part] + [duration(now - self._began, ticking=True)]
        )
        rows = list(self._rows.values())
        rest: list[_Row] = []
        if len(rows) > room:
            rows, rest = self._choose(rows, room - 1)
        shown = [self._frame_line(row, now) for row in rows]
        if rest:
            shown.append(Line(f"  and {len(rest)} more: {self._tally(rest)}", "quiet"))
        return [Line(clip(line.text, width, self.signs.more), line.style) for line in (Line(head, "title"), *shown)]

    def _choose(self, rows: list[_Row], room: int) -> tuple[list[_Row], list[_Row]]:
        """Which rows a screen with `room` lines shows, and the others."""
        failed, busy = ([row for row in rows if row.rank == rank] for rank in (0, 1))
        others = sorted((row for row in rows if row.rank > 1), key=lambda row: row.rank)
        share = max(room - len(busy), room // 2)
        chosen = (failed[:share] + busy + failed[share:] + others)[: max(0, room)]
        names = {row.name for row in chosen}
        return chosen, [row for row in rows if row.name not in names]

    def _tally(self, rows: Iterable[_Row]) -> str:
        counts: dict[int, int] = {}
        for row in rows:
            counts[row.rank] = counts.get(row.rank, 0) + 1
        names = {0: "failed", 1: "busy", 2: "done so far", 3: "waiting"}
        return ", ".join(f"{counts[rank]} {name}" for rank, name in names.items() if rank in counts)

    def _frame_line(self, row: _Row, now: float) -> Line:
        marks = {0: self.signs.failed, 1: self.signs.busy, 2: self.signs.done, 3: self.signs.waiting}
        if row.began is None:
            return Line(f"{marks[3]} {self._name(row)}  waiting", "quiet")
        text = row.note or ("" if row.busy else "ok")
        if row.failure:
            verb = "unreachable" if row.unreachable else "failed"
            again = "" if row.phase == row.failed_phase else f" in {row.failed_phase}"
            text = f"{verb}{again}: {row.failure}"
        style = "failed" if row.failure else "" if row.busy else row.style
        return Line(
            f"{marks[row.rank]} {self._columns(row, duration(row.taken(now), ticking=row.busy))}  {text}".rstrip(),
            style,
        )

    def _phase_line(self, row: _Row, text: str) -> Line:
        taken = duration(row.taken(self._clock()))
        style = row.style if row.style in ("failed", "warn", "changed") else ""
        return Line(clip(f"{self._columns(row, taken)}  {text}", 400, self.signs.more), style, log_only=self._live)

    def _columns(self, row: _Row, taken: str) -> str:
        return f"{self._name(row)}  {pad(row.phase, self._widest_phase)}  {taken:>7}"

    def _name(self, row: _Row) -> str:
        return pad(clip(row.name, LONGEST_NAME, self.signs.more), self._widest_name)

    def _mark(self, lines: list[Line]) -> list[Line]:
        """The first lines of a play come below its title."""
        if not lines or not self._head:
            return lines
        head, self._head = Line(self._head[0], "title", log_only=self._live), []
        return [*([] if self._live else [Line("")]), head, *lines]

    def _batch_words(self) -> list[str]:
        number, total = self._batch
        return [f"batch {number} of {total}"] if total > 1 else []

    # -- words of failures -------------------------------------------------------------------------------------------------

    def _flush(self) -> list[Line]:
        """What waits for the end of a play."""
        lines = self._tell()
        if not self._acts:
            for said, hosts in self._said.items():
                lines += [Line(f"{', '.join(hosts)}:"), *(Line(f"  {line}".rstrip()) for line in said)]
        self._said, self._acts = {}, False
        return lines

    def _tell(self) -> list[Line]:
        """The words of failures: identical ones once, with the names of all who said them."""
        groups: dict[tuple[str, tuple[str, ...], bool], list[str]] = {}
        for host, phase, said, lost in self._pending:
            told = self._told_of.setdefault(host, set())
            if not told.issuperset(said):  # a last step repeats what an earlier one said
                groups.setdefault((phase, said, lost), []).append(host)
            told.update(said)
        self._pending = []
        lines: list[Line] = []
        for (phase, said, lost), hosts in groups.items():
            head = f"{', '.join(hosts)}: {'unreachable in ' + phase if lost else phase + ' failed'}"
            earlier = self._told.get(said)
            if earlier is not None and said != (HIDDEN,):
                lines.append(Line(f"{head}, with the same words as {earlier}.", "failed"))
                continue
            self._told[said] = hosts[0]
            lines += [Line(head, "failed"), *(Line(f"  {line}".rstrip()) for line in said)]
        return lines

    def _say(self, host: str, data: Mapping[str, Any]) -> None:
        value: Any = data.get("msg")
        if "msg" not in data:  # a debug task with `var` answers under the name of the variable
            value = [
                f"{key}: {value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)}"
                for key, value in data.items()
                if not key.startswith("_") and key not in ("changed", "failed", "skipped", "warnings", "deprecations")
            ]
        self._said.setdefault(tuple(_lines(value)), []).append(host)

    # -- what is remembered ------------------------------------------------------------------------------------------------

    def _row(self, host: str) -> _Row:
        if host not in self._rows:
            self._rows[host] = _Row(host)
            self._widest_name = max(self._widest_name, min(LONGEST_NAME, cells(host)))
        return self._rows[host]

    def _end(self, host: str, task: Task) -> _Row:
        """The host's row with the task's phase ended now."""
        self._kept.pop(host, None)
        self._items.pop(host, None)
        row, now = self._row(host), self._clock()
        if row.began is None or row.phase != task.phase:  # a quiet task, or one whose start nobody told
            row.began = now
        row.phase, row.ended = task.phase, now
        self._widest_phase = max(self._widest_phase, cells(row.phase))  # not before: it might have been skipped
        row.spent += 0.0 if row.task_began is None else now - row.task_began
        row.task_began = None
        return row

    def _learn(self, host: str, task: Task, data: Mapping[str, Any], *, failed: bool = False) -> None:
        """Takes versions and the report out of a result of ours."""
        if not task.ours or is_hidden(data):
            return
        row, app = self._row(host), data.get("app")
        if task.phase == "look" and isinstance(app, Mapping) and app and row.before is None:
            row.before = str(app.get("current") or "")
        if task.phase == "plan" and data.get("commit"):
            self._commit = clean(str(data["commit"]))[:12]
        if task.phase in SERVES and data.get("release") and not (self._check or failed):
            row.after = clean(str(data["release"]))
        if isinstance(data.get("summary"), Mapping) and task.phase == "report":
            self._summary = dict(data["summary"])

    def _outcome(self, row: _Row, stats: Mapping[str, Mapping[str, int]]) -> str:
        told = self._summary.get("hosts", {}).get(row.name, {}).get("outcome")
        if told and not self._check:  # where nothing was to happen, the report has no outcome yet
            return clean(str(told)).replace("_", " ")
        counts = stats.get(row.name)
        if counts is None:
            failed = bool(row.failure)
            return (
                ("unreachable" if row.unreachable else "failed")
                if failed
                else "not reached"
                if row.began is None
                else (self._good(row))
            )
        if counts.get("unreachable"):
            return "unreachable"
        if counts.get("failures"):
            return "failed"
        return "rescued" if row.failure else self._good(row)

    def _good(self, row: _Row) -> str:
        if row.after and row.after != row.before:
            return "switched"
        return ("would change" if self._check else "changed") if row.changed else "unchanged"

    def _end_lines(self, outcome: Callable[[_Row], str], ended: str) -> list[Line]:
        """The summary: counts per outcome with versions, time, release."""
        summary, hosts = self._summary, self._summary.get("hosts", {})
        now = self._clock()
        for row in self._rows.values():
            self._ends[row.name] = outcome(row)
            row.spent += 0.0 if row.task_began is None else now - row.task_began
        groups: dict[tuple[str, str], list[str]] = {}
        for row in self._rows.values():
            told = {} if self._check else hosts.get(row.name, {})
            before, after = told.get("before", row.before), told.get("after", row.after)
            versions = str(before or "")
            if after and after != before:
                versions = f"{before or 'none'} {self.signs.arrow} {after}"
            groups.setdefault((self._ends[row.name], clean(versions)), []).append(row.name)
        order = list(OUTCOMES)
        ranked = sorted(groups, key=lambda key: order.index(key[0]) if key[0] in order else len(order))
        words_width = max((cells(key[0]) for key in ranked), default=0)
        versions_width = max((cells(key[1]) for key in ranked), default=0)
        lines = []
        for key in ranked:
            style, names = OUTCOMES.get(key[0], "failed"), groups[key]
            shown = (
                names
                if style == "failed" or len(names) <= NAMES
                else [*names[:NAMES], f"and {len(names) - NAMES} more"]
            )
            columns = [
                f"{len(names):>4}",
                pad(key[0], words_width),
                *([pad(key[1], versions_width)] if versions_width else []),
            ]
            lines.append(Line(f"{'  '.join(columns)}  {', '.join(shown)}", style))
        styles = {OUTCOMES.get(key[0], "failed") for key in ranked}
        worst = next((style for style in ("failed", "warn") if style in styles), "ok")
        reported = "" if self._check else summary.get("outcome")
        result = ended or str(reported or ("failed" if worst == "failed" else "done")).replace("_", " ")
        release = clean(str(summary.get("release") or self._one_release()))
        release += f" (commit {self._commit})" if release and self._commit else ""
        what = self._title or "Run"
        if summary.get("app"):
            kind = str(summary.get("what") or "run")
            what = f"{summary['app']}: {kind}" + (
                f" {'to' if kind == 'rollback' else 'of'} {release}" if release else ""
            )
            release = ""
        check = " (check mode: nothing was changed)" if self._check else ""
        head = f"{clean(what)} {clean(result)} after {duration(self._clock() - self._began)}{check}"
        head += f", release {release}" if release else ""
        why = [Line(f"  {line}", worst) for line in _lines(summary.get("why"))]
        return [Line(""), Line(head, "failed" if ended else worst), *why, *lines]

    def _one_release(self) -> str:
        served = {row.after for row in self._rows.values() if row.after}
        return served.pop() or "" if len(served) == 1 else ""


class Screen:
    """How a frame replaces the one before it on a terminal. The cursor rests at the start of the line below the frame.

    It uses neither another screen buffer nor modes of the terminal: there is nothing to restore when a run is killed.
    """

    def __init__(self) -> None:
        self._widths: list[int] = []

    @property
    def drawn(self) -> bool:
        """Whether a frame is on the terminal."""
        return bool(self._widths)

    def paint(self, lines: Sequence[tuple[str, str]], width: int, height: int) -> str:
        """What to write so that `lines`, each as (text, text with colours), stand where the frame before stood."""
        start = self._start(width, height)
        self._widths = [cells(text) for text, _coloured in lines]
        return start + "".join(f"{coloured}\x1b[K\r\n" for _text, coloured in lines) + ("\x1b[J" if start else "")

    def erase(self, width: int, height: int) -> str:
        """What to write so that the frame is gone and the cursor stands where it began."""
        start = self._start(width, height)
        self._widths = []
        return start + "\x1b[J" if start else ""

    def forget(self) -> None:
        """The frame stays on the terminal for good."""
        self._widths = []

    def _start(self, width: int, height: int) -> str:
        """Leads the cursor to the first line of the frame. A terminal that became narrower has wrapped its lines."""
        rows = sum(max(1, -(-each // max(1, width))) for each in self._widths)
        rows = min(rows, max(0, height - 1))
        return f"\r\x1b[{rows}A" if rows else ""
