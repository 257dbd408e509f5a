# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""B7: requirements files as text: what names they hold, and what is no requirement."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.pyfleet.runtime.plugins.module_utils import requirements

from .support import codes, legacy, only


def read(text: str, **texts: str) -> requirements.Requirements:
    contents = {"requirements.txt": text, **{name.replace("__", "/"): other for name, other in texts.items()}}
    return requirements.read_requirements("requirements.txt", contents, list(contents))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("flask", "flask"),
        ("Flask_Login==0.6", "flask-login"),
        ("flask[async]>=2,<4", "flask"),
        ("flask [async, dotenv] >= 2.0 , < 4", "flask"),
        ("flask (>=2,<4)", "flask"),
        ("flask~=2.0,", "flask"),
        ("flask===2.0+local.1", "flask"),
        ("flask==2.*", "flask"),
        ("zope.interface!=5.1", "zope-interface"),
        ("flask; python_version >= '3.8' and sys_platform == 'linux'", "flask"),
        ("flask==2.0;python_version<'3'", "flask"),
        ("flask @ https://x.example/flask.whl", "flask"),
        ("flask@git+https://x.example/f.git@v1 ; python_version>'3'", "flask"),
        ("flask==2.0 --hash=sha256:aa --hash=sha256:bb", "flask"),
        ("flask --config-settings key=value", "flask"),
        ("flask # a comment", "flask"),
        ("flask==${VERSION}", "flask"),
        ("git+https://x.example/flask.git#egg=Flask", "flask"),
        ("git+ssh://git@x.example/flask.git@main#subdirectory=a&egg=flask", "flask"),
        ("-e git+https://x.example/flask.git#egg=flask", "flask"),
        ("https://x.example/flask-3.0-py3-none-any.whl", "flask"),
        ("./wheels/flask-3.0-py3-none-any.whl", "flask"),
        ("q", "q"),
    ],
)
def test_b7_names(line: str, name: str) -> None:
    result = read(line)
    assert (list(result.names), result.findings) == ([name], [])
    assert result.has(name.upper())


@pytest.mark.parametrize(
    "line",
    [
        ".",
        "-e .",
        "./lib",
        "../lib",
        "/srv/lib",
        "-e./lib[x]",
        "lib/core",
        "--editable=./x",
        "file:///srv/x",
        "x.tar.gz",
        "-e 'a b'",
    ],
)
def test_b7_paths_and_editables_are_local(line: str) -> None:
    result = read(line)
    assert result.findings == []
    assert (len(result.local), len(result.unseen)) == (1, 1)


@pytest.mark.parametrize(
    "line",
    [
        "https://x.example/a.zip",
        "git+https://x.example/a.git",
        "-e git+https://x.example/a.git",
        "-r https://x.example/r.txt",
        "${URL}",
    ],
)
def test_b7_what_cannot_be_seen(line: str) -> None:
    result = read(line)
    assert (result.findings, result.names, len(result.unseen)) == ([], {}, 1)


@pytest.mark.parametrize(
    "line",
    ["-i https://x.example", "--index-url=https://x.example", "--extra-index-url https://x.example", "-f ./wheels", "--no-index",
     "--pre", "--prefer-binary", "--require-hashes", "--no-binary :all:", "--only-binary=:all:", "--trusted-host x.example",
     "--use-feature=fast-deps", "", "   ", "# flask", "\ufeff# flask"],
)  # fmt: skip
def test_b7_options_comments_and_blank_lines(line: str) -> None:
    result = read(line)
    assert (result.findings, result.names, result.local, result.unseen) == ([], {}, [], [])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("flask=2.0", "=="),
        ("flask 2.0", "operator"),
        ("flask django", "line of its own"),
        ("flask==", "neither"),
        ("==2.0", "neither"),
        ("flask>=", "neither"),
        ("<<<<<<< HEAD", "merge conflict"),
        ("=======", "merge conflict"),
        ("import flask;", "line of its own"),
        ('"flask"', "neither"),
        ("[packages]", "neither"),
        ('flask = "^3.0"', "=="),
        ("{", "neither"),
        ("--no-such-option", "not an option"),
        ("-r", "needs a path"),
        ("--index-url", "needs a value"),
        ("- flask", "neither"),
        ("flask[async==2", "neither"),
    ],
)
def test_b7_a_line_that_is_no_requirement_is_named_with_its_number(line: str, why: str) -> None:
    result = read(f"# first\nsix\n{line}\n")
    assert [item.code for item in result.findings] == ["requirements_line"]
    assert "Line 3 of requirements.txt" in result.findings[0].message
    assert why in result.findings[0].message


