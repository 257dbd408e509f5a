# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build once, ship many: who builds, what a bundle is made for, and that a bundle gets nothing out of its cache."""

from __future__ import annotations

import gzip
import io
import os
import pwd
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import process, shipping
from ansible_collections.pyfleet.runtime.plugins.module_utils.shipping import ShippingError
from ansible_collections.pyfleet.runtime.tests.unit.uv.toys import make_wheel

CHECKOUT = Path(__file__).resolve().parents[3]
UV = str(CHECKOUT / ".venv" / "bin" / "uv")

with_uv = pytest.mark.skipif(not os.access(UV, os.X_OK), reason="make setup brings uv")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")


def entry(kind: str = "x86_64 debian 12", action: str = "build", **more: Any) -> dict[str, Any]:
    return {"ship": {"kind": kind, "key": "k1", "held": []}, "action": action, **more}


# -- election --------------------------------------------------------------------------------------------------------------


def test_the_first_host_of_each_kind_builds() -> None:
    entries = {"a": entry(), "b": entry(), "c": entry("arm"), "d": entry("arm"), "e": entry("alone")}
    order = ["b", "a", "d", "c", "e"]
    assert shipping.elect_builders(entries, order) == {"x86_64 debian 12": "b", "arm": "d"}
    roles = {host: shipping.role_of(host, entries, order) for host in order}
    assert roles == {
        "b": ("builder", ""),
        "a": ("receiver", "b"),
        "d": ("builder", ""),
        "c": ("receiver", "d"),
        "e": ("alone", ""),
    }


def test_a_host_that_is_built_already_serves_its_kind() -> None:
    entries = {"a": entry(action="none"), "b": entry(), "c": entry(action="switch")}
    order = ["a", "b", "c"]
    assert [shipping.role_of(host, entries, order)[0] for host in order] == ["builder", "receiver", "none"]
    done = {host: entry(action="none") for host in order}
    assert shipping.elect_builders(done, order) == {}
    assert {shipping.role_of(host, done, order)[0] for host in order} == {"none"}


def test_lost_hosts_and_kinds_that_cannot_be_shipped_take_no_part() -> None:
    entries = {"a": entry(outcome="lost"), "b": entry(), "c": entry(), "p": entry(""), "q": entry("")}
    order = ["a", "b", "c", "p", "q", "unknown"]
    assert [shipping.role_of(host, entries, order) for host in order] == [
        ("none", ""), ("builder", ""), ("receiver", "b"), ("alone", ""), ("alone", ""), ("none", ""),
    ]  # fmt: skip


def test_who_waits_for_a_bundle() -> None:
    def receiver(**more: Any) -> dict[str, Any]:
        ship = {"role": "receiver", "builder": "a", "key": "k1", "held": more.pop("held", [])}
        return {"ship": ship, "action": "build", **more}

    entries = {"a": {"ship": {"role": "builder"}}, "b": receiver(), "c": receiver(held=["k0", "k1"])}
    entries.update(d=receiver(outcome="failed"), e={}, f=receiver(held=["k0"]))
    assert shipping.waiting("a", entries) == ["b", "f"]
    assert shipping.waiting("b", entries) == []


# -- key and credentials ---------------------------------------------------------------------------------------------------


def test_a_key_follows_packages_kind_and_settings_and_nothing_else() -> None:
    texts = [("uv.lock", b"one"), ("pyproject.toml", b"two")]
    key = shipping.bundle_key("kind", texts, {"a": "1"})
    assert key == shipping.bundle_key("kind", list(reversed(texts)), {"a": "1"})
    others = [
        shipping.bundle_key("other", texts, {"a": "1"}),
        shipping.bundle_key("kind", [("uv.lock", b"one!"), texts[1]], {"a": "1"}),
        shipping.bundle_key("kind", [("uv.lock", b"onetwo"), ("pyproject.toml", b"")], {"a": "1"}),
        shipping.bundle_key("kind", texts, {"a": "2"}),
    ]
    assert len({key, *others}) == 5


