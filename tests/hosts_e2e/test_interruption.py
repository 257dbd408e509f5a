# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rollouts that end in the middle, and two at once: users never notice, and the next run completes or reverts without a hand.

Two hosts serve for the whole file. The plays run unchanged; `tests/callback/testbed_steps.py` ends them.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.tests.testbed import Bed, Played

from .conftest import TINY, Application
from .test_failures import descendants

HOSTS = ["bookworm1", "trixie1"]
LEASE = "/var/lib/pyfleet/leases/shop.json"
#: A host with this file finds versions that stand in it unhealthy.
UNHEALTHY = "/srv/unhealthy"
#: The people's own tasks take a host out of service, and put it back.
MARK = "/run/out-of-service"
#: Seconds until a health check that does not pass is given up.
SOON = {"app_health_deadline": 20}
#: Marks a step that does something on a host, where others are skipped.
DOES = " *"
ROUNDS = 5
_versions = itertools.count(2)


class Pair(Application):
    """The application on both hosts."""

    def __init__(self, on: Bed, folder: pathlib.Path, source: pathlib.Path) -> None:
        super().__init__(on, "shop", folder / "shop", ":".join(HOSTS))
        shutil.copytree(source, self.source)
        self.env = {**TINY, "BEHAVIOUR": f"unhealthy_by:{UNHEALTHY}"}
        tasks = {"before": f"touch {MARK}", "after": f"rm -f {MARK}"}
        for name, command in tasks.items():
            task = {"name": f"Tasks {name} the switch", "ansible.builtin.command": command, "changed_when": False}
            (folder / f"{name}.yml").write_text(json.dumps([task]), encoding="utf-8")
            self.variables[f"app_{name}_switch"] = str(folder / f"{name}.yml")
        self.variables.update(app_serial=1)
        self.folder = folder

    def next(self) -> str:
        """Changes the code; the version that it now has."""
        version = f"{next(_versions)}.0"
        self.change(version)
        return version

    def killed_at(self, number: int, step: str = "") -> Played:
        """A deployment whose controller dies in front of a step, and of this one."""
        file = self.folder / "steps"
        file.unlink(missing_ok=True)
        played = self.deploy(environment=self.stepping(TESTBED_STEPS=str(file), TESTBED_KILL_AT=str(number)))
        assert played.rc == -signal.SIGKILL, played.output[-3000:]
        last = file.read_text(encoding="utf-8").splitlines()[-1]
        assert step.removesuffix(DOES) in last, f"the run died in front of {last} instead of {step}"
        return played

    @staticmethod
    def stepping(**more: str) -> dict[str, str]:
        """The environment that counts steps."""
        return {"ANSIBLE_CALLBACKS_ENABLED": "testbed_events,testbed_steps", **more}

    def steps(self) -> list[str]:
        """The steps of an uninterrupted deployment, in order; those that do something are marked."""
        file = self.folder / "steps"
        file.unlink(missing_ok=True)
        self.deploy(environment=self.stepping(TESTBED_STEPS=str(file))).succeeded()
        steps: list[str] = []
        for line in file.read_text(encoding="utf-8").splitlines():
            if line != "*":
                steps.append(line)
            elif not steps[-1].endswith(DOES):
                steps[-1] += DOES
        return steps

    def versions(self) -> list[str]:
        """What the hosts serve, in their order."""
        return [str(self.ask(host=name).json()["version"]) for name in HOSTS]

    def leases(self) -> list[dict[str, Any]]:
        """The leases on the hosts."""
        hosts = [self.bed.host(name) for name in HOSTS]
        return [json.loads(host.read(LEASE)) for host in hosts if host.exists(LEASE)]

    def leftovers(self) -> dict[str, str]:
        """What a run left on the hosts that it should have taken away, by host."""
        current = "$(basename $(readlink /srv/pyfleet/shop/current))"
        look = (
            f"ls -d {LEASE} {MARK} /run/pyfleet/*.build /tmp/ansible* /tmp/pyfleet* ~/.ansible/tmp/* 2>/dev/null; "
            "systemctl list-units --no-legend --plain --state=failed 'app-shop*'; "
            "systemctl list-units --no-legend --plain 'app-shop@*' 'app-shop-*drain*' | "
            f'grep -vF "app-shop@{current}.service"; '
            'python3 -c \'import json; print(*[f"{name} {facts}" for name, facts in '
            'json.load(open("/srv/pyfleet/shop/state.json"))["releases"].items() if facts["result"] == "building"])\''
        )
        found = {name: self.bed.host(name).run(look, check=False).stdout.strip() for name in HOSTS}
        return {name: text for name, text in found.items() if text}

    def drained(self) -> None:
        """Waits until releases that drain have ended."""
        unit = "systemctl list-units --plain --no-legend --state=active,deactivating 'app-shop@*.service' | wc -l"
        for name in HOSTS:
            self.bed.host(name).wait_until(f'[ "$({unit})" = 1 ]')


