#!/usr/bin/env python3
# Copyright: pyfleet contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Copy a fixture application and lock it.

No fixture carries a lock file (it would record the addresses of whatever index made it). The copy's ``pyproject.toml`` gets
the ``exclude-newer`` date of this project's own, so that the same versions are locked every time; it stands in the file
and not on the command line, because ``uv sync --locked`` holds the lock against the file.

Usage: ``prepare_app.py SOURCE DESTINATION [--uv PATH]``
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".venv", "__pycache__", "uv.lock", "*.egg-info")


def excluded_date() -> str:
    """Return the date that this project's pyproject.toml locks with."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["tool"]["uv"]["exclude-newer"])


def with_date(text: str, date: str) -> str:
    """Return a pyproject.toml with ``exclude-newer`` set."""
    line = f'exclude-newer = "{date}"'
    changed, count = re.subn(r"^\[tool\.uv\]$", f"[tool.uv]\n{line}", text, count=1, flags=re.MULTILINE)
    return changed if count else f"{text.rstrip()}\n\n[tool.uv]\n{line}\n"


def project_root(folder: Path) -> Path:
    """Return the uppermost folder that has a pyproject.toml."""
    found = sorted(folder.rglob("pyproject.toml"), key=lambda path: (len(path.parts), path))
    if not found:
        raise SystemExit(f"prepare_app.py: there is no pyproject.toml in {folder}.")
    return found[0].parent


def prepare(source: Path, destination: Path, uv: str) -> Path:
    """Copy ``source`` to ``destination``, which must not exist, lock it, and return its project root."""
    shutil.copytree(source, destination, ignore=LEFT_OUT)
    root = project_root(destination)
    project = root / "pyproject.toml"
    project.write_text(with_date(project.read_text(), excluded_date()))
    done = subprocess.run([uv, "lock", "--quiet", "--project", str(root)], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"prepare_app.py: uv lock failed in {root}:\n{done.stderr}")
    return root


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--uv", default=str(Path(sys.executable).parent / "uv"))
    options = parser.parse_args(arguments)
    print(prepare(options.source, options.destination, options.uv))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
