# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease: who gets an application, who waits, who gives up, what is inherited, and what two processes at once come to."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.pyfleet.runtime.plugins.module_utils import lease as leases
from ansible_collections.pyfleet.runtime.plugins.module_utils.lease import Lease, LeaseError, Leases, Request
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import Layout

A, B, C = "a" * 12, "b" * 12, "c" * 12
OLDER = Request("older", holder="ann@desk", what="deploy", started=100.0)
YOUNGER = Request("younger", holder="bob@lap", what="rollback", started=200.0)


class Host:
    """One host with an application, and a clock that only sleeping moves."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout("shop", str(folder / "srv"), str(folder / "etc"), str(folder / "run"), str(folder / "lib"))
        os.makedirs(self.layout.folder)
        self.time = 1000.0
        self.naps = 0
        self.on_nap: Callable[[], Any] = lambda: None
        self.acting = False
        self.leases = Leases(self.layout, busy=lambda: self.acting, now=lambda: self.time, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.naps += 1
        self.on_nap()

    def serves(self, current: str, previous: str = "") -> None:
        self.layout.set_link("current", current or None)
        self.layout.set_link("previous", previous or None)

    def file(self) -> dict[str, Any]:
        stored: dict[str, Any] = json.loads(Path(self.layout.lease_file).read_text())
        return stored


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_free_application_is_claimed_with_what_served_before(host: Host) -> None:
    host.serves(B, A)
    taken, words = host.leases.claim(replace(OLDER, target=C, seconds=60, controller={"pid": 7}))
    assert words == ""
    assert host.file() == {
        "run": "older",
        "holder": "ann@desk",
        "what": "deploy",
        "started": 100.0,
        "expires": 1060.0,
        "controller": {"pid": 7},
        "before": B,
        "before_previous": A,
        "target": C,
    }
    assert host.leases.read() == taken
    assert os.stat(host.layout.lease_file).st_mode & 0o777 == 0o644


def test_nothing_served_before_the_first_deployment(host: Host) -> None:
    taken, _words = host.leases.claim(replace(OLDER, expect_current=""))
    assert (taken.before, host.file()["before"], host.file()["before_previous"]) == ("", None, None)


def test_the_younger_run_gives_up_at_once_and_is_told_what_to_do(host: Host) -> None:
    host.leases.claim(OLDER)
    with pytest.raises(LeaseError) as caught:
        host.leases.claim(YOUNGER)
    assert host.naps == 0
    words = str(caught.value)
    assert words.startswith(
        "Another run holds shop on this host: ann@desk (deploy), run older, since 1970-01-01 00:01:40 UTC, "
        "until 1970-01-01 01:16:40 UTC at the latest."
    )
    assert "Variable: app_lease_takeover\nValue: (not set)" in words
    assert words.endswith("-e app_lease_takeover=older")
    assert (caught.value.held["run"], caught.value.held["expired"]) == ("older", False)
    assert host.file()["run"] == "older"


def test_the_older_run_waits_for_the_younger_one_to_let_go(host: Host) -> None:
    host.leases.claim(YOUNGER)
    host.on_nap = lambda: host.naps == 3 and host.leases.end("younger")
    taken, words = host.leases.claim(OLDER)
    assert (taken.run, words, host.naps) == ("older", "", 3)


def test_the_older_run_waits_no_longer_than_it_may(host: Host) -> None:
    host.leases.claim(YOUNGER)
    with pytest.raises(LeaseError, match="bob@lap"):
        host.leases.claim(replace(OLDER, wait=2.0))
    assert 2.0 <= host.time - 1000.0 < 2.5
    assert host.file()["run"] == "younger"


def test_of_two_runs_that_began_at_once_one_waits_and_one_gives_up(host: Host) -> None:
    host.leases.claim(replace(OLDER, run="m"))
    with pytest.raises(LeaseError):
        host.leases.claim(replace(OLDER, run="z"))
    assert host.naps == 0
    with pytest.raises(LeaseError):
        host.leases.claim(replace(OLDER, run="a"))
    assert host.naps > 0


@pytest.mark.parametrize(
    ("changes", "passed", "words"),
    [
        ({}, 3600.0, "its lease ended at 1970-01-01 01:16:40 UTC"),
        ({"takeover": "older"}, 0.0, "app_lease_takeover names it"),
        ({"dead": ["other", "older"]}, 0.0, "its process is gone"),
    ],
)
def test_a_lease_is_taken_over_and_what_served_before_the_dead_run_is_inherited(
    host: Host, changes: dict[str, Any], passed: float, words: str
) -> None:
    host.serves(B, A)
    host.leases.claim(OLDER)
    host.serves(C, B)  # the dead run had switched already
    host.time += passed
    taken, said = host.leases.claim(replace(YOUNGER, **changes))
    assert (taken.run, taken.before, taken.before_previous) == ("younger", B, A)
    assert said == f"ann@desk (deploy), run older, since 1970-01-01 00:01:40 UTC; {words}"


def test_a_lease_lasts_until_its_last_moment(host: Host) -> None:
    host.leases.claim(OLDER)
    host.time += 3599.9
    with pytest.raises(LeaseError):
        host.leases.claim(YOUNGER)


def test_naming_another_run_takes_nothing_over(host: Host) -> None:
    host.leases.claim(OLDER)
    with pytest.raises(LeaseError, match="Value: somebody"):
        host.leases.claim(replace(YOUNGER, takeover="somebody", dead=["nobody"]))


def test_a_lease_that_was_ended_leaves_nothing_to_inherit(host: Host) -> None:
    host.serves(A)
    host.leases.claim(OLDER)
    host.serves(B, A)
    assert host.leases.end("older")
    assert not host.leases.end("older")
    taken, words = host.leases.claim(YOUNGER)
    assert (taken.before, taken.before_previous, words) == (B, A, "")


def test_the_same_run_claims_again_and_keeps_what_it_knew(host: Host) -> None:
    host.serves(A)
    host.leases.claim(replace(OLDER, target=B, controller={"pid": 7}))
    host.serves(B, A)
    host.time += 50
    taken, words = host.leases.claim(Request("older"))
    assert (taken.before, taken.holder, taken.target, taken.controller, words) == (A, "ann@desk", B, {"pid": 7}, "")
    assert taken.expires == 1050.0 + 3600


def test_the_last_call_of_a_dead_run_is_waited_for(host: Host) -> None:
    host.leases.claim(OLDER)
    host.acting = True
    with pytest.raises(LeaseError, match="Another run is acting on shop"):
        host.leases.claim(replace(YOUNGER, dead=["older"]))
    assert host.time - 1000.0 >= 8.0
    assert host.file()["run"] == "older"

    def finish() -> None:
        host.acting = False

    host.on_nap = finish
    assert host.leases.claim(replace(YOUNGER, dead=["older"]))[0].run == "younger"


def test_a_plan_for_another_release_takes_nothing(host: Host) -> None:
    host.serves(B, A)
    with pytest.raises(LeaseError, match=f"Value: {B} instead of {A}"):
        host.leases.claim(replace(OLDER, expect_current=A))
    with pytest.raises(LeaseError, match=f"Value: {B} instead of none"):
        host.leases.claim(replace(OLDER, expect_current=""))
    assert host.leases.read() is None
    host.leases.claim(replace(OLDER, expect_current=B))


def test_renewing_prolongs_the_lease_even_when_its_time_was_over(host: Host) -> None:
    host.leases.claim(OLDER)
    host.time += 9999
    assert host.leases.renew(replace(OLDER, target=B)).expires == host.time + 3600
    assert host.file()["target"] == B


def test_a_run_that_lost_its_lease_is_told_so_and_nothing_changes(host: Host) -> None:
    with pytest.raises(LeaseError, match="This run has no lease of shop on this host any more"):
        host.leases.renew(OLDER)
    assert host.leases.read() is None
    host.leases.claim(YOUNGER)
    held = host.file()
    with pytest.raises(LeaseError, match="run younger"):
        host.leases.renew(replace(OLDER, dead=["younger"]))
    assert not host.leases.end("older")
    assert host.file() == held


def test_who_has_no_lease_respects_that_of_others(host: Host) -> None:
    host.leases.refuse_foreign(None)
    host.leases.claim(OLDER)
    for request in (None, YOUNGER):
        with pytest.raises(LeaseError, match="run older"):
            host.leases.refuse_foreign(request)
    for request in (OLDER, replace(YOUNGER, takeover="older")):
        host.leases.refuse_foreign(request)
    host.leases.end_expired()
    assert host.leases.read() is not None
    host.time += 3600
    host.leases.refuse_foreign(None)
    host.leases.end_expired()
    assert host.leases.read() is None


def test_looking_tells_whether_a_lease_is_over_and_makes_no_folder(host: Host) -> None:
    assert host.leases.describe() is None
    assert not host.leases.end("older")
    assert not os.path.exists(host.layout.lib)
    host.leases.claim(OLDER)
    host.time += 3600
    described = host.leases.describe()
    assert described == {**host.file(), "expired": True}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"run": "", "started": 1, "expires": 2}',
        '{"run": "x", "started": "1", "expires": 2}',
        '{"run": "x", "started": 1, "expires": true}',
        '{"run": "x", "started": 1, "expires": 2, "holder": 3}',
        '{"run": "x", "started": 1, "expires": 2, "controller": []}',
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(host: Host, text: str) -> None:
    os.makedirs(os.path.dirname(host.layout.lease_file))
    Path(host.layout.lease_file).write_text(text)
    for act in (host.leases.describe, lambda: host.leases.claim(OLDER), lambda: host.leases.renew(OLDER)):
        with pytest.raises(LeaseError) as caught:
            act()
        assert str(caught.value).startswith("The lease of shop cannot be read: ")
        assert f"Value: {host.layout.lease_file}\n" in str(caught.value)
        assert "Next step: see that no run acts on shop, remove the file, then run again." in str(caught.value)
    assert Path(host.layout.lease_file).read_text() == text


def test_a_file_that_is_no_text_is_damaged_too(host: Host) -> None:
    os.makedirs(os.path.dirname(host.layout.lease_file))
    Path(host.layout.lease_file).write_bytes(b"\xff\xfe{}")
    with pytest.raises(LeaseError, match="cannot be read"):
        host.leases.read()


def test_a_lease_of_a_later_version_is_read(host: Host) -> None:
    os.makedirs(os.path.dirname(host.layout.lease_file))
    Path(host.layout.lease_file).write_text('{"run": "x", "started": 1, "expires": 2, "colour": "red", "before": null}')
    assert host.leases.read() == Lease("x", "", "", 1, 2)


def test_the_option_of_the_module_becomes_a_request() -> None:
    assert Request.of(None) is None
    option = {"run": "x", "started": None, "expect_current": "", "dead": ["y"], "wait": 1.0, "unknown": 1}
    assert Request.of(option) == Request("x", dead=["y"], wait=1.0, expect_current="")


def test_removing_an_application_leaves_nothing_behind_and_nobody_with_a_lock_on_nothing(host: Host) -> None:
    host.leases.claim(OLDER)
    inside, threads = [], []
    with host.leases._locked():

        def enter() -> None:
            with host.leases._locked():
                inside.append(os.path.exists(f"{host.layout.lease_file}.lock"))

        threads = [threading.Thread(target=enter) for _number in range(3)]
        for thread in threads:
            thread.start()
        for path in (host.layout.lease_file, f"{host.layout.lease_file}.lock"):
            os.unlink(path)
    for thread in threads:
        thread.join(10)
    assert inside == [True] * 3
    host.leases.remove()
    assert os.listdir(os.path.dirname(host.layout.lease_file)) == []


# -- two runs at once ------------------------------------------------------------------------------------------------------


def run_over(hosts: list[Layout], request: Request, started: Any = None, now: Callable[[], float] = time.time) -> bool:
    """Claims the hosts in order, as a controller does; lets go of all when one refuses."""
    claimed: list[Layout] = []
    for number, layout in enumerate(hosts):
        try:
            Leases(layout, now=now).claim(request)
        except LeaseError:
            for each in claimed:
                Leases(each).end(request.run)
            return False
        claimed.append(layout)
        if number == 0 and started is not None:
            started.wait(10)
    return True


def layouts(folder: Path, count: int) -> list[Layout]:
    return [Layout("shop", str(folder / str(n)), lib=str(folder / f"lib{n}")) for n in range(count)]


def claim_in_process(folder: str, name: str, started: float, barrier: Any, answers: Any) -> None:
    leases.POLL_SECONDS = 0.01
    (only,) = layouts(Path(folder), 1)
    barrier.wait(30)
    answers.put((name, run_over([only], Request(name, started=started, wait=0.3))))


def race_in_process(folder: str, name: str, started: float, backwards: bool, barrier: Any, answers: Any) -> None:
    leases.POLL_SECONDS = 0.01
    hosts = layouts(Path(folder), 3)
    answers.put(
        (name, run_over(hosts[::-1] if backwards else hosts, Request(name, started=started, wait=5.0), barrier))
    )


def answers_of(target: Any, arguments: list[tuple[Any, ...]], parties: int) -> dict[str, bool]:
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(parties), context.Queue()
    processes = [context.Process(target=target, args=(*each, barrier, answers)) for each in arguments]
    for process in processes:
        process.start()
    found = dict(answers.get(timeout=30) for _process in processes)
    for process in processes:
        process.join(10)
    return found


def test_of_many_processes_that_claim_one_host_at_the_same_moment_exactly_one_gets_it(tmp_path: Path) -> None:
    for turn in range(5):
        names = [f"run{number}" for number in range(4)]
        folder = str(tmp_path / str(turn))
        found = answers_of(claim_in_process, [(folder, name, 100.0 + i) for i, name in enumerate(names)], 4)
        (winner,) = [name for name, won in found.items() if won]
        lease = Leases(layouts(Path(folder), 1)[0]).read()
        assert lease is not None
        assert lease.run == winner


def test_of_two_processes_that_meet_from_both_ends_the_older_one_gets_all_hosts(tmp_path: Path) -> None:
    for turn in range(8):
        folder = tmp_path / str(turn)
        older_backwards = bool(turn % 2)
        found = answers_of(
            race_in_process,
            [(str(folder), "older", 100.0, older_backwards), (str(folder), "younger", 200.0, not older_backwards)],
            2,
        )
        assert found == {"older": True, "younger": False}
        held = [Leases(layout).read() for layout in layouts(folder, 3)]
        assert [lease.run if lease else None for lease in held] == ["older"] * 3


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(4)), st.permutations(range(4)), st.sampled_from([-1.0, 0.0, 1.0]))
def test_whatever_the_order_exactly_one_of_two_runs_gets_all_hosts(
    tmp_path_factory: pytest.TempPathFactory, first: list[int], second: list[int], later: float
) -> None:
    hosts = layouts(tmp_path_factory.mktemp("hosts"), 4)
    requests = [Request("one", started=100.0, wait=30.0), Request("two", started=100.0 + later, wait=30.0)]
    results: dict[str, bool] = {}

    def now() -> float:
        """Nobody needs to wait any longer once a run has all hosts."""
        return time.time() + (60.0 if any(results.values()) else 0.0)

    def run(request: Request, order: list[int]) -> None:
        results[request.run] = run_over([hosts[number] for number in order], request, now=now)

    poll, leases.POLL_SECONDS = leases.POLL_SECONDS, 0.002
    try:
        threads = [threading.Thread(target=run, args=each) for each in zip(requests, (first, second))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    finally:
        leases.POLL_SECONDS = poll
    (winner,) = [name for name, won in results.items() if won]
    held = [Leases(layout).read() for layout in hosts]
    assert [lease.run if lease else None for lease in held] == [winner] * 4
