# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd runner against recorded answers; no test here needs a running systemd."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils.systemd import (
    Completed,
    Systemd,
    SystemdError,
    ended,
    is_booted,
    parse_show,
    processes_of,
    run_command,
)


class Recorded:
    def __init__(self, *answers: Completed) -> None:
        self.answers = list(answers)
        self.calls: list[list[str]] = []

    def __call__(self, argv: Sequence[str], timeout: float) -> Completed:
        assert timeout > 0
        self.calls.append(list(argv))
        return self.answers.pop(0) if self.answers else Completed(0, "", "")


def test_show_asks_for_many_units_in_one_call() -> None:
    run = Recorded(
        Completed(0, "Id=a.service\nActiveState=active\n\nId=b.service\nActiveState=failed\nEnvironment=A=B\n", "")
    )
    shown = Systemd(run).show(["a.service", "b.service"], ["ActiveState", "Environment"])
    assert [shown["a.service"]["ActiveState"], shown["b.service"]["ActiveState"]] == ["active", "failed"]
    assert shown["b.service"]["Environment"] == "A=B"
    assert len(run.calls) == 1
    assert run.calls[0][:2] == ["systemctl", "--no-pager"]


def test_show_of_nothing_asks_nothing() -> None:
    run = Recorded()
    assert Systemd(run).show([]) == {}
    assert run.calls == []


def test_errors_name_the_command_and_its_words() -> None:
    run = Recorded(Completed(5, "", "Failed to start x.service: Unit x.service not found.\n"))
    with pytest.raises(SystemdError, match=r"systemctl --no-pager start -- x\.service failed: .* not found\.$"):
        Systemd(run).start("x.service")


def test_reset_failed_of_an_unknown_unit_is_no_error() -> None:
    Systemd(Recorded(Completed(1, "", "Failed to reset failed state of unit x: Unit x not loaded."))).reset_failed("x")
    with pytest.raises(SystemdError):
        Systemd(Recorded(Completed(1, "", "Access denied"))).reset_failed("x")


def test_stopping_what_has_just_ended_is_no_error() -> None:
    gone = "Failed to stop app-shop-drain-0.timer: Unit app-shop-drain-0.timer not loaded.\n"
    Systemd(Recorded(Completed(5, "", gone))).stop("app-shop.target", "app-shop-drain-0.timer")
    for words in (gone + "Failed to stop x: Access denied\n", ""):
        with pytest.raises(SystemdError):
            Systemd(Recorded(Completed(5, "", words))).stop("x", "app-shop-drain-0.timer")


def test_every_call_has_a_timeout() -> None:
    with pytest.raises(SystemdError, match=r"no answer within 0\.1 s"):
        run_command(["sleep", "5"], 0.1)
    with pytest.raises(SystemdError, match="No such file"):
        run_command(["/nonexistent/systemctl"], 1)


def test_journal_of_one_run_of_a_unit() -> None:
    run = Recorded(Completed(0, "", ""), Completed(0, "one\ntwo\n", ""))
    assert Systemd(run).journal("x.service", lines=5, since=12.5, invocation="abc") == ["one", "two"]
    assert run.calls[1][-3:] == ["_SYSTEMD_INVOCATION_ID=abc", "+", "INVOCATION_ID=abc"]
    assert "--since=@12.500000" in run.calls[1]


def test_parse_show_keeps_equal_signs_and_order() -> None:
    assert parse_show("A=1=2\n\nA=\n") == [{"A": "1=2"}, {"A": ""}]


@pytest.mark.parametrize(
    "tree",
    [
        "0::/system.slice/app-shop@1.service{}\n",
        "12:cpu:/\n1:name=systemd:/libpod-1/system.slice/app-shop@1.service{}\n0::/libpod-1\n",
        "4:memory:/\n1:name=systemd:/\n0::/machine/system.slice/system-app\\x2dshop.slice/app-shop@1.service{}\n",
    ],
    ids=["v2", "v1", "hybrid"],
)
def test_processes_with_any_arrangement_of_control_groups(tmp_path: Path, tree: str) -> None:
    for pid, text in {
        10: tree.format(""),
        11: tree.format("/worker"),
        12: tree.format("").replace("shop@1", "shop@12"),
        13: "0::/user.slice/user@0.service/app-shop@1.service\n",
    }.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(text)
    assert processes_of("app-shop@1.service", proc=str(tmp_path)) == [10, 11]


def test_processes_of_the_named_control_group_only(tmp_path: Path) -> None:
    for pid, path in {10: "/system.slice/x.service", 20: "/machine.slice/guest/system.slice/x.service"}.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(f"0::{path}\n")
    assert processes_of("x.service", "/system.slice/x.service", str(tmp_path)) == [10]
    assert processes_of("x.service", "/elsewhere", str(tmp_path)) == [10, 20]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"ActiveState": "active"}, ""),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, ""),
        ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "3"}, "it exited with status 3"),
        ({"ActiveState": "failed", "Result": "signal", "ExecMainStatus": "9"}, "it was ended by signal 9"),
        ({"ActiveState": "failed", "Result": "oom-kill"}, "systemd reports: oom-kill"),
        (
            {"ActiveState": "failed", "Result": "start-limit-hit", "ExecMainStatus": "1"},
            "it ended too often (last status 1)",
        ),
        ({"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}, "it exited with status 0"),
        ({"LoadState": "not-found", "ActiveState": "inactive"}, "the unit does not exist"),
    ],
)
def test_why_a_unit_ended(state: dict[str, str], words: str) -> None:
    assert ended(state) == words


def test_booted(tmp_path: Path) -> None:
    assert not is_booted(str(tmp_path))
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert is_booted(str(tmp_path))
