# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tiny packages and projects: all that a real uv needs to sync, without a network."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path

VERSIONS = ("1.0.0", "1.1.0", "2.0.0")


def make_wheel(
    folder: Path, name: str, version: str, requires: tuple[str, ...] = (), command: str = "", code: str = ""
) -> Path:
    """Writes a pure wheel by hand, with `code` in its module; the same input gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{name}/__init__.py": f"__version__ = {version!r}\n{code}",
        f"{info}/METADATA": metadata + "".join(f"Requires-Dist: {item}\n" for item in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: toys\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if command:
        files[f"{name}/__init__.py"] += f"\n\ndef main():\n    print({name!r}, __version__)\n"
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{command} = {name}:main\n"
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
    return wheel


def make_index(folder: Path) -> Path:
    """A flat index: three versions of `toya`, and `toyc`, which needs `toyb`."""
    for version in VERSIONS:
        make_wheel(folder, "toya", version)
    make_wheel(folder, "toyb", "0.5.0")
    make_wheel(folder, "toyc", "3.0", ("toyb",))
    make_wheel(folder, "toydev", "0.1")
    return folder


def write_project(project: Path, links: Path, toya: str = "1.1.0", extra: str = "") -> Path:
    """A project that needs `toya` in one version and `toyc`, with a `dev` group."""
    project.mkdir(parents=True, exist_ok=True)
    (project / "pyproject.toml").write_text(
        f"""[project]
name = "shop"
version = "0.1.0"
requires-python = ">=3.9"
dependencies = ["toya=={toya}", "toyc"]

[dependency-groups]
dev = ["toydev"]
batch = ["toya", "toydev"]

[tool.uv]
no-index = true
find-links = ["{links}"]
{extra}""",
        encoding="utf-8",
    )
    return project


def write_workspace(root: Path, links: Path) -> Path:
    """A workspace with two members: `api` needs `toya`, `worker` needs `toyc`."""
    write_project(root, links, extra='\n[tool.uv.workspace]\nmembers = ["packages/*"]\n')
    for name, needs in (("api", "toya==1.0.0"), ("worker", "toyc")):
        member = root / "packages" / name
        member.mkdir(parents=True, exist_ok=True)
        (member / "pyproject.toml").write_text(
            f'[project]\nname = "{name}"\nversion = "0.1.0"\nrequires-python = ">=3.9"\ndependencies = ["{needs}"]\n',
            encoding="utf-8",
        )
    # The root must not contradict its members: one lock file serves them all.
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    (root / "pyproject.toml").write_text(text.replace("toya==1.1.0", "toya==1.0.0"), encoding="utf-8")
    return root


def write_unreachable(project: Path, address: str = "http://127.0.0.1:9") -> Path:
    """A project with a valid lock file whose only package lies on an index that nobody serves."""
    project.mkdir(parents=True, exist_ok=True)
    (project / "pyproject.toml").write_text(
        f"""[project]
name = "shop"
version = "0.1.0"
requires-python = ">=3.9"
dependencies = ["toya==1.1.0"]

[[tool.uv.index]]
name = "internal"
url = "{address}/simple"
default = true
""",
        encoding="utf-8",
    )
    (project / "uv.lock").write_text(
        f"""version = 1
requires-python = ">=3.9"

[[package]]
name = "shop"
version = "0.1.0"
source = {{ virtual = "." }}
dependencies = [
    {{ name = "toya" }},
]

[package.metadata]
requires-dist = [{{ name = "toya", specifier = "==1.1.0" }}]

[[package]]
name = "toya"
version = "1.1.0"
source = {{ registry = "{address}/simple" }}
wheels = [
    {{ url = "{address}/toya-1.1.0-py3-none-any.whl", hash = "sha256:{"0" * 64}" }},
]
""",
        encoding="utf-8",
    )
    return project


def find_python() -> tuple[Path, str, Path, str]:
    """The machine's own Python: interpreter, version, standard library and libc as uv calls it."""
    for candidate in ("/usr/bin/python3", "/usr/local/bin/python3"):
        if Path(candidate).exists():
            code = (
                "import json, os, platform, sys, sysconfig; print(json.dumps([os.path.realpath(sys.executable),"
                " platform.python_version(), sysconfig.get_path('stdlib'), 'gnu' if platform.libc_ver()[0] == 'glibc' else 'musl']))"
            )
            path, version, library, libc = json.loads(subprocess.check_output([candidate, "-I", "-c", code], text=True))
            return Path(path), version, Path(library), libc
    raise FileNotFoundError("no Python of the machine")


def make_python(folder: Path) -> tuple[str, Path]:
    """Packs the machine's own Python as an archive that uv can install. Returns its version and the archive."""
    interpreter, version, library, _libc = find_python()
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"cpython-{version}.tar.gz"
    minor = version.rsplit(".", 1)[0]
    left_out = {
        "test",
        "tests",
        "idlelib",
        "tkinter",
        "lib2to3",
        "ensurepip",
        "__pycache__",
        "site-packages",
        "dist-packages",
    }

    def wanted(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
        parts = item.name.split("/")
        if left_out & set(parts) or any(part.startswith("config-") for part in parts):
            return None
        # Distributions link to files outside, which uv refuses in an archive.
        return None if item.issym() and (item.linkname.startswith("/") or ".." in item.linkname) else item

    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(interpreter, f"python/bin/python{minor}")
        tar.add(library, f"python/lib/python{minor}", filter=wanted)
        link = tarfile.TarInfo("python/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, f"python{minor}"
        tar.addfile(link)
    return version, archive


def downloads_entry(version: str, archive: Path, machine: str, sha256: str | None = "") -> dict[str, dict[str, object]]:
    """One entry of a list of downloads; the archive's own checksum unless another (or None) is given."""
    _interpreter, _version, _library, libc = find_python()
    major, minor, patch = (int(part) for part in version.split("."))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest() if sha256 == "" else sha256
    return {
        f"cpython-{version}-linux-{machine}-{libc}": {
            "name": "cpython",
            "arch": {"family": machine, "variant": None},
            "os": "linux",
            "libc": libc,
            "major": major,
            "minor": minor,
            "patch": patch,
            "prerelease": "",
            "variant": None,
            "build": "1",
            "url": archive.as_uri(),
            "sha256": digest,
        }
    }
