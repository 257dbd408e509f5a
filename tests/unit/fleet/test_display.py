# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run looks like: events become lines, and lines become what a terminal shows (an emulated one)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyte
import pytest

from ansible_collections.pyfleet.runtime.plugins.plugin_utils import display
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.display import Board, Line, Screen, Task, describe

OLD, NEW = "0" * 12, "1" * 12
STATS = {"ok": 1, "failures": 0, "unreachable": 0, "changed": 0, "skipped": 0, "rescued": 0, "ignored": 0}


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ours(name: str, state: str = "", **more: Any) -> Task:
    """A task of this collection."""
    return describe(
        f"{name}.{state}", f"pyfleet.runtime.app : {name} {state}", f"pyfleet.runtime.{name}", {"state": state, **more}
    )


def builtin(name: str, title: str = "") -> Task:
    """A task of Ansible's own."""
    return describe(f"{name} {title}", title, f"ansible.builtin.{name}")


def texts(lines: Sequence[Line]) -> list[str]:
    """Lines as a person reads them, without the spaces that line up columns."""
    return [" ".join(line.text.split()) for line in lines]


def staying(lines: Sequence[Line]) -> list[str]:
    """Of lines those that a terminal shows besides the frame."""
    return texts([line for line in lines if not line.log_only])


@pytest.fixture
def clock() -> Clock:
    """The time of the test's board."""
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    """A board for a file, with a play of three hosts."""
    made = Board(clock)
    made.begin("deploy")
    made.play("Switch", ["web1", "web2", "web3"])
    return made


def fail(board: Board, host: str, task: Task, **data: Any) -> list[str]:
    """A task that starts on a host and fails."""
    board.task(task)
    board.start(host, task)
    return texts(board.failed(host, task, data))


# -- tasks and phases ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "args", "phase", "quiet"),
    [
        ("pyfleet.runtime.app_info", {}, "look", False),
        ("pyfleet.runtime.release", {"state": "prepared"}, "prepare", False),
        ("pyfleet.runtime.release", {"state": "active"}, "switch", False),
        ("pyfleet.runtime.release", {"state": "{{ app__state }}"}, "switch", False),
        ("pyfleet.runtime.release", {"state": "rolled_back"}, "switch", False),
        ("pyfleet.runtime.release", {"state": "rolled_back", "withdraw": "{{ why }}"}, "revert", False),
        ("pyfleet.runtime.uv_sync", {}, "build", False),
        ("pyfleet.runtime.rollout", {"step": "gate"}, "check", True),
        ("pyfleet.runtime.rollout", {"step": "go"}, "check", True),
        ("ansible.legacy.setup", {}, "facts", False),
        ("debug", {}, "Say", True),
        ("ansible.builtin.include_tasks", {}, "Say", True),
        ("community.general.ufw", {"state": "active"}, "Say", False),
        ("other.collection.plan", {}, "Say", False),
    ],
)
def test_a_task_has_a_phase(action: str, args: dict[str, str], phase: str, quiet: bool) -> None:
    task = describe("1", "pyfleet.runtime.app : Say", action, args)
    assert (task.phase, task.quiet) == (phase, quiet)


def test_a_task_of_ones_own_is_a_phase_with_its_name_shortened() -> None:
    assert describe("1", "my : Take the host out of the load balancer's pool", "ansible.builtin.uri").phase == (
        "Take the host out of the lo…"
    )
    assert describe("1", "", "ansible.builtin.apt").phase == "apt"


def test_a_task_keeps_none_of_its_arguments() -> None:
    task = describe("1", "x", "pyfleet.runtime.release", {"state": "hunter2", "payload": "hunter2", "step": "hunter2"})
    assert "hunter2" not in repr(task)


def test_every_phase_that_the_journal_knows_is_shown_under_the_same_name() -> None:
    from ansible_collections.pyfleet.runtime.plugins.plugin_utils.rolling import PHASES

    names = {state: phase for state, phase in PHASES.items() if display.PHASES.get(f"release.{state}") != phase}
    assert names == {"discarded": "prepare"}  # what a failed build left is worth a word of its own


# -- lines of a file -------------------------------------------------------------------------------------------------------


