# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A chain of three hops that runs: what other hosts reach of it (F12), what happens when a hop is killed, and a reboot.

The hop in the middle is socat, which listens on all addresses: nothing but the host's own table keeps others away from it.
"""

from __future__ import annotations

import time

import pytest

from . import chains
from .chains import BOTH, CHALLENGE, SOCAT, VARNISH, Chained
from .conftest import Maker

SERVICES = ["otoroshi-challenge", "custom", "varnish"]
ENV = {**CHALLENGE, **VARNISH, "CC_REQUEST_FLOW": ",".join(SERVICES), "CC_REQUEST_FLOW_CUSTOM": SOCAT}
#: Everything that is called or may be listened on but for the public port.
INNER = (9000, 8081, 8082, 18080, 18081, 18082, 28080, 28081, 28082, 19000, 29000, 39000)
FOREIGN = "table inet mine { chain input { type filter hook input priority 10; policy accept; tcp dport 7 drop; }; }"


@pytest.fixture(scope="module")
def flow(make_module_app: Maker) -> Chained:
    """The chain, on both hosts, beside a firewall of somebody else."""
    app = make_module_app("flow", "echo", limit=",".join(BOTH))
    app.env = {**chains.ECHO, **ENV}
    for name in BOTH:
        chains.install_socat(app.bed.host(name))
        app.bed.host(name)(f"nft '{FOREIGN}'")
    chained = Chained(app)
    chained.deploy("none").succeeded()
    app.change("1.1.0")  # on the other ports, with a chain that stays
    chained.deploy("none").succeeded()
    return chained


def other(host: str) -> str:
    """The host that asks."""
    return BOTH[1 - BOTH.index(host)]


def management(flow: Chained, host: str) -> int:
    """The port on which Varnish is managed: another one each time it starts."""
    text = flow.app.bed.host(host)("ss -Hltnp | grep varnishd | grep -o '127.0.0.1:[0-9]*' | cut -d: -f2 | sort -u")
    slot = chains.slot(flow.app.bed.host(host))
    (port,) = {int(port) for port in text.split()} - {slot + 2}
    return port


def reached(flow: Chained, host: str) -> dict[str, list[int]]:
    """The ports of a host that answer another one, by family."""
    bed = flow.app.bed
    asked, asking = bed.host(host), bed.host(other(host))
    link_local = asked("ip -6 -o addr show dev eth0 scope link | grep -o 'fe80[^/]*'")
    ports = " ".join(map(str, (8080, *INNER, management(flow, host))))
    found = {}
    for family, address in (("IPv4", asked.address), ("IPv6", f"[{link_local}%25eth0]")):
        text = asking(
            f"for port in {ports}; do (curl -sg -o /dev/null --connect-timeout 2 --max-time 4 "
            f"'http://{address}:'$port/version; code=$?; [ $code = 7 ] || [ $code = 28 ] || echo $port) & done; wait"
        )
        found[family] = sorted(int(port) for port in text.split())
    return found


def checked(flow: Chained, host: str) -> None:
    """Other hosts reach the public port alone; the host itself reaches what F4 names."""
    to = flow.app.bed.host(host)
    assert reached(flow, host) == {"IPv4": [8080], "IPv6": [8080]}
    assert flow.ask("/version", host).json()["version"] == "1.1.0"
    for port in (8081, 8082, 9000):
        assert "1.1.0" in to(f"curl -s --max-time 3 localhost:{port}/version"), port
    assert to("curl -sg -o /dev/null -w '%{http_code}' 'http://[::1]:8080/version'") == "401"


@pytest.mark.parametrize("host", BOTH)
@pytest.mark.rule("F12", "F4")
def test_f12_other_hosts_reach_the_public_port_only(flow: Chained, host: str) -> None:
    to = flow.app.bed.host(host)
    assert chains.services(to) == SERVICES
    checked(flow, host)
    # From the testbed machine, which is one more host.
    assert chains.error(flow.app.ask("/version", host=host)) == "Missing Otoroshi-State header"
    # A walk around through the redirect of an inner port: it is for the host itself.
    table = chains.table(to)
    assert set(INNER) <= table.internal
    assert 8080 not in table.internal


@pytest.mark.parametrize("host", BOTH)
@pytest.mark.rule("F12")
def test_f12_no_other_table_is_touched(flow: Chained, host: str) -> None:
    to = flow.app.bed.host(host)
    assert to("nft list tables | sort").splitlines() == ["table inet mine", "table inet pyfleet"]
    assert "tcp dport 7 drop" in to("nft list table inet mine")


@pytest.mark.parametrize("host", BOTH)
@pytest.mark.parametrize("index", range(len(SERVICES)), ids=SERVICES)
def test_f_a_killed_hop_comes_back_and_status_tells_the_truth(flow: Chained, host: str, index: int) -> None:
    if host == "bookworm1" and index != 1:
        pytest.skip("one hop of every kind is enough")
    app, to = flow.app, flow.app.bed.host(host)
    unit = chains.units(to)[index]
    # Killed again as soon as it is back: so it is down while somebody asks.
    to(
        f"systemd-run --quiet --unit=killer sh -c 'while :; do systemctl kill -s KILL {unit} 2>/dev/null; sleep 0.05; done'"
    )
    try:
        status = app.play("status", limit=host).succeeded().stdout
    finally:
        to("systemctl stop killer.service")
    assert f"hop {SERVICES[index]}: DOWN" in status
    assert "flow: DOWN" in status
    for service in SERVICES[:index] + SERVICES[index + 1 :]:
        assert f"hop {service}: alive" in status
    chains.wait_for(lambda: flow.ask("/version", host).status == 200)
    assert int(to(f"systemctl show -p NRestarts --value {unit}")) > 0


@pytest.mark.parametrize("host", BOTH)
def test_f_status_shows_every_hop(flow: Chained, host: str) -> None:
    status = flow.app.play("status", limit=host).succeeded().stdout
    assert "flow: healthy" in status
    for service in SERVICES:
        assert f"hop {service}: alive" in status
    assert flow.app.bed.host(host)("systemctl list-units --state=failed --no-legend --plain 'app-*'") == ""


@pytest.mark.parametrize("host", BOTH)
@pytest.mark.rule("F12", "D4")
def test_f12_after_a_reboot_everything_is_back(flow: Chained, host: str) -> None:
    app, to = flow.app, flow.app.bed.host(host)
    before = (chains.units(to), chains.table(to))
    app.bed.reboot(host)
    began = time.monotonic()
    to.wait_until("test $(curl -s -o /dev/null -w '%{http_code}' localhost:8080/version) = 401", 30)
    chains.wait_for(lambda: flow.ask("/version", host).status == 200, 30)
    assert time.monotonic() - began < 30
    assert (chains.units(to), chains.table(to)) == before
    checked(flow, host)
    assert to("systemctl list-units --state=failed --no-legend --plain 'app-*'") == ""


@pytest.mark.parametrize("host", BOTH)
def test_f_the_distributions_services_stay_off(flow: Chained, host: str) -> None:
    to = flow.app.bed.host(host)
    states = to.run("systemctl is-active haproxy.service varnish.service varnishncsa.service", check=False).stdout
    assert states.split() == ["inactive"] * 3
    assert to("ss -ltnH 'sport = 6081 or sport = 6082 or sport = 80'") == ""
