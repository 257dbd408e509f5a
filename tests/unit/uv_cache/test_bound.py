# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""uv's cache is bounded (contract B5): with the real uv, and wheels made here instead of an index."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import uv_cache
from ansible_collections.pyfleet.runtime.plugins.module_utils.uv_cache import Entry, Usage, bound, measure, to_evict

CHECKOUT = Path(__file__).resolve().parents[3]
UV = str(CHECKOUT / ".venv" / "bin" / "uv")
MEGABYTE = 1024 * 1024

pytestmark = pytest.mark.skipif(not os.access(UV, os.X_OK), reason="make setup brings uv")

Install = Callable[..., Path]


def make_wheel(folder: Path, name: str, version: str, megabytes: float) -> None:
    """Writes a wheel with so many bytes that no compression makes smaller."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": b"",
        f"{name}/blob": os.urandom(int(megabytes * MEGABYTE)),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        path: base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=").decode()
        for path, text in files.items()
    }
    record = [f"{path},sha256={digests[path]},{len(text)}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]).encode()
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def install(tmp_path: Path, cache: Path) -> Install:
    """Installs packages of a megabyte into an environment by hard links, as a release does."""

    def into(release: str, *packages: str, megabytes: float = 1.0) -> Path:
        wheels, venv = tmp_path / "wheels", tmp_path / release
        for package in packages:
            name, _equals, version = package.partition("==")
            make_wheel(wheels, name, version, megabytes)
        environment = {**os.environ, "UV_CACHE_DIR": str(cache), "UV_LINK_MODE": "hardlink", "UV_OFFLINE": "1"}
        for command in (
            [UV, "venv", "-q", "--allow-existing", "--no-project", str(venv)],
            [
                UV, "pip", "install", "-q", "--no-index", "--find-links", str(wheels), "--python", str(venv / "bin" / "python"),
                *packages,
            ],
        ):  # fmt: skip
            subprocess.run(command, env=environment, check=True, cwd="/")
        return venv

    return into


@pytest.fixture
def running(cache: Path) -> Iterator[Callable[[], None]]:
    """A program under `uv run`, which keeps the cache's lock for as long as it runs."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        environment = {**os.environ, "UV_CACHE_DIR": str(cache), "UV_OFFLINE": "1"}
        started.append(subprocess.Popen([UV, "run", "--no-project", "sleep", "60"], env=environment, cwd="/"))
        deadline = time.monotonic() + 20
        while not uv_cache.holders(str(cache)):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    yield start
    for process in started:
        process.terminate()
        process.wait()


def archives(cache: Path) -> set[str]:
    return {path.name.partition("-")[0] for path in cache.glob("archive-v*/*/*.dist-info")}


def test_a_file_counts_once_and_is_shared_while_a_release_has_it(install: Install, cache: Path, tmp_path: Path) -> None:
    venv = install("one", "alpha==1")
    before = measure(str(cache))
    assert before.shared >= MEGABYTE
    assert before.own < MEGABYTE // 4
    os.link(next(cache.glob("archive-v*/*/alpha/blob")), cache / "again")
    assert measure(str(cache)).shared == before.shared, "a second name inside of the cache adds nothing"
    (cache / "again").unlink()
    shutil.rmtree(venv)
    after = measure(str(cache))
    assert after.shared == 0
    assert after.own >= MEGABYTE
    assert [entry.package for entry in after.entries.values()] == ["alpha"]


def test_below_the_cap_only_what_nothing_refers_to_goes(install: Install, cache: Path) -> None:
    install("one", "alpha==1")
    (cache / "simple-v1").mkdir()  # as an earlier version of uv left it
    report = bound(UV, str(cache), "", 50)
    assert (report.state, report.changed, report.note) == ("bounded", False, "")
    assert report.commands == [f"{UV} cache prune"]
    assert not (cache / "simple-v1").exists()
    assert archives(cache) == {"alpha"}


