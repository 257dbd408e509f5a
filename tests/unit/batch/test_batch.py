# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches as far as they are pure: what is wrong with settings, who takes which shard, units and verdicts."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import batch
from ansible_collections.pyfleet.runtime.plugins.module_utils.batch import Claim, State

pytestmark = pytest.mark.rule("H7")
SCRIPT = "# /// script\n# dependencies = []\n# ///\nprint(1)\n"
GOOD: dict[str, Any] = {
    "name": "resize",
    "script": "resize.py",
    "user": "pyfleet-batch",
    "inputs": ["a", "b"],
    "input_mode": "arguments",
    "arguments": [],
    "shard_size": 1,
    "slots": 1,
    "attempts": 3,
    "max_failed": -1,
    "memory_max": "",
    "cpu_quota": "",
    "timeout": 0,
    "unit_lines": [],
}


def wrong(script: str | None = SCRIPT, env: Any = None, **settings: Any) -> list[str]:
    """The variables that are found wrong."""
    return [each.variable for each in batch.check({**GOOD, **settings}, env or {}, script)]


# -- settings --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "has"),
    [
        (SCRIPT, True),
        ('#!/usr/bin/env python\n"""doc"""\n\n' + SCRIPT, True),
        ("# /// script\n# dependencies = []\nprint(1)\n# ///\n", False),
        ("# /// other\n# a = 1\n# ///\n", False),
        ("# /// other\n# a = 1\n# ///\n" + SCRIPT, True),
        ("print('# /// script')\n# ///\n", False),
        ("# /// script\n# dependencies = []\n", False),
        ("", False),
    ],
)
def test_h7_a_script_without_metadata_is_found_out(text: str, has: bool) -> None:
    assert batch.has_metadata(text) is has
    assert wrong(text) == ([] if has else ["batch_script"])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("name", ["", "Resize", "1st", "a" * 29, None]),
        ("user", ["", "root;", None]),
        ("memory_max", ["512", "0M", "1.5G", "512MB", 5]),
        ("cpu_quota", ["50", "0%", "%", 50]),
        ("shard_size", [0, "2", True, None]),
        ("slots", [0, -1]),
        ("attempts", [0]),
        ("timeout", [-1]),
        ("max_failed", [-2]),
        ("unit_lines", ["Nice=1", ["nice=1"], ["Nice=1\nUser=root"], [1], ["StandardOutput=null"]]),
        ("arguments", ["--width", [{"a": 1}], [None]]),
        ("input_mode", ["pipe", None]),
    ],
)
def test_a_setting_that_cannot_be_is_named(name: str, values: list[Any]) -> None:
    usable = {"memory_max": ["512", "512M"], "user": ["root"]}.get(name, [])
    for value in values:
        found = wrong(**{name: value})
        assert found == ([] if value in usable else [f"batch_{name}"]), value


def test_everything_wrong_is_told_at_once() -> None:
    found = wrong("print(1)", {"1A": "x"}, name="No", shard_size=0, inputs=[])
    assert found == ["batch_name", "batch_shard_size", "batch_script", "1A", "batch_inputs or batch_inputs_file"]


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        (["a", 1, 2.5], ["a", "1", "2.5"]),
        (" a \n\nb c\n", ["a", "b c"]),
        ([True], None),
        ([["a"]], None),
        ({"a": 1}, None),
        (None, None),
    ],
)
def test_inputs_are_a_list_or_lines(value: Any, inputs: list[str] | None) -> None:
    assert batch.inputs_of(value) == inputs
    assert bool(wrong(inputs=value)) == (inputs is None)


@pytest.mark.parametrize("bad", ["", "a\0b", "\udcff"])
def test_an_input_that_cannot_be_an_argument_is_found(bad: str) -> None:
    assert wrong(inputs=["a", bad]) == ["batch_inputs"]


