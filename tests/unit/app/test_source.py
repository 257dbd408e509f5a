# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources are resolved on the controller: directory, git and archive, with real git and real archives."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from ansible_collections.pyfleet.runtime.plugins.plugin_utils import source
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.source import Source, SourceError


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def app(tmp_path: Path) -> Path:
    root = write(tmp_path / "app", README="hello", src__main="print(1)")
    (root / "uv.lock").write_text('version = 1\n\n[[package]]\nname = "anyio"\nversion = "4.0"\n')
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o750)
    return root


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def resolve(spec: dict[str, object], tmp_path: Path, cache: str = "cache") -> Source:
    return source.resolve(spec, base=str(tmp_path), cache=str(tmp_path / cache))


def members(resolved: Source) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(resolved.archive) as tar:
        return {member.name: member for member in tar.getmembers()}


def codes(spec: dict[str, object], tmp_path: Path) -> list[str]:
    with pytest.raises(SourceError) as caught:
        resolve(spec, tmp_path)
    return [finding.code for finding in caught.value.findings]


def test_a_directory_becomes_one_archive_with_modes_and_without_owners(app: Path, tmp_path: Path) -> None:
    resolved = resolve({"path": "app"}, tmp_path)
    found = members(resolved)
    assert sorted(found) == ["README", "run.sh", "src/main", "uv.lock"]
    assert found["run.sh"].mode == 0o755
    assert found["README"].mode == 0o644
    assert {(member.uid, member.uname) for member in found.values()} == {(0, "")}
    assert resolved.locks == {"uv.lock": {"anyio": "4.0"}}
    assert Path(resolved.archive).stat().st_size == resolved.size


def test_the_digest_names_the_content_and_nothing_else(app: Path, tmp_path: Path) -> None:
    first = resolve({"path": "app"}, tmp_path, "one")
    os.utime(app / "README", (1, 1))
    assert resolve({"path": "app"}, tmp_path, "two").digest == first.digest
    (app / "README").write_text("changed")
    changed = resolve({"path": "app"}, tmp_path, "three")
    assert changed.digest != first.digest
    (app / "README").chmod(0o755)
    assert resolve({"path": "app"}, tmp_path, "four").digest not in (first.digest, changed.digest)


def test_times_travel_because_servers_derive_etags_of_them(app: Path, tmp_path: Path) -> None:
    os.utime(app / "README", (1_700_000_000, 1_700_000_000))
    assert members(resolve({"path": "app"}, tmp_path))["README"].mtime == 1_700_000_000


def test_ignore_files_count_without_a_repository_too(app: Path, tmp_path: Path) -> None:
    write(
        app,
        **{".gitignore": "*.log\nnode_modules/\n!keep.log\n", "a.log": "", "keep.log": "", "src__.gitignore": "*.tmp"},
    )
    write(app, **{"node_modules__x": "", "src__b.tmp": "", ".venv__bin": "", "src____pycache____m.pyc": ""})
    (app / "src" / "__pycache__").mkdir()
    (app / "src" / "__pycache__" / "m.pyc").write_text("")
    names = set(members(resolve({"path": "app"}, tmp_path)))
    assert "keep.log" in names
    assert not {"a.log", "node_modules/x", "src/b.tmp", ".venv/bin", "src/__pycache__/m.pyc"} & names


def test_exclude_takes_patterns_like_the_ignore_files(app: Path, tmp_path: Path) -> None:
    write(app, tests__t="", docs__d="")
    names = set(members(resolve({"path": "app", "exclude": ["tests/", "*.sh"]}, tmp_path)))
    assert names == {"README", "docs/d", "src/main", "uv.lock"}


def test_exclude_also_takes_files_that_git_tracks(app: Path, tmp_path: Path) -> None:
    git(app, "init", "-q")
    git(app, "add", ".")
    git(app, "commit", "-qm", "all")
    names = set(members(resolve({"path": "app", "exclude": ["README"]}, tmp_path)))
    assert names == {"run.sh", "src/main", "uv.lock"}


def test_a_directory_in_git_has_the_last_commit_that_touched_it(app: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "app")
    git(tmp_path, "commit", "-qm", "app")
    commit = git(tmp_path, "rev-parse", "HEAD")
    write(tmp_path, other="x")
    git(tmp_path, "add", "other")
    git(tmp_path, "commit", "-qm", "other")
    assert resolve({"path": "app"}, tmp_path, "one").commit == commit
    (app / "README").write_text("dirty")
    dirty = resolve({"path": "app"}, tmp_path, "two")
    assert dirty.commit == dirty.digest[:40]


