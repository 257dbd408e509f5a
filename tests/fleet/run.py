#!/usr/bin/env python3
# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rollouts to a large fleet of real systemd hosts, timed; and how their cost grows with the number of hosts.

    run.py                          50 hosts: all scenarios there, and sizes 1, 5, 10, 25, 50
    run.py --hosts 10               sizes up to 10
    run.py --hosts 10 --sizes ''    the scenarios on 10 hosts only
    run.py --svg docs/fleet-scaling.svg

Makes its own hosts (the run `fleet`) and removes them, unless --keep. Every claim about what serves is asked of every host
over HTTP. Ends with 1 when a scenario did not go as it has to. The figures are this machine's, which carries hosts and controller;
docs/benchmark.md tells how to read them.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

if not __package__:  # started as a script
    _ROOT = pathlib.Path(__file__).resolve().parents[2]
    sys.path[0] = str(_ROOT / ".work" / "collections")
    __package__ = "ansible_collections.pyfleet.runtime.tests.fleet"

from ansible_collections.pyfleet.runtime.tests.benchmark import counting
from ansible_collections.pyfleet.runtime.tests.benchmark.recorder import Recorder
from ansible_collections.pyfleet.runtime.tests.fleet import measuring, report
from ansible_collections.pyfleet.runtime.tests.hosts.hosts import Run
from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.testbed import Bed, Played
from ansible_collections.pyfleet.runtime.tests.tools.prepare_app import prepare

WORK = CHECKOUT / ".work" / "fleet"
SUITE = "bookworm"
SIZES = (1, 5, 10, 25, 50)
#: A host on which versions are broken has them in this file.
BROKEN = "/etc/fleet-broken"
#: Hosts per batch where a batch is to fail: the third one is neither the canary's nor the last.
BATCHES = (1, "20%", "40%")


class FleetError(Exception):
    """A scenario went otherwise than it has to."""


def expect(condition: bool, words: str) -> None:
    """Raises FleetError unless it is so."""
    if not condition:
        raise FleetError(words)


def batches(hosts: Sequence[str], serial: Sequence[int | str] = BATCHES) -> list[list[str]]:
    """The hosts as Ansible makes batches of them: the last size holds until all are spent."""
    left = list(hosts)
    made: list[list[str]] = []
    while left:
        size = serial[min(len(made), len(serial) - 1)]
        count = max(1, int(len(hosts) * int(size[:-1]) / 100)) if isinstance(size, str) else size
        made.append(left[:count])
        left = left[count:]
    return made


@dataclasses.dataclass(frozen=True)
class Served:
    """What a host answers: the version, the release, and the process behind it."""

    version: str
    release: str
    pid: int


