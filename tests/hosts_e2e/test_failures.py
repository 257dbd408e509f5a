# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments that fail on a real host: the release that serves never notices, and the next deployment succeeds.

One application serves for the whole file; each test breaks a deployment of it in its own way.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.testbed import Bed

from .conftest import TINY, Application

HOST = "bookworm1"
#: Both paths answer 200 in the tiny fixture; seconds for a health check that is going to fail.
PATHS = {"CC_HEALTH_CHECK_PATH": "/health", "CC_HEALTH_CHECK_PATH_0": "/version"}
DEADLINE = 6
SOON: dict[str, Any] = {"variables": {"app_health_deadline": DEADLINE}}
VARIABLES = {"app_switch": "side_by_side", "app_drain_seconds": 2, "app_stop_seconds": 5}
LAST_WORDS = "If the deployment fails after this message, please update your configuration and redeploy."
UNTOUCHED = "The running release is untouched."
_versions = itertools.count(1)


class Watch:
    """Asks the public port all the time, each time over a new connection."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.served: set[tuple[str, int, str]] = set()
        self.errors: list[str] = []
        self.count = 0

    def _ask(self) -> None:
        while not self._stop.wait(0.05):
            try:
                answer = self._app.json()
                self.served.add((answer["version"], answer["pid"], answer["release"]))
            except (OSError, AssertionError) as error:
                self.errors.append(repr(error))
            self.count += 1

    def start(self) -> None:
        """Begins to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ends, after the answer to the last question."""
        self._stop.set()
        self._thread.join()


@contextlib.contextmanager
def watching(app: Application) -> Iterator[Watch]:
    """Asks as long as the block runs."""
    watch = Watch(app)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


@contextlib.contextmanager
def untouched(app: Application) -> Iterator[None]:
    """Whatever happens inside: the same release serves, the same process, and it answers all the time."""
    before = app.fingerprint()
    with watching(app) as watch:
        yield
    assert app.fingerprint() == before
    assert watch.errors == []
    assert len(watch.served) == 1
    assert watch.count > 5


def recover(app: Application, env: dict[str, Any] | None = None, **options: Any) -> None:
    """The corrected deployment: it succeeds, and what it deploys serves, alone."""
    app.change(f"corrected-{next(_versions)}")
    app.deploy(env, **options).succeeded()
    expected = (app.source / "VERSION").read_text().strip()
    assert app.version() == expected
    assert [unit for unit in app.units() if "worker" not in unit] == [f"app-{app.name}@{app.linked()}.service"]
    assert app.state()["releases"][app.linked()]["result"] == "good"


def lock(app: Application) -> None:
    """Locks the application's source as it now is."""
    uv = str(CHECKOUT / ".venv" / "bin" / "uv")
    subprocess.run([uv, "lock", "--quiet", "--project", str(app.source)], check=True, cwd=app.source)


def depend(app: Application, requirement: str, **source: str) -> None:
    """Gives the application a dependency, and locks it again."""
    project = app.source / "pyproject.toml"
    text = project.read_text().replace("dependencies = []", f"dependencies = [{json.dumps(requirement)}]")
    for key, value in source.items():
        text += f"\n[tool.uv.sources]\n{requirement} = {{ {key} = {json.dumps(value)} }}\n"
    project.write_text(text)
    lock(app)


