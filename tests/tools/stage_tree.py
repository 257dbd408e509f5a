#!/usr/bin/env python3
# Copyright: pyfleet contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Copy the collection to a real ``ansible_collections/pyfleet/runtime`` folder.

``ansible-test`` refuses a link, so it works on a copy: every file that git knows or would add, minus the folders named
on the command line. Files that have not changed keep their times, so that caches keyed on them stay warm.

Usage: ``stage_tree.py DESTINATION [--without FOLDER …] [--keep PATH …]``
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def selected(paths: Iterable[str], without: Sequence[str], keep: Sequence[str]) -> list[str]:
    """Return the paths outside of the folders ``without``; those below a path of ``keep`` stay in any case."""

    def below(path: str, folders: Sequence[str]) -> bool:
        return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)

    return [path for path in paths if below(path, keep) or not below(path, without)]


def listed(root: Path) -> list[str]:
    """Return the files that git knows or would add, without those deleted in the working tree."""
    command = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted({name for name in names if name and os.path.lexists(root / name)})


def stage(root: Path, destination: Path, files: Sequence[str]) -> None:
    """Make ``destination`` hold exactly ``files`` of ``root``."""
    wanted = {destination / name for name in files}
    if destination.is_dir():
        for path in sorted(destination.rglob("*"), reverse=True):
            if path.relative_to(destination).parts[0] == ".git":
                continue
            # Files go when they are not wanted any more, folders when that leaves them empty. What ansible-test writes
            # (tests/output) goes as well: a report of an earlier run would be read as content.
            if path.is_symlink() or path.is_file():
                if path not in wanted:
                    path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()
    for name in files:
        source, target = root / name, destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.unlink(missing_ok=True)
            target.symlink_to(source.readlink())
        elif not target.is_file() or not filecmp.cmp(source, target, shallow=False):
            shutil.copy2(source, target)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--without", nargs="*", default=[], metavar="FOLDER")
    parser.add_argument("--keep", nargs="*", default=[], metavar="PATH")
    options = parser.parse_args(arguments)
    stage(ROOT, options.destination, selected(listed(ROOT), options.without, options.keep))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
