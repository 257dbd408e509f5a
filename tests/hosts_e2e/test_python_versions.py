# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python versions on real hosts: the distribution's, and others from a mirror made of Debian's own packages."""

from __future__ import annotations

import hashlib
import pathlib
import subprocess

import pytest

from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.hosts.mirror import Mirror
from ansible_collections.pyfleet.runtime.tests.hosts_e2e.conftest import Maker
from ansible_collections.pyfleet.runtime.tests.testbed import Bed, Played

HOST = "trixie1"  # has 3.13 of its own; the mirror has 3.11, which runs there too


def provision(bed: Bed, url: str, *versions: str, limit: str = HOST, check: bool = False) -> Played:
    variables = {"python_versions": list(versions), "python_downloads_json_url": url}
    return bed.play("playbooks/provision.yml", variables, limit=limit, check=check)


@pytest.mark.rule("C5", "C1")
def test_c5_three_versions_users_and_ports_on_one_host(
    provisioned: Bed, python_mirror: Mirror, make_app: Maker
) -> None:
    dry = provision(provisioned, python_mirror.url, "3.13", "3.11", check=True).succeeded()
    assert dry.changed == 1
    assert not provisioned.host(HOST).exists("/opt/pyfleet/python")
    provision(provisioned, python_mirror.url, "3.13", "3.11").succeeded()
    assert provision(provisioned, python_mirror.url, "3.13", "3.11").succeeded().changed == 0

    wanted = {"old": ("3.11", 8080), "new": ("3.13", 8081), "default": ("", 8082)}
    made = {}
    for name, (version, port) in wanted.items():
        app = make_app(name, limit=HOST)
        app.port = port
        app.deploy({"CC_PYTHON_VERSION": version} if version else None).succeeded()
        made[name] = app.json("/whoami")
    assert made["old"]["python"].startswith("3.11.")
    assert made["new"]["python"].startswith("3.13.")
    assert made["default"]["python"].startswith("3.13."), "the newest that the host provides (C1)"
    assert len({answer["uid"] for answer in made.values()}) == 3


@pytest.mark.rule("C3", "C4")
def test_c3_an_unavailable_or_ended_version_falls_back_with_a_warning(provisioned: Bed, make_app: Maker) -> None:
    app = make_app("back", limit=HOST)
    for version in ("3.12", "3.8"):
        result = app.deploy({"CC_PYTHON_VERSION": version}).succeeded()
        assert f"Python {version}" in result.output
        assert "CC_PYTHON_VERSION" in result.output
        assert app.json("/whoami")["python"].startswith("3.13.")


def test_a_wrong_or_missing_checksum_is_refused_and_leaves_nothing(provisioned: Bed, python_mirror: Mirror) -> None:
    host = provisioned.host("bookworm1")
    before = host("ls -A /opt/pyfleet/python 2>/dev/null || true")
    for url in (python_mirror.wrong_url, python_mirror.missing_url):
        failed = provision(provisioned, url, "3.11", "3.13", limit="bookworm1").failed()
        assert "sha256" in failed.output.lower() or "hash mismatch" in failed.output.lower()
        left = host("find /opt/pyfleet/python -name 'cpython-*' 2>/dev/null || true")
        assert left == "" or left in before


def test_a_version_that_cannot_run_on_the_host_is_refused(provisioned: Bed, python_mirror: Mirror) -> None:
    """The mirror's 3.13 was built against a newer C library than bookworm's: uv installs it, and it does not start."""
    failed = provision(provisioned, python_mirror.url, "3.13", limit="bookworm1").failed()
    assert "3.13" in failed.message()
    assert provisioned.host("bookworm1")("find /opt/pyfleet/python -name 'cpython-3.13*' 2>/dev/null || true") == ""


def test_uv_from_a_file_and_from_a_url_with_checksum(provisioned: Bed, tmp_path: pathlib.Path) -> None:
    uv = str(CHECKOUT / ".venv" / "bin" / "uv")
    subprocess.run([uv, "venv", "--quiet", str(tmp_path / "old")], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", str(tmp_path / "old"), "uv==0.12.24"], check=True)
    binary = tmp_path / "old" / "bin" / "uv"
    digest = hashlib.sha256(binary.read_bytes()).hexdigest()
    host = provisioned.host("bookworm1")
    common = {"uv_version": "0.12.24"}

    def provision_uv(**variables: str) -> Played:
        return provisioned.play("playbooks/provision.yml", {**common, **variables}, limit="bookworm1")

    try:
        wrong = provision_uv(uv_source="url", uv_url=binary.as_uri(), uv_checksum="sha256:" + "0" * 64).failed()
        assert digest in wrong.message(), "the checksum that was found is named"
        assert "uv_checksum" in provision_uv(uv_source="url", uv_url=binary.as_uri()).failed().message()
        assert host("uv --version").split()[1] == "0.13.8"
        provision_uv(uv_source="url", uv_url=binary.as_uri(), uv_checksum=f"sha256:{digest}").succeeded()
        assert host("uv --version").split()[1] == "0.12.24"
        provisioned.play("playbooks/provision.yml", limit="bookworm1").succeeded()
        provision_uv(uv_source="file", uv_file=str(binary)).succeeded()
        assert host("uv --version").split()[1] == "0.12.24"
        assert provision_uv(uv_source="file", uv_file=str(binary)).succeeded().changed == 0
    finally:
        provisioned.play("playbooks/provision.yml", limit="bookworm1").succeeded()


def test_uv_upgrades_downgrades_and_serves_on(provisioned: Bed, make_app: Maker) -> None:
    app = make_app("stay")
    app.deploy().succeeded()
    pid = app.json("/whoami")["pid"]
    for version in ("0.12.0", "0.13.8"):
        provisioned.play("playbooks/provision.yml", {"uv_version": version}, limit="bookworm1").succeeded()
        assert app.host("uv --version").split()[1] == version
        app.change(f"1.{version}")
        app.deploy().succeeded()
    old = provisioned.play("playbooks/provision.yml", {"uv_version": "0.9.0"}, limit="bookworm1").failed()
    assert "0.9.19" in old.message(), "versions that this collection cannot read are refused before they are installed"
    assert app.host("uv --version").split()[1] == "0.13.8"
    assert app.json("/whoami")["pid"] != pid
