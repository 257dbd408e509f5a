# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Telling from a look at the host that a set needs no round trip; in doubt it needs one."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils.file_set import FileSet, WantedFile
from ansible_collections.pyfleet.runtime.plugins.module_utils.set_state import look, settled

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a set of root's files")


class Set:
    """Two files that a set wrote, and the options that describe them."""

    def __init__(self, folder: Path) -> None:
        self.state = str(folder / "state")
        self.unit, self.script = folder / "unit", folder / "script"
        files = [WantedFile(str(self.unit), b"a\n", 0o644, 0, 0), WantedFile(str(self.script), b"b\n", 0o755, 0, 0)]
        FileSet("shop", self.state).apply(files)
        self.options: dict[str, Any] = {
            "set": "shop",
            "daemon_reload": True,
            "files": [
                {"path": str(self.unit), "encoded": base64.b64encode(b"a\n").decode()},
                {"path": str(self.script), "encoded": base64.b64encode(b"b\n").decode(), "mode": "0755"},
            ],
        }

    @property
    def settled(self) -> bool:
        return settled(self.options, look("shop", self.state))


@pytest.fixture
def files(tmp_path: Path) -> Set:
    return Set(tmp_path)


def test_a_set_as_it_was_written_is_settled(files: Set) -> None:
    assert files.settled


def test_an_edited_file_is_not(files: Set) -> None:
    files.unit.write_text("A\n")
    assert look("shop", files.state) == {}
    assert not files.settled


def test_a_missing_file_is_not(files: Set) -> None:
    files.script.unlink()
    assert not files.settled


def test_a_link_in_place_of_a_file_is_not(files: Set) -> None:
    files.script.rename(files.script.with_name("elsewhere"))
    files.script.symlink_to("elsewhere")
    assert not files.settled


@pytest.mark.parametrize(("mode", "owner"), [(0o600, 0), (0o644, 1)])
def test_another_mode_or_owner_is_not(files: Set, mode: int, owner: int) -> None:
    files.unit.chmod(mode)
    os.chown(files.unit, owner, 0)
    assert not files.settled


def test_an_interrupted_run_is_not(files: Set) -> None:
    owner = FileSet("shop", files.state)
    owner._save({**owner._load(owner._state_file), "pending": {str(files.unit): {"sha256": "0"}}})
    assert not files.settled


def test_new_content_one_more_or_one_fewer_file_is_not(files: Set) -> None:
    entries = files.options["files"]
    for changed in (
        [{**entries[0], "encoded": base64.b64encode(b"c\n").decode()}, entries[1]],
        [*entries, {"path": "/x", "encoded": ""}],
        entries[:1],
        [entries[0], entries[1], entries[1]],
    ):
        assert not settled({**files.options, "files": changed}, look("shop", files.state))


@pytest.mark.parametrize("more", [{"owner": "www-data"}, {"secret": True}, {"mode": 0o644}, {"content": "a\n"}])
def test_what_it_cannot_judge_is_not(files: Set, more: dict[str, Any]) -> None:
    entries = files.options["files"]
    assert not settled({**files.options, "files": [{**entries[0], **more}, entries[1]]}, look("shop", files.state))


@pytest.mark.parametrize("known", [None, {}, "x"])
def test_without_a_look_nothing_is(files: Set, known: Any) -> None:
    assert not settled(files.options, known)
    assert not settled({**files.options, "state": "absent"}, look("shop", files.state))
    assert not settled({**files.options, "directories": [{"path": "/x"}]}, look("shop", files.state))


def test_a_host_without_the_set_has_nothing_to_show(tmp_path: Path) -> None:
    assert look("shop", str(tmp_path)) == {}
