# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A legacy application's life on a host: virgin, beside foreign sites, with a server of its own, to uv mode and back, reboot, removal."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator

import pytest

from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.testbed import BedHost
from ansible_collections.pyfleet.runtime.tests.tools.prepare_app import excluded_date

from . import legacy
from .conftest import Application, Maker
from .test_failures import SOON

UV = {"CC_PYTHON_UV_RUN_COMMAND": "uv run gunicorn --bind 0.0.0.0:$PORT shop:app"}
PROJECT = """[project]
name = "shop"
version = "1"
requires-python = ">=3.9"
dependencies = ["flask==3.1.3", "gunicorn>=23"]
[tool.uv]
exclude-newer = "{date}"
"""


def locked(app: Application) -> None:
    """Gives the application a pyproject.toml and a lock besides its requirements.txt: a variable decides on the mode."""
    (app.source / "pyproject.toml").write_text(PROJECT.format(date=excluded_date()))
    uv = str(CHECKOUT / ".venv" / "bin" / "uv")
    subprocess.run([uv, "lock", "--quiet", "--project", str(app.source)], check=True, cwd=app.source)


def closed(host: BedHost, port: int) -> bool:
    """Whether nobody answers on a port, asked from outside."""
    try:
        socket.create_connection((host.address, port), timeout=2).close()
    except OSError:
        return True
    return False


# -- a virgin host ---------------------------------------------------------------------------------------------------------------


def test_a_dry_run_on_a_virgin_host_changes_nothing_and_does_not_fail(make_app: Maker) -> None:
    app = make_app("dry", "legacy-flask", limit="trixie1")
    app.bed.reset("trixie1")
    app.bed.play("playbooks/provision.yml", limit="trixie1").succeeded()
    assert app.host.run("command -v nginx", check=False).rc != 0, "provisioning brings no web server"
    dry = app.deploy(check=True, diff=True).succeeded()
    assert dry.changed > 0
    left = app.host(
        "command -v nginx; ls -d /srv/pyfleet/dry /etc/pyfleet/dry /etc/systemd/system/*nginx* 2>/dev/null; true"
    )
    assert left == ""
    app.deploy().succeeded()
    assert app.version() == "1.0.0"
    assert closed(app.host, 80), "the distribution's own Nginx was not let loose"


# -- the distribution's own Nginx ------------------------------------------------------------------------------------------------


SITE = "server { listen 8090; location / { default_type text/plain; return 200 'foreign\\n'; } }\n"


@pytest.fixture
def foreign(make_app: Maker) -> Iterator[Application]:
    """An application, not deployed yet, on a host where somebody serves a site with the distribution's own Nginx."""
    app = make_app("guest", "legacy-flask", limit="bookworm1")
    host = app.host
    host(
        "systemctl unmask nginx.service; dpkg -s nginx-light >/dev/null 2>&1 || { apt-get -qq update && "
        "DEBIAN_FRONTEND=noninteractive apt-get -qqy -o Dpkg::Use-Pty=0 install --no-install-recommends nginx-light >/dev/null; }",
        timeout=180,
    )
    host("mv /etc/nginx/sites-enabled/default /root/default-site")
    host.write("/etc/nginx/sites-enabled/foreign", SITE)
    host("nginx -t -q && systemctl restart nginx.service")
    yield app
    host(
        "systemctl stop nginx.service; rm /etc/nginx/sites-enabled/foreign; "
        "mv /root/default-site /etc/nginx/sites-enabled/default; systemctl mask nginx.service"
    )


@pytest.mark.rule("G")
def test_g_a_foreign_site_keeps_working(foreign: Application) -> None:
    app, host = foreign, foreign.host

    def unchanged() -> str:
        return host(
            "systemctl show -p MainPID -p NRestarts -p ActiveState -p UnitFileState nginx.service; "
            "pgrep -P $(systemctl show -p MainPID --value nginx.service) | sort; "
            "find /etc/nginx -type f -o -type l | sort | xargs sha256sum; curl -s localhost:8090"
        )

    before = unchanged()
    assert "foreign" in before
    app.deploy().succeeded()
    assert app.version() == "1.0.0"
    assert unchanged() == before, "added"
    app.deploy({"BEHAVIOUR": "unhealthy", "NGINX_READ_TIMEOUT": "50"}, **SOON).failed()
    assert unchanged() == before, "broken"
    app.port = 8090
    refused = app.deploy().failed()
    assert "8090" in refused.message()
    assert unchanged() == before, "its port is not ours to take"
    app.port = 8080
    app.play("remove", variables={"app_remove_home": True}).succeeded()
    assert unchanged() == before, "removed"
    assert legacy.leftovers(host, app.name) == ""


