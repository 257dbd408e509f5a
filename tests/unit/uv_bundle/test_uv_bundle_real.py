# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""uv_bundle as a whole, on a real uv binary, toy projects and an index made on the spot. No network."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pyfleet.runtime.plugins.module_utils import bundle
from ansible_collections.pyfleet.runtime.plugins.modules import uv_bundle
from ansible_collections.pyfleet.runtime.tests.stand_ins import index
from ansible_collections.pyfleet.runtime.tests.unit.uv import toys
from ansible_collections.pyfleet.runtime.tests.unit.uv_bundle import projects
from ansible_collections.pyfleet.runtime.tests.unit.uv_bundle.projects import UV, Site, changes, commands, write

pytestmark = [
    pytest.mark.slow,
    pytest.mark.rule("H6"),
    pytest.mark.skipif(not UV, reason="no uv in the development environment or on PATH"),
]
SECRET = "hunter2-correct-horse"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with a locked project."""
    return Site(tmp_path)


def packages(result: dict[str, Any]) -> list[str]:
    """The packages of an archive."""
    assert not result.get("failed"), result["msg"]
    return ["{name}=={version}".format(**one) for one in result["packages"]]


# -- what goes in ----------------------------------------------------------------------------------------------------------


def test_function_holds_packages_and_code_and_no_development_group(site: Site) -> None:
    result = site.both()
    assert packages(result) == ["tool==1.0", "toya==1.1.0", "toyb==0.5.0", "toyc==3.0"]
    assert result["code"] == ["app/__init__.py", "app/main.py"]
    assert result["changed"] is True
    names = site.names()
    assert {"app/main.py", "toya/__init__.py", "toya-1.1.0.dist-info/METADATA", "bin/tool"} <= set(names)
    assert names == sorted(names)
    assert not [name for name in names if name.startswith("toydev") or name.endswith((".lock", "INSTALLER", ".pyc"))]
    assert site.read("bin/tool").startswith(b"#!/usr/bin/env python3\n")
    data = site.dest.read_bytes()
    assert result["sha256"] == hashlib.sha256(data).hexdigest()
    assert result["code_sha256"] == base64.b64encode(hashlib.sha256(data).digest()).decode()
    assert result["zipped_size"] == len(data)
    assert result["unzipped_size"] == sum(len(site.read(name)) for name in names)
    assert commands(result) == [
        f"uv --directory {site.project} export --locked --no-dev --no-editable --no-header --no-emit-local --format pylock.toml"
        " --output-file TEMPORARY/pylock.toml",
        f"uv --directory {site.project} pip install --target TEMPORARY/site --python-platform x86_64-manylinux2014"
        " --python-version 3.13 --no-deps --no-installer-metadata --no-compile-bytecode --only-binary :all:"
        " --preview-features pylock --requirements TEMPORARY/pylock.toml",
        f"uv --directory {site.project} export --locked --no-dev --no-editable --no-header --only-emit-local"
        " --format requirements.txt --no-annotate --no-hashes",
    ]

    again = site.both()
    assert again["changed"] is False
    assert again["sha256"] == result["sha256"]
    assert again["diff"]["before"] == again["diff"]["after"] != ""
    assert again["msg"].endswith("nothing to do")


def test_temporary_files_go_whatever_happens(
    site: Site, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    site.both()
    site.both(max_unzipped_size="1")
    site.both(include=["nothing"])
    assert list(folder.iterdir()) == []


def test_unpacked_archive_works_in_an_empty_place(site: Site, tmp_path: Path) -> None:
    site.workspace()
    write(
        site.project,
        {"app/main.py": "import toya, library\n\ndef handler(event, context):\n    return library.hello()\n"},
    )
    site.made()
    place = tmp_path / "place"
    shutil.unpack_archive(site.dest, place)
    code = "import sys; sys.path.insert(0, '.'); import app.main; print(app.main.handler({}, None))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=place, capture_output=True, text=True)
    assert done.stdout == "Hello from library!\n", done.stderr


def test_layer_and_code_are_the_two_halves_of_a_function(site: Site) -> None:
    site.workspace()
    site.made()
    function = {name: site.read(name) for name in site.names()}
    layer = site.both(kind="layer")
    assert layer["code"] == []
    assert all(name.startswith("python/") for name in site.names())
    halves = {name[len("python/") :]: site.read(name) for name in site.names()}
    code = site.both(kind="code")
    assert code["packages"] == []
    assert site.names() == ["app/__init__.py", "app/main.py"]
    assert not [line for line in code["commands"] if "pip install" in line]
    halves.update({name: site.read(name) for name in site.names()})
    assert halves == function


def test_project_that_is_a_package_is_the_code_itself(site: Site) -> None:
    package = projects.write_package(site.folder / "pack-age", ("toya",), site.settings())
    site.lock(package)
    result = site.both(project=str(package))
    assert packages(result) == ["pack_age==0.1.0", "toya==2.0.0"]
    assert result["code"] == []
    assert "pack_age/__init__.py" in site.names()
    assert packages(site.made(project=str(package), kind="layer")) == ["toya==2.0.0"]
    assert packages(site.made(project=str(package), kind="code")) == ["pack_age==0.1.0"]
    # What is named comes besides.
    write(package, {"assets/a.txt": "a"})
    assert site.made(project=str(package), kind="code", include=["assets"])["code"] == ["assets/a.txt"]


def test_members_of_the_workspace_come_as_packages_and_nothing_is_built_in_the_project(site: Site) -> None:
    site.workspace()
    before = changes(site.project), changes(site.folder / "outer")
    result = site.both()
    assert packages(result) == ["deep_one==0.1.0", "library==0.1.0", "outer==0.1.0", "tool==1.0", "toya==2.0.0"]
    assert result["code"] == ["app/__init__.py", "app/main.py"]
    assert (changes(site.project), changes(site.folder / "outer")) == before
    assert site.read("library/__init__.py").startswith(b"def hello")
    # Nor does uv's cache grow with every build.
    cached = len(changes(site.home / ".cache"))
    site.made()
    assert len(changes(site.home / ".cache")) == cached
    # A module that is gone is gone from the archive, too.
    write(site.project, {"library/src/library/old.py": "", "library/build/lib/library/older.py": ""})
    site.made()
    assert {"library/old.py"} == {name for name in site.names() if "old" in name}
    (site.project / "library/src/library/old.py").unlink()
    assert site.made()["changed"] is True
    assert not [name for name in site.names() if "old" in name]


def test_member_is_packed_by_name_or_by_its_directory(site: Site) -> None:
    site.workspace()
    by_name = site.made(package="Deep_One")
    assert packages(by_name) == ["deep_one==0.1.0", "library==0.1.0", "toya==2.0.0"]
    by_directory = site.both(project=str(site.project / "packages/deep-one"))
    assert by_directory["changed"] is False
    assert by_directory["sha256"] == by_name["sha256"]
    result = site.pack(project=str(site.project / "packages/deep-one"), package="nobody")
    assert result["failed"]
    assert "nobody" in result["msg"]
    write(site.project, {"packages/deep-one/lambda/run.py": ""})
    assert site.made(package="deep-one", kind="code", code_dir="lambda", include=["**"])["code"] == ["run.py"]


def test_root_that_is_no_project_asks_for_a_member(site: Site) -> None:
    site.workspace()
    text = (site.project / "pyproject.toml").read_text()
    root = text[text.index("[tool.uv]") :].partition("[tool.uv.sources]")[0]
    write(site.project, {"pyproject.toml": root})
    site.lock()
    result = site.pack()
    assert result["reason"] == "lambda_no_member"
    assert "deep-one, library" in result["msg"]
    assert packages(site.made(package="library")) == ["library==0.1.0", "toya==2.0.0"]


def test_extras_groups_and_what_the_runtime_has(site: Site) -> None:
    more = '[project.optional-dependencies]\nbatch = ["toyb"]\n'
    text = projects.pyproject(
        "shop", ("toyc",), more + site.settings().replace("dev = ", 'night = ["toya==1.0.0"]\ndev = ')
    )
    write(site.project, {"pyproject.toml": text.replace("toyc", "tool")})
    site.lock()
    assert packages(site.made()) == ["tool==1.0", "toya==1.0.0"]
    assert packages(site.made(extras=["batch"])) == ["tool==1.0", "toya==1.0.0", "toyb==0.5.0"]
    assert packages(site.made(groups=["night"], without=["tool"])) == ["toya==1.0.0"]
    # What only that package needs stays out as well.
    result = site.made(without=["Tool", "boto3"])
    assert packages(result) == []
    assert any("boto3" in warning for warning in result["warnings"])
    assert not any("Tool" in warning for warning in result["warnings"])


# -- the same bytes --------------------------------------------------------------------------------------------------------


def test_the_same_bytes_in_another_place_at_another_time_by_another_hand(tmp_path: Path) -> None:
    archives = []
    for number, name in enumerate(("one", "another place with a much longer name")):
        mask = os.umask((0o022, 0o077)[number])
        try:
            site = Site(write(tmp_path / name, {"uv/uv.toml": ("", 'link-mode = "copy"\n')[number]}))
            site.links = tmp_path / "one" / "links"  # the lock file names the index, and the archive does not
            site.workspace()
            for path in site.project.rglob("*"):
                os.utime(path, (1_500_000_000 + number, 1_500_000_000 + number))
            python = ("/usr/bin/python3", str(tmp_path / "a Python with a name" / "bin/python3"))[number]
            if number:
                subprocess.run([sys.executable, "-m", "venv", "--without-pip", Path(python).parents[1]], check=True)
            arguments: dict[str, Any] = {"python": python} if Path(python).exists() else {}
            for kind in ("function", "layer", "code"):
                dest = site.folder / f"{kind}.zip"
                result = site.made(kind=kind, dest=str(dest), **arguments)
                archives.append((kind, dest.read_bytes(), result["sha256"]))
                dest.unlink()
        finally:
            os.umask(mask)
    assert archives[:3] == archives[3:]


def test_only_different_bytes_replace_the_archive(site: Site) -> None:
    site.made()
    before = site.dest.stat()
    assert site.made()["changed"] is False
    assert site.dest.stat().st_ino == before.st_ino
    write(site.project, {"app/main.py": "x = 2\n"})
    result = site.both()
    assert result["changed"] is True
    changed = [
        line for line in result["diff"]["after"].splitlines() if line not in result["diff"]["before"].splitlines()
    ]
    assert [line.split()[0] for line in changed] == ["app/main.py"]
    site.want("toya==2.0.0", "toyc", "tool")
    result = site.both()
    assert "toya==1.1.0  " in result["diff"]["before"]
    assert "toya==2.0.0  " in result["diff"]["after"]
    site.dest.write_text("no archive")
    result = site.both()
    assert result["changed"] is True
    assert result["diff"]["before"] == ""


def test_relative_paths_start_where_the_module_runs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site.folder)
    assert site.made(project="shop", dest="package.zip")["changed"] is True
    assert site.made()["changed"] is False


def test_mode_of_the_archive(site: Site) -> None:
    assert site.made(mode="0640")["changed"] is True
    assert stat.S_IMODE(site.dest.stat().st_mode) == 0o640
    assert site.made(mode="0640")["changed"] is False
    assert site.pack(check=True, mode="0600")["changed"] is True
    assert stat.S_IMODE(site.dest.stat().st_mode) == 0o640


# -- platforms -------------------------------------------------------------------------------------------------------------


def test_wheels_are_the_ones_of_the_functions_architecture(site: Site) -> None:
    for tag, content in (
        ("cp313-cp313-manylinux2014_x86_64", b"intel"),
        ("cp313-cp313-manylinux2014_aarch64", b"arm"),
        ("cp312-cp312-manylinux2014_aarch64", b"arm of an older Python"),
        ("cp39-abi3-macosx_11_0_arm64", b"a laptop"),
        ("cp39-abi3-musllinux_1_2_x86_64", b"another C library"),
    ):
        projects.platform_wheel(site.links, "native", tag, content)
    write(
        site.project,
        {"pyproject.toml": projects.pyproject("shop", ("native",), site.settings()).replace(">=3.9", ">=3.9,<3.14")},
    )
    projects.platform_wheel(site.links, "native", "py3-none-win_amd64", b"so that it can be locked for every Python")
    site.lock()
    result = site.both()
    assert result["python_platform"] == "x86_64-manylinux2014"
    assert site.read("native/_native.so") == b"intel"
    result = site.both(architecture="arm64", kind="layer")
    assert result["python_platform"] == "aarch64-manylinux2014"
    assert site.read("python/native/_native.so") == b"arm"
    site.made(architecture="arm64", python_version="3.12")
    assert site.read("native/_native.so") == b"arm of an older Python"


def test_package_without_a_wheel_is_named_with_what_there_is(site: Site) -> None:
    projects.platform_wheel(site.links, "native", "py3-none-win_amd64", b"")
    projects.platform_wheel(site.links, "native", "cp313-cp313-manylinux_2_28_x86_64", b"newer")
    site.want("native", "toya")
    result = site.both()
    assert result["reason"] == "lambda_newer_manylinux"
    assert "native has no wheel for Python 3.13 on x86_64-manylinux2014" in result["msg"]
    assert "Package `native` can't be installed" in result["msg"]
    assert "Wheels:    cp313-cp313-manylinux_2_28_x86_64\n" in result["msg"]
    assert "Set manylinux: '2_28'" in result["msg"]
    assert not site.dest.exists()
    site.made(manylinux="2_28")
    assert site.read("native/_native.so") == b"newer"
    result = site.both(architecture="arm64")
    assert result["reason"] == "lambda_no_wheel"
    assert "native has no wheel for Python 3.13 on aarch64-manylinux2014" in result["msg"]


def test_source_packages_are_built_when_they_are_named_and_pure(site: Site) -> None:
    projects.source_package(site.links, "pure")
    projects.source_package(site.links, "hard", "cp311-cp311-linux_x86_64")
    site.want("pure", "toya")
    result = site.both()
    assert result["reason"] == "lambda_no_wheel"
    assert "add it to source_packages" in result["msg"]
    result = site.both(source_packages=["Pure"])
    assert packages(result) == ["pure==0.1.0", "toya==2.0.0"]
    assert "--only-binary toya" in result["commands"][1]
    site.want("hard")
    result = site.pack(source_packages=["hard"], architecture="arm64")
    assert result["reason"] == "lambda_foreign_wheel"
    assert "hard-0.1.0-cp311-cp311-linux_x86_64.whl was built for this machine" in result["msg"]


def test_member_that_is_built_for_this_machine_is_refused(site: Site) -> None:
    site.workspace()
    write(site.project, {"library/TAG": "cp311-cp311-linux_x86_64"})
    result = site.both(architecture="arm64")
    assert result["reason"] == "lambda_foreign_wheel"
    assert "library" in result["msg"].splitlines()[0]


def test_member_whose_build_fails_is_named_with_the_builds_words(site: Site) -> None:
    site.workspace()
    write(site.project, {"library/backend.py": "raise SystemExit('no compiler here')\n"})
    result = site.both()
    assert result["reason"] == "lambda_build_failed"
    assert result["msg"].splitlines()[0] == "A package could not be built: ./library."
    assert "no compiler here" in result["msg"]


def test_python_that_the_project_excludes(site: Site) -> None:
    write(
        site.project,
        {"pyproject.toml": projects.pyproject("shop", ("toya",), site.settings()).replace(">=3.9", ">=3.9,<3.13")},
    )
    site.lock()
    result = site.both()
    assert result["reason"] == "lambda_python_outside"
    assert "uv.lock asks for >=3.9, <3.13" in result["msg"]
    assert packages(site.made(python_version="3.12")) == ["toya==2.0.0"]


# -- the lock file ---------------------------------------------------------------------------------------------------------


def test_stale_lock_fails_in_uvs_own_words_and_leaves_the_archive(site: Site) -> None:
    site.made()
    before = site.dest.read_bytes()
    site.want("toya==2.0.0", lock=False)
    for kind in ("function", "layer", "code"):
        result = site.both(kind=kind)
        assert result["reason"] == "lambda_lock_stale"
        assert result["msg"].splitlines()[0] == "uv.lock does not match pyproject.toml."
        assert "The lockfile at `uv.lock` needs to be updated, but `--locked` was provided." in result["msg"]
        assert "Next step: Run uv lock" in result["msg"]
    assert site.dest.read_bytes() == before
    assert site.made(frozen=True)["changed"] is False


def test_missing_lock(site: Site) -> None:
    (site.project / "uv.lock").unlink()
    for flags in ({}, {"frozen": True}):
        assert site.both(**flags)["reason"] == "lambda_lock_missing"


def test_only_the_comparison_needs_a_python_that_the_project_admits(site: Site) -> None:
    text = projects.pyproject("shop", ("toya",), site.settings())
    write(site.project, {"pyproject.toml": text})
    site.lock()
    write(site.project, {"pyproject.toml": text.replace(">=3.9", ">=3.99"), "app/main.py": ""})
    lock = (site.project / "uv.lock").read_text().replace(">=3.9", ">=3.99")
    write(site.project, {"uv.lock": lock})
    result = site.both(python_version="3.99")
    assert result["reason"] == "lambda_lock_python"
    assert "frozen: true" in result["msg"]
    assert packages(site.made(python_version="3.99", frozen=True)) == ["toya==2.0.0"]
    predicted = site.pack(check=True, python_version="3.99", environment={"UV_PYTHON_DOWNLOADS": "automatic"})
    assert (predicted.get("failed"), predicted["changed"], predicted["reason"]) == (None, True, "python_missing")


# -- sizes -----------------------------------------------------------------------------------------------------------------


def test_archive_over_the_limit_names_the_biggest_packages_and_writes_nothing(site: Site) -> None:
    projects.platform_wheel(site.links, "huge", "py3-none-any", b"x" * 3_000_000)
    projects.platform_wheel(site.links, "large", "py3-none-any", b"x" * 2_000_000)
    site.want("huge", "large", "toya")
    size = site.made()["unzipped_size"]
    site.dest.unlink()
    result = site.both(max_unzipped_size=str(size - 1))
    assert result["reason"] == "lambda_size"
    lines = result["msg"].splitlines()
    assert (
        lines[0]
        == f"The archive is too large: 4.8 MB ({size} bytes) unpacked, where 4.8 MB ({size - 1} bytes) are allowed."
    )
    assert lines[2].split() == ["huge", "1.0", "2.9", "MB"]
    assert lines[3].split() == ["large", "1.0", "1.9", "MB"]
    assert result["packages"][0]["name"] == "huge"
    assert not site.dest.exists()
    assert site.made(max_unzipped_size=str(size))["changed"] is True
    assert site.pack(max_unzipped_size="1M")["reason"] == "lambda_size"


def test_default_limit_is_lambdas(site: Site) -> None:
    # A sparse file is as large as it says, and costs nothing.
    with (site.project / "app/data").open("wb") as stream:
        stream.truncate(262144000)
    result = site.pack()
    assert result["reason"] == "lambda_size"
    assert "where 250.0 MB (262144000 bytes) are allowed" in result["msg"]
    assert result["msg"].splitlines()[2].split()[:3] == ["the", "code", "250.0"]


def test_packed_size(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    size = site.made()["zipped_size"]
    result = site.both(max_zipped_size=str(size - 1))
    assert result["reason"] == "lambda_zip_size"
    assert "toya 1.1.0" in result["msg"]
    assert site.made(max_zipped_size=str(size))["warnings"] == []
    monkeypatch.setattr(bundle, "DIRECT_UPLOAD_LIMIT", size - 1)
    warning = next(text for text in site.made()["warnings"] if "S3" in text)
    assert "max_zipped_size" in warning


# -- the code --------------------------------------------------------------------------------------------------------------


def test_code_is_what_the_patterns_mean(site: Site) -> None:
    files = (
        "README.md",
        "tests/test_main.py",
        ".env",
        "app/notes.md",
        "static/a/b.txt",
        "node_modules/x.js",
        "old.zip",
    )
    write(site.project, dict.fromkeys(files, "x"))
    (site.project / "venv").mkdir()
    write(site.project, {"venv/pyvenv.cfg": "", "venv/a.py": ""})
    arguments = {"kind": "code", "dest": str(site.project / "code")}
    everything = ["README.md", "app/__init__.py", "app/main.py", "app/notes.md", "static/a/b.txt"]
    for _twice in range(2):  # the archive itself is no code
        assert site.made(**arguments)["code"] == everything
    assert site.made(**arguments, include=["app", ".env"], exclude=["**/*.md"])["code"] == [
        ".env", "app/__init__.py", "app/main.py",
    ]  # fmt: skip
    assert site.made(**arguments, code_dir="static/a")["code"] == ["b.txt"]


def test_pattern_that_means_nothing_is_named(site: Site) -> None:
    result = site.both(include=["app", "ap", "lib/*.py"])
    assert result["reason"] == "lambda_pattern_unused"
    assert result["msg"].startswith("2 problems, nothing was changed:")
    assert "include selects no file: lib/*.py." in result["msg"]
    assert site.both(include=["app"], exclude=["app"])["reason"] == "lambda_pattern_unused"
    assert site.both(exclude=["**"], kind="code")["reason"] == "lambda_empty"
    assert site.both(code_dir="nowhere")["reason"] == "lambda_code_dir"


def test_link_out_of_the_project_and_file_that_a_package_brings_too(site: Site) -> None:
    (site.project / "app/passwords").symlink_to("/etc/passwd")
    result = site.both()
    assert result["reason"] == "lambda_link"
    assert "app/passwords" in result["msg"]
    (site.project / "app/passwords").unlink()
    (site.project / "away").symlink_to("/etc")
    assert site.both(code_dir="away", include=["**"])["reason"] == "lambda_code_dir"
    (site.project / "away").unlink()
    write(site.project, {"toya/__init__.py": "mine = True\n"})
    result = site.both()
    assert result["reason"] == "lambda_clash"
    assert "toya/__init__.py" in result["msg"]
    assert not site.dest.exists()


# -- options and places ----------------------------------------------------------------------------------------------------


def test_options_that_cannot_be_right_are_told_together_and_before_anything_runs(site: Site) -> None:
    result = site.pack(
        dest=str(site.folder / "no/package.zip"), python_version="3.1", project=str(site.home), manylinux="glibc"
    )
    assert result["failed"]
    assert result["msg"].startswith("4 problems, nothing was changed:")
    for words in (
        "python_version is 3.1",
        "manylinux is glibc",
        "The directory of dest does not exist",
        "no pyproject.toml",
    ):
        assert words in result["msg"]
    assert result["commands"] == []
    assert site.pack(dest=str(site.home))["reason"] == "lambda_dest_is_folder"
    assert site.pack(index_credentials={"inner": {"user": "u"}})["reason"] == "credentials_invalid"


def test_check_mode_on_a_host_that_has_nothing_yet(site: Site) -> None:
    for option, reason in (("project", "lambda_project"), ("executable", "uv_missing")):
        arguments: dict[str, Any] = {option: str(site.folder / "nowhere")}
        predicted = site.pack(check=True, diff=True, **arguments)
        assert not predicted.get("failed"), predicted["msg"]
        assert predicted["changed"] is True
        assert predicted["reason"] == reason
        assert site.pack(**arguments)["reason"] == reason
    # The directory may come from a step that check mode did not carry out.
    predicted = site.pack(check=True, dest=str(site.folder / "no/package.zip"))
    assert predicted["changed"] is True
    assert not (site.folder / "no").exists()


def test_file_that_cannot_be_read_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_stream: object, _items: object) -> None:
        raise PermissionError(13, "Permission denied", "app/main.py")

    site.made()
    before = site.dest.read_bytes()
    monkeypatch.setattr(bundle, "write", refuse)
    result = site.pack()
    assert result["reason"] == "lambda_file"
    assert "app/main.py: Permission denied" in result["msg"]
    assert site.dest.read_bytes() == before


def test_old_uv_is_refused(site: Site) -> None:
    old = site.folder / "uv-old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "uv 0.9.18" && exit 0\ntouch ran\n')
    old.chmod(0o755)
    assert site.pack(executable=str(old))["reason"] == "uv_too_old"


def test_timeout(site: Site) -> None:
    slow = site.folder / "uv-slow"
    slow.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "uv 99.0" && exit 0\nsleep 60\n')
    slow.chmod(0o755)
    assert site.pack(executable=str(slow), timeout=1)["reason"] == "timeout"


# -- indexes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.rule("I")
def test_i_package_comes_from_its_own_index_with_credentials_that_nobody_sees(site: Site) -> None:
    folder = site.folder / "private"
    toys.make_wheel(folder / "secretly", "secretly", "1.0")
    with index.serving(folder, "127.0.0.1", "deployer-name", SECRET) as served:
        more = (
            '[tool.uv.sources]\nsecretly = { index = "inner" }\n'
            f'[[tool.uv.index]]\nname = "inner"\nurl = "{served.url}"\nexplicit = true\n'
        )
        text = projects.pyproject("shop", ("secretly", "toya"), site.settings(more).replace("no-index = true\n", ""))
        # Locked by hand: the other index of this project would be the public one.
        lock = (
            'version = 1\nrequires-python = ">=3.9"\n\n[[package]]\nname = "secretly"\nversion = "1.0"\n'
            f'source = {{ registry = "{served.url}" }}\n'
            f'wheels = [\n    {{ url = "{served.url}/secretly/secretly-1.0-py3-none-any.whl" }},\n]\n\n'
            '[[package]]\nname = "shop"\nversion = "0.1.0"\nsource = { virtual = "." }\ndependencies = [\n    { name = "secretly" },\n]\n'
        )
        write(site.project, {"pyproject.toml": text, "uv.lock": lock})
        credentials = {"inner": {"username": "deployer-name", "password": SECRET}}
        result = site.made(frozen=True, index_credentials=credentials, diff=True)
        assert packages(result) == ["secretly==1.0"]
        assert SECRET not in result["raw"]
        assert "deployer-name" not in result["raw"]
        assert SECRET.encode() not in site.dest.read_bytes()
        shutil.rmtree(site.home / ".cache")
        refused = site.pack(
            frozen=True, index_credentials={"inner": {"username": "deployer-name", "password": SECRET + "x"}}
        )
        assert refused["reason"] == "index_unauthorized"
        assert SECRET not in refused["raw"]
        if "invocation" in refused:  # ansible-core 2.21 echoes the arguments no more
            assert refused["invocation"]["module_args"]["index_credentials"]["inner"]["password"] == "(hidden)"


def test_index_down(site: Site) -> None:
    toys.write_unreachable(site.project)
    result = site.both()
    assert result["reason"] == "index_unreachable"
    assert "Failed to download `toya==1.1.0`" in result["msg"]
    assert "deploy again" not in result["msg"]


def test_what_steers_uv_from_outside_is_dropped_and_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_PROJECT", "/nowhere")
    result = site.made()
    assert {"UV_DEFAULT_INDEX", "UV_PROJECT"} <= set(result["dropped"])


# -- what is written about it ----------------------------------------------------------------------------------------------


def test_documented_options_are_the_ones_there_are() -> None:
    documented = yaml.safe_load(uv_bundle.DOCUMENTATION)["options"]
    assert list(documented) == list(uv_bundle.ARGUMENTS)
    for name, option in uv_bundle.ARGUMENTS.items():
        for key in ("type", "default", "choices", "required", "elements"):
            assert documented[name].get(key) == option.get(key), f"{name}: {key}"


def test_every_task_that_people_copy_has_options_that_exist() -> None:
    page = (Path(bundle.__file__).parents[2] / "docs/lambda.md").read_text(encoding="utf-8")
    texts = [uv_bundle.EXAMPLES, *re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    tasks = []
    for text in texts:
        for entry in yaml.safe_load(text) if text.lstrip().startswith("- ") else []:
            tasks += [task["pyfleet.runtime.uv_bundle"] for task in entry.get("tasks", [entry])]
        if not text.lstrip().startswith("- "):
            tasks.append(yaml.safe_load(text))  # one option, to be added to a task
    assert len(tasks) >= 9
    for task in tasks:
        assert set(task) <= set(uv_bundle.ARGUMENTS), task
        if "project" in task:
            assert isinstance(task["python_version"], str)
