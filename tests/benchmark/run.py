#!/usr/bin/env python3
# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments measured side by side: ours, a conventional playbook, and the bare work.

    run.py                     both applications, 1 and 10 hosts, three repetitions of everything
    run.py --quick             1 host, one repetition
    run.py --application legacy --hosts 10 --repeat 5 --keep

Makes its own hosts (the run `benchmark`) and removes them, unless --keep. Ends with 1 when a goal is missed. The figures are
this machine's; the ratios are what can be compared. docs/benchmark.md tells what is measured.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import datetime
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

if not __package__:  # started as a script
    _ROOT = pathlib.Path(__file__).resolve().parents[2]
    sys.path[0] = str(_ROOT / ".work" / "collections")
    __package__ = "ansible_collections.pyfleet.runtime.tests.benchmark"

from ansible_collections.pyfleet.runtime.tests.benchmark import counting
from ansible_collections.pyfleet.runtime.tests.benchmark.recorder import Recorder
from ansible_collections.pyfleet.runtime.tests.hosts.hosts import Run
from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.testbed import Bed, Played
from ansible_collections.pyfleet.runtime.tests.tools.prepare_app import prepare

HERE = CHECKOUT / "tests" / "benchmark"
WORK = CHECKOUT / ".work" / "benchmark"
FIXTURES = CHECKOUT / "tests" / "fixtures" / "apps"
#: What the second variant of the uv application depends on in addition.
ADDED = "humanize"
#: What both contestants run the legacy application with: ours brings this version by itself on the hosts' Python.
GUNICORN, WORKERS = "gunicorn==27.0.1", 2
#: What the legacy application finds on a host: packages are the same for all, and the distribution's mirror is not measured.
PREPARE_LEGACY = (
    "export DEBIAN_FRONTEND=noninteractive; "
    "dpkg --status nginx-light python3-venv python3-packaging > /dev/null 2>&1 || { apt-get -qq update && apt-get -qqy "
    "-o Dpkg::Use-Pty=0 install --no-install-recommends nginx-light python3-venv python3-packaging > /dev/null; }; "
    "rm -f /etc/nginx/sites-enabled/default; systemctl --quiet unmask nginx && systemctl --quiet enable nginx && systemctl restart nginx"
)
SUITE = "bookworm"


class BenchmarkError(Exception):
    """A contestant did not do its work, so that there is nothing to measure."""


class Workshop:
    """A fixture application, and the copy of it that is deployed."""

    def __init__(self, folder: pathlib.Path, fixture: str) -> None:
        self._folder = folder
        self._fixture = FIXTURES / fixture
        self.source = folder / "source"
        self._number = 0

    def make(self) -> None:
        """Make the copy."""
        shutil.copytree(self._fixture, self.source, ignore=shutil.ignore_patterns("__pycache__"))

    @property
    def version(self) -> str:
        """What the application answers with."""
        return f"1.0.{self._number}"

    def change_code(self) -> None:
        """Another version of the code."""
        self._number += 1
        (self.source / "VERSION").write_text(f"{self.version}\n")

    def change_dependencies(self) -> None:
        """Other dependencies, where the application is measured with such a change."""
        raise NotImplementedError


class LockedWorkshop(Workshop):
    """One with a lock file, in two variants."""

    def __init__(self, folder: pathlib.Path, fixture: str) -> None:
        super().__init__(folder, fixture)
        self._variants = [folder / "variant-0", folder / "variant-1"]
        self._variant = 0

    def make(self) -> None:
        """Lock both variants."""
        uv = str(CHECKOUT / ".venv" / "bin" / "uv")
        prepare(self._fixture, self._variants[0], uv)
        with_more = self._folder / "with-more"
        shutil.copytree(self._fixture, with_more)
        project = with_more / "pyproject.toml"
        text, count = re.subn(r"(?m)^(dependencies = \[)(.*)\]$", rf'\1\2, "{ADDED}"]', project.read_text())
        if count != 1:
            raise BenchmarkError(f"{self._fixture}/pyproject.toml has no dependencies on one line.")
        project.write_text(text)
        prepare(with_more, self._variants[1], uv)
        shutil.copytree(self._variants[0], self.source)

    def change_dependencies(self) -> None:
        """The other variant's dependencies, and another version of the code: a release that no host knows."""
        self._variant = 1 - self._variant
        for name in ("pyproject.toml", "uv.lock"):
            shutil.copyfile(self._variants[self._variant] / name, self.source / name)
        self.change_code()


