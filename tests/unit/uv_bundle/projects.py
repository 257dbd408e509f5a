# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Projects to pack for Lambda, their packages and the module, on a real uv without a network."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.modules import uv_bundle
from ansible_collections.pyfleet.runtime.tests.unit.uv import toys
from ansible_collections.pyfleet.runtime.tests.unit.uv.modules import run_module

UV = shutil.which("uv", path=str(Path(sys.executable).parent) + ":" + os.environ.get("PATH", "")) or ""
#: The function runs on a Python that this machine need not have.
PYTHON = "3.13"

#: A build backend that needs nothing and behaves like the worst: it builds in the project, packs what an earlier build left there,
#: and says in a file when and where it built, unless SOURCE_DATE_EPOCH tells it the date. A file TAG makes the wheel one for a platform.
BACKEND = r"""
import os, pathlib, time, zipfile

HERE = pathlib.Path.cwd()
NAME = HERE.name.replace("-", "_")


def get_requires_for_build_wheel(config_settings=None):
    return []


def build_wheel(folder, config_settings=None, metadata_directory=None):
    tag = (HERE / "TAG").read_text().strip() if (HERE / "TAG").exists() else "py3-none-any"
    left = HERE / "build/lib"
    left.mkdir(parents=True, exist_ok=True)
    (HERE / (NAME + ".egg-info")).mkdir(exist_ok=True)
    for path in (HERE / "src").rglob("*.py"):
        target = left / path.relative_to(HERE / "src")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    info = NAME + "-0.1.0.dist-info"
    files = {p.relative_to(left).as_posix(): p.read_text() for p in left.rglob("*.py")}
    files[info + "/METADATA"] = "Metadata-Version: 2.1\nName: " + NAME + "\nVersion: 0.1.0\n"
    files[info + "/WHEEL"] = "Wheel-Version: 1.0\nGenerator: toy\nRoot-Is-Purelib: true\nTag: " + tag + "\n"
    files[info + "/built"] = os.environ.get("SOURCE_DATE_EPOCH", str(time.time())) + "\n"
    files[info + "/entry_points.txt"] = "[console_scripts]\n" + NAME + " = " + NAME + ":hello\n"
    files[info + "/RECORD"] = "".join(name + ",,\n" for name in [*files, info + "/RECORD"])
    wheel = NAME + "-0.1.0-" + tag + ".whl"
    with zipfile.ZipFile(os.path.join(folder, wheel), "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return wheel
"""
BUILD_SYSTEM = '\n[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Writes files below a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def pyproject(name: str, dependencies: tuple[str, ...] = (), more: str = "") -> str:
    """The text of a pyproject.toml."""
    listed = ", ".join(f'"{one}"' for one in dependencies)
    return (
        f'[project]\nname = "{name}"\nversion = "0.1.0"\nrequires-python = ">=3.9"\ndependencies = [{listed}]\n{more}'
    )


def write_package(folder: Path, dependencies: tuple[str, ...] = (), more: str = "") -> Path:
    """A project that is a package, with the backend above; its name is the folder's."""
    module = folder.name.replace("-", "_")
    code = f"def hello():\n    return 'Hello from {folder.name}!'\n"
    files = {
        "pyproject.toml": pyproject(folder.name, dependencies, BUILD_SYSTEM + more),
        "backend.py": BACKEND,
        f"src/{module}/__init__.py": code,
    }
    return write(folder, files)


def platform_wheel(folder: Path, name: str, tag: str, content: bytes, version: str = "1.0") -> Path:
    """A wheel with one compiled module, which is `content`."""
    pure = toys.make_wheel(folder, name, version)
    target = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(pure) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    pure.unlink()
    module = f"{name}/_native.so"
    record = f"{name}-{version}.dist-info/RECORD"
    files[record] = f"{module},,\n".encode() + files[record]
    with zipfile.ZipFile(target, "w") as archive:
        for entry, data in {module: content, **files}.items():
            archive.writestr(zipfile.ZipInfo(entry, (2020, 1, 1, 0, 0, 0)), data)
    return target


