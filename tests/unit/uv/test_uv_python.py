# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""uv_python: the decisions as pure functions, and the module on a real uv with a mirror made of the machine's own Python."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.modules import uv_python
from ansible_collections.pyfleet.runtime.plugins.modules.uv_python import Python, Step
from ansible_collections.pyfleet.runtime.tests.unit.uv import toys
from ansible_collections.pyfleet.runtime.tests.unit.uv.modules import run_module

UV = shutil.which("uv", path=str(Path(sys.executable).parent) + ":" + os.environ.get("PATH", "")) or ""
needs_uv = pytest.mark.skipif(not UV, reason="no uv in the development environment or on PATH")


def pythons(*versions: str) -> list[Python]:
    """Versions as uv lists them, the newest first."""
    return [Python(version, f"cpython-{version}-linux-x86_64-gnu") for version in versions]


HERE = pythons("3.13.5", "3.13.0", "3.12.4")
OFFERED = pythons("3.14.0", "3.13.7", "3.13.5", "3.13.0", "3.12.4")


@pytest.mark.parametrize(
    ("request_", "state", "steps"),
    [
        ("3.13", "present", [("none", "3.13.5")]),
        ("3.13", "latest", [("install", "3.13.7")]),
        ("3.14", "present", [("install", "3.14.0")]),
        ("3.13.7", "present", [("install", "3.13.7")]),
        ("3.13.0", "present", [("none", "3.13.0")]),
        ("3.13.0", "latest", [("none", "3.13.0")]),
        # An exact version is exactly that: the other patch versions stay.
        ("3.13.0", "absent", [("remove", "3.13.0")]),
        ("3.13", "absent", [("remove", "3.13.5"), ("remove", "3.13.0")]),
        ("3.1", "absent", []),
        ("3.9", "absent", []),
    ],
)
def test_exact_and_minor_versions_are_never_confused(request_: str, state: str, steps: list[tuple[str, str]]) -> None:
    decided = uv_python.decide(request_, state, HERE, OFFERED)
    assert decided is not None
    assert [(step.action, step.python.version) for step in decided] == steps


def test_what_is_not_offered_is_no_step() -> None:
    assert uv_python.decide("3.13.99", "present", HERE, OFFERED) is None
    assert uv_python.decide("3.1", "present", HERE, OFFERED) is None
    prerelease = pythons("3.15.0rc1")
    assert uv_python.decide("3.15", "present", [], prerelease) is None
    assert uv_python.decide("3.15.0rc1", "present", [], prerelease) == [Step("3.15.0rc1", "install", prerelease[0])]


def test_entries_without_a_checksum_are_found() -> None:
    wanted = [Python("3.13.5", "a", url="u"), Python("3.12.4", "b"), Python("3.11.1", "c"), Python("3.10.1", "d")]
    listed = {"x": {"url": "u", "sha256": "0" * 64}, "b": {"sha256": None}, "c": {"sha256": "short"}}
    assert uv_python.unchecked(listed, wanted) == ["b", "c", "d"]
    assert uv_python.unchecked([], wanted[:1]) == ["a"]


class Mirror:
    """A list of downloads, an install directory and the module, in a place that every user may enter."""

    def __init__(self, folder: Path, version: str, archive: Path) -> None:
        self.folder = folder
        self.version = version
        self.minor = version.rsplit(".", 1)[0]
        self.archive = archive
        self.machine = platform.machine()
        self.target = folder / "python"
        self.downloads = folder / "downloads.json"
        self.offer(toys.downloads_entry(version, archive, self.machine))

    def offer(self, *entries: dict[str, Any]) -> None:
        """Writes the list of downloads."""
        self.downloads.write_text(
            json.dumps({key: value for entry in entries for key, value in entry.items()}), encoding="utf-8"
        )

    def run(self, *versions: str, check: bool = False, **arguments: Any) -> dict[str, Any]:
        """Runs the module."""
        variables = {"HOME": str(self.folder / "home"), "XDG_CONFIG_DIRS": str(self.folder), "UV_HTTP_RETRIES": "0"}
        arguments.setdefault("downloads_json_url", self.downloads.as_uri())
        arguments.setdefault("executable", UV)
        return run_module(
            uv_python.main,
            check=check,
            diff=True,
            versions=list(versions),
            install_dir=str(self.target),
            environment=variables,
            **arguments,
        )

    def there(self) -> list[str]:
        """The versions in the directory."""
        return sorted(path.name for path in self.target.glob("cpython-*") if not path.is_symlink())


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[str, Path]]:
    """The machine's Python as an archive, made once."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield toys.make_python(Path(folder))


@pytest.fixture
def mirror(built: tuple[str, Path]) -> Iterator[Mirror]:
    """A mirror with one version."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Mirror(Path(folder), *built)


