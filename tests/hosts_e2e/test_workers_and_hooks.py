# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers, hooks, what both see of the environment, and tasks, on a real host."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.tests.testbed import Bed, BedHost

from .conftest import Application, Maker

HOST = "bookworm1"
HOME = "/srv/pyfleet/shop/home"
#: Journal entries of systemd itself: a unit has started, a unit has stopped.
STARTED, STOPPED = "39f53479d3a045ac8e11786248231fbf", "9d1aaa27d60140bd96365438aad20286"
SECRET = "p4ssw0rd-of-the-index"
COMMIT = ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "x"]


def beat(host: BedHost, name: str) -> dict[str, Any]:
    """The last heartbeat of a worker."""
    heartbeat: dict[str, Any] = json.loads(host.read(f"{HOME}/heartbeat-{name}.json"))
    return heartbeat


def shown(host: BedHost, unit: str, name: str) -> str:
    """A property of a unit."""
    return host(f"systemctl show -p {name} --value '{unit}'")


def entries(host: BedHost, pattern: str, cursor: str) -> list[dict[str, Any]]:
    """What systemd wrote of starts and stops of units since a cursor, oldest first."""
    text = host(f"journalctl --sync; journalctl -q -o json --after-cursor '{cursor}' -u '{pattern}'")
    found = [json.loads(line) for line in text.splitlines()]
    return [entry for entry in found if entry.get("MESSAGE_ID") in (STARTED, STOPPED)]


def cursor(host: BedHost) -> str:
    """Where the journal ends."""
    return host("journalctl --sync; journalctl -q -n 1 --show-cursor -o cat | sed -n 's/^-- cursor: //p'")


def lines(host: BedHost, path: str) -> list[str]:
    """The lines of a file on the host, none when it is not there."""
    return host(f"cat {path} 2>/dev/null || true").splitlines()


def dumped(host: BedHost, path: str) -> dict[str, str]:
    """An environment as `env -0` wrote it."""
    return dict(pair.partition("=")[::2] for pair in host.read(path).split("\0") if pair)


def environment_of(host: BedHost, unit: str) -> dict[str, str]:
    """The environment of a unit's main process."""
    return dumped(host, f"/proc/{shown(host, unit, 'MainPID')}/environ")


# -- workers -----------------------------------------------------------------------------------------------------------------


@pytest.mark.rule("D7")
def test_d7_workers_live_and_die_with_their_release(app: Application) -> None:
    host = app.host
    workers = {
        "CC_WORKER_COMMAND": "uv run worker.py plain",
        "CC_WORKER_COMMAND_0": "uv run python worker.py zero",
        "CC_WORKER_COMMAND_2": "uv run worker.py $NAME_OF_TWO",
        "NAME_OF_TWO": "two",
    }
    app.deploy(workers).succeeded()
    first = app.linked()
    units = [f"app-shop-worker@{first}:{index}.service" for index in range(3)]
    assert app.units() == [*units, f"app-shop@{first}.service"]
    served = environment_of(host, f"app-shop@{first}.service")
    user = json.loads(app.get("/whoami")[1])
    for unit, name in zip(units, ["plain", "zero", "two"], strict=True):
        host.wait_until(f"test -e {HOME}/heartbeat-{name}.json")
        heartbeat = beat(host, name)
        assert heartbeat["cwd"] == user["cwd"] == f"/srv/pyfleet/shop/releases/{first}"
        assert heartbeat["python"] == f"/srv/pyfleet/shop/releases/{first}/.venv/bin/python"
        assert heartbeat["uid"] == user["uid"] != 0
        seen = environment_of(host, unit)
        own = {
            "INVOCATION_ID",
            "JOURNAL_STREAM",
            "SYSTEMD_EXEC_PID",
            "PYTHONPYCACHEPREFIX",
            "RUNTIME_DIRECTORY",
            "_",
            "SHLVL",
            "OLDPWD",
        }
        assert {key: seen[key] for key in seen.keys() - own} == {key: served[key] for key in served.keys() - own}
        assert seen["NAME_OF_TWO"] == "two"

    before = cursor(host)
    app.change("2.0.0")
    app.deploy(workers).succeeded()
    second = app.linked()
    assert app.units() == [*(unit.replace(first, second) for unit in units), f"app-shop@{second}.service"]
    host.wait_until(f"grep -q 2.0.0 {HOME}/heartbeat-plain.json")
    found = entries(host, "app-shop-worker@*", before)
    stopped = [int(entry["__MONOTONIC_TIMESTAMP"]) for entry in found if entry["MESSAGE_ID"] == STOPPED]
    started = [int(entry["__MONOTONIC_TIMESTAMP"]) for entry in found if entry["MESSAGE_ID"] == STARTED]
    assert (len(stopped), len(started)) == (3, 3)
    assert max(stopped) < min(started)

    app.bed.reboot(HOST)
    for name in ("plain", "zero", "two"):
        host.wait_until(f"test $(date +%s) -lt $(( $(stat -c %Y {HOME}/heartbeat-{name}.json) + 2 ))")
    assert app.units() == [*(unit.replace(first, second) for unit in units), f"app-shop@{second}.service"]

    app.deploy().succeeded()
    assert app.units() == [f"app-shop@{app.linked()}.service"]


