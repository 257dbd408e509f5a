# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error of the switch and of the module `release` stands in docs/troubleshooting.md, by its first line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = tuple(f"plugins/module_utils/{name}.py" for name in ("switch", "release_states", "lease", "redirect"))
RAISERS = {"SwitchError", "LeaseError", "_fail"}


def literal(node: ast.expr) -> str:
    """The text of a message, with a gap for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(value) for value in node.values)
    if isinstance(node, ast.BinOp):
        return literal(node.left) + literal(node.right)
    return "\0"


def first_lines() -> list[str]:
    found = set()
    for name in SOURCES:
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in RAISERS:
                found.add(literal(node.args[0]).split("\n")[0])
    return sorted(line for line in found if line.strip("\0 "))


def test_there_are_messages_to_look_for() -> None:
    assert len(first_lines()) > 8


@pytest.mark.parametrize("line", first_lines(), ids=lambda line: line.replace("\0", "…"))
def test_a_message_stands_in_the_troubleshooting_page(line: str) -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    pattern = "[^\n]*".join(re.escape(part.strip(" .")) for part in line.split("\0"))
    assert re.search(rf"^### [^\n]*{pattern}", page, re.MULTILINE), line
