# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes into an archive for Lambda, and in which form: the parts that run nothing."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import bundle, patterns
from ansible_collections.pyfleet.runtime.plugins.module_utils.bundle import Item

pytestmark = pytest.mark.rule("H6")


def item(name: str, data: bytes = b"x", executable: bool = False) -> Item:
    """A file that lies in memory."""
    return Item(name, Path("/nowhere"), len(data), executable, data)


# -- options ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["3.1", "3.2", "3", "3.13.2", "2.7", "three", "", "3.13 "])
def test_python_version_is_two_numbers(version: str) -> None:
    found = bundle.check_options(version, "2014", ".", {})
    assert [one.code for one in found] == ["lambda_python_version"]
    assert "quotes" in found[0].next_step


def test_everything_wrong_with_the_options_is_told_at_once() -> None:
    patterns = {"include": ["/etc/passwd", "", "app"], "exclude": ["a/../../b", "."]}
    found = bundle.check_options("3.13", "2_28; rm", "../other", patterns)
    assert [(one.code, one.variable, one.value) for one in found] == [
        ("lambda_manylinux", "manylinux", "2_28; rm"),
        ("lambda_code_dir", "code_dir", "../other"),
        ("lambda_pattern", "include", "/etc/passwd"),
        ("lambda_pattern", "include", ""),
        ("lambda_pattern", "exclude", "a/../../b"),
    ]
    assert bundle.check_options("3.9", "2014", "src", {"include": ["**"]}) == []


def test_platform_is_one_that_uv_knows() -> None:
    assert bundle.platform("x86_64", "2014") == "x86_64-manylinux2014"
    assert bundle.platform("arm64", "2014") == "aarch64-manylinux2014"
    assert bundle.platform("arm64", "2_34") == "aarch64-manylinux_2_34"


@pytest.mark.parametrize(
    ("requires", "runs"),
    [
        (">=3.13", True),
        (">=3.13.2", True),
        (">=3.9, <3.14", True),
        ("==3.13.*", True),
        ("<3.13", False),
        (">=3.14", False),
        ("", True),
        ("anything", True),
    ],
)
def test_python_that_the_project_excludes_is_found_out(requires: str, runs: bool) -> None:
    assert bundle.runs_on("3.13", requires) is runs


# -- what uv writes --------------------------------------------------------------------------------------------------------

LOCK = """\
version = 1
requires-python = ">=3.11"

[[package]]
name = "fastapi"
version = "0.119.1"
source = { registry = "https://index.example/simple" }

[[package]]
name = "library"
version = "0.1.0"
source = { editable = "packages/my \\"lib\\"" }

[[package]]
name = "outer"
version = "0.1.0"
source = { directory = "../outer" }
dependencies = [
    { name = "fastapi" },
]

[[package]]
name = "shop"
version = "0.1.0"
source = { virtual = "." }

[package.metadata]
requires-dist = [{ name = "library", editable = "packages/library" }]
"""


def test_folders_of_a_lock_file() -> None:
    assert bundle.sources(LOCK) == [
        bundle.Source("library", "editable", 'packages/my "lib"'),
        bundle.Source("outer", "directory", "../outer"),
        bundle.Source("shop", "virtual", "."),
    ]
    assert bundle.required_python(LOCK) == ">=3.11"


def test_local_requirements_keep_their_markers() -> None:
    text = (
        "# a note\n.\n./my lib ; python_full_version >= '3.12' and sys_platform == 'linux'\n    # via shop\n../outer\n"
    )
    assert bundle.local_requirements(text) == [
        (".", ""),
        ("./my lib", "python_full_version >= '3.12' and sys_platform == 'linux'"),
        ("../outer", ""),
    ]


PYLOCK = """\
lock-version = "1.0"
requires-python = ">=3.13"

[[packages]]
name = "native"
version = "1.0"
wheels = [
    { url = "https://index.example/native-1.0-cp312-cp312-manylinux_2_28_x86_64.whl", hashes = {} },
    { url = "https://index.example/native-1.0-cp313-cp313-manylinux_2_31_x86_64.whl", hashes = {} },
    { url = "https://index.example/native-1.0-cp313-cp313-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", hashes = {} },
    { url = "https://index.example/native-1.0-cp313-cp313-win_amd64.whl", hashes = {} },
    { url = "https://index.example/native-1.0-cp310-abi3-manylinux_2_34_aarch64.whl", hashes = {} },
]

[[packages]]
name = "native-plus"
version = "1.0"
wheels = [{ url = "https://index.example/native_plus-1.0-py3-none-any.whl", hashes = {} }]
"""