def test_a_phase_has_a_line_with_its_time_and_what_came_of_it(board: Board, clock: Clock) -> None:
    task = ours("release", "active")
    board.start("web1", task)
    clock.now += 3.2
    result = {"changed": True, "release": NEW, "gap_seconds": 0.5, "drained": OLD, "removed": ["a", "b"]}
    assert texts(board.done("web1", task, result)) == [
        "",
        "Switch (3 hosts)",
        f"web1 switch 3.2 s {NEW}, gap 0.5 s, {OLD} drains, 2 removed",
    ]


@pytest.mark.parametrize(
    ("name", "result", "words"),
    [
        ("app_info", {"app": {"current": OLD}}, f"serves {OLD}"),
        ("app_info", {"app": {"current": None, "known": 1}}, "has no release yet"),
        ("app_info", {"app": {}}, "ok"),
        ("plan", {"action": "build", "release": NEW}, f"build {NEW}"),
        ("plan", {"action": "none", "release": NEW}, "nothing to do"),
        ("uv_sync", {"changed": True, "packages": [{"name": "a"}]}, "1 package"),
        ("legacy_build", {"changed": True, "packages": [], "cached": True}, "shared environment"),
        ("managed_files", {"changed": True, "changes": [1, 2]}, "2 files"),
        ("managed_files", {"changed": False, "changes": []}, "ok"),
        (
            "release",
            {"refused": True, "msg": "Another run holds it.\nNext step: wait."},
            "refused: Another run holds it.",
        ),
        ("release", {"msg": "The hook failed.\nmore", "failed_when_result": False}, "failed: The hook failed."),
    ],
)
def test_results_of_ours_are_told_in_a_few_words(board: Board, name: str, result: dict[str, Any], words: str) -> None:
    task = ours(name)
    board.start("web1", task)
    assert texts(board.done("web1", task, result))[-1] == f"web1 {task.phase} 0.0 s {words}"


def test_what_did_not_matter_has_no_line(board: Board) -> None:
    board.start("web1", builtin("apt", "Install"))
    assert board.done("web1", builtin("apt", "Install"), {"changed": False}) == []
    assert board.done("web1", builtin("debug"), {"msg": "hello"}) == []
    assert board.done("web1", builtin("include_tasks"), {}) == []
    board.start("web1", ours("release", "active"))
    board.skipped("web1", ours("release", "active"))
    assert not any("hello" in text or "switch" in text for text in texts(board.play("Next", ["web1"])))


def test_a_change_of_ones_own_task_has_a_line(board: Board) -> None:
    board.start("web1", builtin("apt", "Install"))
    assert texts(board.done("web1", builtin("apt", "Install"), {"changed": True}))[-1] == "web1 Install 0.0 s changed"


def test_a_play_without_hosts_is_worth_a_word_only_when_nothing_else_is(board: Board, clock: Clock) -> None:
    assert texts(Board(clock).nobody("No host matches.")) == ["No host matches."]
    board.play("Lead the hosts back when the rollout failed", [])
    assert board.nobody("No host matches.") == []
    board.play("Finish", ["web1"])
    board.start("web1", ours("release", "finished"))
    lines = texts(board.done("web1", ours("release", "finished"), {}))
    assert lines[1] == "Finish (1 host)"
    assert not any("Lead" in line for line in lines)


def test_batches_and_check_mode_are_in_the_title(board: Board) -> None:
    board.play("Switch", ["web2"], batch=(2, 4), check=True)
    board.start("web2", ours("release", "active"))
    assert "Switch (1 host, batch 2 of 4, check mode)" in texts(board.done("web2", ours("release", "active"), {}))


@pytest.mark.parametrize(
    ("serial", "hosts", "found"),
    [
        ([1, "50%"], ["a"], (1, 3)),
        ([1, "50%"], ["b", "c"], (2, 3)),
        ([1, "50%"], ["d"], (3, 3)),
        (["25%"], ["d"], (4, 4)),
        ([3], ["d"], (2, 2)),
        (["1%"], ["b"], (2, 4)),
        ([0], ["a", "b", "c", "d"], (1, 1)),
        ([], ["a"], (1, 1)),
        ([1], ["unknown"], (1, 1)),
        ([1], [], (1, 1)),
    ],
)
def test_which_batch_it_is_follows_from_the_hosts(serial: list[Any], hosts: list[str], found: tuple[int, int]) -> None:
    assert display.batch_number(["a", "b", "c", "d"], serial, hosts) == found


