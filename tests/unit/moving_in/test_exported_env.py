# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what other platforms export: every format, every byte (D6), and nothing of a value in what is wrong (I)."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.pyfleet.runtime.plugins.module_utils import exported_env
from ansible_collections.pyfleet.runtime.plugins.module_utils.exported_env import Exported
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, render_findings

from .exports import CLEVER, DROPPED, FOLDER, HEROKU, NASTY, clever_json, clever_text, heroku_text, objects

Writer = Callable[[Mapping[str, str]], str]
FORMATS: dict[str, Writer] = {"env": clever_text, "json": clever_json, "heroku": heroku_text}
WRITERS: dict[str, Writer] = {
    **FORMATS,
    "shell": lambda env: clever_text(env, export=True),
    "console": lambda env: json.dumps(objects(env)),
    "flat": json.dumps,
}


def exported(text: str | bytes, form: str = "auto", *drop: str) -> Exported:
    """What an export holds that has to be readable."""
    content = text if isinstance(text, bytes) else text.encode()
    result, found = exported_env.read(content, "shop.export", form, drop)
    assert result is not None, render_findings(found)
    assert not found
    return result


def variables(text: str | bytes, form: str = "auto", *drop: str) -> dict[str, str]:
    """The variables of an export that has to be readable."""
    return exported(text, form, *drop).variables


def wrong(text: str | bytes, form: str = "auto") -> list[Finding]:
    """What is wrong with an export that must not be readable."""
    result, found = exported_env.read(text if isinstance(text, bytes) else text.encode(), "shop.export", form)
    assert result is None
    assert found
    for item in found:
        assert "shop.export" in item.message
        assert item.value == "(secret)"
    return found


def only(text: str | bytes, form: str = "auto") -> Finding:
    """The one thing that is wrong."""
    (found,) = wrong(text, form)
    return found


# -- every format ------------------------------------------------------------------------------------------------------------


@pytest.mark.rule("D6")
@pytest.mark.parametrize("name", ["clever.env", "clever.shell", "clever.json", "console.env", "console.json"])
@pytest.mark.parametrize("given_format", [True, False])
def test_d6_an_export_of_clever_cloud_in_each_of_its_formats(name: str, given_format: bool) -> None:
    form = ("json" if name.endswith(".json") else "env") if given_format else "auto"
    result = exported((FOLDER / name).read_bytes(), form)
    assert result.variables == CLEVER
    assert result.dropped == DROPPED


@pytest.mark.parametrize(
    ("name", "form"), [("heroku.json", "auto"), ("heroku.json", "json"), ("heroku.shell", "heroku")]
)
def test_d6_the_config_of_a_heroku_application(name: str, form: str) -> None:
    assert variables((FOLDER / name).read_bytes(), form) == HEROKU


def test_an_application_without_variables() -> None:
    assert variables("# Manually set env variables\n\n") == {}
    assert variables('# Manually set env variables\n\n# Addon db\nA="1"\n') == {"A": "1"}
    assert variables('{"env": [], "fromAddons": [], "fromDependencies": []}') == {}
    assert variables("[]") == variables("{}") == {}


def test_json_of_a_variable_that_is_named_env() -> None:
    assert variables('{"env": "production", "A": "1"}') == {"env": "production", "A": "1"}


def test_a_byte_order_mark_is_no_part_of_the_first_name() -> None:
    assert variables(b'\xef\xbb\xbfA="1"') == variables(b'\xef\xbb\xbf{"A": "1"}') == {"A": "1"}


# -- every byte --------------------------------------------------------------------------------------------------------------

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True).filter(
    lambda name: name not in exported_env.SET_BY_CLEVER
)
#: Much of what has a meaning somewhere, and now and then anything else that a process can receive.
CHARACTERS = st.one_of(
    st.sampled_from([*"\\\"'\n =;#$%{}`!Ax\r\t", '="', 'N="', "\\\n", '"\n', '";\n', "\n# Addon x\n", "export "]),
    st.characters(codec="utf-8", exclude_characters="\0").filter(
        lambda char: not 0xFDD0 <= ord(char) <= 0xFDEF and ord(char) & 0xFFFE != 0xFFFE
    ),
)
ENVIRONMENTS = st.dictionaries(NAMES, st.lists(CHARACTERS, max_size=12).map("".join), max_size=5)


