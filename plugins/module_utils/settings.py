# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading one setting out of the environment: numbers, flags and choices, each with its bounds and its named error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Callable

from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import show
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding

TRUE = ("true", "yes", "on", "1")
FALSE = ("", "false", "no", "off", "0")


class Settings:
    """The environment's variables as typed values. What is wrong falls back to the default and is a finding.

    A variable that is set to a blank text counts as not set.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.findings: list[Finding] = []

    def text(self, name: str) -> str:
        """The value without surrounding blanks, "" when it is not set."""
        return self.env.get(name, "").strip()

    def shown(self, name: str) -> str:
        """The value for a message; `(secret)` when it may be one."""
        return show(name, self.env.get(name, "(not set)"))

    def error(self, code: str, name: str, **fields: object) -> None:
        """Record a finding about a variable with its value."""
        self.findings.append(finding(code, name, self.shown(name), **fields))

    def number(self, name: str, default: int, least: int, most: int, unit: str = "") -> int:
        """A whole number from `least` to `most`."""
        text = self.text(name)
        if not text:
            return default
        if re.match(r"[0-9]{1,9}\Z", text, re.ASCII) and least <= int(text) <= most:
            return int(text)
        bounds = f"a whole number from {least} to {most}" + (f" ({unit})" if unit else "")
        self.error("setting_number", name, bounds=bounds, default=default or least)
        return default

    def flag(self, name: str) -> bool:
        """Whether the variable switches something on: true, yes, on or 1; false, no, off, 0 or unset do not."""
        text = self.text(name).lower()
        if text not in TRUE + FALSE:
            self.error("setting_flag", name)
        return text in TRUE

    def choice(self, name: str, default: str, choices: Sequence[str], normalise: Callable[[str], str] = str) -> str:
        """One of some words."""
        text = normalise(self.text(name))
        if not text:
            return default
        if text not in choices:
            self.error("setting_choice", name, choices=", ".join(choices), default=default or choices[0])
            return default
        return text

    def renamed(self, old: str, new: str) -> str:
        """The name that counts: the old one when only that is set, with a warning."""
        if not self.text(old):
            return new
        self.error("setting_renamed", old, new=new, used="" if not self.text(new) else f"; {new} is set and wins")
        return new if self.text(new) else old


def relative_path(text: str) -> str | None:
    """A path below the project root, where a leading / means the project root itself; None when it leaves it.

    "" stands for the project root.
    """
    parts: list[str] = []
    for part in text.strip().split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if text.startswith("~"):
        return None
    return "/".join(parts)