# -- uv mode and back ---------------------------------------------------------------------------------------------------------------


@pytest.mark.rule("D3", "A1", "A4", "G")
def test_d3_legacy_to_uv_and_back_and_rollbacks_across(make_app: Maker) -> None:
    app = make_app("both", "legacy-flask")
    host = app.host
    locked(app)
    app.env["CC_PYTHON_BACKEND"] = "gunicorn"
    planned = app.play("plan").succeeded()
    assert "CC_PYTHON_UV_RUN_COMMAND" in planned.stdout, "what is missing for uv mode is told"
    app.deploy().succeeded()
    in_legacy = app.linked()
    assert app.ask("/version").headers["Server"] == "nginx"

    app.change("2.0.0")
    to_uv = app.deploy(UV).succeeded()
    assert "Mode         uv" in app.play("plan", UV).succeeded().stdout
    in_uv = app.linked()
    assert app.version() == "2.0.0"
    assert app.ask("/version").headers["Server"] != "nginx"
    host.wait_until("! pgrep -u app-both nginx && ! test -e /etc/systemd/system/app-both-nginx@.service", 20)
    assert (
        host(
            "systemctl list-units --all --plain --no-legend 'app-both-nginx@*' 'app-both@*.socket'; "
            "ls /etc/systemd/system | grep -E 'app-both.*(nginx|socket)'; ls /run/pyfleet/both/*.sock 2>/dev/null; true"
        )
        == ""
    ), "no Nginx, unit or socket of ours in uv mode (D3)"
    assert not to_uv.of("legacy_build")
    assert app.deploy(UV).succeeded().changed == 0

    app.play("rollback").succeeded()
    assert (app.version(), app.linked()) == ("1.0.0", in_legacy)
    assert app.ask("/version").headers["Server"] == "nginx"
    app.play("rollback").succeeded()
    assert (app.version(), app.linked()) == ("2.0.0", in_uv)
    assert app.ask("/version").headers["Server"] != "nginx"

    app.change("3.0.0")
    again = app.deploy().succeeded()
    assert legacy.installed(again) == [], "the environment of the first release is still good"
    assert app.version() == "3.0.0"
    assert app.ask("/version").headers["Server"] == "nginx"
    host.wait_until(
        "test $(systemctl list-units --plain --no-legend --state=active 'app-both@*.service' | wc -l) = 1", 20
    )
    assert app.deploy().succeeded().changed == 0

    app.play("remove", variables={"app_remove_home": True}).succeeded()
    assert legacy.leftovers(host, "both") == ""
    left = host(
        "ls -d /srv/pyfleet/both /etc/pyfleet/both /run/pyfleet/both /var/cache/*both* 2>/dev/null; "
        "ls /etc/systemd/system /etc/pyfleet/redirects | grep both; nft list map inet pyfleet public | grep 8080; "
        "pgrep -u app-both; systemctl list-units --all --plain --no-legend '*both*' | grep -v '^system-.*[.]slice'; "
        "ls /var/lib/pyfleet/sets | grep both; true"
    )
    assert left == "", "removal leaves nothing"
    assert app.play("remove").succeeded().changed == 0


# -- CC_RUN_COMMAND -------------------------------------------------------------------------------------------------------------------


