# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's own templating for tests without a host, in ansible-core 2.18, where every text is a template, and later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

try:
    from ansible.template import trust_as_template
except ImportError:
    trust_as_template = None


def variables_of(path: Path) -> dict[str, Any]:
    """The variables of a role's file, still templates."""
    trusted = {} if trust_as_template is None else {"trusted_as_template": True}
    return dict(DataLoader().load_from_file(str(path), **trusted) or {})


def evaluated(name: str, variables: Mapping[str, Any]) -> Any:
    """A variable, with the variables that it refers to put in."""
    return Templar(loader=DataLoader(), variables=dict(variables)).template(variables[name])


def rendered(text: str, variables: Mapping[str, Any], folder: Path) -> Any:
    """A template's text, as the action plugins render it; includes are looked for in `folder`."""
    templar = Templar(loader=DataLoader(), variables=dict(variables)).copy_with_new_env(
        searchpath=[str(folder)], available_variables=dict(variables)
    )
    overrides = {"trim_blocks": True, "lstrip_blocks": False, "newline_sequence": "\n"}
    if trust_as_template is None:
        return templar.do_template(text, preserve_trailing_newlines=True, escape_backslashes=False, overrides=overrides)
    return templar.template(trust_as_template(text), escape_backslashes=False, overrides=overrides)
