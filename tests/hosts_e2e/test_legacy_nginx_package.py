# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The distribution's Nginx, where role legacy installs it: its service never runs, and the units of legacy mode are good ones."""

from __future__ import annotations

import pytest

from . import legacy
from .conftest import Maker

STATE = "systemctl is-active nginx.service; systemctl is-enabled nginx.service; ss -ltnH 'sport = 80'"


@pytest.mark.parametrize("name", ["bullseye1", "forky1"])
def test_g_nginx_service_stays_off_also_when_its_package_is_upgraded(make_app: Maker, name: str) -> None:
    """Debian's package starts it at every upgrade, even where it is disabled."""
    app = make_app("flask", "legacy-flask", name)
    app.deploy().succeeded()
    host = app.host
    assert host.run(STATE, check=False).stdout.split() == ["inactive", "masked"]
    host(
        "DEBIAN_FRONTEND=noninteractive apt-get -qqy -o Dpkg::Use-Pty=0 install --reinstall --no-install-recommends nginx-common "
        "$(dpkg-query -Wf '${Package} ${db:Status-Abbrev}\\n' nginx nginx-light 2>/dev/null | sed -n 's/ ii *$//p')",
        timeout=180,
    )
    assert host.run(STATE, check=False).stdout.split() == ["inactive", "masked"]
    assert app.version() == "1.0.0"
    units = f"app-flask@{legacy.release(app)}.socket app-flask@{legacy.release(app)}.service app-flask-nginx@{legacy.front(app)}.service"
    assert host.run(f"systemd-analyze verify {units} 2>&1").stdout == ""
    app.get("/version")
    assert " to=serving " in host("journalctl --sync; journalctl -q -o cat -t app_flask | tail -n 1")
