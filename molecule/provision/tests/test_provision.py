# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a provisioned host looks like, on every suite: asked of what runs there, not of the files we wrote."""

from __future__ import annotations

from testinfra.host import Host


def test_no_unit_failed(host: Host) -> None:
    assert host.run("systemctl is-system-running").stdout.strip() == "running"


def test_uv_runs_for_everyone_and_reads_its_configuration(host: Host) -> None:
    version = host.run("runuser -u deploy -- uv --version")
    assert version.stdout.split()[1] == "0.13.8"
    # a configuration that uv refuses makes every command fail
    assert host.run("uv python list --offline").rc == 0


def test_uv_finds_a_python_and_trusts_the_index(host: Host) -> None:
    assert host.run("uv python find --no-managed-python").rc == 0
    tried = host.run(
        "cd $(mktemp -d) && uv venv -q && uv pip install -q --no-deps iniconfig && .venv/bin/python -c 'import iniconfig'"
    )
    assert tried.rc == 0, tried.stderr


def test_the_redirect_table_is_live_enabled_and_alone(host: Host) -> None:
    assert host.service("pyfleet-redirect.service").is_enabled
    tables = host.run("nft list tables").stdout.split("\n")
    assert [table for table in tables if table] == ["table inet pyfleet"]


def test_directories_belong_to_root(host: Host) -> None:
    for path in ("/etc/pyfleet", "/srv/pyfleet", "/var/lib/pyfleet"):
        folder = host.file(path)
        assert folder.is_directory
        assert (folder.user, folder.mode & 0o022) == ("root", 0)
