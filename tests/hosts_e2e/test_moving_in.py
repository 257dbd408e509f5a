# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving in, as docs/moving-in.md walks: from Clever Cloud, from Heroku with a Procfile, from a Gunicorn host made by hand."""

from __future__ import annotations

import base64
import json
import pathlib
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.tests.testbed import BedHost, Played

from .conftest import FIXTURES, Application, Maker

EXPORTS = pathlib.Path("tests/fixtures/exports")  # relative to where ansible-playbook is started
HERE = pathlib.Path(__file__).resolve().parents[2]
PLANTED = "pl4nted"


def lookup(file: pathlib.Path, more: str = "") -> str:
    """The template of `app_env` that reads an export."""
    return f"{{{{ lookup('pyfleet.runtime.clever_env', '{file}'){more} }}}}"


# -- Clever Cloud ----------------------------------------------------------------------------------------------------------------


def deploy(app: Application, file: str) -> Played:
    """Deploys with an export that a playbook of the user's own reads."""
    variables = {
        "app_name": app.name,
        "app_source": {"path": str(app.source)},
        "app_env": lookup(EXPORTS / file),
        "app_public_port": app.port,
        "app_drain_seconds": 2,
    }
    book = [{"name": "Shop", "ansible.builtin.import_playbook": "pyfleet.runtime.deploy", "vars": variables}]
    return app.bed.play(book, limit=app.limit, verbosity=3)


@pytest.mark.rule("D6", "D5", "I")
def test_d6_an_application_of_clever_cloud_has_the_same_environment_here(app: Application) -> None:
    exported = json.loads((HERE / EXPORTS / "clever.json").read_text(encoding="utf-8"))
    parts = [*exported["fromDependencies"], *exported["fromAddons"], exported]
    wanted = {item["name"]: item["value"].encode() for part in parts for item in part["env"]}
    platform = ("APP_ID", "CC_DEPLOYMENT_ID", "INSTANCE_ID")
    foreign = {name: wanted.pop(name) for name in platform}

    played = deploy(app, "clever.json").succeeded()
    received = app.environment()
    assert {name: received.get(name) for name in wanted} == wanted
    assert received["APP_ID"] == b"app-shop"
    assert not set(foreign.values()) & set(received.values())
    # Ansible breaks warnings into lines.
    screen = " ".join(played.output.split())
    assert f"clever.json holds {', '.join(platform)}" in screen
    assert "LOG_LEVEL from the application stock and from the application itself" in screen
    assert PLANTED not in screen
    release = app.linked()

    # The text says the same, to the byte: a release's id is made from its environment, too.
    again = deploy(app, "clever.env").succeeded()
    assert again.changed == 0
    assert app.linked() == release


# -- Heroku ----------------------------------------------------------------------------------------------------------------------

BOTH = ["bookworm1", "trixie1"]
#: web, worker and release of a Procfile
PROCFILE = {
    "CC_PYTHON_MODULE": "shop:app",
    "CC_PYTHON_BACKEND": "gunicorn",
    "CC_WORKER_COMMAND": "python -c 'import pathlib, time; (pathlib.Path.home() / \"worked\").touch(); time.sleep(9999)'",
    "CC_PRE_RUN_HOOK": 'echo "$SECRET_KEY" >> ~/migrated',
    "CC_HEALTH_CHECK_PATH": "/health",
}


@pytest.mark.rule("D6", "D7", "D8")
def test_d8_a_procfile_application_of_heroku(make_app: Maker) -> None:
    app = make_app("proc", "legacy-flask", limit=",".join(BOTH))
    config = json.loads((HERE / EXPORTS / "heroku.json").read_text(encoding="utf-8"))
    variables: dict[str, Any] = {
        "app_env": lookup(EXPORTS / "heroku.json", " | combine(shop_env)"),
        "shop_env": PROCFILE,
        "app_pre_run_hook": "once",
    }
    played = app.deploy(variables=variables).succeeded()
    assert PLANTED not in played.output
    for name in BOTH:
        answer = {key: base64.b64decode(value["base64"]) for key, value in app.ask("/env", host=name).json().items()}
        assert {key: answer.get(key) for key in config} == {key: value.encode() for key, value in config.items()}
        assert app.ask("/server", host=name).json()["software"].startswith("gunicorn/")
        app.bed.host(name).wait_until("test -e /srv/pyfleet/proc/home/worked")
    migrated = [app.bed.host(name).run("cat /srv/pyfleet/proc/home/migrated", check=False).stdout for name in BOTH]
    assert sorted(migrated) == ["", config["SECRET_KEY"] + "\n"], "the release command ran once for all hosts"