def test_wheels_of_an_export() -> None:
    assert bundle.for_another_python(PYLOCK) == PYLOCK.replace('requires-python = ">=3.13"\n', "")
    assert bundle.exported_names(PYLOCK) == ["native", "native-plus"]
    assert len(bundle.exported_wheels(PYLOCK, "native")) == 5
    assert bundle.exported_wheels(PYLOCK, "native-plus") == ["native_plus-1.0-py3-none-any.whl"]
    assert bundle.wheel_tags("native_plus-1.0-1-py3-none-any.whl") == "py3-none-any"


@pytest.mark.parametrize(
    ("architecture", "python", "level"),
    [
        (
            "x86_64",
            "3.13",
            "2_28",
        ),  # the lower tag of two, and not the one of another wheel; uv takes 2_28 and not 2_27
        ("x86_64", "3.12", "2_28"),
        ("x86_64", "3.11", None),
        ("arm64", "3.13", "2_34"),  # the stable interface of an older Python serves a newer one
        ("arm64", "3.9", None),
    ],
)
def test_the_level_of_manylinux_that_would_help(architecture: str, python: str, level: str | None) -> None:
    wheels = bundle.exported_wheels(PYLOCK, "native")
    assert bundle.newer_manylinux(wheels, architecture, python) == level


def test_wheels_that_are_shown_are_the_near_ones() -> None:
    wheels = bundle.exported_wheels(PYLOCK, "native")
    assert bundle.offered(wheels, "arm64") == "cp310-abi3-manylinux_2_34_aarch64"
    assert "win_amd64" not in bundle.offered(wheels, "x86_64")
    assert bundle.offered(["a-1.0-py3-none-win_amd64.whl"], "arm64") == "py3-none-win_amd64"
    assert bundle.offered([], "arm64") == "none"


# -- the code --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "meant"),
    [
        ("app", "app/main.py", True),
        ("./app/", "app/deep/main.py", True),
        ("app", "apple/main.py", False),
        ("app", "src/app/main.py", False),
        ("*.py", "main.py", True),
        ("*.py", "app/main.py", False),
        ("**/*.py", "main.py", True),
        ("**/*.py", "a/b/main.py", True),
        ("a/**/c", "a/c", True),
        ("a/**/c", "a/b/b/c/d", True),
        ("**", "a/b", True),
        (".", "a/b", True),
        ("[ab].txt", "b.txt", True),
        ("?.txt", "ab.txt", False),
        ("**", ".env", False),
        ("*", ".env", False),
        ("app", "app/.env", False),
        ("**", "app/.git/config", False),
        (".env", ".env", True),
        (".config", ".config/a.toml", True),
        ("**/.config", "app/.config/a.toml", True),
        ("Main.py", "main.py", False),
    ],
)
def test_patterns_mean_what_a_shell_would_mean(pattern: str, name: str, meant: bool) -> None:
    assert patterns.fits(pattern, name) is meant


def test_excluded_is_also_what_is_hidden() -> None:
    choice = bundle.Choice([".config", "app"], ["**/secret*", "app/tests"])
    assert choice.wants(".config/a.toml")
    assert not choice.wants(".config/secret.toml")
    assert not choice.wants("app/tests/test_main.py")
    assert not choice.wants("app/main.pyc")
    assert not choice.enters("app/tests")
    assert not choice.enters("app/__pycache__")
    assert list(choice.unused) == ["app"]
    assert choice.wants("app/main.py")
    assert not choice.unused
    assert list(bundle.Choice(["ap", "app"], []).unused) == ["ap", "app"]


def names(
    folder: Path, choice: bundle.Choice, boundary: Path | None = None, without: tuple[Path, ...] = ()
) -> list[str]:
    """The code of a folder; a link that cannot be followed carries an exclamation mark."""
    items, found = bundle.code_items(folder, choice, boundary or folder, without)
    return sorted([one.name for one in items] + ["!" + one.value for one in found])


def test_code_is_gathered_without_what_tools_made(tmp_path: Path) -> None:
    for name in (
        "app/main.py",
        "app/__pycache__/main.cpython-313.pyc",
        "venv/pyvenv.cfg",
        "venv/lib/a.py",
        "member/a.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o700)
    os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path, bundle.Choice(["**"], []), without=(tmp_path / "member",)) == ["app/main.py", "run.sh"]
    items, _found = bundle.code_items(tmp_path, bundle.Choice(["*.sh", "app"], []), tmp_path, ())
    assert {one.name: one.executable for one in items} == {"app/main.py": False, "run.sh": True}


