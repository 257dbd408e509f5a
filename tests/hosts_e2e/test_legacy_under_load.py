# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Legacy applications under load from another host: no request is lost, with uWSGI and Gunicorn; with Daphne and Uvicorn the
figure is printed.
"""

from __future__ import annotations

import pathlib
import time

import pytest

from . import legacy
from .conftest import Application, Maker
from .load import KEPT, NEW, PACED, Load
from .test_failures import SOON

pytestmark = pytest.mark.alone
DEPLOYMENTS = 10
#: For Daphne and Uvicorn, where a figure is all there is.
FEW = 3
#: What a restart can cut at most: a request on each connection.
IN_FLIGHT = KEPT + NEW
FIXTURE = {"uwsgi": "legacy-flask", "gunicorn": "legacy-flask", "daphne": "legacy-asgi", "uvicorn": "legacy-asgi"}


def started(make_app: Maker, backend: str) -> Application:
    """An application that serves on this backend."""
    app = make_app("busy", FIXTURE[backend])
    app.env.update(CC_PYTHON_BACKEND=backend, WSGI_WORKERS="2")
    app.variables.update(app_drain_seconds=30, app_stop_seconds=30)
    app.deploy().succeeded()
    return app


def deployed(app: Application, times: int, folder: pathlib.Path) -> Load:
    """Deployments of new code while requests come in."""
    with Load(app.host.url(app.port, "/health"), folder, PACED) as load:
        for number in range(times):
            app.change(f"2.{number}")
            assert legacy.installed(app.deploy().succeeded()) == []
            assert app.version() == f"2.{number}"
    return load


def told(what: str, load: Load) -> None:
    """Prints the figures."""
    print(f"\n{what}: {load.requests} requests, {load.failed} failed")


@pytest.mark.parametrize("backend", ["uwsgi", "gunicorn"])
@pytest.mark.rule("G", "D2")
def test_g_ten_deployments_a_restart_other_settings_a_failure_and_a_rollback_lose_no_request(
    make_app: Maker, tmp_path: pathlib.Path, backend: str
) -> None:
    app = started(make_app, backend)
    load = deployed(app, DEPLOYMENTS, tmp_path)
    told(f"{backend}: {DEPLOYMENTS} deployments", load)
    assert load.requests > 5_000
    assert load.failed == 0, load.figures

    unit = f"app-busy@{legacy.release(app)}.service"
    with Load(app.host.url(app.port, "/health"), tmp_path, PACED) as load:
        for _number in range(3):
            app.host(f"systemctl restart {unit}")
            time.sleep(1.5)
    told(f"{backend}: 3 restarts of the backend's unit", load)
    assert load.failed == 0, load.figures

    with Load(
        app.host.url(app.port, "/health"), tmp_path
    ) as load:  # an Nginx ends, and with it the connections kept to it
        for timeout in ("101", "102"):
            key = legacy.front(app)
            app.env["NGINX_READ_TIMEOUT"] = timeout
            app.deploy().succeeded()
            assert legacy.front(app) != key, "other settings, another Nginx"
        app.change("bad")
        app.deploy({"BEHAVIOUR": "unhealthy"}, **SOON).failed()
        app.play("rollback").succeeded()
    told(f"{backend}: other settings of Nginx twice, a failed deployment and a rollback", load)
    assert load.failed == 0, load.figures


@pytest.mark.parametrize("backend", ["daphne", "uvicorn"])
@pytest.mark.rule("G", "D2")
def test_g_deployments_and_a_restart_with_an_asgi_server(make_app: Maker, tmp_path: pathlib.Path, backend: str) -> None:
    app = started(make_app, backend)
    load = deployed(app, FEW, tmp_path)
    told(f"{backend}: {FEW} deployments", load)
    assert load.requests > 1_000
    assert load.failed <= load.requests // 1000, load.figures
    unit = f"app-busy@{legacy.release(app)}.service"
    with Load(app.host.url(app.port, "/health"), tmp_path, PACED) as load:
        for _number in range(3):
            app.host(f"systemctl restart {unit}")
            time.sleep(1.5)
    told(f"{backend}: 3 restarts of the backend's unit", load)
    # Daphne drops what it is answering when it is told to end; nothing else is lost.
    assert load.failed <= 3 * IN_FLIGHT, load.figures
