# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rollouts of ten hosts behind HAProxy while requests come in: none fails, with draining and by the switch alone.

The files of docs/examples/load-balancer are used as they are. wrk counts as failed: answers other than 2xx and 3xx, connections
refused, reset or closed in front of an answer, and answers that take longer than ten seconds. HAProxy hides nothing: `retries 0`, no
`option redispatch`, connections to servers reused as by default (`http-reuse safe`). One half of the load keeps its connections, the
other opens one for each request.
"""

from __future__ import annotations

import concurrent.futures
import csv
import io
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.tests.hosts.hosts import Run
from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.testbed import Bed, Played, run_name

from .conftest import TINY, Application
from .load import Load

pytestmark = pytest.mark.alone
EXAMPLE = CHECKOUT / "docs" / "examples" / "load-balancer"
WEB = [f"web{number}" for number in range(1, 11)]
BALANCER = "lb1"
#: Batches: web1, web2 to web4, web5 to web7, web8 to web10.
SERIAL = [1, 3]
BROKEN = "web6"
#: A host with this file finds versions that stand in it unhealthy.
UNHEALTHY = "/srv/unhealthy"
#: Seconds until a health check that does not pass is given up.
DEADLINE = 20
#: Milliseconds between an answer and the next request: several hundred requests per second, and time for Ansible.
PAUSE = 20
HOOKS: dict[str, dict[str, Any]] = {
    "draining": {
        "app_before_switch": str(EXAMPLE / "drain.yml"),
        "app_after_switch": str(EXAMPLE / "undrain.yml"),
    },
    "side_by_side_alone": {},
}


class Fleet(Application):
    """The application on ten hosts, behind HAProxy on an eleventh."""

    def __init__(self, on: Bed, source: pathlib.Path) -> None:
        super().__init__(on, "shop", source, "web")
        self.env = {**TINY, "BEHAVIOUR": f"unhealthy_by:{UNHEALTHY}"}
        self.variables.update(target="web", app_serial=SERIAL, app_drain_seconds=5)
        self.groups = on.directory / "groups.json"
        self.write_groups()

    def write_groups(self, **balancer: Any) -> None:
        """The groups of the example's inventory, with variables of the load balancer."""
        groups = {"web": {"hosts": {name: {} for name in WEB}}, "load_balancers": {"hosts": {BALANCER: balancer}}}
        self.groups.write_text(json.dumps({"all": {"children": groups}}), encoding="utf-8")

    def play(self, playbook: str, env: Any = None, **options: Any) -> Played:
        """Runs a playbook on the ten hosts."""
        options.setdefault(
            "limit", f"web:{BALANCER}"
        )  # facts of a host that the limit leaves out are there all the same
        return super().play(playbook, env, arguments=[f"--inventory={self.groups}"], **options)

    @property
    def url(self) -> str:
        """HAProxy's address."""
        return self.bed.host(BALANCER).url(80)

    def versions(self) -> dict[str, str]:
        """What each host serves, asked directly."""
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            answers = pool.map(lambda name: self.ask(host=name).json()["version"], WEB)
            return dict(zip(WEB, answers, strict=True))

    def rotation(self) -> dict[str, str]:
        """What HAProxy says of each host."""
        asking = (
            "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); "
            "s.sendall(b'show stat\\n'); print(s.makefile().read())"
        )
        rows = csv.DictReader(io.StringIO(self.bed.host(BALANCER)(f'python3 -c "{asking}"').lstrip("# ")))
        return {row["svname"]: row["status"] for row in rows if row["pxname"] == self.name and row["svname"] in WEB}