def test_links_are_followed_within_the_project_and_named_otherwise(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "app/deep").mkdir(parents=True)
    (project / "shared").mkdir()
    (project / "shared/a.py").write_text("a")
    (tmp_path / "outside.py").write_text("b")
    (project / "app/shared").symlink_to("../shared")
    (project / "app/a.py").symlink_to("../shared/a.py")
    (project / "app/out.py").symlink_to(tmp_path / "outside.py")
    (project / "app/gone.py").symlink_to("nothing")
    (project / "app/deep/loop").symlink_to("..")
    assert names(project, bundle.Choice(["app"], [])) == [
        "!app/deep/loop", "!app/gone.py", "!app/out.py", "app/a.py", "app/shared/a.py",
    ]  # fmt: skip
    excluded = bundle.Choice(["app"], ["app/deep", "app/gone.py", "app/out.py"])
    assert names(project, excluded) == ["app/a.py", "app/shared/a.py"]
    assert "app/out.py" in names(project, bundle.Choice(["app"], ["app/deep", "app/gone.py"]), boundary=tmp_path)


# -- what an installation brings from its machine ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"#!/usr/bin/python3\n",
        b"#!/home/me/project/.venv/bin/python3.13 \n",
        b"#!/bin/sh\n'''exec' '/a very/long path/bin/python3' \"$0\" \"$@\"\n' '''\n",
    ],
)
def test_scripts_name_no_python_of_this_machine(head: bytes) -> None:
    assert bundle.portable_script(head + b"import sys\n") == b"#!/usr/bin/env python3\nimport sys\n"


@pytest.mark.parametrize(
    "data", [b"#!/bin/sh\nexec python3\n", b"\x7fELF\0python\n", b"", b"print('#!/usr/bin/python3')\n"]
)
def test_other_files_stay_as_they_are(data: bytes) -> None:
    assert bundle.portable_script(data) == data


def test_record_says_what_is_in_the_archive() -> None:
    text = "b.py,sha256=AAAA,1\nbin/tool,sha256=BBBB,2\na-1.dist-info/INSTALLER,sha256=CCCC,2\na-1.dist-info/RECORD,,\n"
    made = bundle.constant_record(text, {"bin/tool": b"new"}, {"b.py", "bin/tool", "a-1.dist-info/RECORD"})
    assert made.splitlines() == [
        "a-1.dist-info/RECORD,,",
        "b.py,sha256=AAAA,1",
        "bin/tool,sha256={},3".format(base64.urlsafe_b64encode(hashlib.sha256(b"new").digest()).rstrip(b"=").decode()),
    ]
    turned = "".join(sorted(text.splitlines(keepends=True), reverse=True))
    assert bundle.constant_record(turned, {"bin/tool": b"new"}, {"b.py", "bin/tool", "a-1.dist-info/RECORD"}) == made


def site(folder: Path, python: str, date: int, mode: int) -> Path:
    """What two machines would install for the same package, each with its own traces."""
    info = folder / "toy-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "bin").mkdir()
    script = f"#!{python}\nimport toy\n"
    (folder / "bin/toy").write_text(script)
    (folder / "toy.py").write_text("x = 1\n")
    (folder / ".lock").write_text("")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Toy\nVersion: 1.0\n")
    for name in ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"):
        (info / name).write_text(str(folder))
    digest = hashlib.sha256(script.encode()).hexdigest()
    record = [
        f"bin/toy,sha256={digest},{len(script)}",
        "toy.py,,",
        *(f"toy-1.0.dist-info/{p.name},," for p in info.iterdir()),
    ]
    (info / "RECORD").write_text("\n".join([*record, "toy-1.0.dist-info/RECORD,,"]) + "\n")
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode | (0o100 if path.parent.name == "bin" else 0))
            os.utime(path, (date, date))
    return folder


def archive(items: list[Item]) -> bytes:
    """The bytes of an archive."""
    stream = io.BytesIO()
    bundle.write(stream, items)
    return stream.getvalue()


