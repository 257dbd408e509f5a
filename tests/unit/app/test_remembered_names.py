# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run computes each slow digest once, whatever the number of hosts; what it leaves on the controller tells nothing."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.plugin_utils import deployment
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.source import Source

SOURCE = Source("path", "app", "d" * 64, "c" * 40, "", 1, (), {}, {})
SETTINGS = {"name": "shop", "public_port": 8080, "user": "app-shop"}
SECRET = {"PASSWORD": "correct horse"}


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file that gets a byte whenever a slow digest is computed, by whichever process."""
    record = tmp_path / "computed"
    record.touch()
    slow = hashlib.pbkdf2_hmac

    def counting(*arguments: Any) -> bytes:
        with record.open("a") as file:
            file.write(".")
        return slow(*arguments)

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", counting)
    return record


def _ask(folder: str, number: int) -> None:
    names = [deployment.release_id(SETTINGS, SECRET, SOURCE, cache=folder) for _ in range(3)]
    Path(folder, f"asked-{number}").write_text(json.dumps(names))


def test_forks_share_one_computation(computed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    forks = [multiprocessing.get_context("fork").Process(target=_ask, args=(str(folder), n)) for n in range(4)]
    for fork in forks:
        fork.start()
    for fork in forks:
        fork.join()
    answers = {name for path in folder.glob("asked-*") for name in json.loads(path.read_text())}
    assert len(list(folder.glob("asked-*"))) == 4
    assert computed.read_text() == "."
    assert answers == {deployment.release_id(SETTINGS, SECRET, SOURCE)}


def test_every_kind_of_name_is_remembered_and_none_is_mistaken(computed: Path, tmp_path: Path) -> None:
    server = {"nginx": {"users": "admin:secret", "ports": None}}
    folder = str(tmp_path / "run")

    def names(cache: str) -> list[str]:
        return [
            deployment.release_id(SETTINGS, SECRET, SOURCE, cache=cache),
            deployment.release_id(SETTINGS, {"PASSWORD": "correct horsf"}, SOURCE, cache=cache),
            deployment.release_id({**SETTINGS, "name": "stock"}, SECRET, SOURCE, cache=cache),
            deployment.flow_key(SETTINGS, {"a": "b"}, {}, cache=cache),
            deployment.flow_key(SETTINGS, {"a": "c"}, {}, cache=cache),
            deployment.nginx_key(SETTINGS, server, "text", cache=cache),
        ]

    plain = names("")
    assert len(set(plain)) == len(plain)
    assert names(folder) == plain
    assert len(computed.read_text()) == 2 * len(plain)
    assert names(folder) == plain
    assert len(computed.read_text()) == 2 * len(plain)


def test_what_is_remembered_is_named_by_a_key_that_no_other_run_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        monkeypatch.setattr(deployment, "_RUN_KEY", os.urandom(32))
        deployment.release_id(SETTINGS, SECRET, SOURCE, cache=str(tmp_path / name))
    first, second = ({path.name for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert len(first) == len(second) == 2
    assert not first & second
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or path.stat().st_mode & 0o077 == 0 or not path.read_text()
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o700
