# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host looks like with its first application, on every suite."""

from __future__ import annotations

from testinfra.host import Host


def test_the_application_answers_on_its_public_port(host: Host) -> None:
    assert host.run("curl -sf http://localhost:8080/").rc == 0


def test_units_run_and_none_failed(host: Host) -> None:
    assert host.service("app-guide.target").is_enabled
    active = host.run("systemctl list-units --plain --no-legend --state=active 'app-guide*@*'").stdout.split("\n")
    assert len([line for line in active if line]) == 2, "the application and its worker"
    assert host.run("systemctl --failed --plain --no-legend").stdout == ""


def test_units_are_what_systemd_understands(host: Host) -> None:
    release = host.run("basename $(readlink /srv/pyfleet/guide/current)").stdout.strip()
    names = f"app-guide.target app-guide-boot.service app-guide@{release}.service app-guide-worker@{release}:0.service"
    assert "app-guide" not in host.run(f"systemd-analyze verify {names}").stderr
    # Its status also speaks of other units, so the words are what counts; and they do come when there is reason:
    broken = "sed 's/^Restart=.*/Restart=perhaps/' /etc/systemd/system/app-guide@.service > /run/systemd/system/broken-app-guide@.service"
    said = host.run(
        f"{broken}; systemd-analyze verify broken-app-guide@{release}.service; rm /run/systemd/system/broken-app-guide@*"
    )
    assert "broken-app-guide" in said.stderr


def test_the_application_is_exposed_as_little_as_systemd_can_tell(host: Host) -> None:
    unit = host.run("systemctl list-units --plain --no-legend 'app-guide@*' | cut -d' ' -f1").stdout.strip()
    shown = host.run(f"systemd-analyze security --no-pager {unit}").stdout.strip().split("\n")[-1]
    exposure = float(shown.rsplit(": ", 1)[1].split()[0])
    assert exposure < 3.0, shown