def test_a_folder_that_the_repository_around_it_ignores_stands_for_itself(app: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    write(tmp_path, **{".gitignore": "/app\nuv.lock\n"})
    write(app, **{".gitignore": "*.sh\n"})
    assert set(members(resolve({"path": "app"}, tmp_path))) == {".gitignore", "README", "src/main", "uv.lock"}


def test_a_deleted_file_that_git_still_lists_is_no_error(app: Path, tmp_path: Path) -> None:
    git(app, "init", "-q")
    git(app, "add", ".")
    git(app, "commit", "-qm", "all")
    (app / "README").unlink()
    assert "README" not in members(resolve({"path": "app"}, tmp_path))


@pytest.mark.parametrize("version", ["v1", "main", "commit"])
def test_git_by_tag_branch_and_commit(app: Path, tmp_path: Path, version: str) -> None:
    git(app, "init", "-q")
    git(app, "add", ".")
    git(app, "commit", "-qm", "all")
    git(app, "tag", "v1")
    commit = git(app, "rev-parse", "HEAD")
    resolved = resolve({"git": str(app), "version": commit if version == "commit" else version}, tmp_path)
    assert resolved.commit == commit
    assert "src/main" in members(resolved)
    assert not any(name.startswith(".git/") for name in members(resolved))


def test_git_that_cannot_be_fetched_says_why_without_credentials(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        resolve({"git": "https://someone:s3cr3t@127.0.0.1:9/x.git", "version": "main"}, tmp_path)
    text = caught.value.findings[0].render()
    assert caught.value.findings[0].code == "source_git"
    assert "s3cr3t" not in text
    assert "127.0.0.1:9/x.git at main" in text


def test_a_version_that_looks_like_an_option_is_a_version(app: Path, tmp_path: Path) -> None:
    git(app, "init", "-q")
    marker = tmp_path / "marker"
    assert codes({"git": str(app), "version": f"--upload-pack=touch {marker}"}, tmp_path) == ["source_git"]
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_archives_lose_their_single_outer_folder(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / f"shop.{kind}"
    if kind == "tar":
        with tarfile.open(archive, "w:gz") as tar:
            info = tarfile.TarInfo("shop-1.0/main.py")
            info.size = 1
            tar.addfile(info, io.BytesIO(b"1"))
    else:
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("shop-1.0/main.py", "1")
    assert set(members(resolve({"archive": archive.name}, tmp_path))) == {"main.py"}


def test_an_archive_must_match_its_checksum(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x"), io.BytesIO())
    good = source._file_digest(archive)
    assert resolve({"archive": str(archive), "checksum": f"sha256:{good}"}, tmp_path).files == ("x",)
    assert codes({"archive": str(archive), "checksum": "sha256:" + "0" * 64}, tmp_path) == ["source_mismatch"]


def test_an_archive_comes_from_a_url(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x"), io.BytesIO())
    good = f"sha256:{source._file_digest(archive)}"
    assert resolve({"archive": archive.as_uri(), "checksum": good}, tmp_path).files == ("x",)
    assert codes({"archive": f"{archive.as_uri()}.gone", "checksum": good}, tmp_path) == ["source_download"]


def test_an_archive_from_a_url_needs_a_checksum(tmp_path: Path) -> None:
    assert codes({"archive": "https://127.0.0.1:9/x.tar"}, tmp_path) == ["source_checksum"]


@pytest.mark.parametrize("name", ["../evil", "/evil"])
def test_an_archive_that_leaves_its_tree_is_refused(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert codes({"archive": str(archive)}, tmp_path) == ["source_unreadable"]
    assert not (tmp_path / "evil").exists()


def test_links_stay_inside(app: Path, tmp_path: Path) -> None:
    (app / "inside").symlink_to("src/main")
    assert members(resolve({"path": "app"}, tmp_path, "one"))["inside"].linkname == "src/main"
    (app / "outside").symlink_to("../../etc/passwd")
    (app / "absolute").symlink_to("/etc/passwd")
    with pytest.raises(SourceError) as caught:
        resolve({"path": "app"}, tmp_path, "two")
    assert [finding.code for finding in caught.value.findings] == ["source_link", "source_link"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ["source_kind"]),
        ({"path": "x", "git": "y"}, ["source_kind"]),
        ({"path": "app", "version": "1"}, ["source_option"]),
        ({"archive": "x", "checksum": "md5:1"}, ["source_checksum"]),
        ({"path": "missing"}, ["source_missing"]),
    ],
)
def test_bad_sources_are_named(spec: dict[str, object], expected: list[str], tmp_path: Path) -> None:
    assert codes(spec, tmp_path) == expected


def test_an_empty_source_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert codes({"path": "empty"}, tmp_path) == ["source_empty"]


def test_hosts_of_one_run_share_the_work(app: Path, tmp_path: Path) -> None:
    first = resolve({"path": "app"}, tmp_path)
    (app / "README").write_text("changed during the run")
    assert resolve({"path": "app"}, tmp_path) == first


def test_b7_requirements_files_are_read_by_any_name_and_with_what_they_name(app: Path, tmp_path: Path) -> None:
    texts = {
        "requirements.txt": "-r deps/web.list\n-c deps/pins.cfg\nflask\n",
        "deps/web.list": "celery\n",
        "deps/pins.cfg": "flask==3\n",
        "requirements/dev.pip": "pytest\n",
        "web/dev-requirements.in": "black\n",
        "constraints-3.txt": "six==1\n",
        "packages.list": "django\n",
        "clevercloud/http.json": "{}",
        "notes.txt": "x",
    }
    write(app, **texts)
    found = resolve({"path": "app"}, tmp_path).texts
    assert set(found) == set(texts) - {"notes.txt", "packages.list"}
    named = source.resolve(
        {"path": "app"}, base=str(tmp_path), cache=str(tmp_path / "cache"), requirements=["packages.list"]
    )
    assert named.texts["packages.list"] == "django\n"


def test_b7_a_long_requirements_file_ends_with_a_whole_line(app: Path, tmp_path: Path) -> None:
    line = "flask==3.0\n"
    (app / "requirements.txt").write_text(line * (source.TEXT_LIMIT // len(line) + 5))
    text = resolve({"path": "app"}, tmp_path).texts["requirements.txt"]
    assert set(text.splitlines()) == {"flask==3.0"}
    (app / "requirements.txt").write_bytes("flask\n".encode("utf-16"))
    assert resolve({"path": "app"}, tmp_path, "other").texts["requirements.txt"] == "flask\n"
