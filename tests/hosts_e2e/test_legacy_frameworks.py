# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Applications of the index's frameworks in legacy mode, on two suites at once, asked through Nginx from outside."""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import json
import os
import re
import time
from typing import Any

import pytest
import websockets

from ansible_collections.pyfleet.runtime.tests.testbed import Bed

from . import legacy
from .conftest import Application, Maker

SUITES = ["bookworm1", "trixie1"]
BOTH = ",".join(SUITES)


def versions(app: Application) -> list[str]:
    """The version that every host serves."""
    return [app.ask("/version", host=host).json()["version"] for host in SUITES]


@pytest.mark.rule("G", "B7", "B9", "C1", "D5", "E3", "A4")
def test_g_flask_on_uwsgi_first_again_and_changed(make_app: Maker) -> None:
    app = make_app("flask", "legacy-flask", limit=BOTH)
    app.variables["app_stop_seconds"] = 15
    app.env["PYTHON_ONLY_HERE"] = "Grüße, $HOME"
    planned = app.play("plan").succeeded()
    assert "Mode         legacy: " in planned.stdout
    assert "uwsgi" in planned.stdout
    assert not app.bed.host("bookworm1").exists("/srv/pyfleet/flask"), "the plan only reads"

    deployed = app.deploy().succeeded()
    assert "Response from GET /health is 200" in deployed.stdout
    for host in SUITES:
        answer = app.ask(
            "/headers", host=host, headers={"X-Pyfleet-Probe": "guessed", "Proxy": "evil", "X-Own": "kept"}
        )
        assert answer.headers["Server"] == "nginx"
        told = answer.json()
        address = app.bed.host(host).address
        assert told["scheme"] == "http"
        assert told["url"] == f"http://{address}:8080/headers"
        assert told["environ"]["SCRIPT_NAME"] == ""
        assert told["environ"]["SERVER_PROTOCOL"] == "HTTP/1.1"
        assert told["remote"] not in ("", "127.0.0.1", "unix:", address), "the client's own address"
        assert told["headers"]["host"] == f"{address}:8080"
        assert told["headers"]["x-forwarded-for"] == told["remote"]
        assert told["headers"]["x-forwarded-proto"] == "http"
        assert told["headers"]["x-own"] == "kept"
        assert {"x-pyfleet-probe", "proxy"}.isdisjoint(told["headers"])
        secure = app.ask("/headers", host=host, headers={"X-Forwarded-Proto": "https", "Host": "shop.example"}).json()
        assert (secure["scheme"], secure["url"]) == ("https", "https://shop.example/headers")
        body = os.urandom(20 * 1024 * 1024)
        uploaded = app.ask("/upload", method="POST", data=body, host=host).json()
        assert uploaded == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        server = app.ask("/server", host=host).json()
        assert server["uwsgi"]["version"].startswith("2.0.30")
        assert re.match(r"/srv/pyfleet/flask/venvs/[0-9a-f]+$", server["prefix"]), "built at its final path (B9)"
        assert server["python"].startswith({"bookworm1": "3.11.", "trixie1": "3.13."}[host]), "the distribution's (C1)"
        assert app.bed.host(host)("ps -o user= -C nginx,uwsgi | sort -u") == "app-flask"
        assert app.bed.host(host).run("systemctl is-active nginx.service", check=False).stdout.strip() == "inactive"

    assert app.deploy().succeeded().changed == 0, "a second run changes nothing"
    app.change("2.0.0")
    dry = app.deploy(check=True, diff=True).succeeded()
    assert dry.changed > 0
    assert versions(app) == ["1.0.0", "1.0.0"]
    nginx = [legacy.nginx_pid(app, host) for host in SUITES]
    slow = legacy.slow(app, "trixie1")
    again = app.deploy().succeeded()
    assert versions(app) == ["2.0.0", "2.0.0"]
    assert legacy.answered(slow) == "200", "the release that took a request answers it"
    assert legacy.installed(again) == [], "unchanged requirements install nothing"
    assert [event.result["cached"] for event in again.of("legacy_build")] == [True, True]
    assert [legacy.nginx_pid(app, host) for host in SUITES] == nginx, "the same Nginx: only a link has moved"

    first = legacy.release(app, "trixie1")
    rolled = app.play("rollback").succeeded()
    assert versions(app) == ["1.0.0", "1.0.0"]
    assert legacy.release(app, "trixie1") != first
    assert rolled.changed == 2
    assert [legacy.nginx_pid(app, host) for host in SUITES] == nginx
    status = app.play("status").succeeded()
    assert "flask: healthy" in status.stdout