@dataclasses.dataclass
class Field:
    """The hosts of one series, and how to reach them."""

    bed: Bed
    run: Run
    names: list[str]

    @property
    def limit(self) -> str:
        """The hosts as a pattern of Ansible's."""
        return ",".join(self.names)

    def everywhere(
        self, command: Sequence[str], stdin: pathlib.Path | None = None, recorder: Recorder | None = None
    ) -> None:
        """Run a command on all hosts at once, each over one SSH command."""

        def on(name: str) -> None:
            (host,) = self.run.chosen([name])
            line = [*self.run.ssh_command(host, None), *command]
            line[0] = recorder.ssh if recorder else line[0]
            variables = {**os.environ, **(recorder.environment if recorder else {})}
            with open(stdin or os.devnull, "rb") as handle:
                done = subprocess.run(line, stdin=handle, capture_output=True, text=True, env=variables, check=False)
            if done.returncode != 0:
                raise BenchmarkError(f"{name}: ended with {done.returncode}: {done.stdout[-800:]}{done.stderr[-1500:]}")

        with concurrent.futures.ThreadPoolExecutor(len(self.names)) as pool:
            list(pool.map(on, self.names))

    def hang_up(self) -> None:
        """End shared connections: each contestant makes its own, as somebody does who deploys now and then."""
        for host in self.run.chosen(self.names):
            self.run.hang_up(host)

    def check(self, port: int, version: str) -> None:
        """See that every host serves this version to the outside."""
        for name in self.names:
            url = self.bed.host(name).url(port)
            with urllib.request.urlopen(url, timeout=20) as answer:
                served = json.load(answer)["version"]
            if served != version:
                raise BenchmarkError(f"{url} answers with {served}, not with {version}.")


class Contestant:
    """One way to deploy; `port` is where it serves."""

    name = ""
    port = 0

    def __init__(self, field: Field, shop: Workshop, recorder: Recorder) -> None:
        self.field = field
        self.shop = shop
        self.recorder = recorder

    def deploy(self) -> float:
        """Deploys once; returns the seconds it took."""
        raise NotImplementedError

    def reset(self, *, cache: bool) -> None:
        """Removes the application; with `cache`, all that its user ever downloaded, too."""
        raise NotImplementedError

    def _play(self, playbook: str, variables: Mapping[str, Any]) -> Played:
        environment = self.recorder.environment
        return self.field.bed.play(playbook, variables, limit=self.field.limit, environment=environment).succeeded()

    def measure(self) -> counting.Measurement:
        """Deploys once and checks the result; returns what it took."""
        self.recorder.clear()
        self.field.hang_up()
        seconds = self.deploy()
        modules, commands = counting.most(self.recorder.trips())
        self.field.check(self.port, self.shop.version)
        return counting.Measurement(round(seconds, 3), modules, commands)


class Ours(Contestant):
    """playbooks/deploy.yml."""

    name, port = "ours", 8080

    def _variables(self) -> dict[str, Any]:
        return {
            "app_name": "bench",
            "app_source": {"path": str(self.shop.source)},
            "app_env": {
                "CC_PYTHON_UV_RUN_COMMAND": "uv run uvicorn app.main:app --host 0.0.0.0 --port $PORT",
                "CC_HEALTH_CHECK_PATH": "/health",
            },
            "app_public_port": self.port,
        }

    def deploy(self) -> float:
        return self._play("playbooks/deploy.yml", self._variables()).seconds

    def reset(self, *, cache: bool) -> None:
        self._play("playbooks/remove.yml", {**self._variables(), "app_remove_home": cache})


class Baseline(Contestant):
    """baseline/deploy.yml: what a competent engineer writes with builtin modules."""

    name, port = "baseline", 8081

    def deploy(self) -> float:
        variables = {
            "conventional_name": "conventional",
            "conventional_source": str(self.shop.source),
            "conventional_scratch": str(WORK),
            "conventional_port": self.port,
        }
        return self._play("tests/benchmark/baseline/deploy.yml", variables).seconds

    def reset(self, *, cache: bool) -> None:
        left = "/srv/conventional" if cache else "/srv/conventional/releases /srv/conventional/current"
        self.field.everywhere(
            [
                "systemctl --quiet disable --now conventional 2>/dev/null; "
                f"rm -rf /etc/systemd/system/conventional.service {left}; systemctl daemon-reload"
            ]
        )


