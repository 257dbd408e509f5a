# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox of an application, tried from inside: the application itself is asked to do what it must not."""

from __future__ import annotations

import json

import pytest

from ansible_collections.pyfleet.runtime.tests.hosts_e2e.conftest import Maker

PROBE = r"""
import json, os, socket, subprocess, sys
def tried(function):
    try:
        function()
        return "yes"
    except OSError as error:
        return type(error).__name__
here = os.getcwd()
answers = {
    "write etc": tried(lambda: open("/etc/probe", "w").close()),
    "write usr": tried(lambda: open("/usr/probe", "w").close()),
    "write srv": tried(lambda: open("/srv/probe", "w").close()),
    "write venv": tried(lambda: open(here + "/.venv/probe", "w").close()),
    "write release": tried(lambda: open(here + "/probe", "w").close()),
    "write home": tried(lambda: open(os.environ["HOME"] + "/probe", "w").close()),
    "write tmp": tried(lambda: open("/tmp/probe", "w").close()),
    "read environment": tried(lambda: open("/etc/pyfleet/shop/%s/environment" % os.path.basename(here)).read()),
    "read root": tried(lambda: os.listdir("/root")),
    "raw socket": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "become root": tried(lambda: os.setuid(0)),
    "others": sorted({os.stat("/proc/" + pid).st_uid for pid in os.listdir("/proc") if pid.isdigit()}) == [os.getuid()],
}
open(os.environ["HOME"] + "/answers.json", "w").write(json.dumps(answers))
"""


@pytest.mark.parametrize("host", ["bullseye1", "trixie1"])
def test_an_application_can_do_no_more_than_it_needs(make_app: Maker, host: str) -> None:
    app = make_app(limit=host)
    (app.source / "probe.py").write_text(PROBE)
    app.deploy({"CC_PYTHON_UV_RUN_COMMAND": "python probe.py && exec python server.py"}).succeeded()
    answers = json.loads(app.host.read("/srv/pyfleet/shop/home/answers.json"))
    assert {name for name, answer in answers.items() if answer == "yes"} == {
        "write release",
        "write home",
        "write tmp",
    }, answers
    assert answers["others"] is True, "processes of other users are invisible"
    assert not app.host.exists("/tmp/probe"), "the application's /tmp is its own"


def test_the_sandbox_can_be_widened_and_switched_off(make_app: Maker) -> None:
    app = make_app()
    app.host("mkdir -p /srv/uploads && chmod 1777 /srv/uploads")
    command = "touch /srv/uploads/$APP_ID && exec python server.py"
    app.env["CC_PYTHON_UV_RUN_COMMAND"] = command
    app.variables["app_health_deadline"] = 10
    app.deploy().failed()
    app.variables.update(app_writable_paths=["/srv/uploads"], app_unit_lines=["MemoryMax=256M"])
    app.deploy().succeeded()
    unit = f"app-shop@{app.linked()}.service"
    assert app.host(f"systemctl show -p MemoryMax --value {unit}") == str(256 * 1024 * 1024)
    app.variables.update(app_hardening=False, app_writable_paths=[])
    app.change("2.0.0")
    app.deploy().succeeded()
    unit = f"app-shop@{app.linked()}.service"
    assert app.host(f"systemctl show -p ProtectSystem --value {unit}") == "no"
    assert app.json("/whoami")["user"] == "app-shop"
    app.host("rm -r /srv/uploads")
