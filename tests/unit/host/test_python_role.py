# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role python where no host is needed: which source gives which version, and what cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.tests.unit import templating

ROLE = Path(__file__).resolve().parents[3] / "roles/python"


def rendered(name: str, suite: str, *versions: object, source: str = "auto") -> Any:
    """A variable of the role, on a host of a suite."""
    variables = {
        **templating.variables_of(ROLE / "defaults/main.yml"),
        **templating.variables_of(ROLE / "vars/main.yml"),
        "python_versions": list(versions),
        "python_source": source,
        "ansible_facts": {"distribution": "Debian", "distribution_release": suite},
    }
    return templating.evaluated(name, variables)


@pytest.mark.parametrize(
    ("suite", "versions", "packages", "managed"),
    [
        ("bookworm", [], ["python3.11"], []),
        ("bookworm", ["3.11", "3.13"], ["python3.11"], ["3.13"]),
        ("bullseye", [], ["python3.9", "python3-distutils"], []),
        # uv, which makes the environment with the help of virtualenv, needs distutils for Python 3.9 all the same
        ("bullseye", ["2.7"], ["python2.7", "python3-distutils"], []),
        ("bullseye", [2.7, "3.9", "3.12"], ["python2.7", "python3.9", "python3-distutils"], ["3.12"]),
    ],
)
@pytest.mark.rule("C1", "C2")
def test_c2_the_distribution_gives_what_it_has(
    suite: str, versions: list[object], packages: list[str], managed: list[str]
) -> None:
    assert rendered("python__packages", suite, *versions) == packages
    assert rendered("python__of_uv", suite, *versions) == managed
    assert rendered("python__problems", suite, *versions) == []


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "forky", "noble"])
@pytest.mark.parametrize("source", ["auto", "distribution", "managed"])
def test_c2_no_other_host_has_python_2_and_the_error_says_what_to_do(suite: str, source: str) -> None:
    (problem,) = rendered("python__problems", suite, "2.7", source=source)
    assert problem.splitlines()[0] == "Python 2.7 cannot be installed here, nothing was changed."
    for words in (
        "Variable: python_versions",
        "Value: 2.7",
        "Next step: ask for 2.7 on hosts with Debian 11 (bullseye)",
    ):
        assert words in problem


def test_c2_uv_has_no_python_2() -> None:
    (problem,) = rendered("python__problems", "bullseye", "2.7", source="managed")
    assert "Next step: set python_source: auto." in problem


@pytest.mark.parametrize("version", ["2", "2.6", "2.7.18", "3", "three", ""])
def test_what_is_no_version_is_refused(version: str) -> None:
    problems = rendered("python__problems", "bullseye", version)
    assert problems[0].startswith("Not a Python version: ")


def test_the_distribution_alone_has_one_python_3() -> None:
    (problem,) = rendered("python__problems", "trixie", "3.13", "3.12", source="distribution")
    assert problem.startswith("The distribution does not have Python 3.12,")