@pytest.fixture(scope="module")
def deployed(
    provisioned: Bed, locked_apps: Callable[[str], pathlib.Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Application]:
    """The application of this file."""
    app = Application(provisioned, "shop", tmp_path_factory.mktemp("failures") / "shop", HOST)
    app.env = {**TINY, **PATHS}
    app.variables = dict(VARIABLES)
    shutil.copytree(locked_apps("tiny"), app.source)
    app.deploy().succeeded()
    yield app
    app.play("remove", variables={"app_remove_home": True}).succeeded()


@pytest.fixture
def app(deployed: Application, locked_apps: Callable[[str], pathlib.Path]) -> Application:
    """The application, serving, with a source like that of the fixture but for the version."""
    shutil.rmtree(deployed.source)
    shutil.copytree(locked_apps("tiny"), deployed.source)
    try:
        deployed.json()
    except (OSError, AssertionError):  # a test failed half-way; this one is about something else
        deployed.deploy().succeeded()
    deployed.change(f"new-{next(_versions)}")
    return deployed


# -- the build -------------------------------------------------------------------------------------------------------------


def stale_lock(app: Application) -> dict[str, str]:
    """What pyproject.toml asks for has changed since it was locked."""
    project = app.source / "pyproject.toml"
    project.write_text(project.read_text().replace(">=3.9", ">=3.10"))
    return {}


def unbuildable(app: Application) -> dict[str, str]:
    """A dependency whose build ends in an error."""
    package = app.source / "broken"
    package.mkdir()
    (package / "pyproject.toml").write_text(
        '[project]\nname = "broken"\nversion = "1.0"\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (package / "backend.py").write_text("def build_wheel(*_):\n    raise SystemExit('no compiler for broken here')\n")
    depend(app, "broken", path="./broken")
    return {}


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        pytest.param(
            stale_lock,
            ["The lockfile at `uv.lock` needs to be updated, but `--locked` was provided", "B4"],
            id="b4_stale_lock",
        ),
        pytest.param(
            lambda _app: {"CC_PRE_BUILD_HOOK": "echo words of the hook; exit 7"},
            ["CC_PRE_BUILD_HOOK", "7", "words of the hook", "B6"],
            id="b6_pre_build_hook",
        ),
        pytest.param(
            lambda _app: {"CC_POST_BUILD_HOOK": "echo words of the hook >&2; exit 8"},
            ["CC_POST_BUILD_HOOK", "8", "words of the hook", "B6"],
            id="b6_post_build_hook",
        ),
        pytest.param(unbuildable, ["broken", "no compiler for broken here"], id="build_error"),
    ],
)
@pytest.mark.rule("B4", "B6")
def test_b4_b6_failed_build_leaves_the_running_release(
    app: Application, breaks: Callable[[Application], dict[str, str]], words: list[str]
) -> None:
    env = breaks(app)
    with untouched(app):
        failed = app.deploy(env).failed()
    for word in [*words, "Next step", UNTOUCHED]:
        assert word in failed.message()
    folders = app.host(f"ls /srv/pyfleet/{app.name}/releases /etc/pyfleet/{app.name}").split()
    broken = [name for name, facts in app.state()["releases"].items() if facts["result"] == "failed"]
    assert broken
    assert not set(broken) & set(folders)
    assert not app.host.exists(f"/run/pyfleet/{app.name}.build")
    if breaks is stale_lock:
        lock(app)
    elif breaks is unbuildable:
        (app.source / "broken" / "backend.py").write_text(WORKING_BACKEND)
    recover(app)