def test_receivers_get_no_credentials_and_no_network() -> None:
    given = {
        "UV_INDEX_CORP_USERNAME": "deploy",
        "UV_INDEX_CORP_PASSWORD": "s3cret",
        "UV_INDEX_URL": "https://deploy:s3cret@index.example/simple",
        "UV_EXTRA_INDEX_URL": "https://a.example/simple https://token@b.example/simple",
        "PIP_INDEX_URL": "https://deploy:s3cret@index.example/simple",
        "PIP_EXTRA_INDEX_URL": "https://s3cret@c.example/simple",
        "UV_INDEX": "corp=https://deploy:s3cret@index.example/simple",
        "UV_DEFAULT_INDEX": "https://deploy:s3cret@index.example/simple",
        "UV_FIND_LINKS": "https://deploy:s3cret@files.example/",
        "UV_KEYRING_PROVIDER": "subprocess",
        "PIP_CLIENT_CERT": "/s3cret.pem",
        "NETRC": "/home/deploy/s3cret",
        "DATABASE_URL": "postgres://app:word@db/app",
        "UV_CACHE_DIR": "/cache",
    }
    assert shipping.for_receiver(given) == {
        "UV_INDEX_URL": "https://index.example/simple",
        "UV_EXTRA_INDEX_URL": "https://a.example/simple https://b.example/simple",
        "PIP_INDEX_URL": "https://index.example/simple",
        "PIP_EXTRA_INDEX_URL": "https://c.example/simple",
        "UV_INDEX": "corp=https://index.example/simple",
        "UV_DEFAULT_INDEX": "https://index.example/simple",
        "UV_FIND_LINKS": "https://files.example/",
        "DATABASE_URL": "postgres://app:word@db/app",
        "UV_CACHE_DIR": "/cache",
        "UV_OFFLINE": "1",
    }
    assert "s3cret" not in str(shipping.steering(given))
    assert set(shipping.steering(given)) == {name for name in given if "INDEX" in name or "LINKS" in name} - {
        "UV_INDEX_CORP_USERNAME", "UV_INDEX_CORP_PASSWORD",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "package"),
    [
        (
            "error: Failed to download `blinker==1.9.0`\n  cause: Network connectivity is disabled, but the requested data wasn't found "
            "in the cache: https://files.example/blinker-1.9.0-py3-none-any.whl",
            "blinker",
        ),
        (
            "  × Failed to download `six==1.17.0`\n  ╰─▶ Network connectivity is disabled, but the\n      requested data wasn't found in",
            "six",
        ),
        (
            "error: Failed to build `pk @ file:///srv/pk`\n  cause: Failed to resolve requirements from `build-system.requires`\n"
            "  cause: Because hatchling was not found in the cache and you require hatchling, we can conclude",
            "hatchling",
        ),
        ("hint: Packages were unavailable because the network was disabled.", "A package"),
    ],
)
def test_a_receiver_says_what_was_not_shipped(words: str, package: str) -> None:
    verdict = shipping.missing_offline(words, {"UV_OFFLINE": "1"})
    assert verdict is not None
    assert verdict.what == f"{package} is not in uv's cache, and this host builds offline."
    assert "app_build: every_host" in verdict.next_step
    assert shipping.missing_offline(words, {}) is None, "without a network is not what the collection asked for"
    assert shipping.missing_offline("error: No space left on device", {"UV_OFFLINE": "1"}) is None


# -- bundles ---------------------------------------------------------------------------------------------------------------