@pytest.mark.parametrize(
    ("policy", "delay", "restarted"),
    [
        pytest.param({}, 1, {"fails"}, id="default"),
        pytest.param(
            {"CC_WORKER_RESTART": "always", "CC_WORKER_RESTART_DELAY": "2"}, 2, {"fails", "ends"}, id="always"
        ),
        pytest.param({"CC_WORKER_RESTART": "no"}, 1, set(), id="no"),
    ],
)
@pytest.mark.rule("D7")
def test_d7_restart_policy_and_delay(
    shared: Application, policy: dict[str, str], delay: int, restarted: set[str]
) -> None:
    host = shared.host
    workers = {
        "CC_WORKER_COMMAND_0": "WORKER_BEATS=1 WORKER_STATUS=3 uv run worker.py fails",
        "CC_WORKER_COMMAND_1": "WORKER_BEATS=1 WORKER_STATUS=0 uv run worker.py ends",
    }
    before = cursor(host)
    shared.deploy({**workers, **policy}).succeeded()
    release = shared.linked()
    units = {"fails": f"app-crew-worker@{release}:0.service", "ends": f"app-crew-worker@{release}:1.service"}
    counted = f"journalctl --sync; test $(journalctl -q -o cat -u %s MESSAGE_ID={STARTED} | wc -l) -ge 2"
    for name in restarted:
        host.wait_until(counted % units[name])
        found = [entry for entry in entries(host, units[name], before) if entry["MESSAGE_ID"] == STARTED]
        first, second = (int(entry["__MONOTONIC_TIMESTAMP"]) for entry in found[:2])
        assert second - first > delay * 1_000_000
    host("sleep 1.5")
    assert {name for name, unit in units.items() if shown(host, unit, "NRestarts") != "0"} == restarted
    assert shown(host, units["fails"], "RestartUSec") == f"{delay}s"
    assert shared.version() == (shared.source / "VERSION").read_text().strip()


