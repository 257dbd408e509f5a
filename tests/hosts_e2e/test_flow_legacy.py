# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A legacy application behind a chain (F13): Nginx stays its own server and takes the place of "the application"."""

from __future__ import annotations

import pytest

from ansible_collections.pyfleet.runtime.tests.unit.flow.proxies import claims, sign

from . import chains
from .chains import BOTH, CHALLENGE, HEADER, SECRET, VARNISH, Chained
from .conftest import FIXTURES, Maker

SERVICES = ["otoroshi-challenge", "varnish"]


@pytest.fixture(scope="module")
def flow(make_module_app: Maker) -> Chained:
    """The legacy application behind two hops."""
    app = make_module_app("flow", "legacy-flask", limit=",".join(BOTH))
    chains.write(app, "cache.vcl", (FIXTURES / "echo" / "cache.vcl").read_text())
    app.env.update({**CHALLENGE, **VARNISH, "WSGI_WORKERS": "1"})
    app.deploy().succeeded()
    chained = Chained(app)
    app.variables["app_switch"] = "auto"
    return chained


@pytest.mark.parametrize("host", BOTH)
@pytest.mark.rule("F13", "F4", "F12")
def test_f13_two_hops_before_nginx(flow: Chained, host: str) -> None:
    app, to = flow.app, flow.app.bed.host(host)
    assert chains.services(to) == SERVICES
    answer = flow.ask("/headers", host, headers={"Host": "shop.example"})
    assert (answer.headers["Server"], answer.headers["X-Vcl"]) == ("nginx", "one")
    told = answer.json()
    assert told["headers"]["host"] == "shop.example"
    assert HEADER.lower() not in told["headers"]
    assert chains.error(app.ask("/headers", host=host)) == "Missing Otoroshi-State header"
    table = chains.table(to)
    slot = chains.slot(to)
    nginx = table.public[9000]
    assert (nginx in (19000, 29000), table.public[8080], table.public[8081]) == (True, slot, slot + 1)
    assert "nginx" in to(f"ss -Hltnp 'sport = {nginx}'"), "Nginx is what the chain forwards to"
    assert '"version"' in to("curl -s localhost:9000/version")
    far = app.bed.host(BOTH[1 - BOTH.index(host)])
    for port in (9000, 8081, slot + 1, nginx):
        assert far.run(f"curl -s --connect-timeout 1 http://{to.address}:{port}/", check=False).rc != 0, port
    body = bytes(range(256)) * 2048
    sent = app.ask("/upload", host=host, method="POST", data=body, headers={HEADER: sign(claims(), SECRET.encode())})
    assert sent.json()["size"] == len(body)


@pytest.mark.rule("F13", "D2")
def test_f13_code_settings_chain_and_back(flow: Chained) -> None:
    app, to = flow.app, flow.app.bed.host("bookworm1")
    before = chains.units(to)
    app.change("2.0.0")
    app.deploy().succeeded()
    assert flow.ask("/version").json()["version"] == "2.0.0"
    assert chains.units(to) == before, "a change of code leaves chain and Nginx running"
    app.change("3.0.0")
    app.deploy({"NGINX_READ_TIMEOUT": "77"}).succeeded()
    assert flow.ask("/version").json()["version"] == "3.0.0"
    app.change("4.0.0")
    app.deploy({"CC_REQUEST_FLOW": "disable"}).succeeded()
    answer = app.ask("/version", host="bookworm1")
    assert (answer.json()["version"], answer.headers["Server"]) == ("4.0.0", "nginx")
    to.wait_until('test -z "$(ls /etc/systemd/system | grep app-flow-flow-)"', 20)
    assert chains.traces(to) == ""
    to.wait_until("test $(systemctl list-units --plain --no-legend --state=active 'app-flow-nginx@*' | wc -l) = 1", 20)
    app.play("rollback").succeeded()
    for host in BOTH:
        assert flow.ask("/version", host).json()["version"] == "3.0.0"
        chains.settle(app.bed.host(host), SERVICES)