# -- a Gunicorn host made by hand ------------------------------------------------------------------------------------------------

OLD_PORT = 8000
OLD = "/opt/handmade"
UNIT = f"""[Unit]
Description=An application as people run it by hand

[Service]
User=www-data
WorkingDirectory={OLD}
Environment=WHERE=old "GREETING=Grüße, \\"100 %%\\" $$HOME \\\\ 'x'"
ExecStart={OLD}/venv/bin/gunicorn --bind 0.0.0.0:{OLD_PORT} --workers 1 shop:app
Restart=always
"""
GREETING = "Grüße, \"100 %\" $$HOME \\ 'x'"
#: What systemd and the account give a service, as the page names it.
OF_SYSTEMD = [
    "HOME", "INVOCATION_ID", "JOURNAL_STREAM", "LANG", "LOGNAME", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "PATH", "SHELL",
    "SYSTEMD_EXEC_PID", "USER",
]  # fmt: skip


def asked(host: BedHost, port: int) -> str:
    """The version that answers on a port, asked from outside."""
    with urllib.request.urlopen(host.url(port, "/version"), timeout=10) as answer:
        return str(json.load(answer)["version"])


@pytest.fixture
def handmade(make_app: Maker) -> Iterator[Application]:
    """An application, not deployed yet, on a host where somebody runs an older version of it by hand."""
    app = make_app("shop", "legacy-flask")
    host = app.host
    host(f"mkdir -p {OLD}")
    for name in ("shop.py", "requirements.txt"):
        host.write(f"{OLD}/{name}", (FIXTURES / "legacy-flask" / name).read_text(encoding="utf-8"))
    host.write(f"{OLD}/VERSION", "0.9.0\n")
    # not with the distribution's venv module, which a host need not have
    host(f"cd {OLD} && uv venv -q --clear --python /usr/bin/python3 venv", timeout=120)
    host(f"cd {OLD} && uv pip install -q --python venv/bin/python -r requirements.txt gunicorn==23.0.0", timeout=300)
    host.write("/etc/systemd/system/handmade.service", UNIT)
    host("systemctl daemon-reload && systemctl restart handmade")
    host.wait_until(f"curl -sf localhost:{OLD_PORT}/health")
    yield app
    host("systemctl stop handmade; rm -rf /etc/systemd/system/handmade.service /opt/handmade; systemctl daemon-reload")


@pytest.mark.rule("D2", "D6")
def test_d2_a_gunicorn_host_is_taken_over_beside_the_running_one(handmade: Application, tmp_path: pathlib.Path) -> None:
    app, host = handmade, handmade.host
    raw = base64.b64decode(host("base64 < /proc/$(systemctl show -p MainPID --value handmade)/environ"))
    pairs = dict(pair.split(b"=", 1) for pair in raw.split(b"\0") if pair)
    export = tmp_path / "shop.old.json"
    export.write_text(json.dumps({name.decode(): value.decode() for name, value in pairs.items()}), encoding="utf-8")
    variables: dict[str, Any] = {
        "app_env": f"{{{{ lookup('pyfleet.runtime.clever_env', '{export}', drop=of_systemd) | combine(shop_env) }}}}",
        "of_systemd": OF_SYSTEMD,
        "shop_env": {
            "CC_PYTHON_MODULE": "shop:app",
            "CC_PYTHON_BACKEND": "gunicorn",
            "WSGI_WORKERS": 1,
            "CC_HEALTH_CHECK_PATH": "/health",
        },
    }

    # beside it
    app.deploy(variables=variables).succeeded()
    assert (asked(host, OLD_PORT), asked(host, 8080)) == ("0.9.0", "1.0.0")
    received = app.environment()
    assert received["WHERE"] == b"old"
    assert received["GREETING"] == pairs[b"GREETING"] == GREETING.encode()
    assert received["HOME"] == b"/srv/pyfleet/shop/home"

    # not on its port as long as it serves there
    app.port = OLD_PORT
    refused = app.deploy(variables=variables).failed()
    assert f"Port {OLD_PORT} is in use by " in refused.message()
    assert (asked(host, OLD_PORT), asked(host, 8080)) == ("0.9.0", "1.0.0")

    # in its place
    host("systemctl stop handmade")
    app.deploy(variables=variables).succeeded()
    assert asked(host, OLD_PORT) == app.version() == "1.0.0"
    assert host.run("curl -s --max-time 2 localhost:8080", check=False).rc != 0, "the port of before is given back"
    host("rm /etc/systemd/system/handmade.service && systemctl daemon-reload")
    assert app.deploy(variables=variables).succeeded().changed == 0
