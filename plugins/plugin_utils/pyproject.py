# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan wants of a pyproject.toml. The controller reads it: hosts' Python may be too old to read TOML."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

#: In Python's library since 3.11, which controllers have; hosts, and the type checker on their behalf, do not.
tomllib: Any = importlib.import_module("tomllib")


def loads(text: str) -> dict[str, Any] | None:
    """The text of a TOML file, None when Python cannot read it. uv takes a byte order mark, and newer TOML than Python's."""
    try:
        data: dict[str, Any] = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError:
        return None
    return data


def extras_of(text: str | None) -> dict[str, Any] | None:
    """`extras` and `conflicts` (sets of extras that exclude each other) of a project.

    None when Python cannot read the text; `extras` is None where the build backend declares them.
    """
    if text is None:
        return None
    data = loads(text)
    if data is None:
        return None
    project = table(data.get("project"))
    dynamic = project.get("dynamic")
    computed = isinstance(dynamic, list) and "optional-dependencies" in dynamic
    conflicts = uv_table(data).get("conflicts")
    sets = [
        [str(item["extra"]) for item in each if isinstance(item, dict) and "extra" in item and "package" not in item]
        for each in (conflicts if isinstance(conflicts, list) else [])
        if isinstance(each, list)
    ]
    return {"extras": None if computed else list(table(project.get("optional-dependencies"))), "conflicts": sets}


def uv_table(data: Mapping[str, Any]) -> dict[str, Any]:
    """The table `tool.uv` of a pyproject.toml, empty when there is none."""
    return table(table(data.get("tool")).get("uv"))


def table(value: object) -> dict[str, Any]:
    """The value, or an empty table where somebody wrote something else."""
    return value if isinstance(value, dict) else {}
