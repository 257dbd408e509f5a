# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs as AWX runs them: ansible-runner, AWX's kind of inventory and project, extra variables from a survey, events read back.

No AWX is here. A job gets what AWX gives it: a project that imports the collection's playbooks by name, the SSH key through an agent,
answers of a survey as `!unsafe` texts, and for a slice an inventory that holds its own hosts only.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ansible_runner
import pytest

from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.tools import awx

from .conftest import TINY, VARIABLES, Application, Maker

HOSTS = ["bookworm1", "bullseye1", "forky1", "trixie1"]
TWO = ["bookworm1", "trixie1"]
TEMPLATES = awx.job_templates(CHECKOUT)
PLANTED = "pl4nted"
RELEASE = "pyfleet.runtime.release"


@dataclasses.dataclass(frozen=True)
class Job:
    """A job that has ended, read back from its artifacts."""

    folder: pathlib.Path

    def text(self, name: str) -> str:
        """A file of the artifacts."""
        return (self.folder / name).read_text(encoding="utf-8").strip()

    @property
    def status(self) -> str:
        """`successful`, `failed`, …"""
        return self.text("status")

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """The events in their order, all or of one kind."""
        files = sorted((self.folder / "job_events").glob("*.json"), key=lambda path: int(path.name.partition("-")[0]))
        events = [json.loads(path.read_text(encoding="utf-8")) for path in files]
        return [event for event in events if kind in ("", event["event"])]

    def hosts(self, kind: str, play: str = "") -> set[str]:
        """The hosts with events of this kind in plays whose name begins like that."""
        return {
            event["event_data"]["host"] for event in self.events(kind) if event["event_data"]["play"].startswith(play)
        }

    def activated(self) -> list[str]:
        """The hosts on which a release was activated, in order."""
        return [
            event["event_data"]["host"]
            for event in self.events("runner_on_ok")
            if event["event_data"]["task_action"] == RELEASE and event["event_data"]["play"].startswith("Switch")
        ]

    def stats(self) -> dict[str, Any]:
        """What the last event tells: counts per host, and what set_stats exported."""
        last = self.events("playbook_on_stats")[-1]["event_data"]
        assert last["uuid"] == self.events()[-1]["uuid"], "the statistics are the last event"
        return dict(last)

    def exported(self) -> dict[str, Any]:
        """What AWX keeps as the job's artifacts, and gives to the next node of a workflow."""
        return dict(self.stats()["artifact_data"])

    def successful(self) -> Job:
        """This, after making sure that it went well."""
        assert self.status == "successful", self.text("stdout")[-6000:]
        assert self.text("rc") == "0"
        return self