WORKING_BACKEND = """
import pathlib, zipfile

def build_wheel(folder, *_):
    name = "broken-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder, name), "w") as wheel:
        info = "broken-1.0.dist-info"
        wheel.writestr("broken.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: broken\\nVersion: 1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""


def test_b4_index_down_leaves_the_running_release(app: Application) -> None:
    depend(app, "iniconfig==2.0.0")
    app.env["UV_HTTP_RETRIES"] = "0"
    app.bed.cut(HOST)
    try:
        with untouched(app):
            failed = app.deploy().failed()
    finally:
        app.bed.uncut(HOST)
    for word in ["iniconfig", "index", "Next step", UNTOUCHED]:
        assert word in failed.message()
    # the very same release: that it failed once does not stand in its way
    app.deploy().succeeded()
    del app.env["UV_HTTP_RETRIES"]
    assert app.version() == (app.source / "VERSION").read_text().strip()


def test_disk_full_while_building_leaves_no_partial_release(
    app: Application, locked_apps: Callable[[str], pathlib.Path], tmp_path: pathlib.Path
) -> None:
    host = app.host
    host("mkdir -p /srv/small && mount -t tmpfs -o size=60m,mode=755 tmpfs /srv/small")
    small = Application(app.bed, "small", tmp_path / "small", HOST)
    small.port = 8090
    small.variables = {**VARIABLES, "app_root": "/srv/small"}
    shutil.copytree(locked_apps("tiny"), small.source)
    try:
        small.deploy().succeeded()
        link = host("readlink /srv/small/small/current")
        with zipfile.ZipFile(small.source / "bulky-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
            info = "bulky-1.0.dist-info"
            wheel.writestr("bulky.txt", bytes(40 * 1024 * 1024))
            wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: bulky\nVersion: 1.0\n")
            wheel.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            wheel.writestr(f"{info}/RECORD", "bulky.txt,,\n")
        depend(small, "bulky", path="./bulky-1.0-py3-none-any.whl")
        small.change("bulky")
        host("head -c 30M /dev/zero > /srv/small/ballast")
        free = int(host("df --output=avail -k /srv/small | tail -1"))
        with watching(small) as watch:
            failed = small.deploy().failed()
        assert watch.errors == []
        assert {version for version, _pid, _release in watch.served} == {"1.0.0"}
        for word in ["No space left on device", "Next step", UNTOUCHED]:
            assert word in failed.message()
        assert host("readlink /srv/small/small/current") == link
        assert host("ls /srv/small/small/releases").split() == [os.path.basename(link)]
        assert int(host("df --output=avail -k /srv/small | tail -1")) > free - 1024  # KiB
        host("head -c 60M /dev/zero >> /srv/small/ballast 2>/dev/null || true")
        failed = small.deploy().failed()  # not even room to unpack
        for word in ["The release cannot be unpacked", "No space left on device", "Next step", UNTOUCHED]:
            assert word in failed.message()
        assert host("ls /srv/small/small/releases").split() == [os.path.basename(link)]
        assert small.version() == "1.0.0"
        host("rm /srv/small/ballast")
        small.deploy().succeeded()
        assert small.version() == "bulky"
    finally:
        small.play("remove", variables={"app_remove_home": True}).succeeded()
        host("umount /srv/small")


# -- the start and the health check ------------------------------------------------------------------------------------------


def checked(port: int) -> str:
    """The line that says which port was asked."""
    return f"Checked on port {port}, this release's own; 8080 is its public port."


def other_port(app: Application) -> int:
    """The port that the next release gets."""
    return {18080: 28080, 28080: 18080}[int(app.json()["port"])]


def test_d8_failed_pre_run_hook_leaves_the_running_release(app: Application) -> None:
    hooks = {"CC_PRE_RUN_HOOK": "echo words of the hook; exit 9", "CC_RUN_FAILED_HOOK": "echo called > ~/called"}
    with untouched(app):
        failed = app.deploy(hooks).failed()
    for word in ["CC_PRE_RUN_HOOK failed with status 9.", "D8", "words of the hook", "Next step"]:
        assert word in failed.message()
    assert app.host.read(f"/srv/pyfleet/{app.name}/home/called") == "called\n"
    assert len(app.units()) == 1
    recover(app)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        pytest.param(
            "exit", ["Your application is not listening on {port}", "it ended", "Cannot start, as asked"], id="exits"
        ),
        pytest.param(
            "loopback",
            ["Your application is listening on localhost instead of publicly", "--host 0.0.0.0"],
            id="loopback_only",
        ),
        pytest.param(
            "wrong_port", ["Your application is not listening on {port}", "listens on {wrong} instead"], id="wrong_port"
        ),
    ],
)
@pytest.mark.rule("E4", "E5", "E6")
def test_e4_who_does_not_listen_as_expected_fails(app: Application, behaviour: str, words: list[str]) -> None:
    port = other_port(app)
    hook = {"CC_RUN_FAILED_HOOK": "echo called $BEHAVIOUR > ~/called"}
    with untouched(app):
        failed = app.deploy({"BEHAVIOUR": behaviour, **hook}, **SOON).failed()
    fields = {"port": port, "wrong": port + 1}
    first, *more = [word.format(**fields) for word in words]
    assert failed.message().splitlines()[0] == first
    for word in [*more, checked(port), "schedule (seconds after start): 0, 0.25, 0.75", "Next step"]:
        assert word in failed.output
    assert app.host.read(f"/srv/pyfleet/{app.name}/home/called") == f"called {behaviour}\n"
    assert len(app.units()) == 1
    recover(app)


@pytest.mark.rule("E1", "E3", "E5", "E6")
def test_e3_one_of_two_paths_answers_500(app: Application) -> None:
    with untouched(app):
        failed = app.deploy({"BEHAVIOUR": "500_on:/version"}, **SOON).failed()
    lines = [
        "Response from GET /health is 200",
        "Response from GET /version is 500",
        "Health check failed:",
        "- GET /version returned 500.",
        LAST_WORDS,
    ]
    event, _verdict = failed.failures()
    assert event.result["log"] == lines
    assert event.result["msg"].splitlines()[:3] == lines[2:]
    for line in lines:
        assert line in failed.output
    assert len(app.units()) == 1
    recover(app)


@pytest.mark.rule("E5")
def test_e5_application_that_needs_20_seconds_passes(app: Application) -> None:
    with watching(app) as watch:
        played = app.deploy({"BEHAVIOUR": "slow:20"}).succeeded()
    assert watch.errors == []
    assert len(watch.served) == 2
    assert played.seconds > 20
    assert app.version() == (app.source / "VERSION").read_text().strip()
    (active,) = [event for event in played.of("release") if "log" in event.result]
    assert active.result["log"] == ["Response from GET /health is 200", "Response from GET /version is 200"]


@pytest.mark.rule("E6", "D2")
def test_e6_in_place_the_old_release_is_started_again_and_the_gap_reported(app: Application) -> None:
    in_place = {"app_switch": "in_place"}
    recover(app, variables=in_place)  # from side by side to in place: no gap, the ports differ
    assert app.json()["port"] == 8080
    serving, before = app.json(), app.linked()
    app.change("failing")
    failed = app.deploy({"BEHAVIOUR": "loopback"}, variables={**in_place, **SOON["variables"]}).failed()
    gap = app.state()["last_gap_seconds"]
    assert failed.message().splitlines()[0] == "Your application is listening on localhost instead of publicly"
    assert f"The previous release was started again; nobody served for {gap} s (switch in place)." in failed.message()
    assert gap > DEADLINE
    assert app.linked() == before
    again = app.json()
    assert (again["version"], again["release"]) == (serving["version"], serving["release"])
    assert app.units() == [f"app-{app.name}@{before}.service"]
    recover(app, variables=in_place)
    recover(app)


# -- the controller and the connection ---------------------------------------------------------------------------------------


def descendants(pid: int) -> list[int]:
    """A process and all that it started, ssh's shared connection excepted."""
    parents: dict[int, list[int]] = {}
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    return found