def test_a_line_break_is_an_argument_but_no_line() -> None:
    assert wrong(inputs=["a\nb"]) == []
    assert wrong(inputs=["a\nb"], input_mode="stdin") == ["batch_inputs"]


def test_arguments_have_a_limit_and_standard_input_has_none() -> None:
    many = ["x" * 1000] * 2000
    assert wrong(inputs=many, shard_size=2000) == ["batch_input_mode"]
    assert wrong(inputs=many, shard_size=900) == []
    assert wrong(inputs=many, shard_size=2000, input_mode="stdin") == []
    assert wrong(inputs=["x" * 131072]) == ["batch_input_mode"]


def test_too_many_shards_say_which_size_will_do() -> None:
    inputs = [str(number) for number in range(40001)]
    (found,) = batch.check({**GOOD, "inputs": inputs}, {}, SCRIPT)
    assert found.next_step == "Set batch_shard_size to 3 or more."
    assert wrong(inputs=inputs, shard_size=3) == []


def test_inputs_are_shared_out_in_their_order() -> None:
    assert batch.share_out(["a", "b", "c", "d", "e"], 2) == [["a", "b"], ["c", "d"], ["e"]]


# -- who takes what --------------------------------------------------------------------------------------------------------------


class Run:
    """A state with a clock and tokens that can be told apart."""

    def __init__(self, shards: int = 3, attempts: int = 2, max_failed: int = -1, hosts: str = "abc") -> None:
        self.state = State.new("id", "resize", [[str(number)] for number in range(shards)], attempts, max_failed)
        self._tokens = (f"t{number}" for number in itertools.count())
        self.number = 0
        self.attempts, self.max_failed = attempts, max_failed
        self.open(hosts)

    def open(self, hosts: str = "abc") -> None:
        self.number += 1
        self.state.open({"id": f"run{self.number}"}, hosts, self.attempts, self.max_failed, 0.0)
        for host in hosts:
            self.state.join(host, 1)

    def claim(self, host: str, room: int = 1, now: float = 1.0) -> list[Claim]:
        return self.state.claim(host, room, lambda: next(self._tokens), now)

    def one(self, host: str, now: float = 1.0) -> Claim:
        (claim,) = self.claim(host, 1, now)
        return claim

    def states(self) -> list[str]:
        return [shard["state"] for shard in self.state.shards]


def test_h7_each_shard_is_given_out_once() -> None:
    run = Run(shards=5)
    first, second = run.claim("a", 2), run.claim("b", 10)
    assert [claim.number for claim in first] == [0, 1]
    assert [claim.number for claim in second] == [2, 3, 4]
    assert run.claim("c") == []
    assert [claim.inputs for claim in first] == [["0"], ["1"]]
    assert len({claim.token for claim in first + second}) == 5
    assert not run.state.over()


def test_h7_a_result_counts_once_and_for_whoever_holds_the_shard() -> None:
    run = Run(shards=1)
    claim = run.one("a")
    run.state.leave("a", "lost", "no route")
    again = run.one("b")
    assert again.token != claim.token
    assert again.attempt == 2
    assert run.state.done(0, claim.token, "a", 1.0) is False
    assert run.state.failed(0, claim.token, "a", "late", 1.0) is False
    assert run.state.done(0, again.token, "b", 1.0) is True
    assert run.state.done(0, again.token, "b", 1.0) is False
    assert run.state.over()
    assert [each["host"] for each in run.state.shards[0]["tries"]] == ["a", "b"]


def test_h7_a_shard_that_failed_goes_to_another_host_if_there_is_one() -> None:
    run = Run(shards=1, attempts=3)
    assert run.state.failed(0, run.one("a").token, "a", "broke", 1.0)
    assert run.claim("a") == []
    assert not run.state.over()
    run.state.failed(0, run.one("b").token, "b", "broke", 1.0)
    run.state.leave("c")
    # Nobody is left who has not tried: better again here than never.
    assert run.one("a").attempt == 3