@pytest.mark.rule("G", "F12", "D2")
def test_g_run_command_on_9000_behind_nginx_in_place_then_side_by_side(make_app: Maker) -> None:
    app = make_app("own", "tiny")
    (app.source / "uv.lock").unlink()
    (app.source / "pyproject.toml").unlink()
    app.env = {
        "CC_RUN_COMMAND": "python server.py --port 9000",
        "CC_HEALTH_CHECK_PATH": "/health",
        "CC_WORKER_COMMAND": "python worker.py plain",
    }
    app.variables["app_switch"] = "auto"
    app.deploy().succeeded()
    assert app.json()["port"] == 9000
    assert app.ask().headers["Server"] == "nginx"
    assert "server 127.0.0.1:9000" in legacy.nginx(app)
    assert app.host("curl -s --max-time 3 localhost:9000/health") == "ok"
    for port in (9000, 18080, 28080, 19000, 29000):
        assert closed(app.host, port), f"{port} is not for other hosts (F12)"
    app.host.wait_until("test -e /srv/pyfleet/own/home/heartbeat-plain.json")
    beat = json.loads(app.host.read("/srv/pyfleet/own/home/heartbeat-plain.json"))
    assert beat["cwd"] == f"/srv/pyfleet/own/releases/{app.linked()}"
    assert beat["python"] == f"/srv/pyfleet/own/releases/{app.linked()}/.venv/bin/python", (
        "workers run in the environment"
    )
    assert app.deploy().succeeded().changed == 0
    app.change("2.0.0")
    nginx = legacy.nginx_pid(app)
    app.deploy().succeeded()
    assert (app.version(), app.json()["port"]) == ("2.0.0", 9000)
    assert legacy.nginx_pid(app) == nginx

    app.env["CC_RUN_COMMAND"] = "python server.py --port $PORT"
    for version in ("3.0.0", "4.0.0"):
        app.change(version)
        app.deploy().succeeded()
        assert app.version() == version
        assert app.json()["port"] in (19000, 29000)
    for port in (9000, 18080, 28080, 19000, 29000):
        assert closed(app.host, port), f"{port} is not for other hosts (F12)"
    failed = app.deploy({"BEHAVIOUR": "never_listen"}, **SOON).failed()
    assert "not listening as expected" in failed.message()
    assert app.version() == "4.0.0"


@pytest.mark.parametrize("hook", ["uv sync --no-dev", ""])
@pytest.mark.rule("G", "D4")
def test_g_uv_run_as_run_command_with_and_without_uv_sync_as_hook(make_app: Maker, hook: str) -> None:
    app = make_app("public", "fastapi")
    app.env = {
        "CC_RUN_COMMAND": "uv run uvicorn app.main:app --host 0.0.0.0 --port 9000",
        "CC_HEALTH_CHECK_PATH": "/health",
        **({"CC_PRE_BUILD_HOOK": hook} if hook else {}),
    }
    app.variables["app_switch"] = "auto"
    app.deploy().succeeded()
    assert app.json()["message"] == "Hello from FastAPI"
    assert app.ask().headers["Server"] == "nginx"
    assert app.deploy().succeeded().changed == 0


# -- reboot ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.rule("D4", "G")
def test_d4_a_legacy_application_comes_back_after_a_reboot_without_the_index(make_app: Maker) -> None:
    app = make_app("back", "legacy-flask", limit="trixie1")
    app.env.update(
        CC_WORKER_COMMAND="while :; do date +%s > ~/beat; sleep 1; done",
        CC_HTTP_BASIC_AUTH="alice:wonderland",
    )
    app.deploy().succeeded()
    app.change("2.0.0")
    app.deploy().succeeded()
    release = app.linked()
    app.bed.cut("trixie1")
    try:
        app.host("rm -rf /srv/pyfleet/back/home/.cache")
        app.bed.reboot("trixie1")
        app.host.wait_until("curl -sf -u alice:wonderland localhost:8080/health", 60)
        headers = {"Authorization": "Basic YWxpY2U6d29uZGVybGFuZA=="}
        assert app.ask("/version", headers=headers).json()["version"] == "2.0.0"
        assert app.ask("/version").status == 401
        assert app.linked() == release
        app.host.wait_until("test $(date +%s) -lt $(( $(cat /srv/pyfleet/back/home/beat) + 3 ))")
        assert app.host("systemctl list-units --state=failed --no-legend --plain 'app-*'") == ""
        units = set(
            app.host("systemctl list-units --plain --no-legend --state=active 'app-back*' | cut -d' ' -f1").split()
        )
        assert {
            f"app-back@{release}.service",
            f"app-back@{release}.socket",
            f"app-back-worker@{release}:0.service",
            f"app-back-nginx@{legacy.front(app)}.service",
        } <= units
        status = app.play("status").succeeded()
        assert "back: healthy" in status.stdout
    finally:
        app.bed.uncut("trixie1")