class Fleet:
    """Hosts of one run, and one application on the first so many of them."""

    def __init__(self, bed: Bed, hosts: Sequence[str], source: pathlib.Path, recorder: Recorder) -> None:
        self.bed = bed
        self.hosts = list(hosts)
        self.source = source
        self.recorder = recorder
        self.measured: list[report.Measurement] = []
        self._number = 0

    # -- what it runs

    def run(
        self, scenario: str, playbook: str, hosts: Sequence[str], variables: Mapping[str, Any] | None = None
    ) -> Played:
        """Runs a playbook on some hosts and notes what it cost; the result is not judged."""
        run = Run(self.bed.name)
        for host in run.chosen(hosts):
            run.hang_up(host)  # every run makes its own connections, as somebody does who deploys now and then
        self.recorder.clear()
        meter, load, began = measuring.Meter(run, hosts), measuring.load(), time.time()
        watchers = []

        def during(process: subprocess.Popen[str]) -> None:
            watchers.append(meter.watch(process.pid))

        with meter.measuring() as cost:
            played = self.bed.play(
                f"playbooks/{playbook}.yml",
                variables,
                limit=",".join(hosts),
                environment=self.recorder.environment,
                during=during,
                timeout=3600,
            )
        for watcher in watchers:
            watcher.join()
        modules, _commands = counting.most(self.recorder.trips())
        times = [(event.play, event.time) for event in played.events]
        figures = {name: round(value, 2) for name, value in dataclasses.asdict(cost).items()}
        measurement = report.Measurement(
            scenario,
            len(hosts),
            **figures,
            modules=modules,
            load=round(load, 2),
            plays=report.plays(times, began),
        )
        self.measured.append(measurement)
        (WORK / f"{len(self.measured):02}-{scenario}-{len(hosts)}.log").write_text(played.output, encoding="utf-8")
        print(
            f"{report.TITLES[scenario]:56} {len(hosts):3} hosts  {cost.seconds:6.1f} s  {cost.memory:5.0f} MB  {modules:2} modules  "
            f"CPU {cost.controller_cpu:5.1f} s + {cost.hosts_cpu:5.1f} s  load {load:.1f}",
            flush=True,
        )
        return played

    def deploy(self, scenario: str, hosts: Sequence[str], **variables: Any) -> Played:
        """Deploys the application as it now is."""
        return self.run(scenario, "deploy", hosts, {**self._variables(), **variables})

    def remove(self, hosts: Sequence[str]) -> None:
        """Removes the application; not measured."""
        variables = {**self._variables(), "app_remove_home": True}
        self.bed.play("playbooks/remove.yml", variables, limit=",".join(hosts)).succeeded()

    def _variables(self) -> dict[str, Any]:
        return {
            "app_name": "fleet",
            "app_source": {"path": str(self.source)},
            "app_env": {
                "CC_PYTHON_UV_RUN_COMMAND": "uv run python server.py",
                "CC_HEALTH_CHECK_PATH": "/health",
                "BEHAVIOUR": f"unhealthy_by:{BROKEN}",
            },
            "app_switch": "side_by_side",
            "app_drain_seconds": 2,
            "app_stop_seconds": 5,
            "app_health_deadline": 15,
        }

    # -- the application

    @property
    def version(self) -> str:
        """What the source's code answers with."""
        return f"1.0.{self._number}"

    def change(self) -> str:
        """Another version of the code; returns it."""
        self._number += 1
        (self.source / "VERSION").write_text(f"{self.version}\n")
        return self.version

    # -- what the hosts say

    def ask(self, hosts: Sequence[str]) -> dict[str, Served]:
        """What each host serves to the outside, asked over HTTP.

        Raises:
            FleetError: one of them does not answer.
        """

        def one(name: str) -> Served:
            try:
                with urllib.request.urlopen(self.bed.host(name).url(), timeout=20) as answer:
                    given = json.load(answer)
            except OSError as error:
                raise FleetError(f"{name} does not answer: {error}") from error
            return Served(given["version"], given["release"], given["pid"])

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            return dict(zip(hosts, pool.map(one, hosts), strict=True))

    def everywhere(self, hosts: Sequence[str], version: str) -> dict[str, Served]:
        """Makes sure that every host serves this version, and one release; returns the answers."""
        answers = self.ask(hosts)
        versions = {answer.version for answer in answers.values()}
        expect(versions == {version}, f"the hosts serve {sorted(versions)} instead of {version} everywhere")
        expect(len({answer.release for answer in answers.values()}) == 1, f"{version} is not one release everywhere")
        return answers

    @contextlib.contextmanager
    def broken(self, hosts: Sequence[str], version: str) -> Iterator[None]:
        """While this lasts, the version is unhealthy on some hosts."""
        for name in hosts:
            self.bed.host(name).write(BROKEN, f"{version}\n")
        try:
            yield
        finally:
            for name in hosts:
                self.bed.host(name)(f"rm -f {BROKEN}")


# -- scenarios ----------------------------------------------------------------------------------------------------------------


def first(fleet: Fleet, hosts: Sequence[str]) -> None:
    """The first deployment."""
    version = fleet.change()
    fleet.deploy("first", hosts).succeeded()
    fleet.everywhere(hosts, version)


def code(fleet: Fleet, hosts: Sequence[str]) -> None:
    """Other code."""
    before = fleet.ask(hosts)
    version = fleet.change()
    fleet.deploy("code", hosts).succeeded()
    after = fleet.everywhere(hosts, version)
    expect(all(after[name].pid != before[name].pid for name in hosts), "a host still runs the old process")


def none(fleet: Fleet, hosts: Sequence[str]) -> None:
    """The same again: nothing happens."""
    before = fleet.everywhere(hosts, fleet.version)
    played = fleet.deploy("none", hosts).succeeded()
    expect(played.changed == 0, f"{played.changed} tasks changed something where nothing was to change")
    expect(len(played.stats) == len(hosts), "not every host took part")
    expect(fleet.ask(hosts) == before, "a process was replaced")


