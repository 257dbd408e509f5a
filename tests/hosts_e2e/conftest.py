# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments on real hosts: provisioned once per run, applications by name."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import json
import pathlib
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from xdist.remote import Producer

from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.lanes import Lanes
from ansible_collections.pyfleet.runtime.tests.testbed import Bed, BedHost, Played, bed, python_mirror  # noqa: F401
from ansible_collections.pyfleet.runtime.tests.tools.prepare_app import prepare

FIXTURES = CHECKOUT / "tests" / "fixtures" / "apps"
#: The tiny fixture reads PORT in its code, so its switch is side by side only when the variable says so.
TINY = {"CC_PYTHON_UV_RUN_COMMAND": "uv run python server.py", "CC_HEALTH_CHECK_PATH": "/health"}
#: What the applications of legacy mode need, by fixture. `legacy-asgi` and `legacy-gevent` run on any server of their kind.
LEGACY: dict[str, dict[str, str]] = {
    "legacy-flask": {"CC_PYTHON_MODULE": "shop:app"},
    "legacy-django": {
        "CC_PYTHON_MODULE": "project.wsgi:application",
        "CC_PYTHON_MANAGE_TASKS": "migrate --noinput, collectstatic --noinput",
        "STATIC_FILES_PATH": "staticfiles",
        "STATIC_URL_PREFIX": "/static",
    },
    "legacy-asgi": {"CC_PYTHON_MODULE": "shop:app", "CC_PYTHON_BACKEND": "uvicorn"},
    "legacy-fastapi": {"CC_PYTHON_MODULE": "main:app", "CC_PYTHON_BACKEND": "uvicorn"},
    "legacy-gevent": {"CC_PYTHON_MODULE": "shop:app", "CC_PYTHON_USE_GEVENT": "true", "WSGI_WORKERS": "1"},
    "legacy-celery": {
        "CC_PYTHON_MODULE": "shop:app",
        "CC_PYTHON_CELERY_MODULE": "tasks",
        "CC_PYTHON_BACKEND": "gunicorn",
    },
    "legacy-python2": {"CC_PYTHON_MODULE": "shop:app", "CC_PYTHON_BACKEND": "gunicorn", "CC_PYTHON_VERSION": "2"},
}
VARIABLES: dict[str, Any] = {"app_switch": "side_by_side", "app_drain_seconds": 2, "app_stop_seconds": 5}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the application, or what stands in front of it, answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> dict[str, Any]:
        """The body as JSON, after making sure that it is an answer to a good request."""
        assert self.status == 200, f"{self.status}: {self.text}"
        answer: dict[str, Any] = json.loads(self.body)
        return answer


