# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""H5: when an image is built, and what is left of a build. A stand-in for podman, a script that keeps images as files, is asked here;
tests/hosts_e2e/test_images.py asks the real one."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.modules import image
from ansible_collections.pyfleet.runtime.tests.unit.uv.modules import run_module

pytestmark = pytest.mark.rule("H5")
PODMAN = (
    f"#!{sys.executable} -S\n"
    """
import json, pathlib, shutil, sys
store = pathlib.Path(sys.argv[0]).parent / "store"
argv = sys.argv[1:]
with (store / "log").open("a") as log:
    print(json.dumps(argv), file=log)
file = lambda name: store / name.replace("/", "_").replace(":", "_")
if argv[:2] == ["image", "inspect"]:
    if not file(argv[2]).exists():
        sys.exit(125)
    print(file(argv[2]).read_text())
elif argv[0] == "pull":
    if "missing" in argv[1]:
        sys.exit("Error: no such thing")
    file(argv[1]).write_text(json.dumps([{"Id": "id-of-" + argv[1], "Size": 1}]))
else:
    value = lambda option: argv[argv.index(option) + 1]
    label = dict([value("--label").split("=", 1)])
    seen = {part.split(",")[0]: pathlib.Path(part.split("src=")[1]) for part in argv if part.startswith("id=")}
    told = {name: [path.read_text(), oct(path.stat().st_mode & 0o777), str(path)] for name, path in seen.items()}
    place = pathlib.Path(argv[-1])
    told["context"] = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    told["executable"] = bool((place / "uv").stat().st_mode & 0o100)
    (store / "told").write_text(json.dumps(told))
    if (store / "fails").exists():
        sys.exit((store / "fails").read_text())
    made = {"Id": "sha256:made", "Digest": "sha256:d", "Size": 5, "Config": {"Labels": label}}
    file(value("--tag")).write_text(json.dumps([made]))
"""
)
SECRET = "s3cr3t-value-of-a-build"


class World:
    """A folder with the stand-in, and the arguments of the controller's half."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.store.mkdir()
        (folder / "podman").write_text(PODMAN)
        (folder / "podman").chmod(0o755)
        for name, files in (("context", ("Containerfile", "scripts/run")), ("uv", ("uv", "uvx"))):
            with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as tar:
                for file in files:
                    info = tarfile.TarInfo(file)
                    info.size, info.mode = 1, 0o755 if file in ("uv", "scripts/run") else 0o644
                    tar.addfile(info, io.BytesIO(b"x"))
        self.sent: dict[str, Any] = {
            "tag": "localhost/shop:0a1b2c3d4e5f",
            "inputs": "0" * 64,
            "bases": {"image_base": "localhost/base:1", "image_build_base": "localhost/build:1"},
            "hidden": [SECRET],
        }

    def run(self, *, built: bool = True, check: bool = False, **more: Any) -> dict[str, Any]:
        """The first call of the controller's half; with `built` the second."""
        sent = {**self.sent, **more}
        if built:
            sent.update(context=str(self.folder / "context.tar.gz"), uv_archive=str(self.folder / "uv.tar.gz"))
            sent["secrets"] = {"pyfleet-env": f"export TOKEN={SECRET}\n"}
        return run_module(image.main, check=check, **sent)

    def log(self) -> list[str]:
        """What was asked of the engine, without looks."""
        path = self.store / "log"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        path.unlink(missing_ok=True)
        return [" ".join(line[:2]) if line[0] == "pull" else line[0] for line in lines if line[0] != "image"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return World(tmp_path)


def test_it_asks_first_then_builds_once_and_again_when_something_below_has_changed(world: World) -> None:
    asked = world.run(built=False)
    assert (asked["needed"], asked["changed"], "image" in asked) == (True, False, False)
    assert asked["machine"] == os.uname().machine
    # Images to build on are pulled before, because their ids are part of what the image is made of.
    assert world.log() == ["pull localhost/base:1", "pull localhost/build:1"]
    made = world.run()
    assert made["changed"]
    assert made["image"] == {"tag": "localhost/shop:0a1b2c3d4e5f", "id": "sha256:made", "digest": "sha256:d", "size": 5}
    assert world.log() == ["build"]
    for again in (world.run(built=False), world.run(), world.run(check=True)):
        assert (again["needed"], again["changed"]) == (False, False)
        assert again["image"]["id"] == "sha256:made"
    assert world.log() == []
    assert world.run(built=False, inputs="1" * 64)["needed"]
    for base in ("base", "build"):
        kept = (world.store / f"localhost_{base}_1").read_text()
        (world.store / f"localhost_{base}_1").write_text('[{"Id": "another"}]')
        assert world.run(built=False)["needed"]
        (world.store / f"localhost_{base}_1").write_text(kept)


def test_check_mode_neither_pulls_nor_builds_nor_writes(world: World) -> None:
    looked = world.run(check=True, env_file=str(world.folder / "env"), env_text="A=b\n")
    assert looked["changed"]
    assert "image" not in looked
    assert world.log() == []
    assert not (world.folder / "env").exists()


@pytest.mark.rule("I")
def test_i_secrets_are_files_of_the_owner_that_the_build_removes_and_nothing_tells(world: World) -> None:
    made = world.run()
    told = json.loads((world.store / "told").read_text())
    text, mode, path = told["id=pyfleet-env"]
    assert (text, mode) == (f"export TOKEN={SECRET}\n", "0o600")
    assert not Path(path).exists()
    assert not Path(path).parent.exists()
    # uv comes beside the context; uvx is no part of an image.
    assert told["context"] == ["Containerfile", "scripts/run", "uv"]
    assert told["executable"]
    assert SECRET not in made["raw"]
    (world.store / "fails").write_text(f"error: it said {SECRET}")
    failed = world.run(inputs="2" * 64)
    assert failed["failed"]
    assert SECRET not in failed["raw"]
    assert not Path(json.loads((world.store / "told").read_text())["id=pyfleet-env"][2]).exists()


def test_the_file_for_env_file_is_the_owners_and_written_once(world: World) -> None:
    path = world.folder / "shop.env"
    world.run()
    arguments: dict[str, Any] = {"env_file": str(path), "env_text": f"TOKEN={SECRET}\nODD= $x ü\n"}
    written = world.run(**arguments)
    assert written["changed"]
    assert path.read_text() == arguments["env_text"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SECRET not in written["raw"]
    assert not world.run(**arguments)["changed"]
    path.chmod(0o644)
    assert world.run(**arguments)["changed"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("said", "reason", "words"),
    [
        (
            "error: The lockfile at `uv.lock` needs to be updated, but `--locked` was provided.",
            "lock_stale",
            "needs to be updated",
        ),
        ("make: no rule\npyfleet-failed: CC_POST_BUILD_HOOK", "image_hook", "make: no rule"),
        ("pyfleet-failed: python", "image_no_python", "localhost/base:1"),
        ("pyfleet-failed: bash", "image_no_bash", "localhost/base:1"),
        ("error: something else", "image_build_failed", "error: something else"),
    ],
)
def test_a_build_that_fails_says_why(world: World, said: str, reason: str, words: str) -> None:
    (world.store / "fails").write_text(said)
    failed = world.run()
    assert failed["reason"] == reason
    assert words in failed["msg"]
    assert "Next step:" in failed["msg"]
    assert not failed["changed"]


def test_what_is_not_there_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = world.run(bases={"image_base": "localhost/missing:1"})
    assert failed["reason"] == "image_base_unavailable"
    assert "Error: no such thing" in failed["msg"]
    monkeypatch.setenv("PATH", str(world.store))
    assert world.run()["reason"] == "image_engine"
