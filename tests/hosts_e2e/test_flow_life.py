# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A chain's life: it comes, changes and goes with redeployments and rollbacks; Varnish keeps its cache; a secret is replaced.

One application; the tests follow each other. A test that runs alone deploys what it starts from.
"""

from __future__ import annotations

import time

import pytest

from . import chains
from .chains import BOTH, CHAINS, SECRET, Chained
from .conftest import FIXTURES, Maker

OTHER_SECRET = "another-secret-of-the-challenge-which-Otoroshi-has-not-got-yet"


@pytest.fixture(scope="module")
def flow(make_module_app: Maker) -> Chained:
    """The application, behind nothing yet."""
    app = make_module_app("flow", "echo", limit=",".join(BOTH))
    app.env = dict(chains.ECHO)
    return Chained(app)


def served(flow: Chained, version: str, wanted: str) -> None:
    """The version and the chain that serve on all hosts, and nothing else of any chain."""
    services = CHAINS[wanted][1]
    for host in flow.hosts:
        to = flow.app.bed.host(host)
        chains.settle(to, services)
        assert flow.ask("/version", host).json()["version"] == version
        public = chains.table(to).public
        if not services:
            assert chains.traces(to) == ""
            assert set(public) == {8080}, public
            assert public[8080] in (18080, 28080)
            assert chains.table(to).internal == {18080, 28080}
            continue
        slot = chains.slot(to)
        own = public[9000]
        inner = {18080: 9000, 28080: 39000}[slot]
        assert own in (19000, 29000)
        assert public == {8080: slot, 8081: slot + 1, 9000: own, inner: own}, "no way of a chain that is gone stays"
        assert chains.error(flow.app.ask("/version", host=host)) == "Missing Otoroshi-State header"
        assert to("pgrep -c -x haproxy; true") == "1", "one challenge"


@pytest.mark.rule("F3", "F4", "F7", "D8")
def test_f3_chains_come_change_and_go_with_rollbacks_across(flow: Chained) -> None:
    for version, name in (("1.0.0", "none"), ("2.0.0", "two"), ("3.0.0", "two reversed"), ("4.0.0", "disable")):
        flow.app.change(version)
        flow.name = ""
        flow.wear(name)
        served(flow, version, name)

    def rolled_back() -> None:
        flow.app.play("rollback").succeeded()

    # Rollback changes between the last two: current and previous.
    rolled_back()
    served(flow, "3.0.0", "two reversed")
    rolled_back()
    served(flow, "4.0.0", "disable")
    rolled_back()
    served(flow, "3.0.0", "two reversed")
    flow.app.change("5.0.0")
    flow.name = ""
    flow.wear("two")
    served(flow, "5.0.0", "two")
    rolled_back()
    served(flow, "3.0.0", "two reversed")
    rolled_back()
    served(flow, "5.0.0", "two")
    assert flow.deploy("two").succeeded().changed == 0


# -- Varnish ------------------------------------------------------------------------------------------------------------------------


def pid(flow: Chained, host: str) -> str:
    """The Varnish that runs."""
    (unit,) = [unit for unit in chains.units(flow.app.bed.host(host)) if "varnish" in unit]
    return flow.app.bed.host(host)(f"systemctl show -p MainPID -p NRestarts {unit}")


@pytest.mark.rule("F8")
def test_f8_the_cache_survives_other_code_and_another_vcl(flow: Chained) -> None:
    flow.wear("two")
    version = {host: flow.ask("/version", host).json()["version"] for host in flow.hosts}
    before = {host: pid(flow, host) for host in flow.hosts}
    for host in flow.hosts:
        assert flow.ask("/cached/kept", host).headers["X-Cache"] == "miss"
    flow.app.change("6.0.0")
    flow.deploy("two").succeeded()
    for host in flow.hosts:
        answer = flow.ask("/cached/kept", host)
        assert (answer.headers["X-Cache"], answer.json()["version"]) == ("hit", version[host])
        assert flow.ask("/version", host).json()["version"] == "6.0.0", "what is not cached is the new release's"
    vcl = flow.app.source / "cache.vcl"
    good = (FIXTURES / "echo" / "cache.vcl").read_text()
    vcl.write_text(good.replace('"one"', '"two"'))
    flow.deploy("two").succeeded()
    for host in flow.hosts:
        answer = flow.ask("/cached/kept", host)
        assert (answer.headers["X-Cache"], answer.headers["X-Vcl"]) == ("hit", "two")
    assert {host: pid(flow, host) for host in flow.hosts} == before, "the same process, never restarted"
    assert flow.deploy("two").succeeded().changed == 0

    fingerprints = {host: flow.app.bed.host(host)("readlink /srv/pyfleet/flow/current") for host in flow.hosts}
    flow.app.change("7.0.0")
    vcl.write_text(good.replace("return (hash)", "return (hush)"))
    failed = flow.deploy("two").failed()
    for word in ("CC_VARNISH_FILE", "Expected return action name", "hush", "line 3", "Next step"):
        assert word in failed.message(), failed.message()
    for host in flow.hosts:
        answer = flow.ask("/cached/kept", host)
        assert (answer.headers["X-Cache"], answer.headers["X-Vcl"]) == ("hit", "two")
        assert flow.app.bed.host(host)("readlink /srv/pyfleet/flow/current") == fingerprints[host]
    assert {host: pid(flow, host) for host in flow.hosts} == before

    # The VCL that serves is the one that a restart starts with.
    to = flow.app.bed.host("bookworm1")
    to(f"systemctl restart {next(unit for unit in chains.units(to) if 'varnish' in unit)}")
    chains.wait_for(lambda: flow.ask("/cached/kept", "bookworm1").status == 200)
    assert flow.ask("/cached/kept", "bookworm1").headers["X-Vcl"] == "two"

    vcl.write_text(good)
    flow.app.change("6.0.0")
    flow.app.play("rollback").succeeded()
    for host in flow.hosts:
        assert flow.ask("/cached/kept", host).headers["X-Vcl"] == "one", "the rollback brings the release's own VCL"


# -- otoroshi-challenge ---------------------------------------------------------------------------------------------------------------


@pytest.mark.rule("F9")
def test_f9_both_secrets_are_accepted_while_one_replaces_the_other(flow: Chained) -> None:
    chains.write(flow.app, "cache.vcl", (FIXTURES / "echo" / "cache.vcl").read_text())
    flow.wear("two")
    moment = time.time() + 45
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
    previous = {"app_challenge_previous_secret": SECRET, "app_challenge_previous_until": until}
    env = {"OTOROSHI_CHALLENGE_SECRET": OTHER_SECRET}
    played = flow.deploy("two", env, variables=previous, verbosity=3).succeeded()
    assert SECRET not in played.output
    assert OTHER_SECRET not in played.output
    flow.name = ""
    for host in flow.hosts:
        for secret in (SECRET, OTHER_SECRET):
            assert flow.ask("/version", host, secret=secret).status == 200
    if (rest := moment - time.time()) > 0:
        time.sleep(rest + 1.5)
    for host in flow.hosts:
        assert chains.error(flow.ask("/version", host, secret=SECRET)) == "JWT verification failed: InvalidSignature"
        assert flow.ask("/version", host, secret=OTHER_SECRET).status == 200


@pytest.mark.rule("F1")
def test_f1_removal_leaves_nothing(flow: Chained) -> None:
    flow.app.play("remove", variables={"app_remove_home": True}).succeeded()
    for host in flow.hosts:
        to = flow.app.bed.host(host)
        assert chains.traces(to) == ""
        left = to(
            "ls -d /srv/pyfleet/flow /etc/pyfleet/flow /run/pyfleet/flow /var/cache/*flow* /var/cache/private/*flow* 2>/dev/null; "
            "ls /etc/systemd/system /etc/pyfleet/redirects | grep app-flow; true"
        )
        assert left == ""
        assert chains.table(to) == ({}, frozenset())