@pytest.fixture(scope="module")
def fleet(locked_apps: Callable[[str], pathlib.Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Hosts of this file's own, provisioned in one run, with the first version on all of them."""
    bed = Bed(f"{run_name()}-load")
    try:
        bed.up(**dict.fromkeys([BALANCER, *WEB], "bookworm"))
        source = tmp_path_factory.mktemp("load") / "shop"
        shutil.copytree(locked_apps("tiny"), source)
        app = Fleet(bed, source)
        app.play("provision").succeeded()
        app.play("../docs/examples/load-balancer/balancer").succeeded()
        app.deploy(variables={"app_serial": "100%"}).succeeded()
        wait_for(lambda: set(app.rotation().values()) == {"UP"})
        yield app
    finally:
        if os.environ.get("KEEP") != "1":
            Run(bed.name).down()


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def told(what: str, load: Load, played: Played) -> None:
    """The figures, for the log."""
    kinds = ", ".join(f"{figures.requests} on {kind} connections" for kind, figures in load.figures.items())
    print(f"\n{what}: {load.requests} requests ({kinds}), {load.failed} failed, {played.seconds:.0f} s")


def drained(played: Played) -> set[str]:
    """The hosts that HAProxy took out of rotation and put back afterwards."""
    said: dict[str, list[str]] = {}
    for event in played.of("command"):
        said.setdefault(event.host, []).extend(str(each.get("stdout")) for each in event.result.get("results", []))
    return {
        host
        for host, words in said.items()
        if any("is out of rotation" in each for each in words) and any("is back in rotation" in each for each in words)
    }


def test_the_load_sees_one_host_of_ten_that_does_not_answer(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    host = fleet.bed.host("web10")
    with Load(fleet.url, tmp_path, PAUSE) as load:
        host("systemctl stop 'app-shop@*.service'")
        time.sleep(0.5)
        host("systemctl start app-shop.target app-shop@$(basename $(readlink /srv/pyfleet/shop/current)).service")
        wait_for(lambda: set(fleet.rotation().values()) == {"UP"})
    assert all(figures.failed > 0 for figures in load.figures.values()), load.figures


@pytest.mark.parametrize("hooks", HOOKS)
@pytest.mark.rule("D2", "E6")
def test_a_rollout_of_ten_hosts_and_a_failed_one_lose_no_request(
    fleet: Fleet, tmp_path: pathlib.Path, hooks: str
) -> None:
    good, bad = f"2.0-{hooks}", f"3.0-{hooks}"
    fleet.change(good)
    with Load(fleet.url, tmp_path, PAUSE) as load:
        played = fleet.deploy(variables=HOOKS[hooks]).succeeded()
    told(f"rollout of ten hosts, {hooks}", load, played)
    assert load.requests > 1000
    assert load.failed == 0, load.figures
    assert set(fleet.versions().values()) == {good}
    if HOOKS[hooks]:
        assert drained(played) == set(WEB)
        # the load balancer left nothing to drain on the hosts
        states = [event.result for event in played.of("release") if event.result.get("port")]
        assert [state["drained"] for state in states] == [""] * len(WEB)
    else:
        assert played.of("command") == []

    fleet.change(bad)
    fleet.bed.host(BROKEN).write(UNHEALTHY, bad)
    with Load(fleet.url, tmp_path, PAUSE) as load:
        played = fleet.deploy(variables={**HOOKS[hooks], "app_health_deadline": DEADLINE}).failed()
        time.sleep(fleet.variables["app_drain_seconds"] + 1)  # what the new release had to drain
    told(f"failed rollout with its way back, {hooks}", load, played)
    assert "- GET /health returned 500." in played.message()
    assert load.failed == 0, load.figures
    assert set(fleet.versions().values()) == {good}
    switched = {event.host for event in played.of("release") if event.result.get("port")}
    assert {"web1", "web2", "web3", "web4"} <= switched, "the rollout was to go on until its third batch"
    assert not switched & {"web8", "web9", "web10"}, "and no further"
    wait_for(lambda: set(fleet.rotation().values()) == {"UP"})


def test_a_load_balancer_that_does_not_answer_fails_the_host_and_the_rollout_goes_back(fleet: Fleet) -> None:
    before = fleet.versions()
    fleet.change("4.0")
    fleet.write_groups(ansible_port=1)
    try:
        played = fleet.deploy(variables=HOOKS["draining"]).failed()
    finally:
        fleet.write_groups()
    assert f"{BALANCER}: " in played.message()
    assert all(counts["unreachable"] == 0 for counts in played.stats.values()), played.stats
    assert fleet.versions() == before
