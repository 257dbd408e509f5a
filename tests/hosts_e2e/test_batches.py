# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One script over many inputs on many hosts (H7): a host and the controller die midway, limits hold, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.tests.hosts.hosts import Run
from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.testbed import Bed, Played, run_name

from .test_failures import descendants

pytestmark = pytest.mark.rule("H7")
SCRIPTS = CHECKOUT / "tests" / "fixtures" / "scripts"
TEN = {f"web{number}": "bookworm" for number in range(1, 11)}
SECRET = "pl4nted-hunter2"
#: Lists a host's shards that run, and fails where there is none.
RUNNING = "systemctl list-units --plain --no-legend --state=active 'batch-squares-*' | grep ."


@pytest.fixture(scope="module")
def ten() -> Iterator[Bed]:
    """Ten hosts with uv, in a run of their own: other tests play on all hosts that there are."""
    crowd = Bed(f"{run_name()}-ten")
    crowd.up(**TEN)
    crowd.play("playbooks/provision.yml").succeeded()
    yield crowd
    Run(crowd.name).down()


class Batch:
    """A batch and its results."""

    def __init__(self, on: Bed, folder: pathlib.Path, script: str, **variables: Any) -> None:
        self.bed = on
        self.results = folder / "results"
        self.script = folder / script
        shutil.copy(SCRIPTS / script, self.script)
        name = script.partition(".")[0]
        self.variables: dict[str, Any] = {
            "batch_name": name,
            "batch_script": str(self.script),
            "batch_results": str(self.results),
        }
        self.variables.update(batch_progress_seconds=1, **variables)

    def run(self, **options: Any) -> Played:
        """Runs it; the result is not judged."""
        variables = {**self.variables, **options.pop("variables", {})}
        return self.bed.play("playbooks/batch.yml", variables, verbosity=options.pop("verbosity", 4), **options)

    def summary(self) -> dict[str, Any]:
        """What became of it."""
        summary: dict[str, Any] = json.loads((self.results / "summary.json").read_text())
        return summary

    def state(self) -> dict[str, Any]:
        """The state, while it runs, too."""
        with contextlib.suppress(FileNotFoundError):
            state: dict[str, Any] = json.loads((self.results / "batch.json").read_text())
            return state
        return {"shards": []}

    def wait(self, condition: Callable[[list[dict[str, Any]]], bool], seconds: float = 60) -> None:
        """Waits until the shards are so."""
        deadline = time.monotonic() + seconds
        while not condition(self.state()["shards"]):
            assert time.monotonic() < deadline, self.state()
            time.sleep(0.05)


def left(bed: Bed, host: str) -> str:
    """What batches left on a host."""
    look = "ls -d /var/lib/pyfleet/batches/*-* /run/pyfleet/batch-*; systemctl list-units --no-legend --plain --all 'batch-*'"
    return bed.host(host).run(f"{look} 2>/dev/null", check=False).stdout


