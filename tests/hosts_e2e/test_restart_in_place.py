# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook restart on a real host: what serves is started anew, what stands in front of it stays, and a lease keeps others off."""

from __future__ import annotations

import json
import pathlib
import time

import pytest

from . import legacy
from .conftest import Maker
from .load import PACED, Load


@pytest.mark.rule("G", "D2")
def test_g_restarts_behind_systemd_s_socket_lose_no_request_and_leave_nginx_alone(
    make_app: Maker, tmp_path: pathlib.Path
) -> None:
    app = make_app("busy", "legacy-flask")
    app.env.update(CC_PYTHON_BACKEND="gunicorn", WSGI_WORKERS="2")
    app.variables.update(app_stop_seconds=30)
    app.deploy().succeeded()
    release, nginx = legacy.release(app), f"app-busy-nginx@{legacy.front(app)}.service"
    units = (f"app-busy@{release}.service", f"app-busy@{release}.socket", nginx)

    def since() -> list[str]:
        return [app.host(f"systemctl show -p ActiveEnterTimestampMonotonic --value {unit}") for unit in units]

    before = since()
    with Load(app.host.url(app.port, "/health"), tmp_path, PACED) as load:
        for _number in range(3):
            app.play("restart").succeeded()
    print(f"\n3 restarts: {load.requests} requests, {load.failed} failed")
    assert load.requests > 100
    assert load.failed == 0, load.figures
    after = since()
    assert (after[0] != before[0], after[1:]) == (True, before[1:])
    assert legacy.release(app) == release
    assert app.host("ls /var/lib/pyfleet/leases/*.json 2>/dev/null || true") == ""


@pytest.mark.rule("E6", "D2")
def test_a_restart_that_fails_says_why_and_a_foreign_lease_is_respected(make_app: Maker) -> None:
    app = make_app()
    app.deploy().succeeded()
    served = app.linked()
    app.play("restart").succeeded()
    assert (app.linked(), app.version()) == (served, app.version())

    now = time.time()
    lease = {"run": "0123456789ab", "holder": "bob@lap", "what": "deploy", "started": now, "expires": now + 3600}
    app.host(f"echo '{json.dumps(lease)}' > /var/lib/pyfleet/leases/shop.json")
    fingerprint = app.fingerprint()
    refused = app.play("restart").failed()
    assert "bob@lap (deploy), run 0123456789ab" in refused.output
    assert app.fingerprint() == fingerprint
    app.play("restart", variables={"app_lease_takeover": "0123456789ab"}).succeeded()
    assert app.fingerprint() != fingerprint

    app.host(f"chmod 000 /srv/pyfleet/shop/releases/{served}/server.py")
    broken = app.play("restart").failed()
    assert f"{served} was restarted and does not serve; systemd goes on starting it." in broken.output
    assert "Permission denied" in broken.output
    app.host(f"chmod 644 /srv/pyfleet/shop/releases/{served}/server.py")