@pytest.fixture(scope="module")
def deployed(
    provisioned: Bed, locked_apps: Callable[[str], pathlib.Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Application]:
    """One application for those tests that do not care what served before."""
    app = Application(provisioned, "crew", tmp_path_factory.mktemp("shared") / "crew", HOST)
    app.port = 8060
    shutil.copytree(locked_apps("tiny"), app.source)
    yield app
    app.play("remove", variables={"app_remove_home": True}).succeeded()


@pytest.fixture
def shared(deployed: Application, request: pytest.FixtureRequest) -> Application:
    """The shared application with code that no test before had."""
    deployed.change(request.node.name)
    return deployed


# -- hooks -------------------------------------------------------------------------------------------------------------------

UNIT = "$(systemctl is-active app-shop@$CC_DEPLOYMENT_ID.service)"
HOOKS = {
    f"CC_{name.upper()}_HOOK": f"""
        venv=$(test -x .venv/bin/python && echo venv || echo no-venv)
        echo "{name} $venv {UNIT} $(basename "$PWD" | sed "s/$CC_DEPLOYMENT_ID/project/")" >> ~/order
        env -0 > ~/env.{name}
    """
    for name in ("pre_build", "post_build", "pre_run", "run_succeeded", "run_failed")
}
BUILT = ["pre_build no-venv inactive project", "post_build venv inactive project"]
RUN = ["pre_run venv inactive project", "run_succeeded venv active project"]


@pytest.mark.rule("B6", "B8", "D5", "D8")
def test_b6_d8_hooks_run_in_order_and_see_what_they_should(app: Application) -> None:
    host = app.host
    git = ["git", "-C", str(app.source)]
    for command in (["init", "-q"], ["add", "."], COMMIT):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    env = {**HOOKS, "UV_INDEX_X_PASSWORD": SECRET, "OWN": "a value\nof two lines"}
    app.deploy(env).succeeded()
    release = app.linked()
    assert lines(host, f"{HOME}/order") == [*BUILT, *RUN]

    serving = {name: value.decode() for name, value in app.environment().items()}
    seen = {
        name: dumped(host, f"{HOME}/env.{name}") for name in ("pre_build", "post_build", "pre_run", "run_succeeded")
    }
    platform = {
        "APP_ID": "app-shop",
        "APP_HOME": f"/srv/pyfleet/shop/releases/{release}",
        "CC_APP_NAME": "shop",
        "CC_COMMIT_ID": commit,
        "COMMIT_ID": commit,
        "CC_DEPLOYMENT_ID": release,
        "CC_PRETTY_INSTANCE_NAME": f"shop-{serving['INSTANCE_NUMBER']}",
        "INSTANCE_ID": f"shop-{serving['INSTANCE_NUMBER']}@{HOST}",
        "INSTANCE_NUMBER": serving["INSTANCE_NUMBER"],
        "OWN": "a value\nof two lines",
    }
    assert serving["INSTANCE_NUMBER"].isdigit()
    for name, environment in {**seen, "application": serving}.items():
        building = name.endswith("_build")
        expected = {**platform, "INSTANCE_TYPE": "build" if building else "production"}
        assert {key: environment.get(key) for key in expected} == expected, name
        assert environment.get("UV_INDEX_X_PASSWORD") == (SECRET if building else None), name
        if not building:
            assert environment["PORT"] == str(app.json()["port"]) == "18080", name
    # B8: the hooks wrote it down themselves; nothing else did
    host(f"rm {HOME}/env.*")
    left = host.run(
        f"grep -rlF {SECRET} /etc /srv/pyfleet /var/lib /var/cache /run /tmp 2>/dev/null; systemctl show --all 'app-shop*' "
        f"| grep -F {SECRET}; journalctl -q | grep -F {SECRET}; grep -lF {SECRET} /proc/[0-9]*/environ",
        check=False,
    )
    assert left.stdout == ""

    # neither a build nor a start: no hook
    app.deploy(env).succeeded()
    assert lines(host, f"{HOME}/order") == [*BUILT, *RUN]
    # a new release builds and starts
    app.change("2.0.0")
    app.deploy(env).succeeded()
    assert lines(host, f"{HOME}/order") == [*BUILT, *RUN] * 2
    # back to a release that has run: not a start of a new one
    app.play("rollback", env).succeeded()
    assert lines(host, f"{HOME}/order")[8:] == [RUN[1]]
    # a release that is only switched to was built before (B6)
    again = app.deploy(env).succeeded()
    assert again.of("plan")[0].result["action"] == "switch"
    assert lines(host, f"{HOME}/order")[9:] == RUN
    assert app.version() == "2.0.0"


@pytest.mark.rule("D8")
def test_d8_failing_run_succeeded_hook_never_fails_the_deployment(shared: Application) -> None:
    played = shared.deploy({"CC_RUN_SUCCEEDED_HOOK": "echo words of the hook; exit 5"}).succeeded()
    assert shared.version() == (shared.source / "VERSION").read_text().strip()
    assert "words of the hook" in played.output
    assert "CC_RUN_SUCCEEDED_HOOK failed with status 5; the deployment's result stands." in played.output
    assert shared.state()["releases"][shared.linked()]["result"] == "good"


@pytest.mark.rule("D8")
def test_d8_failing_run_failed_hook_leaves_the_reason(shared: Application) -> None:
    shared.deploy().succeeded()
    env = {"BEHAVIOUR": "exit", "CC_RUN_FAILED_HOOK": "echo words of the hook; exit 6"}
    failed = shared.deploy(env, variables={"app_health_deadline": 5}).failed()
    assert failed.message().startswith("Your application is not listening on ")
    event, _verdict = failed.failures()
    assert "words of the hook" in event.result["log"]


# -- tasks -------------------------------------------------------------------------------------------------------------------


@pytest.mark.rule("D9")
def test_d9_task_runs_once_and_reports_its_status(make_app: Maker) -> None:
    app = make_app("chore")
    host = app.host
    app.port = 8070
    ran = "/srv/pyfleet/chore/home/ran"
    served = app.deploy().succeeded()
    assert app.version() == "1.0.0"
    # longer than a health check may take: that is about servers
    command = "echo $INSTANCE_TYPE $BASHPID >> ~/ran; echo words of the task; sleep 3"
    env = {"CC_TASK": "true", "CC_RUN_COMMAND": command, "CC_WORKER_COMMAND": "uv run worker.py beside"}
    played = app.deploy(env, variables={"app_health_deadline": 1}).succeeded()
    assert "words of the task" in played.output
    assert "The task ended with status 0." in played.output
    assert [line.split()[0] for line in lines(host, ran)] == ["production"]
    host.wait_until("! systemctl list-units --plain --no-legend --state=running 'app-chore*.service' | grep -q .")
    assert host("nft list map inet pyfleet public | grep -c 8070 || true") == "0"

    assert "chore: a task, which ran to its end" in app.play("status", env).succeeded().output

    # it has run: nothing to do
    again = app.deploy(env, variables={"app_health_deadline": 1}).succeeded()
    assert again.changed == 0
    assert len(lines(host, ran)) == 1

    failed = app.deploy({"CC_TASK": "true", "CC_RUN_COMMAND": "echo words of the task >&2; exit 3"}).failed()
    for word in ["The task ended with status 3.", "D9", "words of the task", "Next step"]:
        assert word in failed.message()
    assert not host("systemctl list-units --plain --no-legend --state=running,failed 'app-chore*.service'")
    assert app.linked() == again.of("plan")[0].result["release"]
    # and a service again
    app.deploy().succeeded()
    assert app.linked() == served.of("plan")[0].result["release"]
    assert app.version() == "1.0.0"