@pytest.mark.rule("D6")
@pytest.mark.parametrize("form", ["env", "shell"])
@settings(max_examples=400, deadline=None)
@given(env=ENVIRONMENTS)
def test_d6_text_of_clever_cloud_arrives_as_it_was_or_is_refused(form: str, env: dict[str, str]) -> None:
    text = "# Manually set env variables\n" + WRITERS[form](env) + "\n"
    result, found = exported_env.read(text.encode(), "shop.export", "env")
    if result is None:
        assert [item.code for item in found] == ["export_ambiguous"]
        assert any(value.endswith("\\") or "# Addon" in value for value in env.values())
    else:
        assert result.variables == env


@pytest.mark.rule("D6")
@pytest.mark.parametrize("form", ["json", "heroku"])
@settings(max_examples=200, deadline=None)
@given(env=ENVIRONMENTS)
def test_d6_json_and_text_of_heroku_arrive_as_they_were(form: str, env: dict[str, str]) -> None:
    text = FORMATS[form](env)
    assert variables(text or "{}", form if text else "json") == env


def test_d6_a_value_of_one_hundred_kilobytes_with_many_quotes() -> None:
    for value in ('{"key": "value \\\\"},\n' * 5000, '{"key": "value \\\\"},' * 5000):
        assert variables(clever_text({"LONG": value, "NEXT": "1"})) == {"LONG": value, "NEXT": "1"}


@pytest.mark.parametrize("value", ["\\", "\\\\", "\\\\\\", 'a"\\', '\\"\\', "a\n\\"])
def test_d6_a_backslash_at_the_end_is_not_one_before_a_quote(value: str) -> None:
    for env in ({"A": value}, {"A": value, "B": "x"}, {"A": value, "B": value, "C": ""}, {"A": value, "B": "\n"}):
        assert variables(clever_text(env)) == env
        assert variables(clever_text(env, export=True)) == env


def test_d6_a_text_with_two_readings_is_refused() -> None:
    env = {"V1": "a\\", "V2": "\nN=", "V3": "\n# Addon c\\"}
    error = only(clever_text(env))
    assert (error.code, error.variable) == ("export_ambiguous", "V1")
    assert error.message.startswith("Line 1 of shop.export can be read in two ways")
    assert error.next_step.endswith("clever env --format json")
    assert variables(clever_json(env)) == env


def test_comments_of_a_person_may_hold_quotes_where_no_value_can_end_there() -> None:
    assert variables('# the "old" one\nA="1"\n# "B"\n') == {"A": "1"}
    env = {"CONFIG": 'name = "shop"\n# the end', "B": "1"}
    assert variables(clever_text(env)) == env


def test_variables_in_a_value_are_no_variables() -> None:
    env = {"A": '\nB="1"\nexport C="2";\n# Addon x\n', "D": "`--add-export`\n"}
    assert variables(clever_text(env)) == variables(clever_text(env, export=True)) == env


# -- what is left out --------------------------------------------------------------------------------------------------------


@pytest.mark.rule("D5")
@pytest.mark.parametrize("form", ["env", "json", "heroku"])
def test_d5_what_the_platform_sets_itself_is_left_out(form: str) -> None:
    platform = dict.fromkeys(sorted(exported_env.SET_BY_CLEVER), "of another place")
    assert {"APP_ID", "INSTANCE_ID", "COMMIT_ID", "CC_DEPLOYMENT_ID", "CC_REVERSE_PROXY_IPS"} <= set(platform)
    result = exported(FORMATS[form]({**platform, "PORT": "8080", "A": "1"}), form)
    assert result.variables == {"PORT": "8080", "A": "1"}
    assert result.dropped == tuple(platform)
    (warning,) = exported_env.warnings(result, "shop.export")
    assert warning.startswith("shop.export holds APP_HOME, APP_ID, CC_APP_NAME, ")
    assert "another place" not in warning


def test_more_can_be_left_out_and_what_was_named_is_no_news() -> None:
    text = clever_text({"PORT": "8080", "APP_ID": "app_1", "CC_COMMIT_ID": "1", "A": "1"})
    result = exported(text, "env", "PORT", "APP_ID", "NOT_THERE")
    assert result.variables == {"A": "1"}
    assert exported_env.warnings(result, "x") == [
        "x holds CC_COMMIT_ID: it is not taken over, because a deployment sets such variables itself (D5)."
    ]
    assert exported_env.warnings(exported('A="1"'), "x") == []


