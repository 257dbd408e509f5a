# Copyright: pyfleet contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a role documents (meta/argument_specs.yml) is what it does (defaults/main.yml): names, values and types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pyfleet.runtime.tests.tools import stage_tree

ROLES = stage_tree.ROOT / "roles"
ROLE_NAMES = sorted(path.name for path in ROLES.iterdir() if (path / "tasks").is_dir())

#: What YAML makes of a default, for each type of an argument spec; `path` and `str` take text, `raw` and `any` take anything.
TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "dict": (dict,),
    "float": (int, float),
    "int": (int,),
    "list": (list,),
    "path": (str,),
    "str": (str,),
}


def load(path: Path) -> dict[str, Any]:
    """Return a YAML file's mapping; an empty one when there is no such file."""
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    return content or {}


def entry_points(role: str) -> dict[str, Any]:
    """Return the entry points of a role's argument specs."""
    specs: dict[str, Any] = load(ROLES / role / "meta/argument_specs.yml").get("argument_specs", {})
    return specs


def options(role: str, entry_point: str = "main") -> dict[str, dict[str, Any]]:
    """Return the options of one of a role's entry points."""
    found: dict[str, dict[str, Any]] = entry_points(role).get(entry_point, {}).get("options", {})
    return found


def same(one: object, other: object) -> bool:
    """Compare like `==`, but keep 1, 1.0 and true apart."""
    return repr(one) == repr(other) if isinstance(one, (bool, int, float)) else one == other


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_every_role_has_argument_specs(role: str) -> None:
    main = entry_points(role).get("main")
    assert main, f"roles/{role}/meta/argument_specs.yml has no entry point main"
    assert main.get("short_description")


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_names_agree_with_the_defaults(role: str) -> None:
    optional = {name for name, option in options(role).items() if not option.get("required")}
    assert optional == set(load(ROLES / role / "defaults/main.yml"))


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_values_agree_with_the_defaults(role: str) -> None:
    defaults = load(ROLES / role / "defaults/main.yml")
    documented = {name: option.get("default") for name, option in options(role).items() if not option.get("required")}
    differing = {
        name: (value, defaults.get(name)) for name, value in documented.items() if not same(value, defaults.get(name))
    }
    assert not differing, "documented and real default differ"


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_required_options_have_no_default(role: str) -> None:
    required = {name: option for name, option in options(role).items() if option.get("required")}
    assert not [name for name, option in required.items() if "default" in option]
    assert not set(required) & set(load(ROLES / role / "defaults/main.yml"))


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_names_carry_the_role(role: str) -> None:
    names = set(load(ROLES / role / "defaults/main.yml"))
    for entry_point in entry_points(role):
        names |= set(options(role, entry_point))
    assert not sorted(name for name in names if not name.startswith(f"{role}_"))


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_internal_variables_carry_the_role(role: str) -> None:
    names = set(load(ROLES / role / "vars/main.yml"))
    assert not sorted(name for name in names if not name.startswith((f"{role}_", f"__{role}_")))


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_defaults_have_the_documented_type(role: str) -> None:
    wrong = {}
    for name, option in options(role).items():
        default = option.get("default")
        expected = TYPES.get(option.get("type", "str"))
        templated = isinstance(default, str) and "{{" in default
        if default is None or expected is None or templated:
            continue
        if not isinstance(default, expected) or (isinstance(default, bool) and bool not in expected):
            wrong[name] = (option.get("type", "str"), default)
    assert not wrong


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_every_option_is_described(role: str) -> None:
    def undescribed(found: dict[str, dict[str, Any]], prefix: str = "") -> list[str]:
        names = [prefix + name for name, option in found.items() if not option.get("description")]
        for name, option in found.items():
            names += undescribed(option.get("options", {}), f"{prefix}{name}.")
        return names

    assert not [name for entry_point in entry_points(role) for name in undescribed(options(role, entry_point))]


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_other_entry_points_document_an_option_like_main(role: str) -> None:
    main = options(role)
    for entry_point in entry_points(role):
        for name, option in options(role, entry_point).items():
            documented = main.get(name, option)
            assert option.get("type") == documented.get("type"), f"{entry_point}: {name}"
            assert option.get("default") == documented.get("default"), f"{entry_point}: {name}"