def fill(cache: Path, entry: str = "aaaa", content: str = "one") -> None:
    """A cache with one package, in the form of uv."""
    (cache / "archive-v0" / entry / "toya").mkdir(parents=True)
    (cache / "archive-v0" / entry / "toya" / "__init__.py").write_text(content)
    (cache / "archive-v0" / entry / "toya" / "poetry.lock").write_text("")
    (cache / "archive-v0" / entry / "toya" / "run").write_text("#!/bin/sh\n")
    (cache / "archive-v0" / entry / "toya" / "run").chmod(0o755)
    wheels = cache / "wheels-v7" / "pypi" / "toya"
    wheels.mkdir(parents=True, exist_ok=True)
    (wheels / "1.0.lock").write_text("")
    (wheels / "1.0.http").write_text(entry)
    (wheels / "1.0").unlink(missing_ok=True)
    (wheels / "1.0").symlink_to(f"../../../archive-v0/{entry}")
    for bucket in ("interpreter-v5", "environments-v2", "archive-v0/.tmpXYZ"):
        (cache / bucket).mkdir(exist_ok=True)
        (cache / bucket / "x").write_text("x")
    (cache / ".lock").write_text("")


def packed(cache: Path) -> tuple[io.BytesIO, dict[str, Any]]:
    file = io.BytesIO()
    result = shipping.pack(str(cache), file)
    file.seek(0)
    return file, result


def tree(cache: Path) -> list[str]:
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*"))


def test_a_bundle_holds_what_is_good_elsewhere_and_is_the_same_each_time(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    file, result = packed(tmp_path / "a")
    assert result == {"entries": ["archive-v0/aaaa"], "files": 4}
    assert packed(tmp_path / "a")[0].getvalue() == file.getvalue()
    assert shipping.unpack(str(tmp_path / "b"), file) == {"entries": ["archive-v0/aaaa"], "new": 1}
    assert tree(tmp_path / "b") == [
        ".lock",
        "archive-v0",
        "archive-v0/aaaa",
        "archive-v0/aaaa/toya",
        "archive-v0/aaaa/toya/__init__.py",
        "archive-v0/aaaa/toya/poetry.lock",
        "archive-v0/aaaa/toya/run",
        "wheels-v7",
        "wheels-v7/pypi",
        "wheels-v7/pypi/toya",
        "wheels-v7/pypi/toya/1.0",
        "wheels-v7/pypi/toya/1.0.http",
    ]
    assert (tmp_path / "b/wheels-v7/pypi/toya/1.0/__init__.py").exists() is False
    assert (tmp_path / "b/wheels-v7/pypi/toya/1.0/toya/__init__.py").read_text() == "one"
    assert os.access(tmp_path / "b/archive-v0/aaaa/toya/run", os.X_OK)


def test_links_that_an_older_uv_made_absolute_travel(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    link = tmp_path / "a/wheels-v7/pypi/toya/1.0"
    link.unlink()
    link.symlink_to(tmp_path / "a/archive-v0/aaaa")
    shipping.unpack(str(tmp_path / "b"), packed(tmp_path / "a")[0])
    assert os.readlink(tmp_path / "b/wheels-v7/pypi/toya/1.0") == "../../../archive-v0/aaaa"
    link.unlink()
    link.symlink_to("/etc")
    with pytest.raises(ShippingError, match="leads out of it"):
        packed(tmp_path / "a")


def test_unpacking_into_a_cache_keeps_what_releases_share(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    fill(tmp_path / "b", "bbbb", "two")
    (tmp_path / "b/archive-v0/aaaa").mkdir()
    (tmp_path / "b/archive-v0/aaaa/mine").write_text("of a release")
    result = shipping.unpack(str(tmp_path / "b"), packed(tmp_path / "a")[0])
    assert result["new"] == 0
    assert os.listdir(tmp_path / "b/archive-v0/aaaa") == ["mine"]
    assert (tmp_path / "b/archive-v0/bbbb/toya/__init__.py").read_text() == "two"
    assert os.readlink(tmp_path / "b/wheels-v7/pypi/toya/1.0").endswith("aaaa"), "uv's files about it go together"
    assert (tmp_path / "b/wheels-v7/pypi/toya/1.0.http").read_text() == "aaaa"


def bundle(*members: tuple[str, Mapping[str, Any]]) -> io.BytesIO:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, facts in members:
            info = tarfile.TarInfo(name)
            for attribute, value in facts.items():
                setattr(info, attribute, value)
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    file.seek(0)
    return file


FOLDER: dict[str, Any] = {"type": tarfile.DIRTYPE, "mode": 0o755}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("/etc/evil", {"size": 1})], "not a path within"),
        ([("../evil", {"size": 1})], "not a path within"),
        ([("archive-v0", FOLDER), ("archive-v0/../../evil", {"size": 1})], "not a path within"),
        ([("evil", {"size": 1})], "not a path within"),
        ([(".lock", {"size": 1})], "not a path within"),
        ([("archive-v0/x/evil", {"size": 1})], "in no folder"),
        ([("archive-v0", FOLDER), ("archive-v0/l", {"type": tarfile.SYMTYPE, "linkname": "/etc"})], "leads out"),
        ([("archive-v0", FOLDER), ("archive-v0/l", {"type": tarfile.SYMTYPE, "linkname": "../../x"})], "leads out"),
        ([("archive-v0", {"type": tarfile.SYMTYPE, "linkname": "wheels-v0"})], "leads out"),
        ([("archive-v0", FOLDER), ("archive-v0/l", {"type": tarfile.LNKTYPE, "linkname": "archive-v0/x"})], "neither"),
        ([("archive-v0", FOLDER), ("archive-v0/f", {"type": tarfile.FIFOTYPE})], "neither"),
        ([("archive-v0", FOLDER), ("archive-v0/f", {"type": tarfile.CHRTYPE})], "neither"),
        (
            [
                ("archive-v0", FOLDER),
                ("archive-v0/d", FOLDER),
                ("archive-v0/l", {"type": tarfile.SYMTYPE, "linkname": "d"}),
                ("archive-v0/l/evil", {"size": 1}),
            ],
            "in no folder",
        ),
        ([("archive-v0", FOLDER), ("archive-v0/f", {"size": 1}), ("archive-v0/f", {"size": 1})], "twice"),
    ],
)
def test_what_has_no_business_in_a_cache_is_refused_and_nothing_of_it_stays(
    tmp_path: Path, members: list[tuple[str, Mapping[str, Any]]], words: str
) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(ShippingError, match=words):
        shipping.unpack(str(cache), bundle(*members))
    assert tree(tmp_path) == ["cache", "cache/.lock"]


