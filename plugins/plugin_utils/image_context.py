# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The build context of a container image as one archive, the same bytes every time, and the health check that goes into it."""

from __future__ import annotations

import gzip
import io
import posixpath
import re
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGE = "ansible_collections/pyfleet/runtime/plugins/module_utils"
#: What the health check is made of: the collection's own, which needs nothing but a Python.
HEALTH_PARTS = ("findings", "health", "probe", "sockets", "systemd")
HEALTH_MAIN = """\
import os
import sys

from ansible_collections.pyfleet.runtime.plugins.module_utils.probe import CheckRequest, run_check

checked = run_check(CheckRequest(port=int(os.environ["PORT"]), **{request!r}))
print("\\n".join(checked.log if checked.ok else checked.failure))
sys.exit(not checked.ok)
"""
#: Files by which uv knows a project and its workspace: the layer of the dependencies depends on nothing else.
PROJECT_FILES = re.compile(r"(?:.*/)?(?:pyproject\.toml|uv\.lock|uv\.toml|\.python-versions?)\Z")


def health_program(request: Mapping[str, Any]) -> bytes:
    """Python's zip application that checks the paths once, as a host does it (E1 to E4), in the contract's words."""
    folder = Path(__file__).parent.parent / "module_utils"
    files = {"__main__.py": HEALTH_MAIN.format(request=dict(request))}
    parts = PACKAGE.split("/")
    files.update({"/".join([*parts[: depth + 1], "__init__.py"]): "" for depth in range(len(parts))})
    files.update({f"{PACKAGE}/{name}.py": (folder / f"{name}.py").read_text(encoding="utf-8") for name in HEALTH_PARTS})
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name], zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def pack(containerfile: str, scripts: Mapping[str, str], health: bytes | None, uv_toml: str, source: Path) -> bytes:
    """The context as a gzip'd tar file. `source` is the application's archive; uv itself comes beside the context."""
    files: dict[str, tuple[bytes, int]] = {
        "Containerfile": (containerfile.encode(), 0o644),
        "uv.toml": (uv_toml.encode(), 0o644),
        "source.tar.gz": (source.read_bytes(), 0o644),
        **{f"scripts/{name}": (text.encode(), 0o755) for name, text in scripts.items()},
    }
    if health is not None:
        files["scripts/health.pyz"] = (health, 0o755)
    with tarfile.open(source) as tar:
        for member in tar:
            if member.isfile() and PROJECT_FILES.match(member.name):
                content = tar.extractfile(member)
                files[posixpath.join("dependencies", member.name)] = (content.read() if content else b"", 0o644)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=3, mtime=0) as raw:
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name in sorted(files):
                content_bytes, mode = files[name]
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content_bytes), mode
                tar.addfile(info, io.BytesIO(content_bytes))
    return packed.getvalue()


def is_package(pyproject: str | None) -> bool:
    """Whether uv installs the project itself: `tool.uv.package` decides, else whether there is a build system. For a hint only, where
    the text cannot be read."""
    text = pyproject or ""
    decided = re.search(
        r"^\s*\[tool\.uv\]\s*$(?:(?!^\s*\[).)*?^\s*package\s*=\s*(true|false)", text, re.MULTILINE | re.DOTALL
    )
    return decided.group(1) == "true" if decided else bool(re.search(r"^\s*\[build-system\]", text, re.MULTILINE))


__all__ = ["HEALTH_PARTS", "health_program", "is_package", "pack"]