# -- failures --------------------------------------------------------------------------------------------------------------


def test_the_last_words_are_told_in_full() -> None:
    journal = [f"line {number}" for number in range(40)]
    message = "\n".join(
        ["The release does not answer.", "Next step: look.", "Last words:", *(f"  {line}" for line in journal[-15:])]
    )
    said = display.words({"msg": message, "journal": journal, "log": ["Response from GET / is 500"]})
    assert said[:4] == [
        "The release does not answer.",
        "Next step: look.",
        "Health check:",
        "  Response from GET / is 500",
    ]
    assert said[4:] == ["Journal:", *(f"  {line}" for line in journal)]


def test_lines_that_the_message_has_are_not_told_twice() -> None:
    said = display.words({"msg": "It died.\nLast words:\n  one\n  two", "journal": []})
    assert said == ["It died.", "Last words:", "  one", "  two"]
    assert display.words({"msg": "one\ntwo", "journal": ["one", "two"]}) == ["one", "two"]
    assert display.words({"msg": "one", "log": ["one", "two"]}) == ["one", "Health check:", "  two"]


@pytest.mark.parametrize("message", ["non-zero return code", "The command exited with a non-zero return code."])
def test_a_command_says_its_status_and_output(message: str) -> None:
    said = display.words({"msg": message, "rc": 3, "stdout": "fine\n", "stderr": "oh no\n", "cmd": ["hunter2"]})
    assert said == ["The command ended with status 3.", "Output:", "  oh no"]
    assert display.words({"msg": "x", "stdout": "only\n", "stderr": ""}) == ["x", "Output:", "  only"]


def test_a_module_that_crashed_says_what_it_printed() -> None:
    said = display.words({"msg": "MODULE FAILURE", "module_stdout": "", "module_stderr": "Traceback\n  boom"})
    assert said == ["MODULE FAILURE", "Output of the module:", "  Traceback", "    boom"]
    assert display.words({}) == ["The task failed and gave no reason."]


def test_a_failure_is_told_once_when_hosts_say_the_same(board: Board) -> None:
    task = ours("release", "active")
    for host in ("web1", "web3"):
        fail(board, host, task, msg="No answer.\nNext step: look.")
    fail(board, "web2", task, msg="No room.")
    assert texts(board.task(ours("rollout", "x"))) == [
        "web1, web3: switch failed",
        "No answer.",
        "Next step: look.",
        "web2: switch failed",
        "No room.",
    ]


def test_words_that_were_told_before_are_referred_to(board: Board) -> None:
    fail(board, "web1", ours("release", "active"), msg="No answer.")
    board.play("Switch", ["web2"], batch=(2, 2))
    fail(board, "web2", ours("release", "active"), msg="No answer.")
    assert texts(board.task(ours("app_info"))) == ["web2: switch failed, with the same words as web1."]


def test_the_verdict_does_not_repeat_what_was_told(board: Board) -> None:
    fail(board, "web1", ours("release", "active"), msg="No answer.")
    verdict = describe("v", "Fail", "pyfleet.runtime.rollout", {"step": "verdict"})
    board.task(verdict)
    board.start("web1", verdict)
    assert board.failed("web1", verdict, {"msg": "No answer.\nIt goes on with the old release."}) == []
    assert texts(board.failed("web2", verdict, {"msg": "Lost."}))[-1] == "web2 report 0.0 s failed: Lost."
    assert texts(board.task(ours("app_info"))) == ["web2: report failed", "Lost."]


def test_failed_items_are_numbered_and_named_only_by_a_label(board: Board) -> None:
    task = builtin("command", "Loop")
    board.start("web1", task)
    board.item("web1", {"item": "hunter1"})
    board.item("web1", {"item": "hunter2", "msg": "no", "_ansible_item_label": "hunter2"}, failed=True)
    board.item("web1", {"item": {"p": "hunter3"}, "msg": "never"}, failed=True, label="third")
    lines = texts(board.failed("web1", task, {"msg": "One or more items failed"}))
    assert lines[-1] == "web1 Loop 0.0 s failed: Item 2: no"
    told = texts(board.task(ours("app_info")))
    assert told == ["web1: Loop failed", "Item 2:", "no", "Item 3 (third):", "never"]
    assert "hunter" not in str(told)


