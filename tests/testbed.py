# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real hosts for pytest: the fixtures `bed` and `python_mirror`.

A test directory uses it with this line in its `conftest.py`:

    from ansible_collections.pyfleet.runtime.tests.testbed import bed, python_mirror  # noqa: F401

The hosts are those of the run that PYFLEET_TESTBED_RUN names (default: `test`), which `make test-hosts` shares with
molecule's scenarios; those not there yet are made.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from .hosts import mirror
from .hosts.hosts import STANDARD_HOSTS, Run
from .hosts.machine import CHECKOUT

BOOT_STAMP = "systemctl show --no-pager -p UserspaceTimestampMonotonic --value"


class HostCommandError(AssertionError):
    """A command on a host failed that was to succeed."""


@dataclasses.dataclass(frozen=True)
class Output:
    """What a command on a host said."""

    rc: int
    stdout: str
    stderr: str


@dataclasses.dataclass(frozen=True)
class Event:
    """The result of one task on one host."""

    status: str  # ok, failed, skipped, unreachable
    host: str
    play: str
    task: str
    action: str
    changed: bool
    ignored: bool
    result: dict[str, Any]
    #: When it came in, in seconds since 1970.
    time: float = 0.0


@dataclasses.dataclass(frozen=True)
class Played:
    """What ansible-playbook did."""

    rc: int
    stdout: str
    stderr: str
    seconds: float
    events: list[Event]
    stats: dict[str, dict[str, int]]  # host -> ok, changed, failures, unreachable, skipped, rescued, ignored

    @property
    def output(self) -> str:
        """Everything that stood on the screen."""
        return self.stdout + self.stderr

    @property
    def changed(self) -> int:
        """How many tasks changed something, over all hosts: 0 proves idempotence."""
        return sum(counts["changed"] for counts in self.stats.values())

    def failures(self) -> list[Event]:
        """The results that ended the play for a host."""
        return [event for event in self.events if event.status in ("failed", "unreachable") and not event.ignored]

    def message(self) -> str:
        """The error messages of the failures."""
        return "\n".join(str(event.result.get("msg", "")) for event in self.failures())

    def of(self, action: str, host: str | None = None) -> list[Event]:
        """The results of one action (`uv_sync`, `ansible.builtin.copy`, …), skipped ones left out."""
        return [
            event
            for event in self.events
            if event.status != "skipped"
            and (event.action == action or event.action.rpartition(".")[2] == action)
            and host in (None, event.host)
        ]

    def succeeded(self) -> Played:
        """This, after making sure that it went well."""
        if self.rc != 0:
            raise AssertionError(f"ansible-playbook ended with {self.rc}\n{self.output[-6000:]}")
        return self

    def failed(self) -> Played:
        """This, after making sure that it did not go well."""
        if self.rc == 0:
            raise AssertionError(f"ansible-playbook was to fail and did not\n{self.output[-6000:]}")
        return self