def test_h7_the_page_runs_as_it_is_written(provisioned: Bed, tmp_path: pathlib.Path) -> None:
    page = (CHECKOUT / "docs" / "batches.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert [name for name, _text in blocks] == ["squares.py", "squares.yml"]
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    programs = f"{CHECKOUT}/.venv/bin:/usr/bin:/bin"
    environment = provisioned.environment({"PATH": programs})
    del environment["ANSIBLE_CALLBACKS_ENABLED"]
    script = commands.replace("-i inventory.yml", f"-i {provisioned.inventory} --limit bookworm1,trixie1")
    done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "batch squares: 10 of 10 shards done" in done.stdout
    assert done.stdout.splitlines()[-20:] == [f"{number} {number * number:,}" for number in range(1000, 1020)]
    assert len(list(tmp_path.glob("batch-squares/shards/*/files/*.txt"))) == 20


def test_h7_a_run_that_broke_off_is_taken_up_where_it_was(provisioned: Bed, tmp_path: pathlib.Path) -> None:
    hosts = ["bookworm1", "bullseye1", "forky1", "trixie1"]
    limit = ",".join(hosts)
    variables = {"batch_inputs": "\n".join(map(str, range(8))), "batch_env": {"PACE": 8, "TOKEN": SECRET}}
    work = Batch(provisioned, tmp_path, "squares.py", **variables)
    killed: list[float] = []

    def kill(process: subprocess.Popen[str]) -> None:
        for name in hosts:
            provisioned.host(name).wait_until(RUNNING)
        time.sleep(1.5)  # until each has said when it began
        for pid in descendants(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed.append(time.time())

    assert work.run(limit=limit, during=kill).rc == -signal.SIGKILL
    refused = work.run(limit=limit, variables={"batch_env": {"PACE": 0.1, "TOKEN": SECRET}}).failed()
    assert "The folder of results holds another batch" in refused.message()
    assert SECRET not in work.run(limit=limit).succeeded().output
    assert work.summary()["done"] == 8
    times = [(path.parent / "stderr").read_text().split() for path in work.results.glob("shards/*/stdout")]
    # Four were running when the controller died: their hosts went on, and nobody ran them a second time.
    over = [float(began) < killed[0] < float(ended) for began, ended in times]
    assert sum(over) == 4, times
    assert work.summary()["remarkable"] == {}
    assert [left(provisioned, name) for name in hosts] == [""] * 4
    # From the beginning: what was there keeps a folder of its own.
    anew = {"batch_env": {"PACE": 0, "TOKEN": SECRET}, "batch_restart": True}
    played = work.run(limit=limit, variables=anew).succeeded()
    assert "The earlier results are in" in played.output
    assert len(list(tmp_path.glob("results.*/stdout"))) == 1
    assert (work.results / "stdout").read_text().splitlines()[3] == "3 9"


def test_h7_limits_are_told_and_what_is_done_stays_done(provisioned: Bed, tmp_path: pathlib.Path) -> None:
    hosts = ["bookworm1", "trixie1"]
    (tmp_path / "greeting.txt").write_text("hello\n")
    (tmp_path / "moods.txt").write_text("greedy\nslow\nbroken\nlarge\nfine\n")
    variables = {
        "batch_inputs_file": str(tmp_path / "moods.txt"),
        "batch_input_mode": "stdin",
        "batch_arguments": ["$HOME %h"],
        "batch_files": [str(tmp_path / "greeting.txt")],
        "batch_env": {"TOKEN": SECRET},
        "batch_memory_max": "64M",
        "batch_timeout": 3,
        "batch_attempts": 2,
        "batch_slots": 2,
        "ansible_user": "deploy",
    }
    work = Batch(provisioned, tmp_path, "moods.py", **variables)
    uv = str(CHECKOUT / ".venv" / "bin" / "uv")
    subprocess.run([uv, "lock", "--quiet", "--script", work.script.name], cwd=tmp_path, check=True)
    failed = work.run(limit=",".join(hosts)).failed()
    told = failed.message()
    # The hosts of this machine may have no controller for memory (tests/hosts, cgroup v1 and v2 at once); nobody is told that they had.
    limited = "memory" in provisioned.host("bookworm1").read("/sys/fs/cgroup/cgroup.controllers").split()
    assert ("was killed because it used more memory than batch_memory_max=64M" in told) == limited
    assert ("batch_memory_max has no effect" in " ".join(failed.output.split())) == (not limited)
    assert "ran longer than batch_timeout=3 seconds and was ended" in told
    assert "ended with exit status 1" in told
    assert SECRET not in failed.output
    # Each was tried on both hosts.
    tries = work.summary()["remarkable"]
    broken = ("0", "1", "2") if limited else ("1", "2")
    assert tuple(tries) == broken
    assert all({each["host"] for each in entry["tries"]} == set(hosts) for entry in tries.values())
    assert work.summary()["done"] == 5 - len(broken)
    kept = (work.results / "shards" / "00002" / "error").read_text()
    assert re.search(r"^    no \S+ today$", kept, re.MULTILINE)
    assert SECRET not in kept
    noise = work.results / "shards" / "00003" / "files" / "noise"
    assert noise.stat().st_size == 1024 * 1024
    written = noise.stat().st_mtime_ns
    try:
        for name in hosts:
            provisioned.host(name)("touch /srv/mended")
        work.run(limit=",".join(hosts)).succeeded()
    finally:
        for name in hosts:
            provisioned.host(name)("rm -f /srv/mended")
    assert (work.results / "stdout").read_text().splitlines() == [
        f"$HOME %h hello {mood}" for mood in ("greedy", "slow", "broken", "large", "fine")
    ]
    assert noise.stat().st_mtime_ns == written
    assert [left(provisioned, name) for name in hosts] == ["", ""]


def test_h7_two_controllers_at_one_batch_do_not_end_each_others_shards(
    provisioned: Bed, tmp_path: pathlib.Path
) -> None:
    hosts = ["bookworm1", "trixie1"]
    variables = {"batch_inputs": [1, 2, 3, 4], "batch_env": {"PACE": 6, "TOKEN": SECRET}}
    (tmp_path / "other").mkdir()
    work = Batch(provisioned, tmp_path, "squares.py", **variables)
    other = Batch(provisioned, tmp_path / "other", "squares.py", **variables)
    refused: list[Played] = []

    def meanwhile(_process: subprocess.Popen[str]) -> None:
        work.wait(lambda shards: sum(each["state"] == "claimed" for each in shards) == 2)
        for name in hosts:
            provisioned.host(name).wait_until(RUNNING)
        refused.append(other.run(limit=",".join(hosts)))

    work.run(limit=",".join(hosts), during=meanwhile).succeeded()
    told = refused[0].failed().message()
    assert all(
        f"{name} is out (failed): Another batch named squares is at work on this host." in told for name in hosts
    )
    assert (work.summary()["done"], work.summary()["remarkable"]) == (4, {})
    assert other.summary()["done"] == 0
    # The first has gone, and left nothing in the way of the other one.
    other.run(
        limit=",".join(hosts), variables={"batch_env": {"PACE": 0, "TOKEN": SECRET}, "batch_restart": True}
    ).succeeded()
    assert [left(provisioned, name) for name in hosts] == ["", ""]


def test_h7_a_controller_without_space_blames_no_shard_and_fetches_later(
    provisioned: Bed, tmp_path: pathlib.Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes a small file system")
    variables = {"batch_inputs": ["large"] * 4, "batch_attempts": 1, "batch_input_mode": "stdin"}
    (tmp_path / "greeting.txt").write_text("hello\n")
    work = Batch(
        provisioned,
        tmp_path,
        "moods.py",
        batch_files=[str(tmp_path / "greeting.txt")],
        **variables,
        batch_arguments=["x"],
    )
    work.results.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2500k,mode=700", "none", str(work.results)], check=True)
    try:
        told = work.run(limit="bookworm1").failed().message()
        assert "the controller cannot keep results in" in told
        assert "No space left on device" in told
        assert 0 < sum(each["state"] == "done" for each in work.state()["shards"]) < 4
        subprocess.run(["mount", "-o", "remount,size=16m", str(work.results)], check=True)
        work.run(limit="bookworm1").succeeded()
        assert [len(each["tries"]) for each in work.state()["shards"]] == [1] * 4
        assert work.summary()["remarkable"] == {}
        assert left(provisioned, "bookworm1") == ""
    finally:
        subprocess.run(["umount", str(work.results)], check=True)


def test_h7_of_ten_hosts_one_dies_midway_and_nothing_is_lost(ten: Bed, tmp_path: pathlib.Path) -> None:
    numbers = list(range(1000, 1080))
    variables = {"batch_inputs": numbers, "batch_shard_size": 2, "batch_env": {"PACE": 0.7, "TOKEN": SECRET}}
    work = Batch(ten, tmp_path, "squares.py", batch_memory_max="256M", batch_cpu_quota="50%", **variables)
    predicted = work.run(check=True, variables={"target": "web*"}).succeeded()
    assert "40 of 40 shards with 80 inputs are left for 10 hosts" in predicted.output
    assert not work.results.exists()
    seen: dict[str, str] = {}

    def disturb(_process: subprocess.Popen[str]) -> None:
        work.wait(lambda shards: sum(each["state"] == "done" for each in shards) >= 8)
        work.wait(lambda shards: any(each["state"] == "claimed" and each["host"] == "web3" for each in shards))
        ten.kill("web3")
        unit = ten.host("web5").wait_until(RUNNING)
        shown = ten.host("web5").run(
            f"systemctl show {unit.split()[0]}; systemctl cat {unit.split()[0]}; ps axeww", check=False
        )
        seen.update(unit=shown.stdout, limits=ten.host("web5")(f"systemctl show -p MemoryMax {unit.split()[0]}"))

    try:
        played = work.run(variables={"target": "web*"}, during=disturb).succeeded()
        summary = work.summary()
        assert (summary["outcome"], summary["done"], summary["left"]) == ("succeeded", 40, 0)
        assert (work.results / "stdout").read_text() == "".join(f"{number} {number * number:,}\n" for number in numbers)
        written = {path.name: path.read_text() for path in work.results.glob("shards/*/files/*")}
        assert written == {f"{number}.txt": SECRET[:4] for number in numbers}
        assert summary["hosts"].pop("web3")["state"] == "lost"
        assert {entry["state"] for entry in summary["hosts"].values()} == {"left"}
        again = [each["tries"] for each in summary["remarkable"].values()]
        assert [tries[0]["host"] for tries in again] == ["web3"]
        assert [(tries[1]["host"] != "web3", tries[1]["how"]) for tries in again] == [(True, "")]
        assert "batch squares: 40 of 40 shards done, 1 retried, without web3" in played.output
        # Everybody had a share.
        assert {each["tries"][-1]["host"] for each in work.state()["shards"]} >= set(TEN) - {"web3"}
        assert SECRET not in played.output
        assert "MemoryMax=268435456" in seen["limits"]
        # The process itself has it in its environment, which only root and its own user can read, and nobody else has.
        assert SECRET not in "\n".join(
            line for line in seen["unit"].splitlines() if "/start" not in line and "squares.py" not in line
        )
        assert [left(ten, name) for name in TEN if name != "web3"] == [""] * 9
        # All is done, so no host is asked: the dead one is in nobody's way.
        assert work.run(variables={"target": "web*"}).succeeded().changed == 0
    finally:
        ten.reset("web3")