@pytest.mark.parametrize("mark", [{"_ansible_no_log": True}, {"censored": "the output has been hidden"}])
def test_nothing_is_told_of_a_task_with_no_log(board: Board, mark: dict[str, Any]) -> None:
    secret = {
        "msg": "hunter2",
        "journal": ["hunter2"],
        "release": "hunter2",
        "changed": True,
        "summary": {"app": "hunter2"},
        **mark,
    }
    for name in ("release", "rollout", "app_info"):
        task = ours(name, "active", step="report")
        board.start("web1", task)
        assert "hunter2" not in str(board.done("web1", task, secret))
        assert "hunter2" not in str(board.failed("web1", task, secret))
    board.item("web1", secret, failed=True, label="hunter2")
    assert "hunter2" not in str(board.failed("web1", ours("plan"), secret))
    assert board.done("web1", builtin("debug"), secret) == []
    assert "hunter2" not in str(board.finish({"web1": {**STATS, "failures": 1}}))


def test_what_steers_a_terminal_is_taken_out_of_words() -> None:
    hostile = "\x1b[2J\x1b]0;title\x07red\x1b[31m\r\nnext\rover\x08\x9b3m \u202ereversed\tx"
    assert display.words({"msg": hostile}) == ["red", "next", "over3m reversed x"]


def test_ignored_failures_have_a_line_and_do_not_count(board: Board) -> None:
    task = builtin("command", "Try")
    board.start("web1", task)
    assert (
        texts(board.failed("web1", task, {"msg": "no\nmore"}, ignored=True))[-1] == "web1 Try 0.0 s failed, ignored: no"
    )
    assert texts(board.unreachable("web2", task, {"msg": "away"}, ignored=True))[-1] == (
        "web2 Try 0.0 s unreachable, ignored: away"
    )
    assert board.task(ours("plan")) == []
    assert "2 unchanged web1, web2" in texts(board.finish({"web1": STATS, "web2": STATS}))


def test_a_rescued_host_is_one(board: Board) -> None:
    fail(board, "web1", builtin("command", "Try"), msg="no")
    board.start("web1", builtin("command", "Mend"))
    board.done("web1", builtin("command", "Mend"), {"changed": True})
    lines = texts(board.finish({"web1": {**STATS, "rescued": 1}, "web2": STATS}))
    assert "1 rescued web1" in lines
    assert not any("failed" in line for line in lines if "web1: Try" not in line)


def test_a_delegated_task_says_where_it_ran(board: Board) -> None:
    board.start("web1", builtin("command", "Drain"), "lb1")
    assert texts(board.done("web1", builtin("command", "Drain"), {"changed": True}, "lb1"))[-1] == (
        "web1 Drain 0.0 s on lb1: changed"
    )
    assert texts(board.failed("web2", builtin("command", "Drain"), {"msg": "no"}, on="lb1"))[-1] == (
        "web2 Drain 0.0 s failed: on lb1: no"
    )


def test_retries_have_one_line(board: Board) -> None:
    task = builtin("uri", "Wait")
    board.start("web1", task)
    assert texts(board.retry("web1", task, 1, 4))[-1] == "web1 Wait 0.0 s failed, tries again: attempt 2 of 4"
    assert board.retry("web1", task, 2, 4) == []
    assert "attempt 3 of 4" in texts(board.frame(80, 24))[1]


def test_what_debug_tasks_say_is_told_where_a_play_only_looks(clock: Clock) -> None:
    board = Board(clock)
    board.play("Status", ["web1", "web2"])
    for host in ("web1", "web2"):
        board.start(host, ours("app_info"))
        board.done(host, ours("app_info"), {"app": {"current": OLD}})
        board.done(host, builtin("debug"), {"msg": "serves\n  well"})
    board.done("web1", builtin("debug"), {"colour": "blue", "changed": False, "_ansible_verbose_always": True})
    assert texts(board.finish({"web1": STATS, "web2": STATS}))[:5] == [
        "web1, web2:",
        "serves",
        "well",
        "web1:",
        "colour: blue",
    ]