def test_a_variable_that_is_left_out_may_have_any_name() -> None:
    assert variables('java.home="/x"\nA="1"', "env", "java.home") == {"A": "1"}


# -- more than one value -----------------------------------------------------------------------------------------------------


def test_the_applications_own_value_counts_before_that_of_an_addon() -> None:
    text = '# Manually set env variables\nA="own"\nB="same"\n# Addon db\nA="s3cret of the add-on"\nB="same"\n# Dependency api\nA="x"\n'
    result = exported(text)
    assert result.variables == {"A": "own", "B": "same"}
    assert exported_env.warnings(result, "x") == [
        "x has A from the add-on db and from the application itself, whose own value is used.",
        "x has A from the application api and from the application itself, whose own value is used.",
    ]
    # the order in the file says nothing
    addon = {"addonId": "1", "addonName": "db", "env": objects({"A": "of the add-on"})}
    result = exported(json.dumps({"fromAddons": [addon], "env": objects({"A": "own"}), "fromDependencies": []}))
    assert result.variables == {"A": "own"}
    assert result.covered == (("A", "the add-on db"),)


def test_two_addons_with_different_values_are_an_error() -> None:
    error = only('# Addon one\nURI="s3cret"\nSAME="1"\n# Addon two\nSAME="1"\nURI="s3cret2"\n')
    assert error.message == "URI stands twice in shop.export: line 2 (the add-on one), and line 6 (the add-on two)."
    assert "s3cret" not in error.render()


@pytest.mark.parametrize(
    "text",
    [
        'A="1"\nB="2"\nA="3"\n',
        '{"A": "1", "B": "2", "A": "3"}',
        '[{"name": "A", "value": "1"}, {"name": "A", "value": "1"}]',
    ],
)
def test_a_name_that_stands_twice_in_one_place_is_an_error(text: str) -> None:
    error = only(text)
    assert (error.code, error.variable) == ("export_twice", "A")


# -- what is wrong -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "variable", "words"),
    [
        ('A="1"\nB="s3cret\nmore', "B", "Line 2 of shop.export cannot be read: its value has no closing quote."),
        (
            'A="1"\nB="s3c"ret"\n',
            "B",
            "Line 2 of shop.export cannot be read: something follows its closing quote; a quote",
        ),
        (
            'A="x\n\ns3cret" more\nC="1"',
            "A",
            "Line 3 of shop.export cannot be read: something follows its closing quote",
        ),
        ('A="ends in \\"\nB="s3c"ret"\n', "B", "Line 2 of shop.export cannot be read: something follows"),
        ('A="1"\r\nB="s3cret"\r\n', "A", "Line 1 of shop.export cannot be read: it ends in a carriage return"),
        ('export A="1";\r\n', "A", "it ends in a carriage return"),
        ('A="1"\ns3cret\n', "", 'Line 2 of shop.export cannot be read: it is not in the form NAME="value".'),
        ("A='s3cret'\n", "", "its value is not in double quotes (`heroku config --shell` needs format=heroku)."),
        ("export A=s3cret\n", "", "its value is not in double quotes"),
        ('A ="s3cret"\n', "", 'it is not in the form NAME="value"'),
        # a part of a key in the wrong place is not a name
        ('A="1"\nS3CRETs3cret==\n', "", "its value is not in double quotes"),
    ],
)
def test_d6_a_line_of_clever_cloud_that_cannot_be_read(text: str, variable: str, words: str) -> None:
    error = only(text, "env")
    assert (error.code, error.variable) == ("export_line", variable)
    assert words in error.message
    assert "s3c" not in error.render().lower()
    assert "clever env --format json" in error.next_step


@pytest.mark.parametrize(
    ("line", "variable"),
    [
        ("B='s3cret", "B"), ('B="s3cret', "B"), ('B="s3c"ret"', "B"), ('B="s3cret$"', "B"), ("B='s3c\\ret'", "B"),
        ("B=s3c ret", ""), ("B=s3c$ret", ""), ("s3cret==", ""), ("s3cret", ""), ("=== shop Config Vars", ""),
    ],
)  # fmt: skip
def test_d6_lines_of_heroku_that_cannot_be_read_are_all_told(line: str, variable: str) -> None:
    first, second = wrong(f"A=1\n{line}\nC=2\nD='\n", "heroku")
    assert first.variable == variable
    assert first.message.startswith("Line 2 of shop.export cannot be read: ")
    assert second.message.startswith("Line 4 of shop.export")
    assert "s3c" not in first.render()
    assert "heroku config --json" in first.next_step


