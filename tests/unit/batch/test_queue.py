# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch's folder on the controller: what names it, what hosts may put into it, and what forks share."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils.batch import State
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.batch_queue import Queue, identity

pytestmark = pytest.mark.rule("H7")
JOB = {"s.py": b"print(1)"}


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """A batch of forty shards that two hosts work on."""
    made = Queue(str(tmp_path / "results"))
    made.create(State.new("abc", "resize", [[str(number)] for number in range(40)], 2, -1), JOB)
    with made.change() as state:
        state.open({"id": "run"}, ["a", "b"], 2, -1, 0.0)
        state.join("a", os.getpid())
        state.join("b", os.getpid())
    return made


def archive(*members: tuple[str, bytes | str | None]) -> bytes:
    """An archive of files (bytes), links (texts) and folders (None)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            packed.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def test_h7_a_batch_is_named_after_all_that_decides_about_results() -> None:
    base = identity("n", JOB, ["a"], {"env": {"A": "1"}})
    assert base == identity("n", dict(JOB), ["a"], {"env": {"A": "1"}})
    others = [
        identity("m", JOB, ["a"], {"env": {"A": "1"}}),
        identity("n", {"s.py": b"print(2)"}, ["a"], {"env": {"A": "1"}}),
        identity("n", {**JOB, "s.py.lock": b""}, ["a"], {"env": {"A": "1"}}),
        identity("n", JOB, ["b"], {"env": {"A": "1"}}),
        identity("n", JOB, ["a"], {"env": {"A": "2"}}),
    ]
    assert len({base, *others}) == 6


def test_h7_forks_that_claim_at_once_never_get_the_same_shard(queue: Queue) -> None:
    got: list[int] = []

    def work(host: str) -> None:
        while claims := queue.claim(host, 2):
            got.extend(claim.number for claim in claims)

    threads = [threading.Thread(target=work, args=(host,)) for host in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(40))


def test_results_lie_in_their_place_and_only_the_owner_reads_them(queue: Queue) -> None:
    queue.error(3, "first it failed")
    queue.keep(3, archive(("stdout", b"out\n"), ("files", None), ("files/a/b.txt", b"x")))
    place = queue.folder / "shards" / "00003"
    assert (place / "stdout").read_text() == "out\n"
    assert (place / "files" / "a" / "b.txt").read_text() == "x"
    assert not (place / "error").exists()
    assert queue.folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in place.parent.iterdir()] == ["00003"]


@pytest.mark.parametrize(
    "member", [("../evil", b"x"), ("/tmp/evil", b"x"), ("files/link", "/etc/passwd"), ("files/../../evil", b"x")]
)
def test_a_host_writes_nowhere_else_on_the_controller(queue: Queue, member: tuple[str, bytes | str]) -> None:
    with pytest.raises(tarfile.TarError, match="no plain file"):
        queue.keep(1, archive(("stdout", b""), member))
    assert list((queue.folder / "shards").iterdir()) == []
    assert not (queue.folder / "evil").exists()
    assert not (queue.folder / "shards" / "evil").exists()


def test_output_of_all_shards_in_the_order_of_inputs_once_all_are_done(queue: Queue) -> None:
    for number in reversed(range(40)):
        queue.keep(number, archive(("stdout", f"{number}\n".encode())))
    assert queue.finish()["outcome"] == "failed"
    assert not (queue.folder / "stdout").exists()
    for claim in queue.claim("a", 40):
        with queue.change() as state:
            state.done(claim.number, claim.token, "a", 0.0)
    assert queue.finish()["outcome"] == "succeeded"
    assert (queue.folder / "stdout").read_text().split() == [str(number) for number in range(40)]


def test_h7_a_host_whose_process_on_the_controller_was_killed_holds_nobody_up(queue: Queue) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    with queue.change() as state:
        state.join("b", gone.pid)
    assert len(queue.claim("b", 40)) == 40
    assert queue.claim("a", 1) == []
    assert queue.over() is False
    assert len(queue.claim("a", 40)) == 40
    known = queue.known()
    assert known is not None
    assert known.data["hosts"]["b"]["state"] == "failed"


def test_progress_is_told_by_one_of_the_forks(queue: Queue) -> None:
    assert queue.line(0.0) == "batch resize: 0 of 40 shards done"
    queue.claim("a", 1)
    assert queue.line(60.0) == ""
    assert queue.line(0.0) == "batch resize: 0 of 40 shards done, 1 running"
    assert queue.line(0.0) == ""
    assert queue.line(60.0, last=True) == ""


def test_an_error_in_between_changes_nothing(queue: Queue) -> None:
    def breaks() -> None:
        with queue.change() as state:
            state.shards[0]["state"] = "done"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        breaks()
    known = queue.known()
    assert known is not None
    assert known.count("done") == 0


def test_earlier_results_are_set_aside_under_a_name_that_is_free(queue: Queue) -> None:
    first = queue.set_aside()
    assert first == f"{queue.folder}.abc"
    queue.create(State.new("abc", "resize", [["a"]], 1, -1), JOB)
    assert queue.set_aside() == f"{queue.folder}.abc.2"
    assert queue.known() is None


def test_a_file_of_somebody_else_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "batch.json").write_text('{"format": 2}')
    with pytest.raises(ValueError, match="not a batch of this version"):
        Queue(str(tmp_path)).known()


def test_a_folder_that_was_open_to_all_is_the_owners_and_a_batch_that_died_while_it_was_made_is_made_anew(
    tmp_path: Path,
) -> None:
    made = Queue(str(tmp_path))
    tmp_path.chmod(0o755)
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "half").write_text("")
    assert not made.strange()
    made.create(State.new("abc", "resize", [["1"]], 2, -1), JOB)
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["s.py"]
    assert made.strange()