# -- the summary -----------------------------------------------------------------------------------------------------------


def test_the_summary_counts_outcomes_with_versions(board: Board, clock: Clock) -> None:
    for host, current in (("web1", OLD), ("web2", OLD), ("web3", NEW)):
        board.start(host, ours("app_info"))
        board.done(host, ours("app_info"), {"app": {"current": current}})
        board.done(host, ours("plan"), {"action": "build", "release": NEW, "commit": "abcdef" * 6})
    for host in ("web1", "web2"):
        board.start(host, ours("release", "active"))
    board.done("web1", ours("release", "active"), {"changed": True, "release": NEW})
    board.failed("web2", ours("release", "active"), {"msg": "no", "release": NEW})
    clock.now += 83
    lines = texts(board.finish({"web1": STATS, "web2": {**STATS, "failures": 1}, "web3": STATS}))
    assert lines[-4:] == [
        f"deploy failed after 1:23, release {NEW} (commit abcdefabcdef)",
        f"1 unchanged {NEW} web3",
        f"1 switched {OLD} → {NEW} web1",
        f"1 failed {OLD} web2",
    ]


def test_the_rollouts_own_report_decides(board: Board) -> None:
    hosts = {
        "web1": {"outcome": "rolled_back", "before": OLD, "after": OLD},
        "web2": {"outcome": "rollback_failed", "before": OLD, "after": NEW},
        "web3": {"outcome": "stopped", "before": None, "after": None},
    }
    summary = {
        "app": "shop",
        "what": "deploy",
        "release": NEW,
        "outcome": "failed",
        "why": "1 host failed.",
        "hosts": hosts,
    }
    report = describe("r", "Report", "pyfleet.runtime.rollout", {"step": "report"})
    assert board.done("web1", report, {"summary": summary}) == []
    assert texts(board.finish(dict.fromkeys(hosts, STATS)))[1:] == [
        f"shop: deploy of {NEW} failed after 0.0 s",
        "1 host failed.",
        "1 stopped web3",
        f"1 rolled back {OLD} web1",
        f"1 rollback failed {OLD} → {NEW} web2",
    ]


def test_check_mode_says_what_would_change(board: Board) -> None:
    board.play("Switch", ["web1", "web2"], check=True)
    board.done("web1", ours("release", "active"), {"changed": True, "release": NEW})
    board.done("web2", ours("release", "active"), {"changed": False})
    report = describe("r", "Report", "pyfleet.runtime.rollout", {"step": "report"})
    board.done("web1", report, {"summary": {"hosts": {"web1": {"outcome": "lost"}}, "outcome": "failed"}})
    lines = texts(board.finish({"web1": STATS, "web2": STATS}))
    assert lines[-4:-1] == [
        "deploy done after 0.0 s (check mode: nothing was changed)",
        "1 unchanged web2",
        "1 would change web1",
    ]
    assert lines[-1] == "1 not reached web3"


def test_many_hosts_are_named_only_where_something_is_wrong(clock: Clock) -> None:
    board = Board(clock)
    hosts = [f"web{number}" for number in range(20)]
    board.play("Switch", hosts)
    for host in hosts:
        board.done(host, ours("look"), {})
    stats = dict.fromkeys(hosts[:10], STATS) | {host: {**STATS, "unreachable": 1} for host in hosts[10:]}
    unchanged, unreachable = texts(board.finish(stats))[-2:]
    assert unchanged.endswith("web7, and 2 more")
    assert all(host in unreachable for host in hosts[10:])


def test_a_run_that_was_interrupted_says_who_was_at_work(board: Board) -> None:
    board.start("web1", ours("uv_sync"))
    board.done("web2", ours("uv_sync"), {"changed": True})
    fail(board, "web3", ours("uv_sync"), msg="no")
    lines = texts(board.interrupt())
    assert lines[:3] == ["web3: build failed", "no", "At work when the run ended: web1 (build)"]
    assert lines[4] == "deploy interrupted after 0.0 s"
    assert lines[5:] == ["1 changed web2", "1 interrupted web1", "1 failed web3"]