def test_b7_every_wrong_line_is_named_and_no_credentials_are_shown() -> None:
    errors = legacy(texts={"requirements.txt": "a=1\nb 2\nc = https://me:hunter2@x.example/c"})["errors"]
    assert sorted(codes(errors)) == ["requirements_line"] * 3 + ["source_credentials"]
    assert "hunter2" not in str(errors)
    assert {item["variable"] for item in errors} == {"requirements.txt"}


def test_b7_continued_lines_and_hashes() -> None:
    result = read("flask==3.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\nsix\\\n==1.0\n# end \\\nq x")
    assert list(result.names) == ["flask", "six"]
    assert result.hashes is True
    assert "Line 7" in result.findings[0].message
    assert "Line 2" in read("six\na \\\n  b \\\n  c").findings[0].message
    assert read("flask").hashes is False
    assert read("--require-hashes").hashes is True


def test_b7_nested_files_are_relative_to_the_file_that_names_them() -> None:
    texts = {
        "requirements/prod.txt": "-r base.txt\n--requirement=../more.txt\n-c pins.txt\ndjango",
        "requirements/base.txt": "-r prod.txt\ncelery",
        "more.txt": "redis",
        "requirements/pins.txt": "six==1\n-r also.txt",
        "requirements/also.txt": "q",
    }
    result = requirements.read_requirements("requirements/prod.txt", texts, list(texts))
    assert sorted(result.names) == ["celery", "django", "redis"]
    assert result.findings == []
    assert requirements.included(texts["requirements/prod.txt"], "requirements/prod.txt") == [
        "requirements/base.txt",
        "more.txt",
        "requirements/pins.txt",
    ]


def test_b7_a_nested_file_that_is_not_there_is_an_error_unless_a_hook_may_write_it() -> None:
    texts = {"requirements.txt": "flask\n-r base.txt"}
    error = only(legacy(texts=texts)["errors"], "requirements_nested")
    assert "Line 2 of requirements.txt" in error["message"]
    assert "base.txt" in error["message"]
    later = legacy({"CC_PRE_BUILD_HOOK": "make base.txt"}, texts=texts)
    assert (later["errors"], codes(later["warnings"])) == ([], ["requirements_later"])


def test_b7_a_file_whose_text_is_not_at_hand_is_unseen() -> None:
    result = requirements.read_requirements(
        "requirements.txt", {"requirements.txt": "-r a.txt"}, ["requirements.txt", "a.txt"]
    )
    assert (result.unseen, result.findings) == (["a.txt"], [])


@pytest.mark.parametrize(
    "line", ["a" + " " * 60000 + "b", "a-" * 30000, "a==1," * 10000, "a #" * 20000, "x.tar " * 10000]
)
def test_b7_long_lines_take_no_long_time(line: str) -> None:
    started = time.monotonic()
    read(line)
    assert time.monotonic() - started < 5


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80) | st.text("-rec=<>@;#\\[]()'\"/.: \n$\u007b}abz019", max_size=60))
def test_b7_any_text_is_read(text: str) -> None:
    result = read(text)
    requirements.included(text, "a/b.txt")
    assert all(item.message and item.next_step for item in result.findings)