class Floor(Contestant):
    """floor.sh: the bare work as one SSH command per host, all hosts at once."""

    name, port = "floor", 8082

    def deploy(self) -> float:
        started = time.monotonic()
        archive = WORK / "floor.tar.gz"
        tar = [
            "tar",
            "--sort=name",
            "--mtime=@0",
            "--exclude=.venv",
            "--exclude=__pycache__",
            "-C",
            str(self.shop.source),
        ]
        packed = subprocess.run([*tar, "-c", "."], capture_output=True, check=True).stdout
        archive.write_bytes(subprocess.run(["gzip", "-n"], input=packed, capture_output=True, check=True).stdout)
        digest = subprocess.run(["sha256sum", str(archive)], capture_output=True, text=True, check=True).stdout.split()[
            0
        ]
        script = (HERE / "floor.sh").read_text(encoding="utf-8").replace("'", "'\\''")
        command = [f"sh -c '{script}' floor bare {self.port} {digest}"]
        self.field.everywhere(command, archive, self.recorder)
        return time.monotonic() - started

    def reset(self, *, cache: bool) -> None:
        left = "/srv/bare" if cache else "/srv/bare/app /srv/bare/digest"
        self.field.everywhere(
            [
                "systemctl --quiet disable --now bare 2>/dev/null; "
                f"rm -rf /etc/systemd/system/bare.service {left}; systemctl daemon-reload"
                + ("; userdel bare 2>/dev/null; true" if cache else "")
            ]
        )


class LegacyOurs(Ours):
    """playbooks/deploy.yml with an application without a lock file."""

    port = 8083

    def _variables(self) -> dict[str, Any]:
        return {
            "app_name": "bench-legacy",
            "app_source": {"path": str(self.shop.source)},
            "app_env": {
                "CC_PYTHON_MODULE": "shop:app",
                "CC_PYTHON_BACKEND": "gunicorn",
                "WSGI_WORKERS": WORKERS,
                "CC_HEALTH_CHECK_PATH": "/health",
            },
            "app_public_port": self.port,
        }


class LegacyBaseline(Baseline):
    """baseline/legacy.yml: Nginx, a virtual environment and Gunicorn with builtin modules."""

    port = 8084

    def deploy(self) -> float:
        variables = {
            "conventional_name": "conventional-legacy",
            "conventional_source": str(self.shop.source),
            "conventional_scratch": str(WORK),
            "conventional_port": self.port,
            "conventional_module": "shop:app",
            "conventional_gunicorn": GUNICORN,
            "conventional_workers": WORKERS,
        }
        return self._play("tests/benchmark/baseline/legacy.yml", variables).seconds

    def reset(self, *, cache: bool) -> None:
        home = "/srv/conventional-legacy"
        left = home if cache else f"{home}/releases {home}/venvs {home}/current"
        self.field.everywhere(
            [
                "systemctl --quiet disable --now conventional-legacy 2>/dev/null; "
                "rm -rf /etc/nginx/sites-enabled/conventional-legacy /etc/nginx/sites-available/conventional-legacy "
                f"/etc/systemd/system/conventional-legacy.service {left}; systemctl daemon-reload; systemctl reload nginx"
            ]
        )


@dataclasses.dataclass(frozen=True)
class Application:
    """What is deployed, and by whom."""

    workshop: type[Workshop]
    fixture: str
    contestants: Sequence[type[Contestant]]
    #: A command that every host needs beforehand.
    prepare: str = ""


APPLICATIONS = {
    "uv": Application(LockedWorkshop, "fastapi", (Ours, Baseline, Floor)),
    "legacy": Application(Workshop, "legacy-flask", (LegacyOurs, LegacyBaseline), PREPARE_LEGACY),
}