class Watch:
    """Asks both hosts all the time, over new connections, and keeps what went wrong."""

    def __init__(self, app: Pair) -> None:
        self._app = app
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(name,), daemon=True) for name in HOSTS]
        self.errors: list[str] = []
        self.count = 0

    def _ask(self, host: str) -> None:
        while not self._stop.wait(0.1):
            try:
                self._app.ask(host=host, timeout=10).json()
            except (OSError, AssertionError) as error:
                self.errors.append(f"{time.time():.1f} {host}: {error!r}")
            self.count += 1

    def stop(self) -> None:
        """Ends, after the answers to the last questions."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def watching(app: Pair) -> Iterator[Watch]:
    """Users, as long as the block runs: none of them may notice anything."""
    watch = Watch(app)
    for thread in watch._threads:
        thread.start()
    try:
        yield watch
    finally:
        watch.stop()
    assert watch.errors == []
    assert watch.count > 5


def numbers(steps: list[str], words: str) -> list[int]:
    """The numbers of the steps with these words in their names."""
    return [number for number, step in enumerate(steps, 1) if words in step]


@pytest.fixture(scope="module")
def pair(
    provisioned: Bed, locked_apps: Callable[[str], pathlib.Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """The application of this file."""
    app = Pair(provisioned, tmp_path_factory.mktemp("interruption"), locked_apps("tiny"))
    for name in HOSTS:  # of controllers that died in other files
        provisioned.host(name)("rm -rf ~/.ansible/tmp/*")
    app.deploy().succeeded()
    yield app
    app.play("remove", variables={"app_remove_home": True}).succeeded()


@pytest.fixture
def app(pair: Pair) -> Pair:
    """The application: one version on both hosts, and nothing left of other tests."""
    for name in HOSTS:
        pair.bed.host(name)(f"rm -f {UNHEALTHY}")
    if pair.leftovers() or len(set(pair.versions())) != 1:  # a test failed half-way; this one is about something else
        for name in HOSTS:
            pair.bed.host(name)(f"rm -f {LEASE} {MARK}")
        pair.next()
        pair.deploy().succeeded()
        pair.drained()
    return pair


# -- the controller dies -------------------------------------------------------------------------------------------------------


def test_the_controller_dies_in_front_of_each_step_and_the_next_run_completes(app: Pair) -> None:
    app.next()
    steps = app.steps()
    # Dying in front of a step that does nothing is dying in front of the next one.
    boundaries = [number for number, step in enumerate(steps, 1) if step.endswith(DOES)]
    assert len(boundaries) > 12, steps
    print()
    with watching(app):
        for number in boundaries:
            step = steps[number - 1]
            (before,) = set(app.versions())
            new = app.next()
            app.killed_at(number, step)
            served = app.versions()
            assert set(served) <= {before, new}, (step, served)
            print(f"{number:3} {step}: {' '.join(served)}, {len(app.leases())} leases", flush=True)
            again = app.deploy()
            assert again.rc == 0, f"after the controller died in front of: {step}\n{again.output[-6000:]}"
            assert app.versions() == [new, new], step
            app.drained()
            assert app.leftovers() == {}, step
    assert len(app.steps()) > 5, "a run that finds everything done has steps as well"


def test_a_failed_run_after_a_dead_one_leads_back_to_what_served_before_both(app: Pair) -> None:
    app.next()
    steps = app.steps()
    (before,) = set(app.versions())
    ends = numbers(steps, "Tasks after the switch")
    finish = numbers(steps, "End the lease")[0]
    assert len(ends) == 2, steps
    second = app.bed.host(HOSTS[1])
    with watching(app):
        # the first host serves the new release, and the same deployment then fails on the second one
        new = app.next()
        app.killed_at(ends[0], steps[ends[0] - 1])
        assert app.versions() == [new, before]
        second.write(UNHEALTHY, new)
        failed = app.deploy(variables=SOON).failed()
        assert "- GET /health returned 500." in failed.message()
        assert app.versions() == [before, before]
        app.drained()
        assert app.leftovers() == {}

        # one or both hosts serve the new release, and the next deployment, of yet another one, fails on the first or second
        for number, served, broken in ((ends[0], 1, 0), (ends[1], 2, 0), (finish, 2, 1)):
            new = app.next()
            app.killed_at(number, steps[number - 1])
            assert app.versions() == [new] * served + [before] * (2 - served)
            bad = app.next()
            app.bed.host(HOSTS[broken]).write(UNHEALTHY, bad)
            failed = app.deploy(variables=SOON).failed()
            assert "- GET /health returned 500." in failed.message()
            assert app.versions() == [before, before], (steps[number - 1], broken)
            app.drained()
            assert app.leftovers() == {}, (steps[number - 1], broken)


def test_the_controller_dies_while_a_host_switches_and_the_next_runs_complete(app: Pair) -> None:
    (before,) = set(app.versions())
    new = app.next()
    with watching(app):
        killed = app.deploy({"BEHAVIOUR": "slow:3"}, during=lambda process: kill(process, app, HOSTS[0]))
        assert killed.rc == -signal.SIGKILL
        assert app.versions() == [before, before]
        again = app.deploy({"BEHAVIOUR": "slow:3"})
        if again.rc != 0:  # it looked before the dead run's last call had switched the host, and waited for that
            assert "Another release of shop serves now than when the plan was made." in again.message()
            assert again.changed == 0
            app.deploy({"BEHAVIOUR": "slow:3"}).succeeded()
    assert app.versions() == [new, new]
    app.drained()
    assert app.leftovers() == {}


def switching(app: Pair, name: str) -> None:
    """Waits until a host runs two releases."""
    app.bed.host(name).wait_until(
        "[ $(systemctl list-units --plain --no-legend --state=active 'app-shop@*.service' | wc -l) = 2 ]", 120
    )


def kill(process: subprocess.Popen[str], app: Pair, name: str) -> None:
    """Kills ansible-playbook while a host switches."""
    switching(app, name)
    for pid in descendants(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


#: A build that waits as long as the file is there, and notes its beginning and its end.
HOLD = "/srv/hold"
BUILDS = "/srv/pyfleet/shop/home/builds"
SLOW_BUILD = {
    "CC_PRE_BUILD_HOOK": f"echo begin >> {BUILDS}; while [ -e {HOLD} ]; do sleep 0.1; done; echo end >> {BUILDS}"
}


def test_the_controller_dies_while_the_hosts_build_and_the_next_run_builds_alone(app: Pair) -> None:
    (before,) = set(app.versions())
    new = app.next()
    for name in HOSTS:
        app.bed.host(name)(f"rm -f {BUILDS}; touch {HOLD}")

    def both_build(times: int) -> None:
        for name in HOSTS:
            app.bed.host(name).wait_until(f"[ $(grep -c begin {BUILDS}) = {times} ]")

    def die(process: subprocess.Popen[str]) -> None:
        both_build(1)
        for pid in descendants(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def go_on(_process: subprocess.Popen[str]) -> None:
        both_build(2)
        for name in HOSTS:
            app.bed.host(name)(f"rm -f {HOLD}")

    with watching(app):
        killed = app.deploy(SLOW_BUILD, during=die)
        assert killed.rc == -signal.SIGKILL
        assert app.versions() == [before, before]
        again = app.deploy(SLOW_BUILD, during=go_on).succeeded()
    assert "A build of an earlier run, which broke off, was still going on here" in " ".join(again.output.split())
    assert app.versions() == [new, new]
    for name in HOSTS:
        # The build of the dead run never went on beside the other one, in the same directory.
        assert app.bed.host(name).read(BUILDS).split() == ["begin", "begin", "end"]
    app.drained()
    assert app.leftovers() == {}


# -- the connection, the host ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1], ids=["first_host", "second_host"])
def test_a_connection_lost_while_a_host_switches_leaves_one_version(app: Pair, place: int) -> None:
    (before,) = set(app.versions())
    new = app.next()

    def lose(_process: subprocess.Popen[str]) -> None:
        switching(app, HOSTS[place])
        app.bed.host(HOSTS[place])("systemd-run --quiet --collect sh -c 'sleep 0.3; pkill -KILL -f ^sshd.*:.root'")

    with watching(app):
        lost = app.deploy({"BEHAVIOUR": "slow:3"}, during=lose).failed()
        assert "is lost" in lost.message()
        assert all(counts["unreachable"] == 0 for counts in lost.stats.values()), lost.stats
        assert app.versions() == [before, before]
        app.deploy({"BEHAVIOUR": "slow:3"}).succeeded()
    assert app.versions() == [new, new]
    app.drained()
    assert app.leftovers() == {}


def test_a_host_that_reboots_while_it_switches_comes_back_and_the_next_run_completes(app: Pair) -> None:
    (before,) = set(app.versions())
    new = app.next()
    rebooted = threading.Event()

    def reboot(_process: subprocess.Popen[str]) -> None:
        switching(app, HOSTS[1])
        app.bed.reboot(HOSTS[1])
        rebooted.set()

    failed = app.deploy({"BEHAVIOUR": "slow:3"}, during=reboot).failed()
    assert rebooted.is_set()
    app.bed.host(HOSTS[1]).wait_until("curl -sf localhost:8080/health", 60)
    assert set(app.versions()) <= {before, new}, failed.output[-3000:]
    app.deploy({"BEHAVIOUR": "slow:3"}).succeeded()
    assert app.versions() == [new, new]
    app.drained()
    assert app.leftovers() == {}


# -- two at once -----------------------------------------------------------------------------------------------------------------


def test_of_two_runs_that_start_together_one_wins_and_the_other_changes_nothing(
    app: Pair, tmp_path: pathlib.Path
) -> None:
    other = Pair(app.bed, tmp_path, app.source)
    won: list[str] = []
    with watching(app), concurrent.futures.ThreadPoolExecutor(2) as pool:
        for _round in range(ROUNDS):
            versions = [app.next(), other.next()]
            played = list(pool.map(lambda each: each.deploy(), (app, other)))
            good = [number for number, each in enumerate(played) if each.rc == 0]
            assert len(good) == 1, "\n".join(each.output[-3000:] for each in played)
            winner, loser = good[0], played[1 - good[0]]
            won.append("ab"[winner])
            assert app.versions() == [versions[winner]] * 2
            assert loser.changed == 0
            # The loser waits for a younger run, which may even have ended before its patience does.
            held = "Another run holds shop on this host" in loser.message()
            assert held or "Another run held shop on this host meanwhile" in loser.message(), loser.message()
            assert "app_lease_takeover=" in loser.message() or not held
            app.drained()
            assert app.leftovers() == {}
            known = [json.loads(app.bed.host(name).read("/srv/pyfleet/shop/state.json"))["releases"] for name in HOSTS]
            assert all(facts["result"] == "good" for state in known for facts in state.values())
    print(f"\nwinners of {ROUNDS} rounds: {' '.join(won)}")


def test_a_dead_run_of_another_controller_is_taken_over_by_name_or_when_its_lease_ends(
    app: Pair, tmp_path: pathlib.Path
) -> None:
    # Another controller is a process space of its own: from here nobody can see whether its run lives.
    elsewhere = tmp_path / "elsewhere"
    # Its first process cannot be killed from within, so that is a shell.
    inside = "unshare --pid --fork --kill-child --mount-proc sh -c 'ansible-playbook \"$@\"; exit $?' sh"
    elsewhere.write_text(f'#!/bin/sh\nexec {inside} "$@"\n')
    elsewhere.chmod(0o755)
    app.next()
    middle = numbers(app.steps(), "Tasks after the switch")[0]

    def die_elsewhere(seconds: int) -> str:
        new = app.next()
        dead = app.deploy(
            ansible_playbook=str(elsewhere),
            environment=app.stepping(TESTBED_KILL_AT=str(middle)),
            variables={"app_lease_seconds": seconds},
        )
        assert dead.rc != 0
        assert len(app.leases()) == 2
        return new

    new = die_elsewhere(3600)
    lease = app.leases()[0]
    with watching(app):
        served = app.versions()
        refused = app.deploy().failed()
        assert refused.changed == 0
        for word in (lease["run"], lease["holder"], "deploy", f"-e app_lease_takeover={lease['run']}"):
            assert word in refused.message()
        assert app.versions() == served
        assert {each["run"] for each in app.leases()} == {lease["run"]}, "the loser left the leases as they were"
        app.deploy(variables={"app_lease_takeover": "000000000000"}).failed()
        taken = app.deploy(variables={"app_lease_takeover": lease["run"]}).succeeded()
        assert lease["run"] in taken.output, "whoever takes over is told from whom"
        assert app.versions() == [new, new]
        app.drained()
        assert app.leftovers() == {}

        new = die_elsewhere(60)
        for name in HOSTS:  # its time is over
            host = app.bed.host(name)
            host.write(LEASE, json.dumps({**json.loads(host.read(LEASE)), "expires": time.time() - 1}))
        lease = app.leases()[0]
        taken = app.deploy().succeeded()
        assert lease["run"] in taken.output
        assert app.versions() == [new, new]
        app.drained()
        assert app.leftovers() == {}


def test_what_a_dead_run_left_does_not_keep_the_application_from_being_removed(app: Pair) -> None:
    app.next()
    lease = numbers(app.steps(), "Take the lease")[0]
    app.next()
    app.killed_at(lease + 1)
    assert len(app.leases()) == 2
    app.play("remove").succeeded()
    assert app.leases() == []
    assert not any(app.bed.host(name).exists("/srv/pyfleet/shop/releases") for name in HOSTS)
    app.deploy().succeeded()
