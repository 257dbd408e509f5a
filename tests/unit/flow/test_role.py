# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role request_flow where no host is needed: what it brings for which chain, and that Ansible renders what the tests run."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.tests.tools import stage_tree
from ansible_collections.pyfleet.runtime.tests.unit import templating
from ansible_collections.pyfleet.runtime.tests.unit.flow.proxies import TEMPLATES, VARIABLES, render
from ansible_collections.pyfleet.runtime.tests.unit.flow.test_units import SETTINGS

ROLE = stage_tree.ROOT / "roles/request_flow"
INSTALL = {"location": "/a", "name": "oauth2-proxy", "checksum": "0" * 64}
PROGRAM = {"program": "/opt/pyfleet/bin/oauth2-proxy-000000000000", "install": INSTALL}


def rendered(name: str, services: list[str], settings: dict[str, Any], **host: Any) -> Any:
    """A variable of the role, for a chain and what the host has."""
    variables = {
        **templating.variables_of(ROLE / "vars/main.yml"),
        "app__info": {"host": host},
        "app__plan": {"plan": {"chain": {"hops": [{"service": name} for name in services], "settings": settings}}},
    }
    return templating.evaluated(name, variables)


@pytest.mark.parametrize(
    ("services", "host", "packages"),
    [
        (["otoroshi-challenge", "varnish"], {}, ["haproxy", "varnish"]),
        (["otoroshi-challenge", "varnish"], {"haproxy": "", "varnish": ""}, ["haproxy", "varnish"]),
        (["otoroshi-challenge", "varnish"], {"haproxy": "2.6.12", "varnish": "7.1.1"}, []),
        (["varnish"], {"haproxy": "2.6.12"}, ["varnish"]),
        (["block"], {}, ["haproxy"]),
        (["custom", "oauth2-proxy", "redirectionio"], {}, []),
    ],
)
def test_f1_only_what_the_chain_needs_and_the_host_lacks_is_installed(
    services: list[str], host: dict[str, str], packages: list[str]
) -> None:
    assert rendered("request_flow__packages", services, {}, **host) == packages


def test_f11_programs_come_from_elsewhere_only_where_they_are_not_there() -> None:
    name, services = "request_flow__programs", ["oauth2-proxy", "varnish", "custom"]
    assert rendered(name, services, {"oauth2-proxy": PROGRAM, "custom": {}}) == [PROGRAM]
    assert rendered(name, services, {"oauth2-proxy": PROGRAM}, programs=[PROGRAM["program"]]) == []
    assert rendered(name, services, {"oauth2-proxy": {"program": "/usr/bin/oauth2-proxy", "install": {}}}) == []
    assert rendered(name, ["varnish"], {"oauth2-proxy": PROGRAM}) == []


@pytest.mark.parametrize(
    "name", [*sorted(path.name for path in TEMPLATES.glob("*-*.j2")), "varnish.service.j2", "custom.run.j2"]
)
def test_ansible_renders_what_the_tests_run(name: str) -> None:
    service = name.partition(".")[0]
    hop = {"index": 0, "service": service, "listen": 8080, "forward": 9000}
    variables = {**VARIABLES, "flow": SETTINGS, "hop": hop, "flow_dir": f"/etc/pyfleet/shop/flow@%i/0-{service}"}
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    assert templating.rendered(text, variables, TEMPLATES) == render(name, service, SETTINGS)
