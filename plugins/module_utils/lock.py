# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Package versions in a uv.lock, for telling what a deployment would change before anything is installed."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.pyfleet.runtime.plugins.module_utils.indexes import with_password

_PACKAGE = re.compile(r'^\[\[package\]\]\nname = "([^"\n]+)"\nversion = "([^"\n]+)"', re.MULTILINE)

_NAME = re.compile(r'^name = "([^"\n]+)"', re.MULTILINE)
_REGISTRY = re.compile(r'\bsource = \{ registry = "([^"\n]+)"')


def packages(text: str) -> dict[str, str]:
    """Returns name → version; several versions of one package (resolution forks) are joined by a comma."""
    found: dict[str, list[str]] = {}
    for name, version in _PACKAGE.findall(text.replace("\r\n", "\n")):
        found.setdefault(name, []).append(version)
    return {name: ", ".join(sorted(set(versions))) for name, versions in sorted(found.items())}


def addresses(text: str) -> list[list[str]]:
    """The registries of a lock, each once, and the packages with a user and a password in an address."""
    tables = text.replace("\r\n", "\n").split("\n[[package]]\n")
    named = [(_NAME.search(table), with_password(table)) for table in tables[1:]]
    leaking = [name.group(1) if name else "(no name)" for name, lines in named if lines]
    if with_password(tables[0]):
        leaking.insert(0, "(before the packages)")
    return [list(dict.fromkeys(_REGISTRY.findall(text))), leaking]


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
