# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records what real uv versions print for `uv sync --output-format json`, as fixtures of the parser's tests.

    python tests/tools/record_uv_json.py [VERSION ...]      (after `make setup`)

Every version is installed with pip into a temporary directory and driven against toy projects, without a network. Paths,
durations and the interpreter are neutralised. To see what a new uv changed, record it and look at `git diff`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / ".work" / "collections"))
from ansible_collections.pyfleet.runtime.tests.unit.uv import toys  # noqa: E402

TARGET = REPOSITORY / "tests" / "fixtures" / "uv_json"
# The first with a report, the last without packages, the first with them, one in the middle, the newest.
VERSIONS = ("0.7.21", "0.9.18", "0.9.19", "0.11.20", "0.13.8")
SYNC = ("sync", "--locked", "--no-progress")


def other_python() -> str | None:
    """A second interpreter of another minor version, when this machine has one."""
    for path in [*Path("/usr/bin").glob("python3.*"), *sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))]:
        if "config" in path.name:
            continue
        done = subprocess.run(
            [str(path), "-c", "import ssl, sys; print(sys.version_info[1])"], capture_output=True, text=True
        )
        if done.returncode == 0 and int(done.stdout) not in (base_minor(), *range(9)):
            return str(path)
    return None


def base_minor() -> int:
    """Minor version of /usr/bin/python3."""
    done = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print(sys.version_info[1])"], capture_output=True, text=True
    )
    return int(done.stdout)


class Recorder:
    """Drives one uv through all cases."""

    def __init__(self, version: str, work: Path) -> None:
        self.version = version
        self.work = work
        self.folder = TARGET / version
        self.executable = work / "uv" / "bin" / "uv"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*command, "--target", str(work / "uv"), f"uv=={version}"], check=True)
        self.links = toys.make_index(work / "links")
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(work / "home"),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_HTTP_RETRIES": "0",
            "UV_PYTHON": "/usr/bin/python3",
            "LANG": "C.UTF-8",
        }
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def uv(self, project: Path, *argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs uv in the project."""
        environment = {**self.environment, **variables}
        return subprocess.run(
            [str(self.executable), *argv], cwd=project, env=environment, capture_output=True, text=True
        )

    def neutral(self, text: str) -> str:
        """Text without this machine in it."""
        text = text.replace(str(self.work), "/srv/toys")
        text = re.sub(r"[^\s`\"]*/(?:\.pyenv|\.local)/[^\s`\"]*/(python[\d.]*)", r"/opt/python/bin/\1", text)
        return re.sub(r"\b\d+(?:\.\d+)?(ms|s)\b", r"1\1", text)

    def record(self, case: str, project: Path, *argv: str, **variables: str) -> None:
        """Runs `uv sync` with a report and writes what came out."""
        done = self.uv(project, *(argv or SYNC), "--output-format", "json", **variables)
        entry = {
            "uv": self.version,
            "argv": [*(argv or SYNC), "--output-format", "json"],
            "returncode": done.returncode,
            "stdout": self.neutral(done.stdout),
            "stderr": self.neutral(done.stderr),
        }
        text = json.dumps(entry, indent=2, ensure_ascii=False)
        (self.folder / f"{case}.json").write_text(self.neutral(text) + "\n", encoding="utf-8")
        print(f"{self.version:8} {case:24} {done.returncode}")

    def project(self, name: str, toya: str = "1.1.0") -> Path:
        """A locked project."""
        project: Path = toys.write_project(self.work / name, self.links, toya)
        assert self.uv(project, "lock").returncode == 0
        return project

    def move_to(self, project: Path, toya: str, lock: bool = True) -> None:
        """Asks for another version of `toya`."""
        toys.write_project(project, self.links, toya)
        if lock:
            assert self.uv(project, "lock").returncode == 0

    def all(self) -> None:
        """Every case."""
        shop = self.project("shop")
        self.record("fresh_dry_run", shop, *SYNC, "--no-dev", "--dry-run")
        self.record("fresh", shop, *SYNC, "--no-dev")
        self.record("noop_dry_run", shop, *SYNC, "--no-dev", "--dry-run")
        self.record("noop", shop, *SYNC, "--no-dev")
        self.record("dev_on", shop)
        self.record("dev_off_dry_run", shop, *SYNC, "--no-dev", "--dry-run")
        self.record("dev_off", shop, *SYNC, "--no-dev")
        self.move_to(shop, "2.0.0")
        self.record("upgrade_dry_run", shop, *SYNC, "--no-dev", "--dry-run")
        self.record("upgrade", shop, *SYNC, "--no-dev")
        self.move_to(shop, "1.0.0")
        self.record("downgrade", shop, *SYNC, "--no-dev")
        self.record("reinstall", shop, *SYNC, "--no-dev", "--reinstall-package", "toya")
        self.record("frozen", shop, "sync", "--frozen", "--no-progress", "--no-dev")
        self.move_to(shop, "1.1.0", lock=False)
        self.record("stale_lock_dry_run", shop, *SYNC, "--dry-run")
        self.record("stale_lock", shop)
        self.record("lock_update_dry_run", shop, "sync", "--no-progress", "--no-dev", "--dry-run")
        self.record("lock_update", shop, "sync", "--no-progress", "--no-dev")
        (shop / "uv.lock").write_text("<<<<<<< ours\n", encoding="utf-8")
        self.record("unparsable_lock", shop)
        (shop / "uv.lock").unlink()
        self.record("missing_lock", shop)
        self.record("missing_lock_frozen", shop, "sync", "--frozen")
        self.record("python_missing", self.project("nopython"), *SYNC, UV_PYTHON="3.99")
        self.record("python_incompatible", self.requires("4.0"), *SYNC)
        self.record("index_down", toys.write_unreachable(self.work / "down"), *SYNC)
        self.record("flags_invalid", self.project("flags"), *SYNC, "--no-such-flag")
        self.record("build_failed", self.broken_build(), "sync", "--no-progress")
        workspace = toys.write_workspace(self.work / "workspace", self.links)
        assert self.uv(workspace, "lock").returncode == 0
        self.record("workspace_member", workspace / "packages" / "api", *SYNC, "--no-dev")
        self.record("workspace_package", workspace, *SYNC, "--no-dev", "--package", "worker")
        second = other_python()
        if second is not None:
            moved = self.project("moved")
            self.uv(moved, *SYNC)
            self.record("other_python_dry_run", moved, *SYNC, "--dry-run", UV_PYTHON=second)
            self.record("other_python", moved, *SYNC, UV_PYTHON=second)

    def requires(self, minimum: str) -> Path:
        """A project for a Python that does not exist yet."""
        project = self.project("requires")
        text = (project / "pyproject.toml").read_text(encoding="utf-8").replace(">=3.9", ">=" + minimum)
        (project / "pyproject.toml").write_text(text, encoding="utf-8")
        return project

    def broken_build(self) -> Path:
        """A project whose own build backend raises."""
        project: Path = toys.write_project(self.work / "broken", self.links)
        backend = '\n[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        with (project / "pyproject.toml").open("a", encoding="utf-8") as stream:
            stream.write(backend)
        (project / "backend.py").write_text("raise RuntimeError('no compiler here')\n", encoding="utf-8")
        return project


def main(versions: list[str]) -> None:
    """Records the given versions, or all."""
    os.umask(0o022)
    for version in versions or VERSIONS:
        with tempfile.TemporaryDirectory() as work:
            Recorder(version, Path(work).resolve()).all()


if __name__ == "__main__":
    main(sys.argv[1:])
