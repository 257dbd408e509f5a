# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reboots: the application comes back without the index, behind its redirect, also after an interrupted switch."""

from __future__ import annotations

import pytest

from ansible_collections.pyfleet.runtime.tests.hosts_e2e.conftest import Application, Maker
from ansible_collections.pyfleet.runtime.tests.hosts_e2e.test_deploy import FASTAPI


@pytest.mark.parametrize("host", ["bullseye1", "trixie1"])
@pytest.mark.rule("D4")
def test_d4_a_host_cut_off_from_the_index_reboots_into_a_running_application(make_app: Maker, host: str) -> None:
    app = make_app("fast", "fastapi", limit=host)
    app.env = dict(FASTAPI)
    app.variables["app_switch"] = "auto"
    app.deploy().succeeded()
    # Started as written, by uv itself: the sharper case, since `uv run` would sync if it were let.
    app.deploy({"CC_PYTHON_UV_RUN_COMMAND": f"exec {FASTAPI['CC_PYTHON_UV_RUN_COMMAND']}"}).succeeded()
    venv = f"/srv/pyfleet/fast/releases/{app.linked()}/.venv"
    before = app.host(f"find {venv} -type f -printf '%p %s %T@\\n' | sort | sha256sum")
    app.bed.cut(host)
    try:
        assert app.host.run("curl -s --max-time 3 http://192.0.2.1/", check=False).rc != 0
        app.host(f"rm -rf /srv/pyfleet/fast/home/.cache/uv; touch {venv}/../pyproject.toml")
        app.bed.reboot(host)
        app.host.wait_until("curl -sf localhost:8080/health", 60)
        assert app.get("/health")[0] == 200, "through the redirect, from another host"
        assert app.host(f"find {venv} -type f -printf '%p %s %T@\\n' | sort | sha256sum") == before
    finally:
        app.bed.uncut(host)


@pytest.mark.rule("D2")
def test_d2_after_a_reboot_the_redirect_is_there_before_the_application(app: Application) -> None:
    app.deploy().succeeded()
    app.change("2.0.0")
    app.deploy().succeeded()
    port = app.json()["port"]
    app.bed.reboot("bookworm1")
    app.host.wait_until("curl -sf localhost:8080/health", 60)
    assert app.json()["port"] == port
    unit = f"app-shop@{app.linked()}.service"
    stamps = app.host(
        "systemctl show -p ActiveEnterTimestampMonotonic --value pyfleet-redirect.service; "
        f"systemctl show -p ExecMainStartTimestampMonotonic --value {unit}"
    ).split()
    assert 0 < int(stamps[0]) < int(stamps[1])
    status = app.play("status").succeeded()
    assert "shop: healthy" in status.stdout


def test_a_reboot_between_the_flip_and_the_commit_goes_back_to_the_old_release(app: Application) -> None:
    app.deploy().succeeded()
    first = app.linked()
    app.change("2.0.0")
    app.deploy().succeeded()
    # What the disk looks like when the power fails after the redirect led to the new release and before the link moved.
    app.host(f"ln -sfn releases/{first} /srv/pyfleet/shop/current")
    app.bed.reboot("bookworm1")
    app.host.wait_until("curl -sf localhost:8080/health", 60)
    assert app.version() == "1.0.0"
    app.deploy().succeeded()
    assert app.version() == "2.0.0"


def test_the_users_own_firewall_reload_does_not_lose_the_redirect(app: Application) -> None:
    app.deploy().succeeded()
    app.host("printf '#!/usr/sbin/nft -f\\nflush ruleset\\ntable inet mine { }\\n' > /etc/nftables.conf")
    try:
        for verb in ("start", "reload", "restart"):
            app.host(f"systemctl {verb} nftables")
            app.host.wait_until("curl -sf --max-time 2 localhost:8080/health", 10)
            assert "table inet mine" in app.host("nft list ruleset")
            assert app.version() == "1.0.0"
    finally:
        app.host("systemctl stop nftables; systemctl restart pyfleet-redirect.service")


def test_f12_the_releases_own_ports_answer_on_the_host_only(app: Application) -> None:
    app.deploy().succeeded()
    other = app.bed.host("trixie1")
    port = app.json()["port"]
    assert other.run(f"curl -sf --max-time 3 {app.host.url(8080)}", check=False).rc == 0
    assert other.run(f"curl -sf --max-time 3 {app.host.url(port)}", check=False).rc != 0
    assert app.host.run(f"curl -sf --max-time 3 localhost:{port}", check=False).rc == 0