# -- the frame -------------------------------------------------------------------------------------------------------------


def live(clock: Clock, count: int = 3) -> Board:
    """A board for a terminal."""
    made = Board(clock, live=True)
    made.begin("deploy")
    made.play("Switch", [f"web{number}" for number in range(1, count + 1)], batch=(1, 2))
    return made


def test_a_terminal_shows_one_row_per_host_while_times_go_on(clock: Clock) -> None:
    board = live(clock)
    for host in ("web1", "web2"):
        board.start(host, ours("release", "active"))
    clock.now += 4.4
    assert staying(board.done("web2", ours("release", "active"), {"changed": True, "release": NEW})) == []
    clock.now += 61
    assert texts(board.frame(60, 24)) == [
        "deploy · Switch · batch 1 of 2 · 1:05",
        "▸ web1 switch 1:05",
        f"✓ web2 switch 4.4 s {NEW}",
        "· web3 waiting",
    ]


def test_a_skipped_task_leaves_the_row_as_it_was(clock: Clock) -> None:
    board = live(clock, 1)
    board.start("web1", ours("uv_sync"))
    clock.now += 2
    board.done("web1", ours("uv_sync"), {"packages": [1]})
    before = board.frame(60, 24)[1]
    board.start("web1", builtin("command", "Hook"))
    assert "Hook" in board.frame(60, 24)[1].text
    board.skipped("web1", builtin("command", "Hook"))
    assert board.frame(60, 24)[1] == before


def test_a_failed_host_shows_where_and_why_while_it_goes_back(clock: Clock) -> None:
    board = live(clock, 1)
    assert fail(board, "web1", ours("release", "active"), msg="No answer.\nmore")
    board.start("web1", ours("release", "rolled_back", withdraw="x"))
    row = board.frame(60, 24)[1]
    assert (" ".join(row.text.split()), row.style) == ("✗ web1 revert 0 s failed in switch: No answer.", "failed")


def test_a_small_terminal_shows_busy_and_failed_hosts_and_counts_the_rest(clock: Clock) -> None:
    board = live(clock, 100)
    for number in (50, 60):
        board.start(f"web{number}", ours("uv_sync"))
    fail(board, "web99", ours("uv_sync"), msg="No room.")
    board.done("web7", ours("uv_sync"), {})
    lines = texts(board.frame(40, 6))
    assert lines[1:4] == ["✗ web99 build 0.0 s failed: No…", "▸ web50 build 0 s", "▸ web60 build 0 s"]
    assert lines[4] == "✓ web7 build 0.0 s ok"
    assert lines[5:] == ["and 96 more: 96 waiting"]


def test_many_failed_hosts_leave_room_for_busy_ones(clock: Clock) -> None:
    board = live(clock, 40)
    for number in range(1, 21):
        fail(board, f"web{number}", ours("uv_sync"), msg="No room.")
        board.start(f"web{number + 20}", ours("uv_sync"))
    marks = [line.text[0] for line in board.frame(60, 12)[1:]]
    assert marks == ["✗"] * 5 + ["▸"] * 5 + [" "]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (20, 10), (11, 3), (80, 2), (80, 1), (5, 5)])
def test_a_frame_never_exceeds_the_terminal(clock: Clock, width: int, height: int) -> None:
    board = live(clock, 30)
    fail(board, "web1", ours("uv_sync"), msg="漢字かな交じり文" * 10)
    board.retry("web2", builtin("uri", "a" * 90), 1, 2)
    lines = board.frame(width, height)
    assert len(lines) <= height
    assert all(display.cells(line.text) <= width for line in lines)


@pytest.mark.parametrize(
    ("text", "width", "clipped"),
    [
        ("short", 5, "short"),
        ("longer", 5, "long…"),
        ("漢字漢字", 5, "漢字…"),
        ("e\u0301e\u0301e\u0301", 2, "e\u0301…"),
        ("ab", 0, ""),
    ],
)
def test_a_text_is_clipped_by_the_columns_that_it_takes(text: str, width: int, clipped: str) -> None:
    assert display.clip(text, width) == clipped


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.9, "59 s"), (60, "1:00"), (3603, "1:00:03"), (-1, "0.0 s")],
)
def test_times_are_short(seconds: float, text: str) -> None:
    assert display.duration(seconds) == text


