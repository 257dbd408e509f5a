# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test bed itself: what every other test here relies on, so that none of them passes for nothing."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from ansible_collections.pyfleet.runtime.tests.hosts import images
from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.hosts.mirror import Mirror
from ansible_collections.pyfleet.runtime.tests.testbed import Bed

SUITES = ("bullseye", "bookworm", "trixie", "forky")


@pytest.mark.parametrize("suite", SUITES)
def test_hardening_of_units_takes_effect(bed: Bed, suite: str) -> None:
    host = bed.host(f"{suite}1")
    options = "-p ProtectSystem=strict -p ProtectHome=yes -p PrivateTmp=yes"
    probe = "touch /etc/probe 2>/dev/null && echo etc; ls -A /root | head -1; ls -A /tmp | grep -c planted || true"
    host("touch /tmp/planted")
    seen = host(f"systemd-run --quiet --wait --pipe --collect {options} sh -c {probe!r}")
    assert seen == "0"


@pytest.mark.parametrize("suite", SUITES)
def test_hosts_use_the_package_archives_of_this_machine(bed: Bed, suite: str) -> None:
    assert bed.host(f"{suite}1").read("/etc/apt/sources.list") == images.sources(suite)


@pytest.mark.parametrize("suite", SUITES)
def test_become_users(bed: Bed, suite: str) -> None:
    host = bed.host(f"{suite}1")
    assert host("sudo -n id -u", user="deploy") == "0"
    assert host.run("sudo -n id -u", user="nosudo", check=False).rc != 0


def test_cut_host_reaches_nothing_outside_even_after_a_reboot(bed: Bed) -> None:
    host = bed.host("trixie1")
    archive = host("apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | head -1") or host(
        "sed -n 's/^deb \\([^ ]*\\) .*/\\1/p' /etc/apt/sources.list | head -1"
    )
    reach = f"curl -sS -m 20 -o /dev/null {archive}"
    host.run(reach)
    bed.cut("trixie1")
    try:
        assert host.run(reach, check=False).rc != 0
        bed.reboot("trixie1")
        assert host.run(reach, check=False).rc != 0
        host.run(f"timeout 5 bash -c '</dev/tcp/{bed.host('bookworm1').address}/22'")
    finally:
        bed.uncut("trixie1")
    host.run(reach)


def test_reset_makes_a_virgin_host(bed: Bed) -> None:
    host = bed.host("bookworm1")
    host("touch /etc/left-over")
    bed.reset("bookworm1")
    assert not host.exists("/etc/left-over")
    assert not host.exists("/usr/sbin/nft")


def test_events_and_statistics_of_a_play(bed: Bed) -> None:
    copy = {"ansible.builtin.copy": {"dest": "/root/events", "content": "{{ text }}"}}
    plays = [{"hosts": "python_hosts", "gather_facts": False, "tasks": [copy]}]
    bed.host("trixie1")("rm -f /root/events")
    dry = bed.play(plays, {"text": "one"}, limit="trixie1", check=True).succeeded()
    assert dry.changed == 1
    assert not bed.host("trixie1").exists("/root/events")
    assert bed.play(plays, {"text": "one"}, limit="trixie1").succeeded().changed == 1
    again = bed.play(plays, {"text": "one"}, limit="trixie1").succeeded()
    assert again.changed == 0
    assert [event.changed for event in again.of("copy", "trixie1")] == [False]
    failing = [{"hosts": "python_hosts", "gather_facts": False, "tasks": [{"ansible.builtin.fail": {"msg": "no"}}]}]
    assert bed.play(failing, limit="trixie1").failed().message() == "no"


def test_python_from_the_mirror_runs(bed: Bed, python_mirror: Mirror) -> None:
    bed.reset("trixie1")
    host = bed.host("trixie1")
    uv = shutil.which("uv", path=str(CHECKOUT / ".venv" / "bin"))
    assert uv
    subprocess.run(
        ["scp", "-q", "-F", str(bed.directory / "ssh_config"), uv, f"{host.address}:/usr/local/bin/uv"], check=True
    )
    settings = "UV_PYTHON_INSTALL_DIR=/opt/pythons UV_PYTHON_DOWNLOADS_JSON_URL="
    for version in ("3.11", "3.13"):
        host.run(f"{settings}{python_mirror.url} uv python install --no-bin {version}")
        imports = "import ctypes, lzma, sqlite3, ssl, sys; print('%d.%d' % sys.version_info[:2])"
        assert host(f'/opt/pythons/cpython-{version}.*/bin/python3 -I -c "{imports}"') == version
        host.run(f"/opt/pythons/cpython-{version}.*/bin/python3 -m venv --without-pip /tmp/venv-{version}")
        host.run(f"/tmp/venv-{version}/bin/python -c 'import ssl, sqlite3'")
    refused = host.run(
        f"{settings}{python_mirror.wrong_url} uv python install --no-bin --reinstall 3.13 2>&1", check=False
    )
    assert refused.rc != 0
    assert "0000000000" in refused.stdout