def test_half_a_bundle_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    (tmp_path / "a/archive-v0/aaaa/toya/blob").write_bytes(os.urandom(50_000))
    text = packed(tmp_path / "a")[0].getvalue()
    for broken in (text[: len(text) // 2], b"no archive at all", gzip.compress(b"no tar" * 200)):
        with pytest.raises(ShippingError, match=r"no complete tar\.gz"):
            shipping.unpack(str(tmp_path / "b"), io.BytesIO(broken))
        assert tree(tmp_path / "b") == [".lock"]


def test_no_cache_is_said(tmp_path: Path) -> None:
    with pytest.raises(ShippingError, match="There is no uv cache"):
        packed(tmp_path / "none")


def test_a_cache_that_is_cleaned_right_now_is_waited_for_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "a")
    monkeypatch.setattr(shipping, "LOCK_WAIT", 0.5)
    with subprocess.Popen(["flock", str(tmp_path / "a/.lock"), "sleep", "20"]) as other:
        time.sleep(0.3)
        with pytest.raises(ShippingError, match="is being cleaned"):
            packed(tmp_path / "a")
        other.terminate()


# -- what a host holds -----------------------------------------------------------------------------------------------------


def test_a_host_forgets_what_was_cleaned_out_of_its_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    fill(cache)
    assert shipping.held(str(tmp_path)) == []
    shipping.remember(str(tmp_path), str(cache), "k1", "0" * 64, ["archive-v0/aaaa"])
    for number in range(2, 8):
        shipping.remember(str(tmp_path), str(cache), f"k{number}", "0" * 64, [])
    assert shipping.held(str(tmp_path)) == ["k3", "k4", "k5", "k6", "k7"]
    shipping.remember(str(tmp_path), str(cache), "k1", "0" * 64, ["archive-v0/aaaa"])
    assert shipping.held(str(tmp_path)) == ["k4", "k5", "k6", "k7", "k1"]
    (cache / "archive-v0/aaaa").rename(cache / "gone")
    assert shipping.held(str(tmp_path)) == ["k4", "k5", "k6", "k7"]
    shipping.remember(str(tmp_path), str(tmp_path / "elsewhere"), "k9", "0" * 64, [])
    assert shipping.held(str(tmp_path)) == ["k9"], "another cache is another story"
    (tmp_path / shipping.RECORD).write_text("not json")
    assert shipping.held(str(tmp_path)) == []


# -- as the user -----------------------------------------------------------------------------------------------------------


@as_root
def test_the_users_folder_is_touched_as_the_user(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    account = process.Account("nobody", nobody.pw_uid, nobody.pw_gid, (), "/nonexistent")
    assert shipping.as_user(account, lambda: {"uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups()}) == {
        "uid": nobody.pw_uid,
        "gid": nobody.pw_gid,
        "groups": [],
    }
    # pytest's folders are root's alone; how many there are depends on whether it runs in parallel
    for parent in (tmp_path, *tmp_path.parents):
        if "pytest" in str(parent):
            parent.chmod(0o755)
    fill(tmp_path / "a")
    file = (tmp_path / "bundle").open("w+b")
    shipping.as_user(process.current_account(), lambda: shipping.pack(str(tmp_path / "a"), file))
    assert shipping.sha256_of(file) == shipping.sha256_of(io.BytesIO(packed(tmp_path / "a")[0].getvalue()))
    with pytest.raises(ShippingError, match="PermissionError"):
        shipping.as_user(account, lambda: shipping.unpack(str(tmp_path / "b"), file))
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", nobody.pw_uid, nobody.pw_gid)
    shipping.sha256_of(file)
    shipping.as_user(account, lambda: shipping.unpack(str(tmp_path / "home/.cache/uv"), file))
    assert {path.lstat().st_uid for path in (tmp_path / "home").rglob("*")} == {nobody.pw_uid}


def test_a_child_that_is_killed_is_an_error() -> None:
    def die() -> dict[str, Any]:
        os.kill(os.getpid(), 9)
        return {}

    with pytest.raises(ShippingError, match="was ended"):
        shipping.as_user(process.current_account(), die)


# -- with uv ---------------------------------------------------------------------------------------------------------------


@with_uv
def test_a_real_uv_builds_from_a_shipped_cache_without_index_and_credentials(
    tmp_path: Path, index: Callable[[Path], str]
) -> None:
    for name in ("toya", "toyc"):
        make_wheel(tmp_path / "index" / name, name, "1.0.0")
    address = index(tmp_path / "index")
    (tmp_path / "requirements.txt").write_text("toya\n")

    def install(venv: str, cache: str, package: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / cache), **more}
        python = str(tmp_path / venv / "bin" / "python")
        subprocess.run(
            [UV, "venv", "-q", "--no-project", str(tmp_path / venv)], env=environment, cwd=tmp_path, check=True
        )
        command = [UV, "pip", "install", "--python", python, package]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    build = {"UV_INDEX_URL": address.replace("://", "://deploy:s3cret@")}
    assert install("one", "a", "toya", **build).returncode == 0
    file, _result = packed(tmp_path / "a")
    assert b"s3cret" not in gzip.decompress(file.getvalue())
    shipping.unpack(str(tmp_path / "b"), file)
    received = shipping.for_receiver(build)
    done = install("two", "b", "toya", **received)
    assert done.returncode == 0, done.stderr
    assert install("three", "b", "toyc", **received).returncode != 0
    assert install("four", "c", "toya", UV_INDEX_URL=address).returncode != 0, "the index does ask for credentials"
