# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build once, ship many: the hosts that receive are cut off from everything but SSH, and the index counts who asks it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from ansible_collections.pyfleet.runtime.tests.hosts import mirror
from ansible_collections.pyfleet.runtime.tests.hosts.hosts import Run
from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.stand_ins import index as stand_in
from ansible_collections.pyfleet.runtime.tests.testbed import Bed, BedHost, Played
from ansible_collections.pyfleet.runtime.tests.unit.uv.toys import make_wheel

from .conftest import Application, Maker

#: Two hosts of one kind, and one of another.
BUILDER, RECEIVER, OTHER = "bookworm1", "bookworm2", "trixie1"
HOSTS = (BUILDER, RECEIVER, OTHER)
LIMIT = ":".join(HOSTS)
UV = str(CHECKOUT / ".venv" / "bin" / "uv")
SECRET = "s3cret-of-the-index"


@pytest.fixture(scope="module")
def fleet(provisioned: Bed) -> Iterator[Bed]:
    """The hosts; the receiver has no way to anything but its own network, where no index is."""
    provisioned.up(**{RECEIVER: "bookworm"})
    provisioned.play("playbooks/provision.yml", limit=RECEIVER).succeeded()
    provisioned.cut(RECEIVER)
    yield provisioned
    provisioned.uncut(RECEIVER)


@pytest.fixture
def index(fleet: Bed, tmp_path: pathlib.Path) -> Iterator[stand_in.Index]:
    """An index with three versions of one package, which asks for credentials and notes who asks."""
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        make_wheel(tmp_path / "index" / "toya", "toya", version)
    with stand_in.serving(tmp_path / "index", mirror.gateway(Run(fleet.name)), "deploy", SECRET) as served:
        yield served


def lock(app: Application, index: stand_in.Index, version: str) -> None:
    """Lets the application need that version of `toya`, from the index `corp`."""
    project = app.source / "pyproject.toml"
    text = project.read_text().partition("[[tool.uv.index]]")[0]
    text = re.sub(r"^dependencies = .*$", f'dependencies = ["toya=={version}"]', text, flags=re.MULTILINE)
    text = re.sub(r"^exclude-newer = .*\n", "", text, flags=re.MULTILINE)
    project.write_text(f'{text}[[tool.uv.index]]\nname = "corp"\nurl = "{index.url}"\ndefault = true\n')
    environment = {**os.environ, "UV_INDEX_CORP_USERNAME": "deploy", "UV_INDEX_CORP_PASSWORD": SECRET}
    subprocess.run([UV, "lock", "-q", "--no-cache"], cwd=app.source, env=environment, check=True)
    index.requests.clear()


@pytest.fixture
def shop(fleet: Bed, make_app: Maker, index: stand_in.Index) -> Application:
    """The tiny fixture on all three hosts, with a dependency from the index."""
    app = make_app(limit=LIMIT)
    app.variables["app_build"] = "once"
    app.env |= {"UV_INDEX_CORP_USERNAME": "deploy", "UV_INDEX_CORP_PASSWORD": SECRET}
    lock(app, index, "1.0.0")
    return app


def versions(app: Application) -> list[str]:
    """What the hosts answer."""
    return [str(app.ask("/", host=host).json()["version"]) for host in HOSTS]


def asked(index: stand_in.Index, on: Bed) -> list[str]:
    """The hosts that asked the index for anything, by name."""
    return [host for host in HOSTS if on.host(host).address in index.clients()]


def shipped(run: Played) -> dict[str, int]:
    """Bytes of the bundles that hosts packed or unpacked."""
    return {event.host: event.result["bytes"] for event in run.of("uv_cache") if "bytes" in event.result}


def cached(host: BedHost, name: str = "shop") -> str:
    """Everything in the host's cache."""
    return host(f"cd /srv/pyfleet/{name}/home && find .cache/uv | sort")


def test_one_host_of_each_kind_asks_the_index_and_all_serve(shop: Application, index: stand_in.Index) -> None:
    on = shop.bed
    run = shop.deploy().succeeded()
    assert versions(shop) == ["1.0.0"] * 3
    assert asked(index, on) == [BUILDER, OTHER]
    assert set(shipped(run)) == {BUILDER, RECEIVER}, "the only host of its kind ships nothing"
    receiver = on.host(RECEIVER)
    release = receiver("basename $(readlink /srv/pyfleet/shop/current)")
    package = f"/srv/pyfleet/shop/releases/{release}/.venv/lib/python3.11/site-packages/toya/__init__.py"
    assert int(receiver(f"stat -c %h {package}")) > 1, "a release shares its files with the cache, as everywhere"
    assert receiver("find /srv/pyfleet/shop/home ! -user app-shop") == ""
    assert receiver("find /root/.ansible/tmp -name '*.tar.gz' 2>/dev/null || true") == ""
    assert on.host(BUILDER)("find /root/.ansible/tmp -name '*.tar.gz' 2>/dev/null || true") == ""
    assert SECRET not in run.output
    assert receiver.run(f"grep -rqs {SECRET} /srv/pyfleet/shop/home /run/pyfleet", check=False).rc == 1

    again = shop.deploy().succeeded()
    assert again.changed == 0
    assert shipped(again) == {}

    index.requests.clear()
    shop.change("1.5.0")
    code = shop.deploy().succeeded()
    assert versions(shop) == ["1.5.0"] * 3
    assert shipped(code) == {}, "the packages are the same"

    lock(shop, index, "1.1.0")
    locked = shop.deploy().succeeded()
    assert set(shipped(locked)) == {BUILDER, RECEIVER}
    assert asked(index, on) == [BUILDER, OTHER]
    once = len([each for each in index.requests if each[0] == on.host(BUILDER).address])
    assert receiver(f"{_current()}/.venv/bin/python -c 'import toya; print(toya.__version__)'") == "1.1.0"

    on.uncut(RECEIVER)
    try:
        shop.variables["app_build"] = "every_host"
        lock(shop, index, "2.0.0")
        everywhere = shop.deploy().succeeded()
        assert not everywhere.of("uv_cache")
        assert asked(index, on) == list(HOSTS)
        kind = {on.host(BUILDER).address, on.host(RECEIVER).address}
        assert len([each for each in index.requests if each[0] in kind]) == 2 * once
    finally:
        on.cut(RECEIVER)


