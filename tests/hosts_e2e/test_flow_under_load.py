# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A chain under load from another host: deployments of code lose no request; a change of the chain is counted."""

from __future__ import annotations

import pathlib

import pytest

from . import chains
from .chains import CHAINS
from .conftest import FIXTURES, Application, Maker
from .load import KEPT, PACED, Load

pytestmark = pytest.mark.alone
DEPLOYMENTS = 5


@pytest.fixture
def busy(make_app: Maker) -> Application:
    """The tiny fixture, which loses no request when it stops, behind two hops. Its health path needs no challenge and no cache."""
    app = make_app("busy")
    chains.write(app, "cache.vcl", (FIXTURES / "echo" / "cache.vcl").read_text())
    app.env.update(CHAINS["two"][0])
    app.variables.update(app_drain_seconds=30, app_stop_seconds=30)
    app.deploy().succeeded()
    return app


@pytest.mark.rule("D2", "F8", "F9")
def test_d2_five_deployments_behind_two_hops_lose_no_request(busy: Application, tmp_path: pathlib.Path) -> None:
    with Load(busy.host.url(busy.port, "/health"), tmp_path, PACED) as load:
        for number in range(DEPLOYMENTS):
            busy.change(f"2.{number}")
            busy.deploy().succeeded()
    print(f"\n{DEPLOYMENTS} deployments behind two hops: {load.requests} requests, {load.failed} failed")
    assert load.requests > 1_000
    assert load.failed == 0, load.figures


@pytest.mark.rule("D2", "F3", "F7")
def test_f3_changes_of_the_chain_under_load(busy: Application, tmp_path: pathlib.Path) -> None:
    changes = ("two reversed", "disable", "two")
    with Load(busy.host.url(busy.port, "/health"), tmp_path) as load:
        for name in changes:
            busy.deploy(CHAINS[name][0]).succeeded()
    print(f"\nthree changes of the chain: {load.requests} requests, {load.failed} failed")
    assert load.requests > 1_000
    # A Varnish that has drained is killed, with the connections that its clients kept to it; nothing else is lost.
    assert load.failed <= len(changes) * KEPT, load.figures