class Controller:
    """What AWX is to a job: it writes the folder of it and starts ansible-runner there."""

    def __init__(self, app: Application, folder: pathlib.Path) -> None:
        self.app = app
        self.folder = folder
        run = app.bed.directory
        inventory = json.loads((app.bed.inventory).read_text(encoding="utf-8").partition("\n")[2])
        group = inventory["all"]["children"]["python_hosts"]
        self.addresses = {
            name: host["ansible_host"] for suite in group["children"].values() for name, host in suite["hosts"].items()
        }
        # what AWX does by itself is left out: its key comes through an agent, and it takes any host key
        dropped = ("ansible_ssh_private_key_file", "ansible_control_path", "ansible_ssh_common_args")
        self.group_vars = {name: value for name, value in group["vars"].items() if name not in dropped}
        self.sockets = tempfile.mkdtemp(prefix="pyfleet-awx-", dir="/tmp")  # their paths have to be short
        shutil.copytree(CHECKOUT / "playbooks/awx/project", folder / "project")
        (folder / "env").mkdir()
        (folder / "inventory").mkdir()
        shutil.copy(run / "id_ed25519", folder / "env/ssh_key")
        self.write("env/settings", {"idle_timeout": 600, "job_timeout": 900})
        self.write(
            "env/envvars",
            {
                "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".work/collections"),
                "ANSIBLE_HOST_KEY_CHECKING": "False",
                "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
                "ANSIBLE_SSH_CONTROL_PATH_DIR": self.sockets,
                "ANSIBLE_SSH_COMMON_ARGS": "-F none -o UserKnownHostsFile=/dev/null",
            },
        )
        self.application = {
            **VARIABLES,
            "app_source": {"path": str(app.source)},
            "app_env": {**TINY, **app.env},
            "app_public_port": app.port,
        }

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """A file of the job's folder, as JSON, which is YAML."""
        (self.folder / name).write_text(json.dumps(content), encoding="utf-8")

    def inventory(self, name: str, hosts: Sequence[str], numbers: Mapping[str, int] | None = None) -> str:
        """An inventory with these hosts; its path."""
        members = {
            host: {
                "ansible_host": self.addresses[host],
                **({"app_instance_number": numbers[host]} if numbers is not None else {}),
            }
            for host in hosts
        }
        (self.folder / "inventory" / name).mkdir()
        python_hosts = {"hosts": members, "vars": {**self.group_vars, **self.application}}
        self.write(f"inventory/{name}/hosts.json", {"all": {"children": {"python_hosts": python_hosts}}})
        return str(self.folder / "inventory" / name)

    def answer(self, template: str, answers: Mapping[str, Any]) -> None:
        """Somebody fills in the survey."""
        variables = awx.launched(TEMPLATES[template]["survey"], {"app_name": self.app.name, **answers})
        (self.folder / "env/extravars").write_text(awx.extra_vars_file(variables), encoding="utf-8")

    def command(self, template: str, ident: str, inventory: str, *arguments: str) -> list[str]:
        """ansible-runner for a job of a job template."""
        kind = TEMPLATES[template]
        line = " ".join(
            [*(["--check"] if kind["job_type"] == "check" else []), *(["--diff"] if kind.get("diff_mode") else [])]
        )
        return [
            # without --omit-env-files the next job in the folder would inherit this one's --check
            str(CHECKOUT / ".venv/bin/ansible-runner"), "run", str(self.folder), "--quiet", "--omit-env-files",
            "--playbook", kind["playbook"], "--ident", ident, "--inventory", inventory, *(["--cmdline", line] if line else []), *arguments,
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        """The environment of ansible-runner itself."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        return {**clean, "PATH": f"{CHECKOUT / '.venv/bin'}:{clean.get('PATH', '/usr/bin:/bin')}"}

    def launch(self, template: str, ident: str, inventory: str, *arguments: str) -> Job:
        """A job from its start to its end; it is not judged."""
        command = self.command(template, ident, inventory, *arguments)
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=900)
        job = Job(self.folder / "artifacts" / ident)
        assert (job.folder / "status").exists(), done.stdout + done.stderr
        return job


def sliced(hosts: Sequence[str], count: int) -> list[list[str]]:
    """The hosts of each slice: AWX deals them out one by one."""
    return [list(hosts)[number::count] for number in range(count)]


@pytest.fixture
def controller(make_app: Maker, tmp_path: pathlib.Path) -> Iterator[Controller]:
    """A controller for the tiny application as `awx`, on all four hosts."""
    made = Controller(make_app("awx", limit=",".join(HOSTS)), tmp_path / "private")
    yield made
    shutil.rmtree(made.sockets)


def environment_of(app: Application, host: str) -> dict[str, str]:
    """The environment of the running application on a host."""
    found = app.ask("/env", host=host).json()
    return {name: base64.b64decode(value["base64"]).decode() for name, value in found.items()}


def serving(app: Application, hosts: Sequence[str]) -> dict[str, str]:
    """The release that serves on each host, as the application says."""
    return {host: app.ask("/", host=host).json()["release"] for host in hosts}


def leases(app: Application, hosts: Sequence[str]) -> list[str]:
    """The hosts on which a lease is left."""
    return [host for host in hosts if app.bed.host(host).exists(f"/var/lib/pyfleet/leases/{app.name}.json")]


def test_slices_deploy_at_the_same_time(controller: Controller) -> None:
    """Three slices from one folder: every host once, no lease in another's way, numbers from the inventory."""
    app = controller.app
    numbers = {host: 10 + place for place, host in enumerate(HOSTS)}
    slices = sliced(HOSTS, 3)
    inventories = [controller.inventory(f"slice{place}", hosts, numbers) for place, hosts in enumerate(slices, 1)]
    controller.answer("deploy", {"app_health_deadline": 60})
    with ThreadPoolExecutor(3) as pool:
        launches = [
            pool.submit(controller.launch, "deploy", f"slice{place}", inventory)
            for place, inventory in enumerate(inventories, 1)
        ]
        jobs = [launch.result().successful() for launch in launches]
    begun = [job.events()[0]["created"] for job in jobs]
    ended = [job.events()[-1]["created"] for job in jobs]
    assert max(begun) < min(ended), "the slices ran at the same time"
    assert [sorted(job.activated()) for job in jobs] == slices
    releases = serving(app, HOSTS)
    assert len(set(releases.values())) == 1, "the slices made the same release"
    for job, hosts in zip(jobs, slices):
        exported = job.exported()["pyfleet"]
        assert exported["app"] == app.name
        assert exported["what"] == "deploy"
        assert exported["release"] == releases[hosts[0]]
        assert sorted(exported["hosts"]) == hosts
    assert leases(app, HOSTS) == []
    assert {host: environment_of(app, host)["INSTANCE_NUMBER"] for host in HOSTS} == {
        host: str(number) for host, number in numbers.items()
    }


def test_templates_one_after_the_other(controller: Controller) -> None:
    """Provision, dry run, plan, deploy, status, rollback and restart, each as its own job from its own survey."""
    app = controller.app
    everywhere = controller.inventory("all", TWO)
    controller.write(
        "env/extravars", awx.launched(TEMPLATES["provision"]["survey"], {"python_versions": [], "uv_version": ""})
    )
    assert controller.launch("provision", "provision", everywhere).successful().stats()["changed"] == {}

    controller.answer("check", {})
    before = [app.bed.host(host)("ls -A /srv/pyfleet /etc/pyfleet /etc/systemd/system") for host in TWO]
    dry = controller.launch("check", "check", everywhere).successful()
    assert set(dry.stats()["changed"]) == set(TWO), "it tells what would change"
    assert [app.bed.host(host)("ls -A /srv/pyfleet /etc/pyfleet /etc/systemd/system") for host in TWO] == before
    assert leases(app, TWO) == []
    assert dry.exported()["pyfleet"]["release"]

    controller.answer("plan", {})
    plan = controller.launch("plan", "plan", everywhere).successful()
    assert f"{app.name} on trixie1" in plan.text("stdout")

    controller.answer("deploy", {"app_serial": "1,100%", "app_failure_budget": "25%"})
    deployed = controller.launch("deploy", "deploy", everywhere).successful()
    assert sorted(deployed.activated()) == TWO
    first = serving(app, TWO)
    app.change("2.0.0")
    again = controller.launch("deploy", "again", everywhere).successful()
    assert again.exported()["pyfleet"]["outcome"]
    assert set(serving(app, TWO).values()).isdisjoint(first.values())
    # the same again: what a workflow does with its canaries
    unchanged = controller.launch("deploy", "unchanged", everywhere).successful()
    assert unchanged.activated() == []
    assert unchanged.stats()["changed"] == {}
    assert unchanged.exported()["pyfleet"]["release"] == again.exported()["pyfleet"]["release"]

    controller.answer("status", {})
    status = controller.launch("status", "status", everywhere).successful()
    assert status.text("stdout").count(f"{app.name}: healthy") == len(TWO)

    controller.answer("rollback", {"app_release": "", "app_rollback_force": "false"})
    back = controller.launch("rollback", "rollback", everywhere).successful()
    assert back.exported()["pyfleet"]["what"] == "rollback"
    assert serving(app, TWO) == first

    controller.answer("restart", {})
    pids = {host: app.ask("/", host=host).json()["pid"] for host in TWO}
    restarted = controller.launch("restart", "restart", everywhere).successful()
    assert restarted.exported()["pyfleet"]["what"] == "restart"
    assert all(app.ask("/", host=host).json()["pid"] != pids[host] for host in TWO)
    assert leases(app, TWO) == []


def test_a_failing_job_tells_why(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through ansible-runner's own interface, with AWX's kind of callbacks: state, words of the host, artifacts at the end."""
    app = controller.app
    controller.application["app_env"] = {**TINY, "BEHAVIOUR": "500_on:/health"}
    inventory = controller.inventory("all", TWO)
    controller.answer("deploy", {"app_health_deadline": 30})
    for name in [name for name in os.environ if name.startswith("ANSIBLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", controller.environment()["PATH"])
    seen: list[dict[str, Any]] = []
    states: list[str] = []
    finished: list[str] = []
    handed: list[str] = []

    def on_event(event: dict[str, Any]) -> bool:
        seen.append(event)
        return True  # keep it in the artifacts, too

    runner = ansible_runner.run(
        private_data_dir=str(controller.folder),
        playbook="deploy.yml",
        ident="failing",
        inventory=inventory,
        quiet=True,
        event_handler=on_event,
        status_handler=lambda state, runner_config: states.append(state["status"]),
        artifacts_handler=handed.append,
        finished_callback=lambda runner: finished.append(runner.status),
    )
    job = Job(controller.folder / "artifacts" / "failing")
    assert (runner.status, runner.rc, job.status, job.text("rc")) == ("failed", 2, "failed", "2")
    assert states == ["starting", "running", "failed"]
    assert finished == ["failed"]
    assert handed == [str(job.folder)]
    assert [event["uuid"] for event in seen] == [event["uuid"] for event in job.events()]
    words = {
        event["event_data"]["host"]
        for event in job.events("runner_on_failed")
        if "- GET /health returned 500." in event["event_data"]["res"]["msg"]
    }
    assert words, "the host's own words are in its event"
    assert job.stats()["failures"]
    exported = job.exported()["pyfleet"]
    assert {host["outcome"] for host in exported["hosts"].values()} >= {"failed"}
    assert leases(app, TWO) == []


def test_no_secret_in_the_artifacts(controller: Controller) -> None:
    """At verbosity 4, with a deployment that succeeds, one that fails, and hooks that print what they know."""
    secrets = {
        "DATABASE_URL": f"postgres://shop:{PLANTED}-s3cret@db.example.org/shop",
        "API_TOKEN": f"{PLANTED}-t0ken-0123456789",
        "CC_PRE_BUILD_HOOK": 'echo "the token is $API_TOKEN"',
        "CC_PRE_RUN_HOOK": 'echo "the token is $API_TOKEN"',
    }
    one = HOSTS[:1]
    dying = {"CC_PYTHON_UV_RUN_COMMAND": "env; exit 3"}
    for ident, env, deadline in (("good", {}, 60), ("bad", dying, 10)):
        controller.application["app_env"] = {**TINY, **secrets, **env}
        inventory = controller.inventory(ident, one)
        controller.answer("deploy", {"app_health_deadline": deadline})
        job = controller.launch("deploy", ident, inventory, "-vvvv")
        assert job.status == ("successful" if ident == "good" else "failed"), job.text("stdout")[-6000:]
        assert "the token is" in job.text("stdout"), "there was something to hide"
        holding = [
            str(path.relative_to(job.folder))
            for path in job.folder.rglob("*")
            if path.is_file() and PLANTED.encode() in path.read_bytes()
        ]
        assert holding == []
    assert environment_of(controller.app, one[0])["API_TOKEN"] == secrets["API_TOKEN"]


def test_a_dry_run_loses_no_host(controller: Controller) -> None:
    controller.answer("check", {})
    dry = controller.launch("check", "check", controller.inventory("one", HOSTS[1:2])).successful()
    exported = dry.exported()["pyfleet"]
    assert (exported["outcome"], exported["failed"]) == ("planned", [])


def test_text_of_a_survey_becomes_the_environment(controller: Controller) -> None:
    """A textarea delivers text, and what looks like a template in it stays what it is."""
    one = controller.inventory("one", HOSTS[1:2])
    lines = [*(f"{name}: {value}" for name, value in TINY.items()), "GREETING: '{{ not }} a template'", "COUNT: 3"]
    controller.answer("deploy", {"app_env": "\n".join(lines) + "\n", "app_source": f"path: {controller.app.source}\n"})
    controller.launch("deploy", "text", one).successful()
    found = environment_of(controller.app, HOSTS[1])
    assert (found["GREETING"], found["COUNT"]) == ("{{ not }} a template", "3")


def test_no_of_a_survey_is_no(controller: Controller) -> None:
    """`false` is a text: opening an application that is in maintenance opens it.

    Written as JSON, because ansible-core 2.19 makes a boolean of `!unsafe 'false'`, and other versions leave it as it is.
    """
    one = controller.inventory("one", HOSTS[1:2])
    answers = awx.launched(
        TEMPLATES["maintenance"]["survey"], {"app_name": controller.app.name, "app_maintenance": "false"}
    )
    controller.write("env/extravars", answers)
    controller.launch("maintenance", "open", one).successful()
    assert controller.app.ask("/", host=HOSTS[1]).json()["version"] == "1.0.0"