class BedHost:
    """One host, reached over the run's shared SSH connection (about 10 ms per command)."""

    def __init__(self, run: Run, name: str) -> None:
        self._run = run
        (self._host,) = run.chosen([name])
        self.name = name
        self.suite = self._host.suite
        self.address = run.address(self._host)

    def run(self, command: str, *, check: bool = True, user: str = "root", timeout: float = 60) -> Output:
        """Run a shell command on the host.

        Raises:
            HostCommandError: it failed, and `check` was not switched off.
        """
        line = self._run.ssh_command(self._host, command)
        line[1:1] = ["-l", user]
        done = subprocess.run(line, capture_output=True, text=True, errors="replace", timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise HostCommandError(
                f"{self.name}: {command}\nended with {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
        return Output(done.returncode, done.stdout, done.stderr)

    def __call__(self, command: str, *, user: str = "root", timeout: float = 60) -> str:
        """The standard output of a command that has to succeed, without the white space around it."""
        return self.run(command, user=user, timeout=timeout).stdout.strip()

    def popen(self, command: str) -> subprocess.Popen[str]:
        """Start a command on the host and go on (load, followers of a log); the caller ends it."""
        line = self._run.ssh_command(self._host, command)
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def exists(self, path: str) -> bool:
        """Whether there is such a path on the host."""
        return self.run(f"test -e '{path}'", check=False).rc == 0

    def read(self, path: str) -> str:
        """The text of a file on the host."""
        return self.run(f"cat '{path}'").stdout

    def write(self, path: str, text: str) -> None:
        """Put text into a file on the host."""
        subprocess.run(self._run.ssh_command(self._host, f"cat > '{path}'"), input=text, text=True, check=True)

    def url(self, port: int = 8080, path: str = "/") -> str:
        """The address of something on this host, as seen from here."""
        return f"http://{self.address}:{port}{path}"

    def wait_until(self, command: str, timeout: float = 30) -> str:
        """Repeat a command until it succeeds; returns its output."""
        deadline = time.monotonic() + timeout
        while True:
            done = self.run(command, check=False)
            if done.rc == 0:
                return done.stdout.strip()
            if time.monotonic() > deadline:
                raise HostCommandError(f"{self.name}: not within {timeout} s: {command}\n{done.stdout}{done.stderr}")
            time.sleep(0.2)


class Bed:
    """The hosts of a run, and Ansible on them."""

    def __init__(self, name: str, *, forks: int = 10) -> None:
        self.name = name
        self.forks = forks
        self._hosts: dict[str, BedHost] = {}

    @property
    def _run(self) -> Run:
        return Run(self.name)

    @property
    def directory(self) -> pathlib.Path:
        """The run's directory: keys, inventory, ansible.cfg."""
        return self._run.directory

    @property
    def inventory(self) -> pathlib.Path:
        """The run's inventory."""
        return self.directory / "inventory" / "hosts.yml"

    @property
    def names(self) -> list[str]:
        """All hosts of the run, also those that a single file needed."""
        return list(self._run.hosts)

    def up(self, **hosts: str) -> None:
        """Make hosts that are not there: `bed.up(load1="trixie")`."""
        if any(name not in self._run.hosts for name in hosts):
            self._run.up(hosts)

    def host(self, name: str) -> BedHost:
        """A host by name."""
        if name not in self._hosts:
            self._hosts[name] = BedHost(self._run, name)
        return self._hosts[name]

    def reset(self, *names: str) -> None:
        """Virgin hosts again, at the same addresses (about 2 s)."""
        self._run.reset(names)

    def kill(self, *names: str) -> None:
        """No power: the hosts are gone in the middle of whatever they do, until `reset`."""
        self._run.kill(names)

    def cut(self, *names: str) -> None:
        """No way for these to anything outside their own network, across reboots."""
        self._run.cut(names)

    def uncut(self, *names: str) -> None:
        """Their way out back."""
        self._run.uncut(names)

    def reboot(self, name: str, timeout: float = 60) -> None:
        """Reboot a host and wait until its systemd has come up."""
        run = self._run
        (host,) = run.chosen([name])
        before = self.host(name)(BOOT_STAMP)
        self.host(name).run("systemctl reboot --no-block", check=False)
        run.hang_up(host)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            time.sleep(0.2)
            # a connection of its own: a shared one to the old boot would hang
            stamp = run.ssh(host, BOOT_STAMP, timeout=5)
            if stamp.returncode == 0 and stamp.stdout.strip() not in ("", "0", before):
                run.wait(host, timeout=deadline - time.monotonic())
                return
            if stamp.returncode != 0:
                run.hang_up(host)
        raise AssertionError(f"{name} did not reboot within {timeout} s")

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment in which Ansible runs: the run's ansible.cfg, and no setting of whoever started the tests."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        clean["ANSIBLE_CONFIG"] = str(self.directory / "ansible.cfg")
        clean["ANSIBLE_COLLECTIONS_PATH"] = str(CHECKOUT / ".work" / "collections")
        clean["ANSIBLE_CALLBACK_PLUGINS"] = str(CHECKOUT / "tests" / "callback")
        clean["ANSIBLE_CALLBACKS_ENABLED"] = "testbed_events"
        clean["ANSIBLE_FORKS"] = str(self.forks)
        clean["ANSIBLE_NOCOLOR"] = "1"
        clean["PATH"] = f"{CHECKOUT / '.venv' / 'bin'}:{clean.get('PATH', '/usr/bin:/bin')}"
        return {**clean, **(extra or {})}

    def play(
        self,
        playbook: str | pathlib.Path | Sequence[Mapping[str, Any]],
        extra_vars: Mapping[str, Any] | None = None,
        *,
        limit: str | None = None,
        check: bool = False,
        diff: bool = False,
        verbosity: int = 0,
        tags: str | None = None,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        ansible_playbook: str = "ansible-playbook",
        timeout: float = 900,
        during: Callable[[subprocess.Popen[str]], None] | None = None,
    ) -> Played:
        """Run a playbook: a path below the checkout, or a list of plays.

        The result is not judged here: `bed.play(…).succeeded()`. `during` is called once ansible-playbook runs, to
        disturb it.
        """
        with tempfile.TemporaryDirectory(prefix="pyfleet-play-") as scratch:
            if isinstance(playbook, (str, pathlib.Path)):
                book = CHECKOUT / playbook
            else:
                book = pathlib.Path(scratch, "playbook.yml")
                book.write_text(json.dumps(list(playbook)), encoding="utf-8")
            variables = pathlib.Path(scratch, "variables.json")
            variables.write_text(json.dumps(dict(extra_vars or {})), encoding="utf-8")
            events = pathlib.Path(scratch, "events.jsonl")
            command = [ansible_playbook, f"--inventory={self.inventory}", f"--extra-vars=@{variables}", str(book)]
            command += [f"--limit={limit}"] if limit else []
            command += ["--check"] if check else []
            command += ["--diff"] if diff else []
            command += [f"-{'v' * verbosity}"] if verbosity else []
            command += [f"--tags={tags}"] if tags else []
            command += arguments
            variables_of_process = self.environment({"TESTBED_EVENTS": str(events), **(environment or {})})
            started = time.monotonic()
            # Files, not pipes: nobody reads while `during` is at work, and a full pipe would hold up the run.
            written = [pathlib.Path(scratch, name) for name in ("stdout", "stderr")]
            with written[0].open("wb") as out, written[1].open("wb") as err:
                options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, "text": True}
                with subprocess.Popen(command, cwd=CHECKOUT, env=variables_of_process, **options) as process:
                    try:
                        if during is not None:
                            during(process)
                        process.wait(timeout)
                        late = False
                    except subprocess.TimeoutExpired:
                        late = True
                    finally:
                        process.kill()
            stdout, stderr = (path.read_text(encoding="utf-8", errors="replace") for path in written)
            assert not late, f"{book.name} took more than {timeout} s\n{stdout[-3000:]}{stderr}"
            seconds = time.monotonic() - started
            lines = events.read_text(encoding="utf-8").splitlines() if events.exists() else []
        parsed = [json.loads(line) for line in lines]
        stats: dict[str, dict[str, int]] = next((line["stats"] for line in parsed if "stats" in line), {})
        results = [Event(**line) for line in parsed if "stats" not in line]
        return Played(process.returncode, stdout, stderr, seconds, results, stats)


def run_name() -> str:
    """The name of this process's run of hosts: with several processes (pytest -n 2) each but the first has hosts of its own."""
    name, worker = os.environ.get("PYFLEET_TESTBED_RUN", "test"), os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    return name if worker == "gw0" else f"{name}-{worker}"


@pytest.fixture(scope="session")
def bed() -> Iterator[Bed]:
    """The shared hosts; they stay when the session ends."""
    shared = Bed(run_name())
    shared.up(**STANDARD_HOSTS)
    yield shared
    shared.uncut()


@pytest.fixture(scope="session")
def python_mirror(bed: Bed) -> Iterator[mirror.Mirror]:
    """Python 3.11 and 3.13 for uv, served to the hosts over HTTP: `.url`, `.wrong_url`, `.missing_url`, `.archives`.

    3.11 runs on bookworm and later suites, 3.13 on trixie and later; what is too new for a host installs and cannot run.
    """
    archives = [mirror.build(suite) for suite in ("bookworm", "trixie")]
    with mirror.serving(archives, mirror.gateway(Run(bed.name))) as served:
        yield served