class Application:
    """One application on one host (or several), deployed by the playbooks a user runs."""

    def __init__(self, on: Bed, name: str, source: pathlib.Path, limit: str) -> None:
        self.bed = on
        self.name = name
        self.source = source
        self.limit = limit
        self.deployed_on = limit
        self.env: dict[str, Any] = dict(TINY)
        self.variables: dict[str, Any] = dict(VARIABLES)
        self.port = 8080

    @property
    def host(self) -> BedHost:
        """The host, where there is one."""
        return self.bed.host(self.limit)

    def play(self, playbook: str, env: Mapping[str, Any] | None = None, **options: Any) -> Played:
        """Runs a playbook for this application; `env` is added to its environment."""
        variables = {
            "app_name": self.name,
            "app_source": {"path": str(self.source)},
            "app_env": {**self.env, **(env or {})},
            "app_public_port": self.port,
            **self.variables,
            **options.pop("variables", {}),
        }
        options.setdefault("limit", self.limit)
        return self.bed.play(f"playbooks/{playbook}.yml", variables, **options)

    def deploy(self, env: Mapping[str, Any] | None = None, **options: Any) -> Played:
        """Deploys; the result is not judged."""
        return self.play("deploy", env, **options)

    def change(self, text: str = "2.0.0") -> None:
        """Changes the code: the version that it answers with."""
        (self.source / "VERSION").write_text(f"{text}\n")

    def get(self, path: str = "/") -> tuple[int, bytes]:
        """Asks the public port from outside of the host."""
        try:
            with urllib.request.urlopen(self.host.url(self.port, path), timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def ask(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        host: str = "",
        timeout: float = 30,
    ) -> Answer:
        """Asks the public port of one host from outside; no redirect is followed, any answer will do."""
        to = self.bed.host(host) if host else self.host
        with contextlib.closing(http.client.HTTPConnection(to.address, self.port, timeout=timeout)) as connection:
            connection.request(method, path, body=data, headers=dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def json(self, path: str = "/") -> dict[str, Any]:
        """The answer as JSON."""
        status, body = self.get(path)
        assert status == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer

    def version(self) -> str:
        """The version that serves."""
        return str(self.json()["version"])

    def environment(self) -> dict[str, bytes]:
        """The environment of the running application, byte for byte."""
        return {name: base64.b64decode(value["base64"]) for name, value in self.json("/env").items()}

    def state(self) -> dict[str, Any]:
        """What the host knows of the releases."""
        state: dict[str, Any] = json.loads(self.host.read(f"/srv/pyfleet/{self.name}/state.json"))
        return state

    def linked(self, which: str = "current") -> str:
        """The release that a link names."""
        return self.host(f"basename $(readlink /srv/pyfleet/{self.name}/{which})")

    def units(self) -> list[str]:
        """The application's units that run."""
        listing = self.host(
            f"systemctl list-units --plain --no-legend --state=active 'app-{self.name}@*' 'app-{self.name}-worker@*'"
        )
        return [line.split()[0] for line in listing.splitlines()]

    def fingerprint(self) -> str:
        """Everything that a failed deployment must leave as it was: links, serving process, redirect, units."""
        return self.host(
            f"readlink /srv/pyfleet/{self.name}/current; systemctl show -p MainPID -p NRestarts "
            f"app-{self.name}@$(basename $(readlink /srv/pyfleet/{self.name}/current)).service; "
            f"nft list map inet pyfleet public; systemctl list-units --state=failed --no-legend --plain 'app-*'; "
            f"settings=/etc/pyfleet/{self.name}; release=$(basename $(readlink /srv/pyfleet/{self.name}/current)); "
            "if [ -e $settings/$release/front ]; then key=$(cat $settings/$release/front); cat $settings/$release/front.port; "
            f"readlink $settings/nginx-$key/serving; systemctl show -p MainPID -p NRestarts app-{self.name}-nginx@$key.service; "
            "cat $settings/nginx-$key/*.conf | sha256sum; fi"
        )


@pytest.fixture(scope="session")
def provisioned(bed: Bed) -> Bed:  # noqa: F811 - the fixture
    """The hosts, provisioned as a user does it."""
    bed.play("playbooks/provision.yml").succeeded()
    return bed


@pytest.fixture(scope="session")
def locked_apps(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], pathlib.Path]:
    """Fixture applications with a lock, each locked once; those of legacy mode have none."""
    root = tmp_path_factory.mktemp("locked")

    def locked(name: str) -> pathlib.Path:
        if name in LEGACY:
            return FIXTURES / name
        if not (root / name).exists():
            prepare(FIXTURES / name, root / name, str(CHECKOUT / ".venv" / "bin" / "uv"))
        return root / name

    return locked


Maker = Callable[..., Application]


@contextlib.contextmanager
def making(on: Bed, sources: Callable[[str], pathlib.Path], folder: pathlib.Path) -> Iterator[Maker]:
    """Makes applications from copies of fixtures, and removes them from their hosts afterwards."""
    made: list[Application] = []

    def make(name: str = "shop", fixture: str = "tiny", limit: str = "bookworm1") -> Application:
        source = folder / f"{name}-{len(made)}"
        shutil.copytree(sources(fixture), source, ignore=shutil.ignore_patterns("__pycache__"))
        application = Application(on, name, source, limit)
        if fixture in LEGACY:
            application.env = {**LEGACY[fixture], "CC_HEALTH_CHECK_PATH": "/health"}
            application.variables["app_switch"] = "auto"
        made.append(application)
        return application

    yield make
    variables = {"app_remove_home": True}
    removed = [
        (application, application.play("remove", variables=variables, limit=application.deployed_on))
        for application in made
    ]
    for application, played in removed:
        if played.rc != 0:  # the tests that follow get hosts that are as they should be
            on.reset(*application.deployed_on.replace(",", ":").split(":"))
            on.play("playbooks/provision.yml").succeeded()
    for _application, played in removed:
        played.succeeded()


@pytest.fixture
def make_app(provisioned: Bed, locked_apps: Callable[[str], pathlib.Path], tmp_path: pathlib.Path) -> Iterator[Maker]:
    """Makes applications from a copy of a fixture, and removes them from their hosts after the test."""
    with making(provisioned, locked_apps, tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def make_module_app(
    provisioned: Bed, locked_apps: Callable[[str], pathlib.Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Maker]:
    """The same for applications that all tests of a file share."""
    with making(provisioned, locked_apps, tmp_path_factory.mktemp("module")) as make:
        yield make


@pytest.fixture
def app(make_app: Maker) -> Application:
    """The tiny fixture as the application `shop` on bookworm1, not deployed yet."""
    return make_app()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The bed's own tests make hosts virgin again: they come first, before anything is provisioned."""
    items.sort(key=lambda item: item.path.name != "test_testbed.py")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Lanes:
    """Several processes: each has its files and hosts of its own."""
    return Lanes(config, log)


class Early:
    """Tells a failure when it happens and not only in the end, which a run that takes too long never reaches."""

    def __init__(self, config: pytest.Config) -> None:
        self._plugins = config.pluginmanager

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called for each phase of each test, by the process that prints."""
        terminal = self._plugins.get_plugin("terminalreporter")
        if report.failed and terminal:
            terminal.write_line(f"\n{report.nodeid}, {report.when}:\n{report.longreprtext[-6000:]}\n")


def pytest_configure(config: pytest.Config) -> None:
    """Where pytest runs several processes, the others have nobody to tell."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Early(config))