@pytest.mark.rule("G", "B7")
def test_b7_flask_on_gunicorn_as_its_requirements_pin_it(make_app: Maker) -> None:
    app = make_app("flask", "legacy-flask", limit=BOTH)
    app.variables["app_stop_seconds"] = 15
    (app.source / "requirements").mkdir()
    (app.source / "requirements.txt").rename(app.source / "requirements" / "web.txt")
    with (app.source / "requirements" / "web.txt").open("a") as file:
        file.write("gunicorn==23.0.0\n")
    app.env.update(CC_PYTHON_BACKEND="gunicorn", CC_PIP_REQUIREMENTS_FILE="requirements/web.txt")
    deployed = app.deploy().succeeded()
    for host in SUITES:
        server = app.ask("/server", host=host).json()
        assert server["software"] == "gunicorn/23.0.0", "a version pinned by the requirements wins"
        told = app.ask("/headers", host=host, headers={"X-Forwarded-Proto": "https"}).json()
        assert told["scheme"] == "https"
        assert told["headers"]["x-forwarded-for"] not in ("", "127.0.0.1")
        assert app.ask("/upload", method="POST", data=b"x" * 5_000_000, host=host).json()["size"] == 5_000_000
    assert {event.result["installed"]["gunicorn"] for event in deployed.of("legacy_build")} == {"23.0.0"}
    assert app.deploy().succeeded().changed == 0
    app.change("2.0.0")
    slow = legacy.slow(app, "trixie1")
    assert legacy.installed(app.deploy().succeeded()) == []
    assert versions(app) == ["2.0.0", "2.0.0"]
    assert legacy.answered(slow) == "200", "the release that took a request answers it"


@pytest.mark.rule("G", "B7")
def test_b7_django_with_migrations_collected_static_files_and_a_database_that_stays(make_app: Maker) -> None:
    app = make_app("django", "legacy-django", limit=BOTH)
    app.env["DATABASE_PATH"] = "/srv/pyfleet/django/home/shop.sqlite3"
    app.deploy().succeeded()
    for host in SUITES:
        assert "<li>Kettle from a migration: 2450</li>" in app.ask(host=host).text
        static = app.ask("/static/shop/site.css", host=host)
        assert (static.status, static.headers["Content-Type"]) == (200, "text/css")
        assert "collected by manage.py collectstatic" in static.text
        assert "Accept-Ranges" in static.headers, "Nginx serves it, not the application"
        assert app.ask("/static/shop/missing.css", host=host).status == 404
        assert app.ask("/add?name=Tea", host=host).json()["created"] is True
        answer = app.ask("/version", host=host, headers={"X-Forwarded-Proto": "https", "Host": "a.example"}).json()
        assert (answer["secure"], answer["host"]) == (True, "a.example")
    app.change("2.0.0")
    again = app.deploy().succeeded()
    assert legacy.installed(again) == []
    ran = [step["name"] for step in again.of("legacy_build", "trixie1")[0].result["steps"] if step["ran"]]
    assert ran == ["manage.py migrate --noinput", "manage.py collectstatic --noinput"]
    for host in SUITES:
        assert app.ask("/add?name=Tea", host=host).json()["created"] is False, "the database outlives the release"
        assert app.ask("/static/shop/site.css", host=host).status == 200
    # a task that fails ends the build, in Django's own words
    failed = app.deploy({"CC_PYTHON_MANAGE_TASKS": "migrate --noinput,chekc"}, limit="trixie1").failed()
    for words in ("manage.py chekc failed", "Unknown command: 'chekc'", "CC_PYTHON_MANAGE_TASKS", "untouched"):
        assert words in failed.message()
    assert app.ask("/version", host="trixie1").json()["version"] == "2.0.0"


