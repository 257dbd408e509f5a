# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments on real hosts: provisioned once per run, applications by name."""

from __future__ import annotations

import base64
import json
import pathlib
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.testbed import Bed, BedHost, Played, bed, python_mirror  # noqa: F401
from ansible_collections.pyfleet.runtime.tests.tools.prepare_app import prepare

FIXTURES = CHECKOUT / "tests" / "fixtures" / "apps"
#: The tiny fixture reads PORT in its code, so its switch is side by side only when the variable says so.
TINY = {"CC_PYTHON_UV_RUN_COMMAND": "uv run python server.py", "CC_HEALTH_CHECK_PATH": "/health"}


class Application:
    """One application on one host (or several), deployed by the playbooks a user runs."""

    def __init__(self, on: Bed, name: str, source: pathlib.Path, limit: str) -> None:
        self.bed = on
        self.name = name
        self.source = source
        self.limit = limit
        self.deployed_on = limit
        self.env: dict[str, Any] = dict(TINY)
        self.variables: dict[str, Any] = {"app_switch": "side_by_side", "app_drain_seconds": 2, "app_stop_seconds": 5}
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
            f"nft list map inet pyfleet public; systemctl list-units --state=failed --no-legend --plain 'app-*'"
        )


@pytest.fixture(scope="session")
def provisioned(bed: Bed) -> Bed:  # noqa: F811 - the fixture
    """The hosts, provisioned as a user does it."""
    bed.play("playbooks/provision.yml").succeeded()
    return bed


@pytest.fixture(scope="session")
def locked_apps(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], pathlib.Path]:
    """Fixture applications with a lock, each locked once."""
    root = tmp_path_factory.mktemp("locked")

    def locked(name: str) -> pathlib.Path:
        if not (root / name).exists():
            prepare(FIXTURES / name, root / name, str(CHECKOUT / ".venv" / "bin" / "uv"))
        return root / name

    return locked


Maker = Callable[..., Application]


@pytest.fixture
def make_app(provisioned: Bed, locked_apps: Callable[[str], pathlib.Path], tmp_path: pathlib.Path) -> Iterator[Maker]:
    """Makes applications from a copy of a fixture, and removes them from their hosts afterwards."""
    made: list[Application] = []

    def make(name: str = "shop", fixture: str = "tiny", limit: str = "bookworm1") -> Application:
        source = tmp_path / f"{name}-{len(made)}"
        shutil.copytree(locked_apps(fixture), source)
        made.append(Application(provisioned, name, source, limit))
        return made[-1]

    yield make
    for application in made:
        application.play("remove", variables={"app_remove_home": True}, limit=application.deployed_on).succeeded()


@pytest.fixture
def app(make_app: Maker) -> Application:
    """The tiny fixture as the application `shop` on bookworm1, not deployed yet."""
    return make_app()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The bed's own tests make hosts virgin again: they come first, before anything is provisioned."""
    items.sort(key=lambda item: item.path.name != "test_testbed.py")
