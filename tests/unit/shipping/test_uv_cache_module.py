# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module uv_cache: a bundle goes from one cache into another, and is verified before anything is unpacked."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import process, shipping
from ansible_collections.pyfleet.runtime.plugins.modules import uv_cache
from ansible_collections.pyfleet.runtime.tests.unit.uv.modules import run_module

from .test_shipping import UV, fill, tree

pytestmark = pytest.mark.skipif(not os.access(UV, os.X_OK), reason="make setup brings uv")


def run(tmp_path: Path, state: str, cache: str, **more: Any) -> dict[str, Any]:
    (tmp_path / f"{cache}-root" / "shop").mkdir(parents=True, exist_ok=True)
    user = process.current_account().name
    given = {"name": "shop", "state": state, "user": user, "executable": UV, "root": str(tmp_path / f"{cache}-root")}
    return run_module(uv_cache.main, cache_dir=str(tmp_path / cache), **{**given, **more})


def test_a_bundle_goes_from_host_to_host(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    bundle = str(tmp_path / "bundle.tar.gz")
    packed = run(tmp_path, "packed", "a", bundle=bundle, key="k1")
    assert packed["sha256"] == hashlib.sha256(Path(bundle).read_bytes()).hexdigest()
    assert packed["bytes"] == os.path.getsize(bundle)
    assert os.stat(bundle).st_mode & 0o777 == 0o600
    assert packed["entries"] == ["archive-v0/aaaa"]
    assert not packed["changed"]
    received = run(tmp_path, "unpacked", "b", bundle=bundle, sha256=packed["sha256"], key="k1")
    assert received["changed"]
    assert received["entries"] == packed["entries"]
    for name in "ab":
        assert shipping.held(str(tmp_path / f"{name}-root" / "shop")) == ["k1"]


def test_a_flipped_byte_is_refused_before_anything_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "a")
    bundle = tmp_path / "bundle.tar.gz"
    packed = run(tmp_path, "packed", "a", bundle=str(bundle), key="k1")
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(content)
    touched: list[str] = []
    monkeypatch.setattr(shipping, "unpack", lambda cache, _file: touched.append(cache))
    refused = run(tmp_path, "unpacked", "b", bundle=str(bundle), sha256=packed["sha256"], key="k1")
    assert refused["failed"]
    assert refused["msg"].startswith("The bundle of uv's cache is refused: it changed on its way.")
    assert packed["sha256"] in refused["msg"]
    assert touched == []
    assert tree(tmp_path / "b") == []
    assert shipping.held(str(tmp_path / "b-root" / "shop")) == []


def test_a_bundle_that_is_a_link_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    for name in ("link", "missing"):
        assert run(tmp_path, "unpacked", "b", bundle=str(tmp_path / name), sha256="0" * 64, key="k1")["failed"]
    assert "controller fills it in" in run(tmp_path, "unpacked", "b")["msg"]
    fill(tmp_path / "a")
    assert run(tmp_path, "packed", "a", bundle=str(tmp_path / "link"), key="k1")["failed"], "no link is written through"


def test_a_user_or_uv_that_is_not_there_is_said(tmp_path: Path) -> None:
    missing = run(tmp_path, "packed", "a", user="nobody-of-that-name", bundle=str(tmp_path / "x"), key="k")
    assert "There is no user nobody-of-that-name" in missing["msg"]
    without = run(tmp_path, "packed", "a", executable="/nonexistent/uv", bundle=str(tmp_path / "x"), key="k")
    assert "There is no uv on this host" in without["msg"]
    empty = run(tmp_path, "packed", "none", bundle=str(tmp_path / "y"), key="k")
    assert "There is no uv cache" in empty["msg"]


def test_bounded_reports_and_a_dry_run_touches_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    before = tree(tmp_path)
    for state, changed in (("packed", False), ("unpacked", True), ("bounded", False)):
        assert run(tmp_path, state, "a", check=True)["changed"] is changed
    assert [path for path in tree(tmp_path) if not path.startswith("a-root")] == before
    bounded = run(tmp_path, "bounded", "a", max_mb=100)
    assert bounded["cache"]["state"] == "bounded"
    assert not bounded["changed"]