async def talk(uri: str) -> tuple[dict[str, Any], list[str | bytes]]:
    """Opens a WebSocket, says two things, and returns what came: who answers, and the echo."""
    headers = {"X-Forwarded-Proto": "https"}
    async with websockets.connect(uri, additional_headers=headers, open_timeout=10, proxy=None) as socket:
        who = json.loads(await socket.recv())
        echo = []
        for said in ("Grüße", b"\x00\xff" * 40_000):
            await socket.send(said)
            echo.append(await asyncio.wait_for(socket.recv(), 10))
        return who, echo


@pytest.mark.parametrize("backend", ["daphne", "uvicorn"])
@pytest.mark.rule("G")
def test_g_asgi_with_a_websocket(make_app: Maker, backend: str) -> None:
    app = make_app("asgi", "legacy-asgi", limit=BOTH)
    # Daphne cuts what it is answering when it stops: only the drain saves the slow request below.
    app.variables.update(app_stop_seconds=15, app_drain_seconds=15)
    app.env.update(CC_PYTHON_BACKEND=backend, WSGI_WORKERS="2")
    app.deploy().succeeded()
    for host in SUITES:
        told = app.ask("/headers", host=host).json()
        assert told["http_version"] == "1.1"
        assert told["scheme"] == "http"
        assert told["client"][0] not in ("", "127.0.0.1")
        assert told["lifespan"] == (backend == "uvicorn"), "Daphne has no lifespan"
        assert told["headers"]["host"] == f"{app.bed.host(host).address}:8080"
        assert app.ask("/upload", method="POST", data=b"x" * 3_000_000, host=host).json()["size"] == 3_000_000
        who, echo = asyncio.run(talk(app.bed.host(host).url(8080, "/ws").replace("http:", "ws:")))
        assert who["type"] == "websocket"
        assert who["version"] == "1.0.0"
        assert who["headers"]["x-forwarded-proto"] == "https"
        assert echo == ["Grüße", b"\x00\xff" * 40_000]
        # an upgrade to anything but a WebSocket does not get through
        smuggled = app.ask("/headers", host=host, headers={"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"})
        assert "upgrade" not in smuggled.json()["headers"]
    app.limit = "bookworm1"
    workers = int(app.host("pgrep -c -u app-asgi -f 'spawn_main|[u]vicorn --fd|[d]aphne'"))
    assert workers >= (3 if backend == "uvicorn" else 1)
    if backend == "daphne":
        assert workers == 1
    app.limit = BOTH
    assert app.deploy().succeeded().changed == 0
    app.change("2.0.0")
    slow = legacy.slow(app, "trixie1")
    app.deploy().succeeded()
    assert versions(app) == ["2.0.0", "2.0.0"]
    assert legacy.answered(slow) == "200", "the release that took a request answers it"


@pytest.mark.rule("G")
def test_g_fastapi_on_uvicorn(make_app: Maker) -> None:
    app = make_app("fast", "legacy-fastapi", limit=BOTH)
    app.deploy().succeeded()
    for host in SUITES:
        assert app.ask(host=host).json()["lifespan"] is True
        assert app.ask("/items/7?q=x", host=host).json() == {"item": 7, "q": "x"}
        assert app.ask("/items/seven", host=host).status == 422
        assert app.ask("/docs", host=host).status == 200
        told = app.ask("/headers", host=host, headers={"X-Forwarded-Proto": "https", "Host": "a.example"}).json()
        assert told["url"] == "https://a.example/headers"
    assert app.deploy().succeeded().changed == 0