def wait(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


LOSE = """
sleep 0.3
nft 'table inet lost { chain input { type filter hook input priority -200; tcp dport 22 reject with tcp reset; }; }'
sleep 5
nft delete table inet lost
"""


@pytest.mark.rule("E6")
def test_connection_lost_between_building_and_switching(app: Application) -> None:
    built = f"/srv/pyfleet/{app.name}/home/built"
    app.host(f"rm -f {built}")

    def lose(process: subprocess.Popen[str]) -> None:
        app.host.wait_until(f"test -e {built}")
        process.send_signal(signal.SIGSTOP)  # the worker still takes the build's result, but no task begins
        time.sleep(1.5)
        app.host(f"systemd-run --quiet --collect sh -c {shlex.quote(LOSE)}")
        time.sleep(1)
        process.send_signal(signal.SIGCONT)

    hook = {"CC_POST_BUILD_HOOK": "touch ~/built; sleep 0.5"}
    with untouched(app):
        lost = app.deploy(hook, during=lose)
        assert lost.rc != 0
        assert [event.status for event in lost.of("uv_sync")] == ["ok"]
        # it is asked to go back, too, because nobody knows what it does
        switch, back, verdict = lost.failures()
        assert back.result["lost"]
        assert (switch.status, switch.action, switch.result["lost"]) == ("failed", "pyfleet.runtime.release", True)
        assert verdict.action == "pyfleet.runtime.rollout"
        assert "by itself" in lost.message()
        wait(lambda: app.host.run("true", check=False).rc == 0)
        (release,) = {str(event.result["release"]) for event in lost.of("plan")}
        assert app.state()["releases"][release]["result"] == "building"
    app.deploy(hook).succeeded()
    assert app.linked() == release
    assert app.version() == (app.source / "VERSION").read_text().strip()


@pytest.mark.parametrize("healthy", [pytest.param(True, id="finishes"), pytest.param(False, id="reverts")])
@pytest.mark.rule("E6")
def test_e6_controller_killed_during_the_switch(app: Application, healthy: bool) -> None:
    before, serving = app.linked(), app.version()
    new = (app.source / "VERSION").read_text().strip()

    def kill(process: subprocess.Popen[str]) -> None:
        app.host.wait_until(
            f"systemctl is-active -q 'app-{app.name}@*' && [ $(systemctl list-units --plain --no-legend "
            f"--state=active 'app-{app.name}@*.service' | wc -l) = 2 ]"
        )
        for pid in descendants(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    env = {"BEHAVIOUR": "slow:5"} if healthy else {"BEHAVIOUR": "never_listen"}
    # as users have it: an ordinary user with sudo
    options: dict[str, Any] = {"ansible_user": "deploy", "app_health_deadline": 60 if healthy else DEADLINE}
    with watching(app) as watch:
        assert app.deploy(env, variables=options, during=kill).rc == -signal.SIGKILL
        assert app.version() == serving
        wait(lambda: len(app.units()) == 1 and (app.linked() != before) == healthy, 60)
    assert watch.errors == []
    assert app.version() == (new if healthy else serving)
    assert (app.linked() == before) == (not healthy)
    again = app.deploy(env if healthy else {}, variables=options).succeeded()
    assert app.version() == new
    assert len(app.units()) == 1
    assert (again.of("plan")[0].result["action"] == "none") == healthy
