# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Request Flow on Debian 11, whose HAProxy knows no JWT, and on Debian 14, whose Varnish is Vinyl Cache; their packages' own services."""

from __future__ import annotations

import pytest

from . import chains
from .chains import CHAINS, Chained
from .conftest import Maker

OWN = {
    "bullseye1": ("haproxy varnish", "haproxy.service varnish.service varnishncsa.service"),
    "forky1": ("haproxy vinyl-cache", "haproxy.service vinyl-cache.service vinylncsa.service"),
}


def flowing(make_app: Maker, host: str) -> Chained:
    """The application on one host, behind nothing yet."""
    app = make_app("flow", "echo", limit=host)
    app.env = dict(chains.ECHO)
    return Chained(app, (host,))


def off(flow: Chained, host: str) -> None:
    """The distribution's own services do not run, and would not after a reboot."""
    to = flow.app.bed.host(host)
    names = OWN[host][1]
    assert to.run(f"systemctl is-active {names}", check=False).stdout.split() == ["inactive"] * len(names.split())
    assert to.run(f"systemctl is-enabled {names}", check=False).stdout.split() == ["disabled"] * len(names.split())


def stays_off(flow: Chained, host: str) -> None:
    """Also after an upgrade of the packages and a reboot."""
    off(flow, host)
    flow.app.bed.host(host)(
        "DEBIAN_FRONTEND=noninteractive apt-get -qqy -o Dpkg::Use-Pty=0 install --reinstall --no-install-recommends "
        f"{OWN[host][0]}",
        timeout=180,
    )
    off(flow, host)
    flow.app.bed.reboot(host)
    off(flow, host)


@pytest.mark.rule("F6", "F8", "F9")
def test_f9_bullseye_refuses_the_challenge_and_knows_the_rest(make_app: Maker) -> None:
    flow = flowing(make_app, "bullseye1")
    to = flow.app.host
    state = (
        "dpkg -l | sha256sum; find /etc /srv/pyfleet -xdev -newer /proc/1 -type f | sort | sha256sum; ls /srv/pyfleet"
    )
    before = to(state)
    for _ in range(2):
        refused = flow.deploy("two").failed()
        for word in ("otoroshi-challenge needs HAProxy 2.5", "HAProxy 2.2", "Next step", "nothing was changed"):
            assert word in refused.message(), refused.message()
        assert refused.changed == 0
        if before:
            assert to(state) == before
            before = ""
            flow.deploy("block").succeeded()  # and the same again where HAProxy 2.2 is installed
    assert flow.app.ask("/anything").body == b"OK"
    assert '"version"' in to("curl -s localhost:9000/version")
    flow.app.change("2.0.0")
    flow.deploy("varnish").succeeded()
    assert [flow.app.ask("/cached/a").headers["X-Cache"] for _ in range(2)] == ["miss", "hit"]
    assert flow.deploy("varnish").succeeded().changed == 0
    stays_off(flow, "bullseye1")
    chains.wait_for(lambda: to.run("curl -sf localhost:8080/health", check=False).rc == 0, 30)
    assert flow.app.ask("/version").json()["version"] == "2.0.0"
    assert chains.services(to) == ["varnish"]


@pytest.mark.rule("F8", "F9", "F2")
def test_f8_forky_runs_vinyl_cache(make_app: Maker) -> None:
    flow = flowing(make_app, "forky1")
    to = flow.app.host
    flow.deploy("two").succeeded()
    assert "vinyl" in to("dpkg -S $(readlink -f /usr/sbin/varnishd)")
    assert [flow.ask("/cached/a").headers["X-Cache"] for _ in range(2)] == ["miss", "hit"]
    assert chains.error(flow.app.ask("/cached/a")) == "Missing Otoroshi-State header"
    flow.app.change("2.0.0")
    vcl = flow.app.source / "cache.vcl"
    vcl.write_text(vcl.read_text().replace('"one"', '"two"'))
    flow.deploy("two").succeeded()
    answer = flow.ask("/cached/a")
    assert (answer.headers["X-Cache"], answer.headers["X-Vcl"], answer.json()["version"]) == ("hit", "two", "1.0.0")
    assert flow.deploy("two").succeeded().changed == 0
    stays_off(flow, "forky1")
    chains.wait_for(lambda: flow.ask("/version").status == 200, 30)
    assert flow.ask("/version").headers["X-Vcl"] == "two"
    assert chains.services(to) == CHAINS["two"][1]


def test_f_a_dry_run_of_a_chain_on_a_virgin_host(make_app: Maker) -> None:
    host = "trixie1"
    flow = flowing(make_app, host)
    flow.app.bed.reset(host)
    flow.app.bed.play("playbooks/provision.yml", limit=host).succeeded()
    dry = flow.deploy("two", check=True, diff=True).succeeded()
    assert dry.changed > 0
    to = flow.app.host
    left = to(
        "command -v haproxy varnishd; ls -d /srv/pyfleet/flow /etc/pyfleet/flow /etc/systemd/system/*haproxy* "
        "/etc/systemd/system/*varnish* 2>/dev/null; true"
    )
    assert left == ""
    for secret in chains.SECRETS:
        assert secret not in dry.output