def _current() -> str:
    return "$(readlink -f /srv/pyfleet/shop/current)"


@contextlib.contextmanager
def corrupting(folder: pathlib.Path) -> Iterator[list[pathlib.Path]]:
    """Flips one byte of the bundle as soon as it has arrived at the controller."""
    flipped: list[pathlib.Path] = []
    end = threading.Event()

    def watch() -> None:
        while not end.is_set() and not flipped:
            for path in folder.rglob("bundles/[0-9a-f]*.tar.gz"):
                content = bytearray(path.read_bytes())
                content[len(content) // 2] ^= 1
                path.write_bytes(content)
                flipped.append(path)
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield flipped
    finally:
        end.set()
        thread.join()


def test_a_bundle_that_changed_on_its_way_is_refused_before_it_is_unpacked(
    shop: Application, index: stand_in.Index, tmp_path: pathlib.Path
) -> None:
    shop.deploy().succeeded()
    receiver = shop.bed.host(RECEIVER)
    before = cached(receiver)
    lock(shop, index, "1.1.0")
    shop.change("2.0.0")
    with corrupting(tmp_path / "local") as flipped:
        run = shop.deploy(environment={"ANSIBLE_LOCAL_TEMP": str(tmp_path / "local")}).failed()
    assert len(flipped) == 1
    assert "is refused: it changed on its way" in run.output
    assert "sha256" in run.output
    assert cached(receiver) == before
    assert receiver("find /root/.ansible/tmp -name '*.tar.gz' 2>/dev/null || true") == ""
    assert versions(shop) == ["1.0.0"] * 3, "no host switched"
    shop.deploy().succeeded()
    assert versions(shop) == ["2.0.0"] * 3


def test_when_a_builder_fails_its_kind_is_not_attempted(shop: Application) -> None:
    shop.env["CC_PRE_BUILD_HOOK"] = f'test "$(cat /etc/hostname)" != {BUILDER} || {{ echo no compiler; exit 3; }}'
    run = shop.deploy().failed()
    assert "no compiler" in run.output
    receiver = shop.bed.host(RECEIVER)
    assert not receiver.exists("/srv/pyfleet/shop/releases"), "nothing was built"
    assert f"Nothing was built here: {BUILDER}" in run.output + str([event.result for event in run.events])
    assert not shop.bed.host(OTHER).exists("/srv/pyfleet/shop/current"), (
        "the rollout stopped before it switched anything"
    )
    del shop.env["CC_PRE_BUILD_HOOK"]
    shop.deploy().succeeded()
    assert versions(shop) == ["1.0.0"] * 3


def test_what_was_not_shipped_is_named_and_shipped_the_next_time(shop: Application) -> None:
    shop.deploy().succeeded()
    receiver = shop.bed.host(RECEIVER)
    receiver("rm -rf /srv/pyfleet/shop/home/.cache/uv/wheels-v*")  # somebody's hand, where no record looks
    shop.change("2.0.0")
    run = shop.deploy().failed()
    assert "toya is not in uv's cache, and this host builds offline." in run.output
    assert "app_build: every_host" in run.output
    assert versions(shop) == ["1.0.0"] * 3
    shop.deploy().succeeded()
    assert versions(shop) == ["2.0.0"] * 3


def test_a_legacy_application_is_built_once_too(fleet: Bed, make_app: Maker) -> None:
    app = make_app("old", "legacy-flask", limit=LIMIT)
    app.variables["app_build"] = "once"
    # Nginx is the distribution's, which a host without a way out cannot fetch.
    fleet.uncut(RECEIVER)
    fleet.host(RECEIVER)("command -v nginx || (apt-get -q update && apt-get -qy install nginx-light) >&2", timeout=300)
    fleet.cut(RECEIVER)
    run = app.deploy().succeeded()
    assert set(shipped(run)) == {BUILDER, RECEIVER}
    for host in HOSTS:
        assert app.ask("/health", host=host).status == 200
    assert app.deploy().succeeded().changed == 0