def test_an_output_without_unicode_gets_plain_signs(clock: Clock) -> None:
    board = Board(clock, live=True, signs=display.ASCII)
    board.play("Switch", ["web1"])
    fail(board, "web1", ours("uv_sync"), msg="x" * 200)
    assert all(line.text.isascii() for line in board.frame(60, 24))


def test_the_last_rows_have_outcomes_and_the_time_at_work(clock: Clock) -> None:
    board = live(clock, 4)
    for name in ("web1", "web2"):
        board.start(name, ours("uv_sync"))
    clock.now += 5
    for name in ("web1", "web2"):
        board.done(name, ours("uv_sync"), {"changed": True})
    clock.now += 60  # waiting for others is no work
    board.start("web1", ours("release", "active"))
    board.start("web3", ours("release", "active"))
    clock.now += 2
    board.failed("web1", ours("release", "active"), {"msg": "No answer."})
    board.finish({"web1": {**STATS, "failures": 1}, "web2": STATS, "web3": STATS})
    assert texts(board.results(80, 24)) == [
        "✗ web1 failed 7.0 s in switch: No answer.",
        "✓ web2 changed 5.0 s",
        "✓ web3 unchanged 2.0 s",
        "· web4 not reached 0.0 s",
    ]
    assert texts(board.results(20, 3))[2:] == ["and 2 more"]
    assert all(display.cells(line.text) <= 20 for line in board.results(20, 3))


# -- the screen ------------------------------------------------------------------------------------------------------------


def emulate(columns: int = 20, lines: int = 6) -> tuple[pyte.Screen, pyte.Stream]:
    """A terminal."""
    screen = pyte.Screen(columns, lines)
    return screen, pyte.Stream(screen)


def shown(screen: pyte.Screen) -> list[str]:
    """Its lines, without those below the last one."""
    return "\n".join(line.rstrip() for line in screen.display).rstrip("\n").split("\n")


def paint(drawn: Screen, stream: pyte.Stream, *lines: str, columns: int = 20, height: int = 6) -> None:
    """Draws a frame."""
    stream.feed(drawn.paint([(line, f"\x1b[31m{line}\x1b[0m") for line in lines], columns, height))


def test_a_frame_replaces_the_one_before() -> None:
    screen, stream = emulate()
    drawn = Screen()
    stream.feed("before\r\n")
    paint(drawn, stream, "one", "two is long", "three")
    paint(drawn, stream, "uno", "dos")
    assert shown(screen) == ["before", "uno", "dos"]
    stream.feed(drawn.erase(20, 6) + "stays\r\n")
    paint(drawn, stream, "uno", "dos")
    assert shown(screen) == ["before", "stays", "uno", "dos"]
    assert (screen.cursor.x, screen.cursor.y) == (0, 4)


def test_a_frame_at_the_bottom_scrolls_once_and_then_stays() -> None:
    screen, stream = emulate()
    drawn = Screen()
    stream.feed("\r\n".join("abcde") + "\r\n")
    for number in range(5):
        paint(drawn, stream, f"one {number}", f"two {number}", "three")
    assert shown(screen) == ["d", "e", "one 4", "two 4", "three"]


def test_what_a_key_echoed_is_painted_over() -> None:
    screen, stream = emulate()
    drawn = Screen()
    paint(drawn, stream, "one")
    stream.feed("^C")
    paint(drawn, stream, "uno")
    assert shown(screen) == ["uno"]


def test_lines_that_a_narrower_terminal_wrapped_are_counted() -> None:
    drawn = Screen()
    drawn.paint([("x" * 19, ""), ("y", "")], 20, 6)
    assert drawn.erase(10, 6).startswith("\r\x1b[3A")


def test_a_terminal_that_became_lower_is_not_left_at_the_top() -> None:
    drawn = Screen()
    drawn.paint([("x", "")] * 10, 20, 24)
    assert drawn.erase(20, 5).startswith("\r\x1b[4A")


def test_nothing_drawn_means_nothing_to_erase() -> None:
    assert Screen().erase(20, 6) == ""
