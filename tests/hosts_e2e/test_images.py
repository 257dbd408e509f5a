# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/images.md with podman on this machine: an image of the FastAPI fixture, built on an image of a test host, run and stopped.

The variables are those of a host's inventory; nothing is asked of that host, except in the last test.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from ansible_collections.pyfleet.runtime.tests.hosts import images
from ansible_collections.pyfleet.runtime.tests.hosts.hosts import Run
from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT, as_root
from ansible_collections.pyfleet.runtime.tests.hosts.mirror import Mirror
from ansible_collections.pyfleet.runtime.tests.testbed import Bed, Played

from .conftest import Maker

pytestmark = pytest.mark.rule("H5")

PAGE = (CHECKOUT / "docs" / "images.md").read_text(encoding="utf-8")
TOKEN = "tok-3f9a1c77-of-the-build-and-the-application"
PASSWORD = "pw-8d21b0e4-of-an-index"
#: Values that a file for --env-file can hold, and that some reader of such files might take for something else.
ODD = """ two  spaces 'single' "double" $HOME `id` \\n # not a comment %s ü """
HOOK = '[ "$API_TOKEN $UV_INDEX_INTERNAL_PASSWORD" = "$EXPECTED" ] && echo hooked > built.txt'


PYTHON = "import sys; print('%d.%d' % sys.version_info[:2], sys.base_prefix.rpartition('/')[0])"


def block(start: str) -> str:
    """The block of shell lines of the page that starts so."""
    (found,) = [
        text for text in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if text.startswith(start)
    ]
    return str(found)


@dataclasses.dataclass
class Shop:
    """The application, its source, and podman with this run's settings."""

    bed: Bed
    run: Run
    source: pathlib.Path
    folder: pathlib.Path
    variables: dict[str, Any]
    env: dict[str, str]

    @property
    def repository(self) -> str:
        return str(self.variables["image_repository"])

    def build(self, env: dict[str, str] | None = None, **more: Any) -> Played:
        """Runs the playbook, on any host's variables; the result is not judged."""
        variables = {**self.variables, "app_env": {**self.env, **(env or {})}, **more.pop("variables", {})}
        settings = {"CONTAINERS_CONF": str(self.run.conf)}
        return self.bed.play("playbooks/image.yml", variables, limit="trixie1", environment=settings, **more)

    def podman(self, *arguments: str, check: bool = True) -> str:
        return self.run.podman(*arguments, check=check).stdout.strip()

    def shell(self, script: str) -> str:
        """Lines of the page, in the folder of the file for --env-file."""
        command = as_root(["sh", "-euc", script], {"CONTAINERS_CONF": str(self.run.conf)})
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def tags(self) -> set[str]:
        listed = self.podman("images", "--format", "{{.Tag}}", "--filter", f"reference={self.repository}")
        return set(listed.split())

    def layers(self, release: str) -> list[str]:
        (known,) = json.loads(self.podman("image", "inspect", f"{self.repository}:{release}"))
        return list(known["RootFS"]["Layers"])