def source_package(folder: Path, name: str, tag: str = "py3-none-any") -> Path:
    """A source distribution without any wheel."""
    files = {
        "pyproject.toml": pyproject(name, (), BUILD_SYSTEM),
        "backend.py": BACKEND.replace("NAME = HERE.name", f"NAME = {name!r}"),
        f"src/{name}/__init__.py": "",
        "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: 0.1.0\nRequires-Python: >=3.9\n",
        "TAG": tag,
    }
    path = folder / f"{name}-0.1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file, text in files.items():
            entry = tarfile.TarInfo(f"{name}-0.1.0/{file}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


class Site:
    """A home, an index, a project with code in `app`, and where the archive goes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.links = toys.make_index(folder / "links")
        toys.make_wheel(self.links, "tool", "1.0", ("toya",), command="tool")
        self.project = folder / "shop"
        self.dest = folder / "package.zip"
        self.home = folder / "home"
        self.home.mkdir()
        self.variables = {
            "HOME": str(self.home),
            "UV_HTTP_RETRIES": "0",
            "XDG_CONFIG_DIRS": str(folder),
            "UV_PYTHON_DOWNLOADS": "never",
        }
        self.want("toya==1.1.0", "toyc", "tool")
        write(self.project, {"app/__init__.py": "", "app/main.py": "def handler(event, context):\n    return event\n"})

    def settings(self, more: str = "") -> str:
        """The part of a pyproject.toml that makes the index the only one."""
        return f'\n[dependency-groups]\ndev = ["toydev"]\n[tool.uv]\nno-index = true\nfind-links = ["{self.links}"]\n{more}'

    def want(self, *dependencies: str, more: str = "", lock: bool = True) -> None:
        """The project asks for packages."""
        write(self.project, {"pyproject.toml": pyproject("shop", dependencies, self.settings(more))})
        if lock:
            self.lock()

    def lock(self, project: Path | None = None) -> None:
        """Runs `uv lock`, with no regard for an earlier lock file."""
        (project or self.project).joinpath("uv.lock").unlink(missing_ok=True)
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder / "developer"), "UV_PYTHON_DOWNLOADS": "never"}
        subprocess.run([UV, "lock", "--quiet"], cwd=project or self.project, env=environment, check=True)

    def workspace(self) -> None:
        """The project depends on two members, of which one is a package in a deeper folder, and on a folder outside."""
        write_package(self.project / "library", ("toya",))
        write_package(
            self.project / "packages/deep-one", ("library",), "[tool.uv.sources]\nlibrary = { workspace = true }\n"
        )
        write_package(self.folder / "outer")
        sources = "library = { workspace = true }\ndeep-one = { workspace = true }\nouter = { path = '../outer' }\n"
        more = f'[tool.uv.workspace]\nmembers = ["library", "packages/*"]\n[tool.uv.sources]\n{sources}'
        self.want("deep-one", "library", "outer", "tool", more=more)

    def pack(self, check: bool = False, diff: bool = False, **arguments: Any) -> dict[str, Any]:
        """Runs the module."""
        variables = {**self.variables, **arguments.pop("environment", {})}
        arguments = {"project": str(self.project), "dest": str(self.dest), "python_version": PYTHON, **arguments}
        arguments.setdefault("executable", UV)
        return run_module(uv_bundle.main, check=check, diff=diff, environment=variables, **arguments)

    def both(self, **arguments: Any) -> dict[str, Any]:
        """Check mode, then the real run: the first writes nothing, and both say the same. Returns the real result."""
        before = self.snapshot()
        predicted = self.pack(check=True, diff=True, **arguments)
        assert self.snapshot() == before, "check mode wrote something"
        real = self.pack(diff=True, **arguments)
        for key in ("failed", "changed", "packages", "code", "diff", "sha256", "reason"):
            assert predicted.get(key) == real.get(key), key
        return real

    def made(self, **arguments: Any) -> dict[str, Any]:
        """As `pack`, which has to succeed."""
        result = self.pack(**arguments)
        assert not result.get("failed"), result["msg"]
        return result

    def snapshot(self) -> dict[str, float]:
        """Every path and when it changed. uv's cache directory counts once it is there."""
        return {
            name: date for name, date in changes(self.folder).items() if not name.startswith(f"{self.home}/.cache/")
        }

    def names(self) -> list[str]:
        """What lies in the archive."""
        with zipfile.ZipFile(self.dest) as archive:
            return archive.namelist()

    def read(self, name: str) -> bytes:
        """The content of one file in the archive."""
        with zipfile.ZipFile(self.dest) as archive:
            return archive.read(name)


def changes(folder: Path) -> dict[str, float]:
    """Every path below a folder and when it changed."""
    return {str(path): path.lstat().st_mtime for path in sorted(folder.rglob("*"))}


def commands(result: Mapping[str, Any]) -> list[str]:
    """The commands of a result, without the paths of this run."""
    return [re.sub(r"/\S*/uv-bundle-[^/ ]+", "TEMPORARY", line.replace(UV, "uv")) for line in result["commands"]]
