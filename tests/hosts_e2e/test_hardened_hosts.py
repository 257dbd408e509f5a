# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts as hardening guides have them: administrators close what they make to everybody else (umask 077), and no program runs from
/tmp or /var/tmp. Services of other users read what the roles make all the same, and applications are built."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import pytest

from ansible_collections.pyfleet.runtime.tests.hosts.hosts import Run
from ansible_collections.pyfleet.runtime.tests.testbed import Bed, run_name

from .chains import ECHO, VARNISH
from .conftest import Maker, making
from .test_batches import SECRET, Batch, left

HOSTS = {"hard1": "trixie", "hard2": "bullseye"}
#: As a person would do it: PAM sets the umask for every session, whoever logs in.
HARDEN = (
    "sed -i 's/^UMASK.*/UMASK 077/' /etc/login.defs; sed -i '/pam_umask/d' /etc/pam.d/common-session; "
    "echo 'session optional pam_umask.so umask=0077' >> /etc/pam.d/common-session; "
    "for place in /tmp /var/tmp; do mount -t tmpfs -o noexec,nosuid,nodev,mode=1777 none $place; done"
)


@pytest.fixture(scope="module")
def hardened() -> Iterator[Bed]:
    """Two such hosts, provisioned."""
    bed = Bed(f"{run_name()}-hardened")
    bed.up(**HOSTS)
    for name in HOSTS:
        bed.host(name)(HARDEN)
        Run(bed.name).hang_up(*Run(bed.name).chosen([name]))
        assert bed.host(name)("umask").strip() == "0077"
        assert bed.host(name).run("cp /bin/true /tmp/true && /tmp/true", check=False).rc == 126
    bed.play("playbooks/provision.yml").succeeded()
    assert bed.play("playbooks/provision.yml").succeeded().changed == 0
    yield bed
    Run(bed.name).down()


@pytest.fixture
def make(hardened: Bed, locked_apps: Callable[[str], pathlib.Path], tmp_path: pathlib.Path) -> Iterator[Maker]:
    """Makes applications on them."""
    with making(hardened, locked_apps, tmp_path) as maker:
        yield maker


def test_an_application_behind_varnish_is_deployed_and_rolled_back(make: Maker) -> None:
    for host in HOSTS:
        app = make(fixture="echo", limit=host)
        app.env = {**ECHO, **VARNISH}
        app.deploy().succeeded()
        assert app.deploy().succeeded().changed == 0
        first = app.linked()
        assert app.ask("/health").headers["X-Varnish"]
        app.change()
        app.deploy().succeeded()
        assert app.linked() != first
        app.play("rollback").succeeded()
        assert (app.linked(), app.ask("/health").status) == (first, 200)


def test_nginx_serves_static_files_and_a_legacy_application(make: Maker) -> None:
    for host in HOSTS:
        app = make(fixture="legacy-django", limit=host)
        app.deploy().succeeded()
        assert app.ask("/static/shop/site.css").headers["Accept-Ranges"], "Nginx serves it, not the application"
        assert app.deploy().succeeded().changed == 0


def test_a_notebook_server_starts(hardened: Bed) -> None:
    variables = {"notebook_name": "lab", "notebook_kind": "marimo", "notebook_port": 8889}
    hardened.play("playbooks/notebook.yml", variables, limit="hard1").succeeded()
    assert hardened.play("playbooks/notebook.yml", variables, limit="hard1").succeeded().changed == 0


def test_a_batch_runs(hardened: Bed, tmp_path: pathlib.Path) -> None:
    environment = {"PACE": 0, "TOKEN": SECRET}
    work = Batch(hardened, tmp_path, "squares.py", batch_inputs=[1, 2, 3, 4], batch_env=environment)
    work.run().succeeded()
    assert (work.results / "stdout").read_text() == "1 1\n2 4\n3 9\n4 16\n"
    assert [left(hardened, name) for name in HOSTS] == ["", ""]
