# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a provisioned host looks like, on every suite."""

from __future__ import annotations

from testinfra.host import Host


def test_no_unit_failed(host: Host) -> None:
    assert host.run("systemctl is-system-running").stdout.strip() == "running"