@pytest.mark.parametrize("backend", ["uwsgi", "gunicorn"])
@pytest.mark.rule("G")
def test_g_gevent_answers_many_requests_at_once_with_one_worker(make_app: Maker, backend: str) -> None:
    app = make_app("many", "legacy-gevent", limit=BOTH)
    app.env["CC_PYTHON_BACKEND"] = backend
    deployed = app.deploy().succeeded()
    assert "There is no requirements.txt" in deployed.output
    for host in SUITES:
        told = app.ask(host=host).json()
        assert told["gevent"], told
        assert told["patched"], told
        started = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _number: app.ask("/sleep?seconds=1", host=host).json(), range(20)))  # noqa: B023
        assert time.monotonic() - started < 5, "one after another they would take 20 s"
        assert {answer["pid"] for answer in answers} == {told["pid"]}
        assert max(answer["most"] for answer in answers) >= 15


def result(app: Application, host: str, task: str, seconds: float = 20) -> Any:
    """The result of a task that was queued."""
    deadline = time.monotonic() + seconds
    while True:
        answer = app.ask(f"/result/{task}", host=host).json()
        if answer["state"] == "SUCCESS":
            return answer["value"]
        assert answer["state"] == "PENDING", answer
        assert time.monotonic() < deadline, "nobody did the work"
        time.sleep(0.2)


@pytest.fixture
def redis(provisioned: Bed) -> Bed:
    """A Redis on both hosts, of the distribution."""
    for host in SUITES:
        provisioned.host(host)(
            "dpkg -s redis-server >/dev/null 2>&1 || { apt-get -qq update && DEBIAN_FRONTEND=noninteractive "
            "apt-get -qqy -o Dpkg::Use-Pty=0 install --no-install-recommends redis-server >/dev/null; }; "
            "systemctl start redis-server; redis-cli flushall",
            timeout=180,
        )
    return provisioned


@pytest.mark.rule("G", "D7")
def test_g_celery_worker_and_beat(redis: Bed, make_app: Maker) -> None:
    app = make_app("crew", "legacy-celery", limit=BOTH)
    app.env.update(CC_PYTHON_CELERY_USE_BEAT="true", CC_PYTHON_CELERY_LOGFILE="logs/celery.log")
    app.deploy().succeeded()
    releases = {}
    for host in SUITES:
        queued = app.ask("/add?x=19&y=23", method="POST", host=host).json()["id"]
        assert result(app, host, queued) == 42, "a task is queued over HTTP and its result comes back"
        where = result(app, host, app.ask("/where", method="POST", host=host).json()["id"])
        releases[host] = legacy.release(app, host)
        assert where["cwd"] == f"/srv/pyfleet/crew/releases/{releases[host]}"
        # beat ticks every second; what it queued before the worker was ready comes at once
        app.bed.host(host).wait_until("test $(redis-cli llen ticks) -ge 5")
        ticks = app.ask("/ticks", host=host).json()["ticks"]
        assert 1 < ticks[4] - ticks[0] < 20
        units = app.bed.host(host)("systemctl list-units --plain --no-legend --state=active 'app-crew-worker@*'")
        assert len(units.splitlines()) == 2
        assert app.bed.host(host).exists(f"/srv/pyfleet/crew/releases/{releases[host]}/logs/celery.log")
    app.change("2.0.0")
    again = app.deploy().succeeded()
    assert legacy.installed(again) == []
    for host in SUITES:
        where = result(app, host, app.ask("/where", method="POST", host=host).json()["id"])
        assert where["release"] == legacy.release(app, host) != releases[host], "the workers are the new release's"
    app.deploy({"CC_PYTHON_CELERY_USE_BEAT": "false"}, limit="trixie1").succeeded()
    assert "beat" not in app.bed.host("trixie1")("ps -u app-crew -o args=")