def series(
    application: str,
    contestants: Sequence[Contestant],
    shop: Workshop,
    hosts: int,
    repeat: int,
    say: Callable[[str], None],
) -> list[counting.Row]:
    """All scenarios on one set of hosts; the contestants take turns, so that the machine's other work meets all of them."""
    taken: dict[str, dict[str, list[counting.Measurement]]] = {}

    def one(scenario: str, turn: int) -> None:
        order = [*contestants[turn % len(contestants) :], *contestants[: turn % len(contestants)]]
        for contestant in order:
            measured = contestant.measure()
            taken.setdefault(scenario, {}).setdefault(contestant.name, []).append(measured)
            say(
                f"{application:6} {hosts:3} hosts  {counting.TITLES[scenario]:34} {contestant.name:9} {measured.seconds:6.1f} s  "
                f"{measured.modules:3} modules  {measured.commands:3} ssh  load {os.getloadavg()[0]:.1f}"
            )

    def reset(cache: bool) -> None:
        for contestant in contestants:
            contestant.reset(cache=cache)

    def again() -> None:
        reset(cache=False)

    def same() -> None:
        """Nothing changes."""

    shop.change_code()
    reset(cache=True)
    one("cold", 0)
    for turn in range(repeat):
        for scenario in counting.SCENARIOS[application]:
            {"first": again, "code": shop.change_code, "dependency": shop.change_dependencies}.get(scenario, same)()
            one(scenario, turn)
    return [
        counting.Row(
            scenario, hosts, measured["ours"], measured["baseline"], measured.get("floor", ()), application=application
        )
        for scenario, measured in taken.items()
    ]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ",".join(APPLICATIONS)
    parser.add_argument("--application", default=names, help="applications, with commas (default: %(default)s)")
    parser.add_argument("--hosts", default="1,10", help="numbers of hosts, with commas (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one host, one repetition")
    parser.add_argument("--keep", action="store_true", help="leave the hosts, provisioned, for the next time")
    parser.add_argument("--run", default="benchmark", help="name of the run of hosts (default: %(default)s)")
    parser.add_argument("--no-provision", action="store_true", help="the hosts are provisioned already")
    options = parser.parse_args(argv)
    try:
        options.counts = sorted({int(number) for number in options.hosts.split(",")})
    except ValueError:
        options.counts = []
    if not options.counts or min(options.counts) < 1 or max(options.counts) > 99:
        parser.error(f"--hosts {options.hosts}: not numbers from 1 to 99 with commas between them")
    options.applications = [name for name in APPLICATIONS if name in options.application.split(",")]
    if set(options.application.split(",")) != set(options.applications):
        parser.error(f"--application {options.application}: not names out of {names} with commas between them")
    if options.repeat < 1:
        parser.error(f"--repeat {options.repeat}: not a positive number")
    if options.quick:
        options.counts, options.repeat = options.counts[:1], 1
    return options


def _save(rows: Sequence[counting.Row], repeat: int) -> pathlib.Path:
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
        "repeat": repeat,
        "rows": [
            {
                **dataclasses.asdict(row),
                "ratio_baseline": round(row.ratio("baseline"), 3),
                "ratio_floor": round(row.ratio("floor"), 3) if row.floor else None,
            }
            for row in rows
        ],
        "verdicts": [dataclasses.asdict(verdict) for verdict in counting.verdicts(rows)],
    }
    path = WORK / f"result-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = _arguments(argv)
    WORK.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        print(text, flush=True)

    bed, recorder = Bed(options.run), Recorder(WORK)
    names = [f"bench{number:02}" for number in range(1, max(options.counts) + 1)]
    rows: list[counting.Row] = []
    # outside of the checkout, whose ignore files leave such things out
    scratch = tempfile.TemporaryDirectory(prefix="pyfleet-benchmark-")
    try:
        bed.up(**dict.fromkeys(names, SUITE))
        if not options.no_provision:
            bed.play("playbooks/provision.yml", limit=",".join(names)).succeeded()
        for name in options.applications:
            application = APPLICATIONS[name]
            folder = pathlib.Path(scratch.name, name)
            folder.mkdir()
            shop = application.workshop(folder, application.fixture)
            shop.make()
            if application.prepare:
                Field(bed, Run(options.run), names).everywhere([application.prepare])
            for count in options.counts:
                field = Field(bed, Run(options.run), names[:count])
                contestants = [kind(field, shop, recorder) for kind in application.contestants]
                rows += series(name, contestants, shop, count, options.repeat, say)
    finally:
        scratch.cleanup()
        if not options.keep:
            Run(options.run).down()
    say("")
    for line in counting.table(rows):
        say(line)
    say(f"\nSeconds are this machine's ({os.cpu_count()} cores, hosts and controller together); compare the ratios.\n")
    verdicts = counting.verdicts(rows)
    for verdict in verdicts:
        say(f"{'reached' if verdict.reached else 'MISSED '}  {verdict.text}")
    say(f"\n{_save(rows, options.repeat).relative_to(CHECKOUT)}")
    return 0 if all(verdict.reached for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