@pytest.mark.slow
@needs_uv
@pytest.mark.rule("C5")
def test_c5_version_from_a_mirror_is_installed_run_and_removed(mirror: Mirror) -> None:
    predicted = mirror.run(mirror.minor, check=True)
    assert not predicted.get("failed"), predicted["msg"]
    assert not mirror.target.exists()
    result = mirror.run(mirror.minor)
    assert not result.get("failed"), result["msg"]
    assert result["changed"] is predicted["changed"] is True
    assert result["diff"] == predicted["diff"]
    entry = result["pythons"][0]
    assert (entry["request"], entry["version"], entry["action"]) == (mirror.minor, mirror.version, "install")
    assert entry["path"].startswith(str(mirror.target))
    assert not list((mirror.folder / "home").glob(".local/bin/*"))

    again = mirror.run(mirror.minor, mirror.version)
    assert again["changed"] is False
    assert [item["action"] for item in again["pythons"]] == ["none", "none"]
    assert again["diff"]["before"] == again["diff"]["after"] == entry["key"] + "\n"

    # Another patch version of the same minor one is not this one.
    assert mirror.run(mirror.minor + ".99", state="absent")["changed"] is False
    assert mirror.run(mirror.version, state="absent", check=True)["changed"] is True
    assert mirror.there() == [entry["key"]]
    assert mirror.run(mirror.version, state="absent")["changed"] is True
    assert mirror.there() == []
    assert mirror.run(mirror.version, state="absent")["changed"] is False


@pytest.mark.slow
@needs_uv
def test_interpreter_that_stopped_running_is_made_anew(mirror: Mirror) -> None:
    path = Path(mirror.run(mirror.version)["pythons"][0]["path"])
    path.resolve().unlink()
    result = mirror.run(mirror.version)
    assert not result.get("failed"), result["msg"]
    assert result["pythons"][0]["action"] == "reinstall"
    assert mirror.run(mirror.version)["changed"] is False


@pytest.mark.slow
@needs_uv
def test_archive_that_is_another_version_is_removed_again(mirror: Mirror) -> None:
    claimed = mirror.minor + ".99"
    mirror.offer(toys.downloads_entry(claimed, mirror.archive, mirror.machine))
    result = mirror.run(claimed)
    assert result["reason"] == "python_does_not_run"
    assert f"it says that it is Python {mirror.version}" in result["msg"]
    assert mirror.there() == []


@pytest.mark.slow
@needs_uv
def test_interpreter_that_does_not_start_is_removed_again(mirror: Mirror) -> None:
    """uv itself reports success for a build that this host's system library cannot run."""
    broken = mirror.folder / "broken.tar.gz"
    with tarfile.open(mirror.archive) as source, tarfile.open(broken, "w:gz", compresslevel=1) as target:
        for item in source:
            if item.name == f"python/bin/python{mirror.minor}":
                import io

                script = b"#!/bin/sh\necho 'version GLIBC_2.99 not found' >&2\nexit 1\n"
                item.size = len(script)
                target.addfile(item, io.BytesIO(script))
            elif "_sysconfigdata" in item.name or not item.isfile():
                target.addfile(item, source.extractfile(item) if item.isfile() else None)
    mirror.offer(toys.downloads_entry(mirror.version, broken, mirror.machine))
    result = mirror.run(mirror.version)
    assert result["reason"] == "python_does_not_run"
    assert "GLIBC_2.99 not found" in result["msg"]
    assert mirror.there() == []


@pytest.mark.slow
@needs_uv
def test_wrong_checksum_is_refused_by_uv(mirror: Mirror) -> None:
    mirror.offer(toys.downloads_entry(mirror.version, mirror.archive, mirror.machine, "0" * 64))
    result = mirror.run(mirror.version)
    assert result["reason"] in ("hash_mismatch", "install_failed")
    assert "ash mismatch" in result["msg"]
    assert mirror.there() == []


@pytest.mark.slow
@needs_uv
@pytest.mark.parametrize("check", [True, False])
def test_missing_checksum_is_refused_before_anything_is_downloaded(mirror: Mirror, check: bool) -> None:
    mirror.offer(toys.downloads_entry(mirror.version, mirror.archive, mirror.machine, None))
    result = mirror.run(mirror.version, check=check)
    assert result["reason"] == "checksum_missing"
    assert "downloads_json_url" in result["msg"]
    assert not mirror.target.exists()


@pytest.mark.slow
@needs_uv
def test_versions_that_cannot_be_had_are_all_named(mirror: Mirror) -> None:
    result = mirror.run("3.98", mirror.minor, "3.99.1")
    assert result["reason"] == "version_unavailable"
    assert "3.98, 3.99.1" in result["msg"]
    assert f"Offered:   {mirror.minor}" in result["msg"]
    result = mirror.run("3.1o", "python3")
    assert result["reason"] == "version_invalid"
    assert "3.1o, python3" in result["msg"]


@pytest.mark.slow
@needs_uv
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run the interpreter as another user")
def test_interpreter_that_only_root_can_reach_is_no_interpreter(mirror: Mirror) -> None:
    mirror.folder.chmod(0o700)
    result = mirror.run(mirror.version)
    assert result["reason"] == "python_does_not_run"
    assert "Permission denied" in result["msg"]
    assert mirror.run(mirror.version, verify_as="")["changed"] is True


def test_check_mode_on_a_host_without_uv(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {
        "versions": ["3.13"],
        "executable": str(tmp_path / "uv"),
        "install_dir": str(tmp_path / "python"),
    }
    predicted = run_module(uv_python.main, check=True, **arguments)
    assert predicted["changed"] is True
    assert predicted["reason"] == "uv_missing"
    assert run_module(uv_python.main, **arguments)["failed"]