def test_the_same_package_gives_the_same_bytes_from_two_machines(tmp_path: Path) -> None:
    one = site(tmp_path / "one", "/usr/bin/python3", 1_000_000_000, 0o600)
    two = site(tmp_path / "a much longer name for the other one", "/opt/python/bin/python3.13", 1_700_000_000, 0o664)
    first = archive(bundle.site_items(one, ""))
    assert first == archive(list(reversed(bundle.site_items(two, ""))))
    with zipfile.ZipFile(io.BytesIO(first)) as unpacked:
        assert unpacked.namelist() == [
            "bin/toy", "toy-1.0.dist-info/METADATA", "toy-1.0.dist-info/RECORD", "toy.py",
        ]  # fmt: skip
        assert unpacked.read("bin/toy") == b"#!/usr/bin/env python3\nimport toy\n"
        assert b"INSTALLER" not in unpacked.read("toy-1.0.dist-info/RECORD")
        modes = {entry.filename: entry.external_attr >> 16 for entry in unpacked.infolist()}
        assert modes["bin/toy"] == stat.S_IFREG | 0o755
        assert modes["toy.py"] == stat.S_IFREG | 0o644
        for entry in unpacked.infolist():
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.extra == b""
            assert entry.create_system == 3
    # What was installed is linked to uv's cache: it is read, and never written to.
    assert (one / "bin/toy").read_text().startswith("#!/usr/bin/python3\n")


# -- the archive ---------------------------------------------------------------------------------------------------------


def packed(name: str, size: int, prefix: str = "") -> list[Item]:
    """A package with one module of a size."""
    info = f"{prefix}{name}-1.0.dist-info"
    record = f"{name}.py,,\n{name}-1.0.dist-info/RECORD,,\n"
    metadata = f"Name: {name.title()}\nVersion: 1.0\n"
    return [
        item(f"{prefix}{name}.py", b"x" * size),
        item(f"{info}/RECORD", record.encode()),
        item(f"{info}/METADATA", metadata.encode()),
    ]


@pytest.mark.parametrize("prefix", ["", "python/"])
def test_packages_and_code_are_told_apart(prefix: str) -> None:
    items = [*packed("one", 10, prefix), *packed("two", 3000, prefix), item("app/main.py", b"abc")]
    packages, code = bundle.describe_items(items)
    assert [(one.name, one.version) for one in packages] == [("One", "1.0"), ("Two", "1.0")]
    assert packages[1].size - packages[0].size == 2990
    assert code == ["app/main.py"]
    assert sum(one.size for one in packages) + 3 == sum(one.size for one in items)


def test_biggest_are_listed_first_and_the_rest_is_counted() -> None:
    packages = [bundle.Package(f"p{number}", "1.0", number * 1048576) for number in range(1, 15)]
    rows = bundle.biggest(packages, 100 * 1048576)
    assert rows[0].split() == ["the", "code", "100.0", "MB"]
    assert rows[1].split() == ["p14", "1.0", "14.0", "MB"]
    assert len(rows) == bundle.BIGGEST + 1
    assert rows[-1] == "and 5 more, 15.0 MB"
    assert bundle.megabytes(bundle.UNZIPPED_LIMIT) == "250.0 MB"


def test_two_contents_for_one_name_are_refused() -> None:
    items, found = bundle.merge(
        [item("b", b"1"), item("a", b"1"), item("b", b"1"), item("a", b"2"), item("\udcff", b"")]
    )
    assert [(one.code, one.value) for one in found] == [("lambda_clash", "a"), ("lambda_name", "\\udcff")]
    assert [one.name for one in items] == ["a", "b"]


def test_copy_for_a_build_takes_nothing_from_an_earlier_one(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in (
        *("pyproject.toml", "src/toy/build/keep.py", "build/lib/stale.py", "dist/toy.whl", "toy.egg-info/SOURCES.txt"),
        *(".venv/pyvenv.cfg", "cache/CACHEDIR.TAG", ".git/HEAD", "src/__pycache__/a.pyc", "out.zip"),
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    (project / "src/inside.py").symlink_to("toy/build/keep.py")
    (project / "src/outside.py").symlink_to("../../outside.py")
    (tmp_path / "outside.py").write_text("y")
    tree = tmp_path / "tree"
    bundle.copy_for_build(project, tree, {project / "out.zip"})
    bundle.copy_for_build(project, tree, {project / "out.zip"})
    copy = tree / str(project).lstrip("/")
    assert sorted(path.relative_to(copy).as_posix() for path in copy.rglob("*") if not path.is_dir()) == [
        "pyproject.toml", "src/inside.py", "src/outside.py", "src/toy/build/keep.py",
    ]  # fmt: skip
    assert (copy / ".git").resolve() == project / ".git"
    assert (copy / "src/inside.py").resolve() == copy / "src/toy/build/keep.py"
    assert (copy / "src/outside.py").read_text() == "y"
