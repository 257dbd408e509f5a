# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch while requests come in from another host: none may fail side by side; in place the gap is measured."""

from __future__ import annotations

import pathlib
import time

import pytest

from ansible_collections.pyfleet.runtime.tests.hosts_e2e.conftest import Application, Maker
from ansible_collections.pyfleet.runtime.tests.hosts_e2e.load import Load, parse

pytestmark = pytest.mark.alone
DEPLOYMENTS = 10


def test_the_parser_sees_every_kind_of_failure() -> None:
    good = "  100 requests in 1.00s, 1MB read\n"
    assert parse(good).failed == 0
    assert parse(good + "  Socket errors: connect 1, read 2, write 3, timeout 4\n").failed == 10
    assert parse(good + "  Non-2xx or 3xx responses: 7\n").failed == 7


@pytest.mark.rule("D2")
def test_ten_side_by_side_deployments_a_failed_one_and_a_rollback_lose_no_request(
    app: Application, tmp_path: pathlib.Path
) -> None:
    app.variables.update(app_drain_seconds=30)
    app.deploy().succeeded()
    with Load(app.host.url(app.port), tmp_path) as load:
        for number in range(DEPLOYMENTS):
            app.change(f"2.{number}")
            app.deploy().succeeded()
            assert app.version() == f"2.{number}"
    print(f"\n{DEPLOYMENTS} deployments under load: {load.requests} requests, {load.failed} failed")
    assert load.requests > 10_000
    assert load.failed == 0, load.figures

    before = app.fingerprint()
    with Load(app.host.url(app.port), tmp_path) as load:
        app.change("3.0")
        failed = app.deploy({"BEHAVIOUR": "500_on:/health"}, variables={"app_health_deadline": 10}).failed()
        assert "- GET /health returned 500." in failed.message()
    print(f"a failed deployment under load: {load.requests} requests, {load.failed} failed")
    assert load.failed == 0, load.figures
    assert app.fingerprint() == before

    with Load(app.host.url(app.port), tmp_path) as load:
        app.play("rollback").succeeded()
        assert app.version() == f"2.{DEPLOYMENTS - 2}"
    print(f"a rollback under load: {load.requests} requests, {load.failed} failed")
    assert load.failed == 0, load.figures


@pytest.mark.rule("D2")
def test_in_place_the_gap_is_measured_and_told(make_app: Maker, tmp_path: pathlib.Path) -> None:
    app = make_app("fixed")
    app.variables["app_switch"] = "in_place"
    app.deploy().succeeded()
    assert app.json()["port"] == 8080
    app.change("2.0.0")
    with Load(app.host.url(app.port), tmp_path) as load:
        result = app.deploy().succeeded().of("release")
    gap = next(event.result["gap_seconds"] for event in result if event.result.get("gap_seconds"))
    print(f"\nin place: {gap} s gap, {load.requests} requests, {load.failed} failed")
    assert load.failed > 0, "a load that cannot see the gap would prove nothing about the switch without one"
    assert 0 < gap < 10
    app.change("3.0.0")
    planned = app.play("plan").succeeded()
    assert f"{gap}" in planned.output
    assert "$PORT" in planned.output


@pytest.mark.rule("D2")
def test_between_in_place_and_side_by_side_no_request_is_lost(app: Application, tmp_path: pathlib.Path) -> None:
    app.variables["app_switch"] = "in_place"
    app.deploy().succeeded()
    with Load(app.host.url(app.port), tmp_path) as load:
        app.change("2.0.0")
        app.variables["app_switch"] = "side_by_side"
        app.deploy().succeeded()
        assert (app.version(), app.json()["port"]) == ("2.0.0", 18080)
        app.change("3.0.0")
        app.variables["app_switch"] = "in_place"
        app.deploy().succeeded()
        assert (app.version(), app.json()["port"]) == ("3.0.0", 8080)
    assert load.failed == 0, load.figures


def test_a_slow_request_is_finished_by_the_release_that_took_it(app: Application) -> None:
    app.variables.update(app_drain_seconds=30)
    app.deploy().succeeded()
    slow = app.host.popen("curl -s -o /dev/null -w '%{http_code}' 'http://localhost:8080/slow?seconds=9'")
    time.sleep(0.5)
    app.change("2.0.0")
    app.deploy().succeeded()
    assert app.version() == "2.0.0"
    assert slow.communicate(timeout=30)[0].strip() == "200"
    app.host.wait_until("test $(systemctl list-units --plain --no-legend --state=active 'app-shop@*' | wc -l) = 1", 40)