def canary(fleet: Fleet, hosts: Sequence[str]) -> None:
    """The first host cannot run the new code: nobody else is switched, and the same processes go on everywhere."""
    before = fleet.ask(hosts)
    version = fleet.change()
    with fleet.broken(hosts[:1], version):
        played = fleet.deploy("canary", hosts, app_health_deadline=5).failed()
    expect(fleet.ask(hosts) == before, "something changed although the canary failed")
    expect(hosts[0] in played.output, "the report does not name the canary")


def batch(fleet: Fleet, hosts: Sequence[str]) -> None:
    """A host of the third batch cannot run the new code: those that were switched go back, the others never notice."""
    before = fleet.ask(hosts)
    made = batches(hosts)
    expect(len(made) >= 3, f"{len(hosts)} hosts are too few for a third batch")
    switched, untouched = [*made[0], *made[1]], [name for later in made[3:] for name in later]
    failing = made[2][-1]
    version = fleet.change()
    with fleet.broken([failing], version):
        played = fleet.deploy("batch", hosts, app_health_deadline=5, app_serial=list(BATCHES)).failed()
    after = fleet.ask(hosts)
    for name in hosts:
        expect(after[name].version == before[name].version, f"{name} serves {after[name].version} after the rollback")
        expect(after[name].release == before[name].release, f"{name} serves another release after the rollback")
    for name in [failing, *untouched]:
        expect(after[name] == before[name], f"{name} was touched")
    back = [name for name in switched if after[name].pid != before[name].pid]
    expect(back == switched, "hosts of the first two batches were never switched, so that nothing went back")
    expect(failing in played.output, "the report does not name the host that failed")


def recovery(fleet: Fleet, hosts: Sequence[str]) -> None:
    """The code that failed, once it works on all hosts."""
    fleet.deploy("recovery", hosts).succeeded()
    fleet.everywhere(hosts, fleet.version)


GROWING: Mapping[str, Callable[[Fleet, Sequence[str]], None]] = {"first": first, "code": code, "none": none}
AFTERWARDS: Mapping[str, Callable[[Fleet, Sequence[str]], None]] = {
    "canary": canary,
    "batch": batch,
    "recovery": recovery,
}


def provision(fleet: Fleet, sizes: Sequence[int]) -> None:
    """Provisions all hosts, the first so many first, so that there are figures for several numbers of plain hosts."""
    done = 0
    for size in sizes:
        fleet.run("provision", "provision", fleet.hosts[done:size]).succeeded()
        done = size


def reprovision(fleet: Fleet, hosts: Sequence[str]) -> None:
    """Provisioning again changes nothing."""
    again = fleet.run("reprovision", "provision", hosts).succeeded()
    expect(again.changed == 0, f"provisioning again changed {again.changed} things")


# -- the command line ---------------------------------------------------------------------------------------------------------


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=50, help="size of the fleet (default: %(default)s)")
    parser.add_argument("--sizes", default=None, help="smaller sizes, with commas (default: 1,5,10,25 below --hosts)")
    parser.add_argument("--forks", type=int, default=10, help="Ansible's forks (default: %(default)s)")
    parser.add_argument("--run", default="fleet", help="name of the run of hosts (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the hosts, provisioned, for the next time")
    parser.add_argument("--no-provision", action="store_true", help="the hosts are provisioned already")
    parser.add_argument("--svg", type=pathlib.Path, help="write the plot there, too")
    options = parser.parse_args(argv)
    if not 1 <= options.hosts <= 200:
        parser.error(f"--hosts {options.hosts}: not a number from 1 to 200")
    given = [str(size) for size in SIZES] if options.sizes is None else [*filter(None, options.sizes.split(","))]
    if not all(size.isdigit() and int(size) for size in given):
        parser.error(f"--sizes {options.sizes}: not positive numbers with commas between them")
    options.counts = sorted({options.hosts, *(int(size) for size in given if int(size) < options.hosts)})
    return options