def test_attempts_end() -> None:
    run = Run(shards=2, attempts=2)
    run.state.failed(0, run.one("a").token, "a", "x", 0)
    run.state.failed(0, run.one("b").token, "b", "y", 0)
    assert run.states() == ["failed", "todo"]
    assert run.one("a").number == 1
    assert run.state.data["run"]["stopped"] == ""


def test_too_many_failures_end_the_batch_and_what_runs_may_end() -> None:
    run = Run(shards=4, attempts=1, max_failed=1)
    claims = [run.one("a"), run.one("b"), run.one("c")]
    run.state.failed(0, claims[0].token, "a", "x", 0)
    assert not run.state.data["run"]["stopped"]
    run.state.failed(1, claims[1].token, "b", "x", 0)
    assert run.state.data["run"]["stopped"] == "2 shards failed, where batch_max_failed allows 1"
    assert run.claim("a") == []
    assert run.state.over()
    assert run.state.done(2, claims[2].token, "c", 0)
    assert run.state.summary()["left"] == 1


def test_a_host_that_gives_up_costs_no_attempt_and_one_that_is_lost_does() -> None:
    run = Run(shards=2, attempts=1)
    run.claim("a")
    run.state.leave("a", "failed", "no uv")
    assert run.states() == ["todo", "todo"]
    run.claim("b")
    run.state.leave("b", "lost", "gone")
    assert run.states() == ["failed", "todo"]


def test_h7_the_next_run_goes_on_with_what_its_hosts_had() -> None:
    run = Run(shards=4)
    first, second = run.one("a"), run.one("b")
    run.one("c")
    run.state.failed(1, second.token, "b", "x", 0)
    done = run.one("a")
    run.state.done(done.number, done.token, "a", 1.0)
    run.open("ab")
    # c is no part of this run; what it had is free at once
    assert run.states() == ["claimed", "done", "todo", "todo"]
    again = run.one("a")
    assert (again.number, again.token) == (0, first.token)
    assert run.state.done(0, first.token, "a", 1.0)


def test_h7_what_a_dead_run_left_with_a_host_that_never_comes_goes_to_others_after_a_while() -> None:
    run = Run(shards=1, hosts="ab")
    old = run.one("b")
    run.number += 1
    run.state.open({"id": "run2"}, "ab", 2, -1, 100.0)
    run.state.join("a", 1)
    assert run.claim("a", now=100.0 + batch.KEPT_FOR_ITS_HOST - 1) == []
    assert not run.state.over()
    taken = run.one("a", now=100.0 + batch.KEPT_FOR_ITS_HOST)
    assert taken.token != old.token
    assert run.state.done(0, old.token, "b", 1.0) is False


def test_h7_where_the_controller_is_full_all_ends_and_the_next_run_finds_the_host_with_its_shards() -> None:
    bed = Run()
    held = bed.one("a")
    bed.state.stop("a", "no space left")
    assert bed.state.over()
    assert bed.claim("b") == []
    assert bed.state.summary()["stopped"] == "no space left"
    bed.open()
    assert not bed.state.over()
    again = bed.one("a")
    assert (again.number, again.token, again.attempt) == (held.number, held.token, 1)


def test_a_new_run_tries_anew_what_failed_for_good() -> None:
    run = Run(shards=1, attempts=1)
    run.state.failed(0, run.one("a").token, "a", "x", 0)
    assert run.states() == ["failed"]
    run.open()
    assert run.one("a").attempt == 1
    assert run.state.shards[0]["earlier"] == [{"host": "a", "how": "x", "seconds": 0}]


