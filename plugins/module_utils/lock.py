# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Package versions in a uv.lock, for telling what a deployment would change before anything is installed."""

from __future__ import annotations

import re
from collections.abc import Mapping

_PACKAGE = re.compile(r'^\[\[package\]\]\nname = "([^"\n]+)"\nversion = "([^"\n]+)"', re.MULTILINE)


def packages(text: str) -> dict[str, str]:
    """Returns name → version; several versions of one package (resolution forks) are joined by a comma."""
    found: dict[str, list[str]] = {}
    for name, version in _PACKAGE.findall(text.replace("\r\n", "\n")):
        found.setdefault(name, []).append(version)
    return {name: ", ".join(sorted(set(versions))) for name, versions in sorted(found.items())}


def read_packages(path: str) -> dict[str, str]:
    """Returns the packages of the lock at `path`; a missing file has none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return packages(file.read())
    except OSError:
        return {}


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Returns one line per difference: `+ name 1.0`, `- name 1.0`, `~ name 1.0 -> 2.0`, by name."""
    lines = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if old is None:
            lines.append(f"+ {name} {new}")
        elif new is None:
            lines.append(f"- {name} {old}")
        else:
            lines.append(f"~ {name} {old} -> {new}")
    return lines
