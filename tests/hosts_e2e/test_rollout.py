# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rollouts over the four hosts of the bed: canary, batches, budget, going back, hooks around the switch, reports.

One application serves for the whole file. The tiny fixture is unhealthy with the versions that a file on a host lists, so that a
deployment can be made to fail on chosen hosts only.
"""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.tests.testbed import Played

from .conftest import TINY, Application, Maker

HOSTS = ["bookworm1", "bullseye1", "forky1", "trixie1"]
#: The inventory's own order decides which host is the canary; the tests ask for it.
UNHEALTHY = "/etc/pyfleet-test-unhealthy"
ONE_BY_ONE: dict[str, Any] = {"app_serial": [1], "app_health_deadline": 6}
_versions = itertools.count(2)


@pytest.fixture(scope="module")
def shop(make_module_app: Maker) -> Iterator[Application]:
    """Version 1.0.0 on all four hosts."""
    app = make_module_app("fleet", "tiny", limit=",".join(HOSTS))
    app.env = {**TINY, "BEHAVIOUR": f"unhealthy_by:{UNHEALTHY}"}
    app.change("1.0.0")
    app.deploy().succeeded()
    yield app
    for host in HOSTS:
        app.bed.host(host)(f"rm -f {UNHEALTHY}")


@pytest.fixture(autouse=True)
def healthy(shop: Application) -> None:
    """Every test begins with hosts on which everything works."""
    for host in HOSTS:
        shop.bed.host(host)(f"rm -f {UNHEALTHY}")


def break_on(app: Application, *hosts: str) -> str:
    """Changes the code to a version that is unhealthy on these hosts; returns the version."""
    version = f"{next(_versions)}.0.0"
    app.change(version)
    for host in hosts:
        app.bed.host(host)(f"echo {version} > {UNHEALTHY}")
    return version


def settled(app: Application) -> tuple[list[str], dict[str, str]]:
    """A rollout that changes something and goes well: the order of its hosts, and what each answers afterwards."""
    played = app.deploy({"SETTLED": str(next(_versions))}, variables={"app_serial": [1]}).succeeded()
    return order(played), versions(app)


def versions(app: Application) -> dict[str, str]:
    """What each host answers from outside."""
    return {host: str(app.ask("/version", host=host).json()["version"]) for host in HOSTS}


def order(played: Played) -> list[str]:
    """The hosts in the order in which they switched or tried to."""
    return list(dict.fromkeys(event.host for event in played.of("release") if "Start the release" in event.task))


def links(app: Application, host: str) -> list[str]:
    """What serves, and what served before."""
    return [
        app.bed.host(host)(f"basename $(readlink /srv/pyfleet/{app.name}/{name})") for name in ("current", "previous")
    ]


def leases(app: Application) -> list[str]:
    """The hosts on which a lease is left."""
    return [
        host for host in HOSTS if app.bed.host(host)(f"ls /var/lib/pyfleet/leases/{app.name}.json 2>/dev/null || true")
    ]


def test_a_code_change_goes_canary_first_and_leaves_no_lease(shop: Application) -> None:
    version = break_on(shop)
    played = shop.deploy(variables={"app_serial": [1, "100%"]}).succeeded()
    assert versions(shop) == dict.fromkeys(HOSTS, version)
    assert leases(shop) == []
    assert sorted(order(played)) == HOSTS
    again = shop.deploy().succeeded()
    assert again.changed == 0
    assert order(again) == []


def test_a_failing_canary_leaves_everything_as_it_was(shop: Application) -> None:
    hosts, before = settled(shop)
    first = hosts[0]
    linked = {host: links(shop, host) for host in HOSTS}
    version = break_on(shop, first)
    played = shop.deploy(variables=ONE_BY_ONE).failed()
    assert order(played) == [first], "nobody else was touched"
    assert versions(shop) == before
    assert {host: links(shop, host) for host in HOSTS} == linked
    assert leases(shop) == []
    assert "GET /health returned 500" in played.message()
    assert version not in versions(shop).values()
    failed = [host for host, counts in played.stats.items() if counts["failures"]]
    assert failed == [first]


def test_a_failure_in_the_third_batch_leads_the_others_back(shop: Application, tmp_path: pathlib.Path) -> None:
    hosts, before = settled(shop)
    linked = {host: links(shop, host) for host in HOSTS}
    break_on(shop, hosts[2])
    report = tmp_path / "reports" / "{app}.html"
    played = shop.deploy(variables={**ONE_BY_ONE, "app_report": str(report)}).failed()
    assert order(played) == hosts[:3], "the fourth was not tried"
    assert versions(shop) == before
    assert {host: links(shop, host) for host in HOSTS} == linked, "no later rollback leads to what was taken back"
    assert leases(shop) == []
    summary = played.of("rollout")[-1].result.get("summary") or next(
        event.result["summary"] for event in played.of("rollout") if "summary" in event.result
    )
    assert summary["outcome"] == "rolled_back"
    assert [summary["hosts"][host]["outcome"] for host in hosts] == ["rolled_back", "rolled_back", "failed", "stopped"]
    for host in hosts:
        state = json.loads(shop.bed.host(host).read(f"/srv/pyfleet/{shop.name}/state.json"))
        taken_back = state["releases"].get(summary["release"], {})
        assert taken_back.get("result") != "good", "no rollback may lead to it"
    page = (tmp_path / "reports" / "fleet.html").read_text()
    assert hosts[2] in page
    assert "GET /health returned 500" in page
    # and the next deployment of something good is none the worse for it
    version = break_on(shop)
    shop.deploy(variables={"app_serial": ["100%"]}).succeeded()
    assert versions(shop) == dict.fromkeys(HOSTS, version)


def test_failures_within_the_budget_stay_where_they_are(shop: Application) -> None:
    hosts, before = settled(shop)
    version = break_on(shop, hosts[1])
    played = shop.deploy(variables={**ONE_BY_ONE, "app_failure_budget": "25%"}).failed()
    assert order(played) == hosts
    assert versions(shop) == {host: before[host] if host == hosts[1] else version for host in HOSTS}
    # the host that is behind comes along once it is mended
    shop.bed.host(hosts[1])(f"rm {UNHEALTHY}")
    mended = shop.deploy(variables=ONE_BY_ONE).succeeded()
    assert order(mended) == [hosts[1]]
    assert versions(shop) == dict.fromkeys(HOSTS, version)


def test_a_build_that_fails_on_one_host_switches_nobody(shop: Application) -> None:
    before = versions(shop)
    break_on(shop)
    hook = "test ! -e /etc/pyfleet-test-no-build"
    shop.bed.host(HOSTS[3])("touch /etc/pyfleet-test-no-build")
    try:
        played = shop.deploy({"CC_PRE_BUILD_HOOK": hook}).failed()
    finally:
        shop.bed.host(HOSTS[3])("rm /etc/pyfleet-test-no-build")
    assert order(played) == []
    assert versions(shop) == before
    assert "CC_PRE_BUILD_HOOK" in played.message()
    assert leases(shop) == []


def test_an_unreachable_host_stops_everything_before_it_begins_unless_the_budget_allows(shop: Application) -> None:
    before = versions(shop)
    version = break_on(shop)
    away: dict[str, Any] = {
        "ansible_host": "{{ '10.255.255.1' if inventory_hostname == 'forky1' else hostvars_address }}"
    }
    away["hostvars_address"] = "{{ addresses[inventory_hostname] }}"
    away["addresses"] = {host: shop.bed.host(host).address for host in HOSTS}
    away["ansible_ssh_timeout"] = 2
    played = shop.deploy(variables=away).failed()
    assert versions(shop) == before
    assert "forky1 cannot be reached" in played.message()
    assert played.of("uv_sync") == []
    allowed = shop.deploy(variables={**away, "app_failure_budget": 1}).failed()
    assert versions(shop) == {host: before[host] if host == "forky1" else version for host in HOSTS}
    assert [host for host, counts in allowed.stats.items() if counts["failures"] or counts["unreachable"]] == ["forky1"]
    shop.deploy().succeeded()
    assert versions(shop) == dict.fromkeys(HOSTS, version)


def test_a_rollback_takes_all_hosts_to_one_release_or_none(shop: Application) -> None:
    before = versions(shop)
    version = break_on(shop)
    shop.deploy(variables={"app_serial": ["100%"]}).succeeded()
    new = links(shop, HOSTS[0])[0]
    shop.play("rollback").succeeded()
    assert versions(shop) == before
    # one host ahead of the others: which release is "previous" is not clear any more
    shop.play("rollback", limit=HOSTS[0], variables={"app_release": new}).succeeded()
    refused = shop.play("rollback").failed()
    assert "different previous releases" in refused.message()
    assert "app_release" in refused.message()
    unknown = shop.play("rollback", variables={"app_release": "f" * 12}).failed()
    assert "There is no release ffffffffffff" in unknown.message()
    shop.play("rollback", variables={"app_release": new}).succeeded()
    assert versions(shop) == dict.fromkeys(HOSTS, version)
    assert shop.play("rollback", variables={"app_release": new}).succeeded().changed == 0
    assert leases(shop) == []


def test_a_restart_goes_host_by_host_and_keeps_the_release(shop: Application) -> None:
    linked = {host: links(shop, host) for host in HOSTS}
    pids = {host: shop.ask("/version", host=host).json()["pid"] for host in HOSTS}
    played = shop.play("restart", variables={"app_serial": [1]}).succeeded()
    assert sorted(order(played)) == HOSTS
    assert {host: links(shop, host) for host in HOSTS} == linked
    for host in HOSTS:
        assert shop.ask("/version", host=host).json()["pid"] != pids[host]


@pytest.mark.rule("F6")
def test_f6_maintenance_answers_for_the_application_and_back(shop: Application) -> None:
    before = versions(shop)
    shop.play("maintenance", variables={"app_serial": ["100%"]}).succeeded()
    for host in HOSTS:
        answer = shop.ask("/version", host=host)
        assert (answer.status, b"version" in answer.body) == (200, False)
    back = shop.play("maintenance", variables={"app_serial": ["100%"], "app_maintenance": False}).succeeded()
    assert back.of("uv_sync") == [], "the release was there still"
    assert versions(shop) == before


def test_tasks_around_the_switch_run_for_each_host_and_after_a_failure(
    shop: Application, tmp_path: pathlib.Path
) -> None:
    log = tmp_path / "log"
    for name in ("before", "after"):
        command = f"echo {name} {{{{ inventory_hostname }}}} >> {log}"
        task = {"name": name, "ansible.builtin.shell": command, "delegate_to": "localhost", "become": False}
        (tmp_path / f"{name}.yml").write_text(json.dumps([task]))
    files = {f"app_{name}_switch": str(tmp_path / f"{name}.yml") for name in ("before", "after")}
    hosts = order(shop.deploy({"ANY": "4"}, variables={"app_serial": [1], **files}).succeeded())
    assert log.read_text().splitlines() == [f"{name} {host}" for host in hosts for name in ("before", "after")]
    before = versions(shop)
    log.unlink()
    # the second host fails: it goes back into service, and so does the first, which is led back
    break_on(shop, hosts[1])
    shop.deploy(variables={**ONE_BY_ONE, **files}).failed()
    switched = [f"{name} {host}" for host in hosts[:2] for name in ("before", "after")]
    assert log.read_text().splitlines() == [*switched, f"before {hosts[0]}", f"after {hosts[0]}"]
    assert versions(shop) == before
    # a drain that fails keeps its host from switching
    (tmp_path / "before.yml").write_text(
        json.dumps([{"name": "No", "ansible.builtin.fail": {"msg": "the balancer says no"}}])
    )
    refused = shop.deploy(variables={**ONE_BY_ONE, **files}).failed()
    assert order(refused) == []
    assert "the balancer says no" in refused.message()
    assert versions(shop) == before
    missing = shop.deploy(variables={"app_before_switch": "/nowhere.yml"}).failed()
    assert "app_before_switch" in missing.message()


@pytest.mark.rule("D8")
def test_d8_a_hook_that_runs_once_runs_on_one_host_for_a_release(shop: Application) -> None:
    break_on(shop)
    hook = {"CC_PRE_RUN_HOOK": "echo ran >> $HOME/migrated"}
    once = {"app_pre_run_hook": "once"}

    def runs() -> dict[str, int]:
        count = f"cat /srv/pyfleet/{shop.name}/home/migrated 2>/dev/null | wc -l"
        return {host: int(shop.bed.host(host)(count)) for host in HOSTS}

    shop.deploy(hook, variables=once).succeeded()
    assert sorted(runs().values()) == [0, 0, 0, 1]
    # the same release again, and on a host that lost it: the fleet remembers
    shop.play("rollback").succeeded()
    shop.deploy(hook, variables=once).succeeded()
    assert sorted(runs().values()) == [0, 0, 0, 1]
    # on every host, as the contract says, unless it is chosen otherwise
    break_on(shop)
    shop.deploy(hook).succeeded()
    assert sorted(runs().values()) == [1, 1, 1, 2]
    # one that fails ends the rollout before anybody switches
    before = versions(shop)
    break_on(shop)
    failed = shop.deploy({"CC_PRE_RUN_HOOK": "echo no migration; exit 3"}, variables=once).failed()
    assert order(failed) == []
    assert versions(shop) == before
    assert "CC_PRE_RUN_HOOK failed with status 3" in failed.message()


@pytest.mark.rule("D5")
def test_d5_instance_numbers_stay_with_their_hosts(shop: Application) -> None:
    def numbers() -> dict[str, str]:
        command = f"cat /etc/pyfleet/{shop.name}/$(basename $(readlink /srv/pyfleet/{shop.name}/current))/environment"
        lines = {host: shop.bed.host(host)(command).splitlines() for host in HOSTS}
        found = {
            host: [line.partition("=")[2].strip('"') for line in each if line.startswith("INSTANCE_NUMBER=")]
            for host, each in lines.items()
        }
        return {host: values[0] for host, values in found.items()}

    first = numbers()
    # By their places in the inventory, in which other files may have put hosts.
    places = [int(first[host]) for host in HOSTS]
    assert len(set(places)) == len(HOSTS)
    assert all(0 <= place < len(shop.bed.names) for place in places), (places, shop.bed.names)
    break_on(shop)
    shop.deploy(limit="trixie1").succeeded()
    shop.deploy().succeeded()
    assert numbers() == first


def test_check_mode_changes_nothing_and_takes_no_lease(shop: Application) -> None:
    before = versions(shop)
    break_on(shop)
    played = shop.deploy(check=True, diff=True).succeeded()
    assert versions(shop) == before
    assert leases(shop) == []
    assert played.stats