def test_progress_and_summary_say_what_people_ask() -> None:
    run = Run(shards=4, attempts=2)
    claim = run.one("a")
    run.state.failed(0, claim.token, "a", "x", 0)
    run.state.leave("c", "lost", "no route")
    again = run.one("b")
    assert run.state.progress() == "batch resize: 0 of 4 shards done, 1 running, without c"
    run.state.done(0, again.token, "b", 2.345)
    assert run.state.progress() == "batch resize: 1 of 4 shards done, 1 retried, without c"
    summary = run.state.summary()
    assert (summary["outcome"], summary["done"], summary["left"], summary["failed"]) == ("failed", 1, 3, 0)
    assert summary["remarkable"]["0"]["tries"] == [
        {"host": "a", "how": "x", "seconds": 0},
        {"host": "b", "how": "", "seconds": 2.35},
    ]
    for _ in range(3):
        last = run.one("a")
        run.state.done(last.number, last.token, "a", 0)
    assert run.state.summary()["outcome"] == "succeeded"
    assert list(run.state.summary()["remarkable"]) == ["0"]


# -- units -----------------------------------------------------------------------------------------------------------------------

LIMITS = {"memory_max": "64M", "cpu_quota": "50%", "timeout": 9}


def command(**options: Any) -> list[str]:
    """The call of systemd-run for a shard."""
    given = {"user": "u", "script": "s.py", "unit_lines": [], "stdin": False, **dict.fromkeys(LIMITS, ""), **options}
    return batch.unit_command("x.service", "/b", "/b/shards/7", "/run/e", given, {"BATCH_SHARD": "7"})


def test_h7_a_shard_is_a_transient_unit_with_limits_in_a_sandbox() -> None:
    call = command(**LIMITS, unit_lines=["MemoryMax=1G"])
    assert call[0] == "systemd-run"
    assert call[-4:] == ["--", "/b/start", "/b/shards/7", "/b/job/s.py"]
    properties = [part.removeprefix("--property=") for part in call if part.startswith("--property=")]
    for line in (
        "User=u",
        "MemoryMax=64M",
        "MemorySwapMax=0",
        "CPUQuota=50%",
        "RuntimeMaxSec=9",
        "EnvironmentFile=/run/e",
    ):
        assert line in properties
    assert {"NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes"} <= set(properties)
    # The author's own lines come last, so that they win.
    assert properties[-1] == "MemoryMax=1G"
    assert "--collect" in call
    assert "StandardInput=null" in properties


def test_no_limit_is_no_property() -> None:
    call = " ".join(command(stdin=True))
    assert not [name for name in ("MemoryMax", "CPUQuota", "RuntimeMaxSec") if name in call]
    assert "StandardInput=file:/b/shards/7/stdin" in call


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (("success", "exited", "0"), ""),
        (("exit-code", "exited", "3"), "ended with exit status 3"),
        (("oom-kill", "killed", "KILL"), "was killed because it used more memory than batch_memory_max=64M"),
        (("signal", "killed", "KILL"), "was ended by signal KILL; did it need more than batch_memory_max=64M?"),
        (("signal", "killed", "TERM"), "was ended by signal TERM"),
        (("core-dump", "dumped", "SEGV"), "was ended by signal SEGV"),
        (("timeout", "killed", "TERM"), "ran longer than batch_timeout=9 seconds and was ended"),
        (("exit-code", "exited", "203"), "could not be run (exit-code, exited 203)"),
        (("resources", "", ""), "could not be run (resources,  )"),
        (("gone", "", ""), "vanished without a word, as when the host restarts"),
    ],
)
def test_h7_what_systemd_says_of_an_end_in_words(told: tuple[str, str, str], words: str) -> None:
    assert batch.verdict(*told, LIMITS) == words


def test_a_host_that_was_never_reached_costs_no_attempt_and_a_second_run_is_counted() -> None:
    run = Run(shards=1, attempts=1)
    assert run.claim("a")
    run.state.leave("a", "lost", "no route", started=False)
    assert run.state.shards[0]["state"] == batch.TODO
    assert run.claim("b")
    run.state.leave("b", "lost", "no route")
    assert run.state.shards[0]["state"] == batch.FAILED
    assert run.state.data["runs"] == 1
    run.state.open({"id": "again"}, ["a"], 1, 0, 0.0)
    assert run.state.data["runs"] == 2
