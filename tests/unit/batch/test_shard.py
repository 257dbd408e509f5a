# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's half of a batch, as far as it goes without systemd: what a shard that ended hands over."""

from __future__ import annotations

import base64
import fcntl
import io
import json
import os
import pwd
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import batch, environment
from ansible_collections.pyfleet.runtime.plugins.module_utils.systemd import Systemd
from ansible_collections.pyfleet.runtime.plugins.modules import batch_shard
from ansible_collections.pyfleet.runtime.tests.unit.uv.modules import run_module

pytestmark = pytest.mark.rule("H7")
SECRET = "correct-horse-battery-staple"


class Host:
    """One shard that has ended on this host."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.folder = root, root / "toy-0123456789ab"
        self.shard = self.folder / "shards" / "0"
        (self.shard / "files").mkdir(parents=True)
        (self.folder / "ready").touch()
        (self.shard / "token").write_text("t")
        (self.shard / "ended").write_text("success\nexited\n0\n99999999999\n")
        (self.shard / "stdout").write_text("")
        (self.shard / "stderr").write_text("")
        settings = root / "environment"
        settings.write_text(environment.to_environment_file({"TOKEN": SECRET}))
        made = batch_shard.Batch.__init__

        def begin(work: Any, module: Any) -> None:
            made(work, module)
            work.environment_file = settings

        monkeypatch.setattr(batch_shard.Batch, "__init__", begin)

    def call(self, state: str, identity: str = "0123456789ab", **more: Any) -> dict[str, Any]:
        shards = [{"number": 0, "token": "t", "attempt": 1, "of": 1, "arguments": [], "stdin": []}]
        return run_module(
            batch_shard.main,
            state=state,
            name="toy",
            id=identity,
            root=str(self.root),
            user=pwd.getpwuid(os.geteuid()).pw_name,
            **{"shards": json.dumps(shards), **more},
        )

    def ended(self) -> dict[str, Any]:
        (told,) = self.call("worked")["ended"]
        result: dict[str, Any] = told
        return result


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_each_name_of_a_file_arrives_and_no_symbolic_link(host: Host) -> None:
    (host.shard / "files" / "a").write_text("content")
    os.link(host.shard / "files" / "a", host.shard / "files" / "b")
    (host.shard / "files" / "c").symlink_to("/etc/passwd")
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(host.ended()["output"]))) as archive:
        found = {member.name: member.isreg() for member in archive if not member.isdir()}
    assert found == {"stdout": True, "stderr": True, "files/a": True, "files/b": True}


@pytest.mark.rule("I")
@pytest.mark.parametrize("cut", range(1, len(SECRET), 5))
def test_i_no_part_of_a_secret_is_among_the_last_words_wherever_they_are_cut(host: Host, cut: int) -> None:
    """Ten lines that are longer than what is shown of them, with a secret across each place where they could be cut."""
    for size in (batch_shard.WORDS, 4 * batch_shard.WORDS):
        (host.shard / "stderr").write_text("x" * 99 + SECRET + "y" * (size - len(SECRET) + cut - 1) + "\nlast\n")
        words = host.ended()["words"]
        assert words.endswith("last")
        for length in range(6, len(SECRET)):
            assert SECRET[-length:] not in words


def test_output_that_cannot_be_packed_is_the_shards_and_not_the_hosts_failure(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object) -> None:
        raise OSError(36, "File name too long")

    monkeypatch.setattr(batch_shard, "_pack", refuse)
    told = host.ended()
    assert (told["result"], told["output"]) == ("output", None)
    assert "File name too long" in told["words"]
    assert batch.verdict(told["result"], told["code"], told["status"], {}) == "has output that cannot be packed"
    assert "File name too long" in host.call("packed", bundle=str(host.root / "bundle"))["problem"]


OTHER = "ba9876543210"


@pytest.fixture
def ready(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host that is prepared without uv and without systemd."""
    there = os.path.isdir
    monkeypatch.setattr(os.path, "isdir", lambda path: path == "/run/systemd/system" or there(path))
    monkeypatch.setattr(batch_shard.Batch, "_sync", lambda *_given: None)
    monkeypatch.setattr(Systemd, "list_units", lambda *_given: [])
    (host.folder / "owner").write_text("mine")
    return host


def prepared(host: Host, owner: str, identity: str = "0123456789ab", **more: Any) -> dict[str, Any]:
    packed = io.BytesIO()
    tarfile.open(fileobj=packed, mode="w:gz").close()
    job = base64.b64encode(packed.getvalue()).decode()
    return host.call("prepared", identity, owner=owner, script="x.py", job=job, build_timeout=1, **more)


@pytest.mark.parametrize("identity", ["0123456789ab", OTHER])
def test_two_batches_of_a_name_do_not_end_each_others_shards(ready: Host, identity: str) -> None:
    """The other one is made of something else, or of the same and has its results elsewhere."""
    refused = prepared(ready, "theirs", identity)
    assert refused["reason"] == "batch_busy"
    assert "batch_takeover: mine" in refused["msg"]
    assert (ready.shard / "ended").exists()
    # The run that is refused tidies up behind itself.
    ready.call("absent", identity, owner="theirs")
    assert (ready.shard / "ended").exists()
    assert prepared(ready, "theirs", identity, takeover="someone").get("failed")
    assert not prepared(ready, "theirs", identity, takeover="mine").get("failed")
    assert ready.call("worked", identity, owner="theirs", wait=0, shards="[]")["ready"]
    # Whose batch it was learns that, and takes nothing away.
    if identity == OTHER:
        assert not ready.folder.exists()
        assert ready.call("worked", owner="mine")["ready"] is False
        assert prepared(ready, "mine")["reason"] == "batch_busy"
    else:
        assert ready.call("worked", owner="mine")["reason"] == "batch_taken"
    ready.call("absent", owner="mine")
    assert (ready.root / f"toy-{identity}" / "ready").exists()
    ready.call("absent", identity, owner="theirs")
    assert {path.name for path in ready.root.iterdir()} == {"environment"}


def test_a_batch_whose_controller_says_nothing_any_more_makes_room(ready: Host) -> None:
    owner = ready.folder / "owner"
    os.utime(owner, (1e9, 1e9))
    assert ready.call("worked", owner="mine", wait=0)["ready"]
    assert prepared(ready, "theirs", OTHER)["reason"] == "batch_busy", "it was heard of just now"
    os.utime(owner, (1e9, 1e9))
    assert not prepared(ready, "theirs", OTHER).get("failed")
    assert not ready.folder.exists()


def test_a_preparation_of_this_batch_that_goes_on_is_waited_for(ready: Host) -> None:
    with (ready.root / "batch-toy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert prepared(ready, "mine")["reason"] == "preparing"
    assert not prepared(ready, "mine").get("failed")


def test_a_script_is_not_run_without_its_arguments(tmp_path: Path) -> None:
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").write_text("#!/bin/sh\necho ran $#\n")
    (tmp_path / ".venv/bin/python").chmod(0o755)
    (tmp_path / "start").write_text(batch.START)
    command = ["bash", str(tmp_path / "start"), str(tmp_path), "script.py"]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == ""
    (tmp_path / "arguments").write_bytes(b"one\0two\0")
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "ran 3\n"
