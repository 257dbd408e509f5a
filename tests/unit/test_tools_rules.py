# Copyright: pyfleet contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The tool behind `make rules`, and the contract that it reads."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ansible_collections.pyfleet.runtime.tests.tools import rules

ROOT = Path(rules.__file__).resolve().parents[2]

CONTRACT = """
| id | rule | state |
|---|---|---|
| A3 | A valid `a \\| b` command. | carried out |
| D9 | Tasks. | open |
| I | Secrets. | carried out |
"""


def read_module(source: str) -> dict[str, list[str]]:
    """Return the ids that each test of a module names."""
    return dict(rules.tests_of(ast.parse(source)))


def project(tmp_path: Path, source: str) -> rules.Report:
    """Hold one test module against the small contract."""
    folder = tmp_path / "tests/unit/plan"
    folder.mkdir(parents=True)
    (folder / "test_plan.py").write_text(source)
    return rules.collect(tmp_path, rules.read_contract(CONTRACT))


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("test_a3_unbalanced_quote", ["A3"]),
        ("test_legacy_as_in_a3", ["A3"]),
        ("test_b10_unknown", ["B10"]),
        ("test_i_no_secret_in_the_journal", ["I"]),
        ("test_d1_and_d2_agree", ["D1", "D2"]),
        ("test_e2e_deployment", []),
        ("test_sha256_of_utf8", []),
        ("test_a_thing", []),
    ],
)
def test_ids_in_names(name: str, ids: list[str]) -> None:
    assert rules.named(name) == ids


def test_markers_of_function_class_and_module() -> None:
    source = """
import pytest
pytestmark = [pytest.mark.slow, pytest.mark.rule("I")]
@pytest.mark.rule("A3", "E1")
def test_one(): ...
@pytest.mark.rule("B1")
class TestBuild:
    async def test_b2_two(self): ...
def helper_c1(): ...
"""
    assert read_module(source) == {"test_one": ["I", "A3", "E1"], "TestBuild::test_b2_two": ["I", "B1", "B2"]}


def test_a_rule_that_is_carried_out_needs_a_test(tmp_path: Path) -> None:
    report = project(tmp_path, "def test_a3_quote(): ...\n")
    assert report.proofs["A3"] == ["tests/unit/plan/test_plan.py::test_a3_quote"]
    assert report.problems == ["Rule I is carried out, but no test names it."]


def test_an_unknown_rule_is_a_problem(tmp_path: Path) -> None:
    report = project(tmp_path, "def test_a3_i_quote(): ...\ndef test_a9_typo(): ...\n")
    assert report.problems == [
        "tests/unit/plan/test_plan.py::test_a9_typo names the rule A9, which docs/contract.md does not have."
    ]


def test_a_file_that_is_no_python_is_a_problem(tmp_path: Path) -> None:
    assert "cannot be read" in project(tmp_path, "def test_a3_(:\n").problems[0]


def test_an_unknown_state_is_a_problem(tmp_path: Path) -> None:
    report = rules.collect(tmp_path, rules.read_contract("| A1 | Text. | soon |"))
    assert report.problems == ["Rule A1 is 'soon'; a state is one of: carried out, planned, open."]


def test_open_rules_are_listed(tmp_path: Path) -> None:
    read = rules.read_contract(CONTRACT)
    assert rules.render(read, rules.collect(tmp_path, read)).endswith("Later work: D9.")


def test_the_contract_has_every_rule_and_marks_what_must_be_proved() -> None:
    read = {rule.id: rule for rule in rules.read_contract((ROOT / rules.CONTRACT).read_text(encoding="utf-8"))}
    sizes = {"A": 5, "B": 9, "C": 5, "D": 9, "E": 6, "F": 14, "G": 18, "H": 8}
    every = {f"{section}{number}" for section, size in sizes.items() for number in range(1, size + 1)} | {"G", "I"}
    assert set(read) == every
    later: set[str] = set()
    assert {rule.id for rule in read.values() if rule.required} == every - later
