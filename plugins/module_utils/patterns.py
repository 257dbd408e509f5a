# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Patterns of paths, as people write them in uv's settings and in options of modules."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence


def parts_of(pattern: str) -> list[str]:
    """Returns a pattern's parts; `./app/` and `app` are the same."""
    return [part for part in pattern.split("/") if part not in ("", ".")]


def fits(pattern: str, name: str, hidden: bool = False) -> bool:
    """Whether a pattern means the file `name`; a folder that a pattern means comes with all below it.

    `*`, `?` and `[…]` stay within one part of the path, `**` stands for any number of folders. As in a shell, a name that begins
    with a dot is only meant by a part that does so itself, unless `hidden` is set.
    """
    return _fits(parts_of(pattern), name.split("/"), hidden)


def _fits(wanted: Sequence[str], parts: Sequence[str], hidden: bool) -> bool:
    if not wanted:
        return hidden or not any(part.startswith(".") for part in parts)
    if wanted[0] == "**":
        if _fits(wanted[1:], parts, hidden):
            return True
        return bool(parts) and (hidden or not parts[0].startswith(".")) and _fits(wanted, parts[1:], hidden)
    if not parts or (parts[0].startswith(".") and not hidden and not wanted[0].startswith(".")):
        return False
    return fnmatch.fnmatchcase(parts[0], wanted[0]) and _fits(wanted[1:], parts[1:], hidden)