def test_above_the_cap_the_longest_unused_goes_and_what_a_release_uses_stays(install: Install, cache: Path) -> None:
    install("serving", "alpha==1", "beta==1")
    shutil.rmtree(install("old", "gamma==1"))
    time.sleep(0.05)
    shutil.rmtree(install("newer", "delta==1"))
    report = bound(UV, str(cache), "", 2)
    assert report.removed == ["gamma"]
    assert (report.state, report.changed) == ("bounded", True)
    assert report.after.own <= 2 * MEGABYTE < report.before.own
    assert archives(cache) == {"alpha", "beta", "delta"}
    again = bound(UV, str(cache), "", 2)
    assert not again.changed


def test_what_has_no_name_goes_with_everything(install: Install, cache: Path) -> None:
    install("serving", "alpha==1")
    checkout = next(cache.glob("sdists-v*")) / "path" / "0123456789abcdef"
    checkout.mkdir(parents=True)
    (checkout / "pack").write_bytes(os.urandom(2 * MEGABYTE))
    report = bound(UV, str(cache), "", 1)
    assert report.removed == ["(everything)"]
    assert report.state == "bounded"
    assert archives(cache) == set()


def test_a_cache_in_use_is_left_at_once_and_the_note_says_who(
    install: Install, cache: Path, running: Callable[[], None]
) -> None:
    shutil.rmtree(install("old", "alpha==1", "beta==1"))
    running()
    started = time.monotonic()
    report = bound(UV, str(cache), "", 1)
    assert time.monotonic() - started < 3
    assert (report.state, report.changed) == ("in_use", False)
    assert "is in use by" in report.note
    assert "larger than app_uv_cache_max_mb (1)" in report.note
    assert archives(cache) == {"alpha", "beta"}


def test_a_lock_taken_between_question_and_command_is_not_waited_for(
    install: Install, cache: Path, running: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(install("old", "alpha==1", "beta==1"))
    running()
    asked: list[str] = []
    real = uv_cache.holders

    def first_nobody(cache_dir: str) -> list[str]:
        asked.append(cache_dir)
        return [] if len(asked) == 1 else real(cache_dir)

    monkeypatch.setattr(uv_cache, "holders", first_nobody)
    started = time.monotonic()
    report = bound(UV, str(cache), "", 1)
    assert time.monotonic() - started < 3
    assert (report.state, report.removed) == ("in_use", [])
    assert archives(cache) == {"alpha", "beta"}


def test_check_mode_says_what_would_go_and_removes_nothing(install: Install, cache: Path) -> None:
    shutil.rmtree(install("old", "alpha==1", "beta==1"))
    report = bound(UV, str(cache), "", 1, check=True)
    assert report.changed
    assert set(report.removed) <= {"alpha", "beta"}
    assert report.commands == []
    assert archives(cache) == {"alpha", "beta"}


def test_no_cap_no_cache_no_user_and_no_uv(cache: Path, install: Install) -> None:
    assert bound(UV, str(cache), "", 0).state == "unbounded"
    assert bound(UV, str(cache), "", 10).state == "missing"
    assert bound(UV, str(cache), "nobody-of-that-name", 10).state == "missing"
    install("one", "alpha==1")
    report = bound("/nonexistent/uv", str(cache), "", 10)
    assert "could not clean its cache" in report.note
    assert report.state == "bounded"


def test_a_lock_that_is_no_file_is_neither_followed_nor_waited_for(cache: Path, tmp_path: Path) -> None:
    cache.mkdir()
    os.mkfifo(cache / ".lock")
    assert uv_cache.holders(str(cache)) == []
    (cache / ".lock").unlink()
    (cache / ".lock").symlink_to(tmp_path / "elsewhere")
    assert uv_cache.holders(str(cache)) == []


def test_a_package_in_use_goes_only_when_nothing_else_is_left() -> None:
    usage = Usage(
        own=100,
        entries={
            "a/1": Entry("torch", own=1, shared=90, used=9),
            "a/2": Entry("torch", own=40, used=1),
            "a/3": Entry("rich", own=30, used=5),
            "a/4": Entry("flask", own=3, shared=10, used=2),
        },
    )
    assert to_evict(usage, 100) == []
    assert to_evict(usage, 70) == ["rich"]
    assert to_evict(usage, 50) == ["rich", "torch"]
    assert to_evict(usage, 0) == ["rich", "torch"], "nothing is gained by a package that is in use in its only version"
