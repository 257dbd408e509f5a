# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of the chain's hops: what they run as, how they end, where their secrets come from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils.request_flow import SERVICES
from ansible_collections.pyfleet.runtime.tests.unit.flow.proxies import TEMPLATES, render

HOPS = [service for service in SERVICES if service != "disable"]
#: Values that no unit may hold: the unit is readable by everybody, and shared by the chains before and after a change.
SETTINGS: dict[str, Any] = {
    "secrets": [{"key": "c2VjcmV0", "until": None}],
    "exclude": ["/secret"],
    "storage": "SECRET",
    "program": "/secret",
    "environment": {"SECRET": "secret"},
    "script": "secret",
    "generation": 2,
    "project_key": "secret",
    "instance_name": "secret",
    "forward_port": 4711,
    "configuration": "",
}


def unit(service: str, index: int = 1) -> list[tuple[str, str]]:
    lines = render(f"{service}.service.j2", service, SETTINGS, index).splitlines()
    return [(name, value) for name, _, value in (line.partition("=") for line in lines if line and line[0] not in "#[")]


def values(service: str, name: str) -> list[str]:
    return [value for key, value in unit(service) if key == name]


@pytest.mark.parametrize("service", HOPS)
def test_f14_a_unit_holds_no_setting(service: str) -> None:
    text = render(f"{service}.service.j2", service, SETTINGS)
    assert not [word for word in ("c2VjcmV0", "SECRET", "4711", "/secret") if word in text]


@pytest.mark.parametrize("service", HOPS)
def test_every_hop_comes_back_ends_with_the_application_and_is_hardened(service: str) -> None:
    assert values(service, "Restart") == ["always"]
    assert values(service, "StartLimitIntervalSec") == ["0"]
    assert values(service, "PartOf") == ["app-shop.target"]
    assert values(service, "TimeoutStopSec") == ["30"]
    assert values(service, "DynamicUser") == ([] if service == "custom" else ["yes"])
    assert values(service, "User") == (["app-shop"] if service == "custom" else [])
    for name, value in (
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("CapabilityBoundingSet", ""),
        ("SystemCallFilter", "@system-service"),
    ):
        assert values(service, name) == [value]


@pytest.mark.parametrize("service", HOPS)
def test_no_line_is_empty_or_indented(service: str) -> None:
    text = render(f"{service}.service.j2", service, SETTINGS)
    assert not [line for line in text.splitlines() if line != line.strip()]
    # Each setting on a line of its own, also where a template includes another.
    for name in ("unit.j2", "service.j2", "hardening.j2", f"{service}.service.j2"):
        fixed = [
            line
            for line in (TEMPLATES / name).read_text().splitlines()
            if line and "{" not in line and line != "DynamicUser=yes"
        ]
        assert not set(fixed) - set(text.splitlines()), name


def test_f14_files_with_secrets_belong_to_root() -> None:
    """The program gets them as a credential, or in its environment from systemd: none needs to read the folder's files."""
    assert values("otoroshi-challenge", "LoadCredential") == [
        "haproxy.cfg:/etc/pyfleet/shop/flow@%i/1-otoroshi-challenge/haproxy.cfg"
    ]
    assert values("redirectionio", "LoadCredential") == [
        "agent.yml:/etc/pyfleet/shop/flow@%i/1-redirectionio/agent.yml"
    ]
    for service in ("oauth2-proxy", "custom"):
        assert values(service, "EnvironmentFile") == [f"/etc/pyfleet/shop/flow@%i/1-{service}/environment"]


def test_f8_varnish_has_no_jail_and_its_management_on_the_loopback() -> None:
    (command,) = values("varnish", "ExecStart")
    words = command.split()
    assert words[words.index("-T") + 1] == "127.0.0.1:0"
    assert words[words.index("-j") + 1] == "none"
    assert words[words.index("-n") + 1].startswith("/var/cache/" + values("varnish", "CacheDirectory")[0])


def test_every_service_has_templates() -> None:
    for service in HOPS:
        names = [path.name for path in TEMPLATES.glob(f"{service}.*")]
        assert f"{service}.service.j2" in names
        assert len(names) > 1


@pytest.mark.parametrize("service", HOPS)
def test_systemd_understands_the_unit(service: str, tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("there is no systemd-analyze")
    path = tmp_path / f"app-shop-flow-1-{service}@18080.service"
    path.write_text(render(f"{service}.service.j2", service, SETTINGS, 1))
    done = subprocess.run([verify, "verify", str(path)], capture_output=True, text=True, timeout=30)
    words = [line for line in done.stderr.splitlines() if path.name in line and "is not executable" not in line]
    assert not words