@pytest.fixture(scope="module")
def shop(
    bed: Bed, locked_apps: Callable[[str], pathlib.Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    if os.geteuid() != 0:
        pytest.skip("images of test hosts are root's, and so is the podman that builds on them")
    folder = tmp_path_factory.mktemp("images")
    shutil.copytree(locked_apps("fastapi"), folder / "shop")
    run = Run(bed.name)
    (added,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    variables = {
        **yaml.safe_load(added),
        "app_name": "shop",
        "app_source": {"path": str(folder / "shop")},
        "image_base": images.ensure("trixie", run.conf),
        "image_repository": f"localhost/{run.network}",
        "image_env_file": str(folder / "shop.env"),
    }
    env = {
        "CC_PYTHON_UV_RUN_COMMAND": "uv run uvicorn app.main:app --host 0.0.0.0 --port $PORT",
        "CC_HEALTH_CHECK_PATH": "/health",
        "CC_POST_BUILD_HOOK": HOOK,
        "EXPECTED": f"{TOKEN} {PASSWORD}",
        "API_TOKEN": TOKEN,
        "UV_INDEX_INTERNAL_PASSWORD": PASSWORD,
        "CC_PRE_RUN_HOOK": 'echo "before $APP_ID in $PWD"',
        "CC_WORKER_COMMAND": "uv run python -c 'import fastapi; print(fastapi.__name__)'",
        "ODD": ODD,
        "LINES": "one\ntwo",
    }
    made = Shop(bed, run, folder / "shop", folder, variables, env)
    before = images.ids(run.conf)
    yield made
    for name in (run.network, f"{run.network}-2"):
        run.podman("rm", "--force", "--time=0", name, check=False)
    images.remove(run.conf, images.ids(run.conf) - before)
    assert not made.tags()


@pytest.fixture(scope="module")
def built(shop: Shop) -> Played:
    """The first build, after a look at what it would be."""
    looked = shop.build(check=True, diff=True).succeeded()
    assert looked.changed == 1
    assert f"FROM {shop.variables['image_base']} AS dependencies" in looked.output
    assert not shop.tags()
    assert not (shop.folder / "shop.env").exists()
    return shop.build(diff=True, verbosity=3).succeeded()


def result(played: Played) -> dict[str, Any]:
    (event,) = played.of("image")
    return event.result


def test_h5_an_image_is_built_once_and_no_secret_is_in_it_or_told(
    built: Played, shop: Shop, tmp_path: pathlib.Path
) -> None:
    release, made = result(built)["release"], result(built)["image"]
    assert shop.tags() == {release}
    assert made["tag"] == f"{shop.repository}:{release}"
    assert made["id"].removeprefix("sha256:") == shop.podman("image", "inspect", "--format", "{{.Id}}", made["tag"])
    assert made["digest"].startswith("sha256:")
    assert "several lines: LINES" in "".join(result(built)["warnings"])

    again = shop.build(check=True).succeeded()
    assert again.changed == 0
    again = shop.build().succeeded()
    assert again.changed == 0
    assert result(again)["image"] == made

    # Everything that leaves this machine with the image: configuration, history, and every file of every layer.
    said = (
        built.output
        + again.output
        + shop.podman("history", "--no-trunc", made["tag"])
        + shop.podman("inspect", made["tag"])
    )
    archive = tmp_path / "image.tar"
    shop.podman("save", "--output", str(archive), made["tag"])
    seen = 0
    with tarfile.open(archive) as image:
        for member in image:
            content = image.extractfile(member) if member.isfile() else None
            if content is None:
                continue
            if not member.name.endswith(".tar"):
                said += content.read().decode()
                continue
            with tarfile.open(fileobj=content) as layer:
                for file in layer:
                    inner = layer.extractfile(file) if file.isfile() else None
                    text = inner.read() if inner else b""
                    seen += 1
                    assert not [secret for secret in (TOKEN, PASSWORD) if secret.encode() in text], file.name
                    assert not re.match(r"(run/secrets/.+|usr/local/bin/uv|var/cache/pyfleet-uv/.+)", file.name), (
                        file.name
                    )
    assert seen > 1000
    for secret in (TOKEN, PASSWORD):
        assert secret not in said


def test_h5_it_runs_as_the_page_says_unprivileged_and_stops_on_sigterm(built: Played, shop: Shop) -> None:
    release, name = result(built)["release"], shop.run.network
    file = shop.folder / "shop.env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = block("podman run --detach").replace("localhost/shop:RELEASE", f"{shop.repository}:{release}")
    lines = (
        lines.replace("--name shop", f"--name {name}")
        .replace("run shop", f"run {name}")
        .replace("}}' shop", f"}}}}' {name}")
    )
    # A test chooses no port of this machine: it asks the container itself.
    start, check, ask = lines.replace("--publish 8080:8080 ", "").splitlines()
    shop.shell(start)
    deadline = time.monotonic() + 30
    while shop.run.podman("healthcheck", "run", name, check=False).returncode and time.monotonic() < deadline:
        time.sleep(0.3)
    assert shop.shell(check).splitlines()[-1] == "healthy"
    address = shop.podman("inspect", "--format", "{{.NetworkSettings.IPAddress}}", name)
    assert json.loads(shop.shell(ask.replace("127.0.0.1", address))) == {"status": "ok"}

    def inside(command: str) -> str:
        return shop.podman("exec", name, "bash", "-c", command)

    assert inside("id -u; id -g; cat built.txt; pwd").split() == [
        "10001",
        "10001",
        "hooked",
        "/srv/pyfleet/shop/current",
    ]
    # The application is the process that a stop signals, and the shell has gone.
    assert "bin/uvicorn" in inside("tr '\\0' ' ' < /proc/1/cmdline")
    assert inside("touch .venv/x 2>/dev/null || echo refused; touch y ~/z && echo allowed").split() == [
        "refused",
        "allowed",
    ]
    assert inside("command -v uv || echo none") == "none"
    assert int(inside("find .venv -name '*.pyc' | wc -l")) > 1000
    raw = shop.podman("exec", name, "cat", "/proc/1/environ").split("\0")
    environment = dict(line.split("=", 1) for line in raw if line)
    assert environment["ODD"] == ODD
    assert environment["API_TOKEN"] == TOKEN
    assert (environment["PORT"], environment["INSTANCE_NUMBER"]) == ("8080", "0")
    assert environment["CC_DEPLOYMENT_ID"] == release
    assert not {"UV_INDEX_INTERNAL_PASSWORD", "LINES"} & set(environment)

    began = time.monotonic()
    shop.podman("stop", "--time", "20", name)
    assert time.monotonic() - began < 8
    assert shop.podman("inspect", "--format", "{{.State.ExitCode}}", name) == "0"

    others = block("podman run --env-file").replace("localhost/shop:RELEASE", f"{shop.repository}:{release}")
    said = shop.shell(others.replace("podman run", "podman run --rm --no-healthcheck"))
    assert said.split("\n")[:2] == ["before app-shop in /srv/pyfleet/shop/current", "fastapi"]


@pytest.mark.rule("E1", "E4")
def test_e4_the_health_check_speaks_as_on_a_host(built: Played, shop: Shop) -> None:
    name, tag = f"{shop.run.network}-2", result(built)["image"]["tag"]
    shop.podman("run", "--detach", "--name", name, tag, "sleep", "60")
    checked = shop.run.podman("healthcheck", "run", name, check=False)
    assert checked.returncode == 1
    said = shop.podman("inspect", "--format", "{{range .State.Health.Log}}{{.Output}}{{end}}", name)
    assert "Your application is not listening on 8080" in said
    shop.podman("rm", "--force", "--time=0", name)


def test_h5_a_change_of_code_takes_the_dependencies_as_they_are(built: Played, shop: Shop) -> None:
    (shop.source / "VERSION").write_text("2.0.0\n")
    # Without a network, nothing can be fetched.
    changed = shop.build(variables={"image_build_arguments": ["--network=none"]}).succeeded()
    assert changed.changed == 1
    release = result(changed)["release"]
    assert shop.tags() == {result(built)["release"], release}
    before, after = shop.layers(result(built)["release"]), shop.layers(release)
    same = [one for one, other in zip(before, after, strict=True) if one == other]
    # Base, folders, .venv and scripts; the source and what stands above it are new.
    assert same == before[: len(same)]
    assert len(before) - len(same) == 2
    assert shop.podman("run", "--rm", f"{shop.repository}:{release}", "cat", "VERSION") == "2.0.0"
    # A new checkout has the same content, and other times; other arguments may give another image.
    for path in shop.source.rglob("*"):
        os.utime(path, (1e9, 1e9))
    assert shop.build(variables={"image_build_arguments": ["--network=none"]}).succeeded().changed == 0
    other = {"image_build_arguments": ["--network=none", "--label=other=1"]}
    assert shop.build(variables=other, check=True).succeeded().changed == 1


@pytest.mark.rule("B4", "B6")
def test_b4_a_stale_lock_or_a_hook_that_fails_ends_the_build_in_their_own_words(built: Played, shop: Shop) -> None:
    tags = shop.tags()
    failed = shop.build({"CC_POST_BUILD_HOOK": "echo the hook speaks; exit 3"}).failed()
    assert "CC_POST_BUILD_HOOK failed while the image was built." in failed.message()
    assert "the hook speaks" in failed.message()
    project = shop.source / "pyproject.toml"
    original = project.read_text()
    project.write_text(original.replace("dependencies = [", 'dependencies = ["iniconfig", '))
    try:
        failed = shop.build(verbosity=1).failed()
    finally:
        project.write_text(original)
    assert "The lockfile at `uv.lock` needs to be updated" in failed.message()
    assert result(failed)["reason"] == "lock_stale"
    assert shop.tags() == tags
    assert TOKEN not in failed.output


def test_h5_bytecode_that_the_build_compiles_lies_where_the_unit_looks(make_app: Maker) -> None:
    app = make_app(fixture="fastapi", limit="trixie1")
    app.env = {
        "CC_PYTHON_UV_RUN_COMMAND": "uv run uvicorn app.main:app --host 0.0.0.0 --port $PORT",
        "CC_PRE_RUN_HOOK": "find $PREFIX -name '*.pyc' | wc -l > ~/compiled",
        "PREFIX": "/var/cache/app-shop",
    }
    app.deploy(variables={"app_compile_bytecode": True}).succeeded()
    # Before the first start; afterwards it would be the start that has compiled.
    assert int(app.host.read("/srv/pyfleet/shop/home/compiled")) > 1000
    assert app.host("find /srv/pyfleet/shop/current/.venv/ -name '*.pyc' | wc -l") == "0"


@pytest.mark.rule("C5")
def test_c5_uv_brings_a_python_that_the_image_below_does_not_have(
    shop: Shop, locked_apps: Callable[[str], pathlib.Path], python_mirror: Mirror
) -> None:
    variables = {
        "app_source": {"path": str(locked_apps("tiny"))},
        "app_env": {"CC_PYTHON_UV_RUN_COMMAND": "uv run python server.py", "CC_PYTHON_VERSION": "3.11"},
        "image_env_file": "",
        "image_build_arguments": ["--network=host"],
    }
    failed = shop.build(variables={**variables, "image_python": "base"}).failed()
    assert "No interpreter found for Python 3.11" in failed.message()
    made = shop.build(variables={**variables, "uv_python_downloads_json_url": python_mirror.url}).succeeded()
    told = shop.podman("run", "--rm", "--no-healthcheck", result(made)["image"]["tag"], "python", "-c", PYTHON)
    assert told.split() == ["3.11", "/opt/pyfleet/python"]


def test_what_is_missing_is_told_before_anything_is_built(bed: Bed, shop: Shop) -> None:
    failed = shop.build(variables={"image_base": "", "image_user": "root"}).failed()
    assert "2 problems, nothing was changed" in failed.message()
    assert "There is no image to build on." in failed.message()
    elsewhere = {"image_build_arguments": ["--platform=linux/arm64"], "image_env_file": "shop.env"}
    failed = shop.build(variables={**elsewhere, "image_host": "trixie1"}).failed()
    assert "image_build_arguments names another platform" in failed.message()
    assert "image_env_file is a relative path on another machine: shop.env" in failed.message()
    failed = shop.build(variables={"app_accelerator": "auto"}).failed()
    assert "An image has no host, on which auto could be decided." in failed.message()
    # A host of the inventory builds as well, if it has the engine: these have none.
    failed = shop.build(variables={"image_host": "trixie1"}).failed()
    assert "There is no podman here to build with." in failed.message()