def _save(fleet: Fleet, boot: float, failures: Sequence[str], options: argparse.Namespace) -> pathlib.Path:
    now = datetime.datetime.now(datetime.timezone.utc)
    ansible = subprocess.run(
        [CHECKOUT / ".venv" / "bin" / "ansible", "--version"], capture_output=True, text=True, check=True
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    result = {
        "date": now.isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "ansible": ansible.stdout.splitlines()[0],
        "cores": os.cpu_count(),
        "forks": options.forks,
        "hosts": options.hosts,
        "suite": SUITE,
        "boot_seconds": round(boot, 1),
        "failures": list(failures),
        "measurements": [dataclasses.asdict(row) for row in fleet.measured],
    }
    path = WORK / f"result-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


def _play(fleet: Fleet, options: argparse.Namespace, failures: list[str]) -> None:
    """Everything on the hosts; what goes wrong is added to `failures`."""

    def attempt(name: str, scenario: Callable[[Fleet, Any], None], where: Sequence[Any]) -> bool:
        try:
            scenario(fleet, where)
        except (FleetError, AssertionError) as error:
            print(f"FAILED  {name}: {error}", flush=True)
            failures.append(f"{name}: {error}")
            return False
        return True

    if not options.no_provision and not attempt("provision", provision, options.counts):
        return
    for size in reversed(options.counts):  # what matters most comes first, for those who have no time for the rest
        hosts = fleet.hosts[:size]
        full = size == options.hosts
        scenarios = {**GROWING, **AFTERWARDS} if full and len(batches(hosts)) > 3 else GROWING
        if full and scenarios is GROWING:
            print(f"{size} hosts make no four batches: nothing is made to fail", flush=True)
        for name, scenario in scenarios.items():
            if not attempt(f"{report.TITLES[name]}, {size} hosts", scenario, hosts) and name == "first":
                return
        if full and not options.no_provision:
            attempt(report.TITLES["reprovision"], reprovision, hosts)
        fleet.remove(hosts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = _arguments(argv)
    WORK.mkdir(parents=True, exist_ok=True)
    for log in WORK.glob("*.log"):
        log.unlink()
    bed = Bed(options.run, forks=options.forks)
    names = [f"fleet{number:03}" for number in range(1, options.hosts + 1)]
    # outside of the checkout, whose ignore files leave such things out
    with tempfile.TemporaryDirectory(prefix="pyfleet-fleet-") as scratch:
        source = prepare(CHECKOUT / "tests" / "fixtures" / "apps" / "tiny", pathlib.Path(scratch, "source"), _uv())
        fleet = Fleet(bed, names, source, Recorder(WORK))
        failures: list[str] = []
        boot, started = 0.0, time.monotonic()
        try:
            bed.up(**dict.fromkeys(names, SUITE))
            boot = time.monotonic() - started
            print(f"{len(names)} hosts up after {boot:.1f} s", flush=True)
            _play(fleet, options, failures)
        finally:  # also when somebody has no more time for it
            _tell(fleet, boot, failures, options)
            if not options.keep:
                Run(options.run).down()
    return 1 if failures else 0


def _tell(fleet: Fleet, boot: float, failures: Sequence[str], options: argparse.Namespace) -> None:
    """Writes and prints what was measured."""
    fleet.measured.sort(key=lambda row: (list(report.TITLES).index(row.scenario), row.hosts))
    print()
    for line in report.table(fleet.measured):
        print(line)
    print()
    for name in GROWING:
        if len({row.hosts for row in fleet.measured if row.scenario == name}) > 1:
            constant, each = report.growth(fleet.measured, name)
            print(f"{report.TITLES[name]}: about {constant:.1f} s and {each:.2f} s per host")
    path = _save(fleet, boot, failures, options)
    subtitle = (
        f"{SUITE} hosts and controller on one machine with {os.cpu_count()} cores, forks {options.forks}, "
        f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}"
    )
    for target in filter(None, [WORK / "fleet-scaling.svg", options.svg]):
        target.write_text(report.plot(fleet.measured, subtitle), encoding="utf-8")
    print(f"\n{path.relative_to(CHECKOUT)}, and each run's output beside it")
    for failure in failures:
        print(f"FAILED  {failure.splitlines()[0]}")


def _uv() -> str:
    return str(CHECKOUT / ".venv" / "bin" / "uv")


if __name__ == "__main__":
    sys.exit(main())