@pytest.mark.parametrize(
    ("text", "variable", "words"),
    [
        ('{"env": [', "", "shop.export is not JSON: Expecting value, in line 1, column 10."),
        ('{"A": "s3cret\n"}', "", "is not JSON: Invalid control character at, in line 1, column 14."),
        ("[" * 100_000, "", "is not JSON"),
        ('[{"name": "A", "value": "s3cret"}] s3cret', "", "is not JSON: Extra data"),
        ('"s3cret"', "", "the content is not an object or an array."),
        ('["s3cret"]', "", 'In shop.export, [0] is not an object with the texts "name" and "value".'),
        ('[{"name": "A"}]', "A", "[0] is not an object"),
        ('{"env": [{"name": "B", "value": null}]}', "B", "env[0] is not an object"),
        ('{"env": [{"value": "s3cret"}]}', "", "env[0] is not an object"),
        ('{"env": [], "fromAddons": {}}', "", "fromAddons is not an array."),
        ('{"env": [], "fromAddons": ["s3cret"]}', "", 'fromAddons[0] is not an object with the array "env".'),
        ('{"env": [], "fromDependencies": [{"env": "s3cret"}]}', "", "fromDependencies[0].env is not an array."),
        ('{"A": 1}', "A", "the value of A is not text."),
        ('{"A": ["s3cret"]}', "A", "the value of A is not text."),
    ],
)
def test_json_that_cannot_be_read(text: str, variable: str, words: str) -> None:
    error = only(text, "json")
    assert error.variable == variable
    assert words in error.message
    assert "s3cret" not in error.render()


def test_everything_that_is_wrong_is_told_at_once() -> None:
    found = wrong('{"1A": "s3cret", "B": 2, "C": null}')
    assert [item.variable for item in found] == ["B", "C"]
    found = wrong(
        '{"1A": "s3cret", "b-c": "s3cret", "N=s3cret": "x", "NUL": "s3cret\\u0000", "HALF": "\\ud800", "OK": "s3cret"}'
    )
    assert [(item.code, item.variable) for item in found] == [
        ("export_name", "1A"),
        ("export_name", "b-c"),
        ("export_name", "N"),
        ("export_value", "NUL"),
        ("export_value", "HALF"),
    ]
    assert "for example to b_c, or leave it out with the option drop." in found[1].next_step
    assert found[3].message == "In shop.export, the object: The value of NUL holds a NUL character."
    assert "s3cret" not in render_findings(found)


def test_a_value_that_no_process_can_receive_is_told_with_its_line() -> None:
    error = only(clever_text({"A": "1\n2", "LONG": "x" * 140_000}))
    assert error.message.startswith("In shop.export, line 3: The value of LONG is too long: ")
    assert "xx" not in error.render()


@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xef\xbb\xbf"])
def test_an_export_that_failed_leaves_an_empty_file(content: bytes) -> None:
    assert only(content).code == "export_empty"


@pytest.mark.parametrize("content", [b'A="1"\nB="s3cret\xff"', 'A="1"\nB="s3cret"'.encode("utf-16")])
def test_d6_a_file_that_is_not_utf8(content: bytes) -> None:
    error = only(content)
    assert error.code == "export_not_text"
    assert re.match(r"Line [12] of shop\.export is not valid UTF-8 text\.", error.message)


@pytest.mark.rule("I")
@pytest.mark.parametrize("form", sorted(WRITERS))
def test_i_no_damage_to_a_file_makes_a_message_show_a_value(form: str) -> None:
    plant = "PL4NTED"
    env = {name: f"{plant} {value}{plant}\n{plant}==\n{value} {plant}" for name, value in NASTY.items()}
    text = WRITERS[form](env)
    chance = random.Random(6)
    refused = 0
    for _attempt in range(1500):
        place = chance.randrange(len(text))
        damaged = (
            text[:place]
            + chance.choice(["", "", '"', "\\", "\n", "'", "=", "{", '="', "\r"])
            + text[place + chance.randrange(3) :]
        )
        result, found = exported_env.read(
            damaged.encode(), "shop.export", "heroku" if form == "heroku" else chance.choice(["auto", "json", "env"])
        )
        if result is None:
            refused += 1
            shown = render_findings(found) + "".join(str(item.to_dict()) for item in found)
            assert plant not in shown, damaged[max(0, place - 40) : place + 40]
    assert refused > 100
