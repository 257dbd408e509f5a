#!/usr/bin/env python3
# Copyright: pyfleet contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Print which tests prove which rule of ``docs/contract.md``, and fail on a rule that no test proves.

A test proves a rule when its name holds the rule's id (``test_a3_unbalanced_quote_is_legacy``) or when it, its class
or its module carries ``@pytest.mark.rule("A3", "E1")``. Tests are read, never imported or run.

Usage: ``rules.py [--quiet]``; exit status 1 when a rule that is carried out has no test, when a test names a rule that
the contract does not have, or when a file cannot be read.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = Path("docs/contract.md")
TESTS = ("tests/unit/**/test_*.py", "tests/hosts_e2e/**/test_*.py", "molecule/*/tests/**/test_*.py")
STATES = ("carried out", "planned", "open")

ROW = re.compile(r"^\| (?P<id>[A-I]\d*) \| (?P<text>.+) \| (?P<state>[^|]+) \|$", re.MULTILINE)
#: `a3` or `i` standing alone between underscores; `h11` or `e2e` would be read as rules only if they looked like one.
IN_NAME = re.compile(r"(?<![a-z0-9])([a-h]\d{1,2}|[gi])(?![a-z0-9])")


@dataclass(frozen=True)
class Rule:
    """A row of the contract."""

    id: str
    text: str
    state: str

    @property
    def required(self) -> bool:
        """Whether a test must prove the rule."""
        return self.state == "carried out"


@dataclass
class Report:
    """What proves what, and what is wrong."""

    proofs: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_contract(text: str) -> list[Rule]:
    """Return the rules in the contract's tables, in their order there."""
    return [Rule(found["id"], found["text"], found["state"].strip()) for found in ROW.finditer(text)]


def marked(node: ast.expr) -> list[str]:
    """Return the ids in ``pytest.mark.rule(…)``, or in a list of marks; nothing for any other expression."""
    if isinstance(node, (ast.List, ast.Tuple)):
        return [rule for element in node.elts for rule in marked(element)]
    if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("mark.rule")):
        return []
    return [
        argument.value
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]


def named(function: str) -> list[str]:
    """Return the ids in a test's name."""
    return [found.upper() for found in IN_NAME.findall(function.removeprefix("test").replace("_", " "))]


def tests_of(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of every test of a module with the ids of the rules that it names."""

    def walk(body: Sequence[ast.stmt], prefix: str, inherited: list[str]) -> Iterator[tuple[str, list[str]]]:
        for statement in body:
            if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                if any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in targets):
                    inherited = inherited + marked(statement.value)
            elif isinstance(statement, ast.ClassDef) and statement.name.startswith("Test"):
                marks = [rule for decorator in statement.decorator_list for rule in marked(decorator)]
                yield from walk(statement.body, f"{prefix}{statement.name}::", inherited + marks)
            elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)) and statement.name.startswith("test"):
                marks = [rule for decorator in statement.decorator_list for rule in marked(decorator)]
                yield prefix + statement.name, list(dict.fromkeys(inherited + marks + named(statement.name)))

    yield from walk(tree.body, "", [])


def collect(root: Path, rules: Sequence[Rule]) -> Report:
    """Read every test below ``root`` and hold the tests against the rules."""
    report = Report({rule.id: [] for rule in rules})
    for path in sorted(path for pattern in TESTS for path in root.glob(pattern)):
        name = path.relative_to(root).as_posix()
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"), name)
        except (SyntaxError, UnicodeDecodeError) as error:
            report.problems.append(f"{name} cannot be read: {error}")
            continue
        for test, ids in tests_of(tree):
            for named_rule in ids:
                if named_rule in report.proofs:
                    report.proofs[named_rule].append(f"{name}::{test}")
                else:
                    report.problems.append(
                        f"{name}::{test} names the rule {named_rule}, which {CONTRACT} does not have."
                    )
    for rule in rules:
        if rule.state not in STATES:
            report.problems.append(f"Rule {rule.id} is '{rule.state}'; a state is one of: {', '.join(STATES)}.")
        if rule.required and not report.proofs[rule.id]:
            report.problems.append(f"Rule {rule.id} is carried out, but no test names it.")
    if not rules:
        report.problems.append(f"There is no table of rules in {CONTRACT}.")
    return report


def render(rules: Sequence[Rule], report: Report) -> str:
    """Return the table that people read: a line per rule, its tests below."""
    lines: list[str] = []
    for rule in rules:
        tests = report.proofs[rule.id]
        text = rule.text if len(rule.text) <= 90 else rule.text[:89].rsplit(" ", 1)[0] + " …"
        lines.append(f"{rule.id:<4} {rule.state:<12} {len(tests):>3} {'test ' if len(tests) == 1 else 'tests'}  {text}")
        lines += [f"       {test}" for test in tests]
    required = [rule for rule in rules if rule.required]
    proved = [rule for rule in required if report.proofs[rule.id]]
    later = [rule.id for rule in rules if not rule.required]
    lines += ["", f"{len(proved)} of {len(required)} rules that are carried out have their test."]
    if later:
        lines.append(f"Later work: {', '.join(later)}.")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quiet", action="store_true", help="print problems only")
    options = parser.parse_args(arguments)
    rules = read_contract((ROOT / CONTRACT).read_text(encoding="utf-8"))
    report = collect(ROOT, rules)
    if not options.quiet:
        print(render(rules, report))
    for problem in report.problems:
        print(problem, file=sys.stderr)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
