# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch on the controller: its folder of results, and the file with its state, which the forks of all hosts share.

batch.json          state: shards, tries, hosts (only the owner reads the folder: inputs and output may be confidential)
job/                script, lock and files as they were when the batch was opened; a repeated run uses these
shards/00007/       stdout, stderr and files of a shard that is done, error of one that failed
stdout              the output of all shards in the order of the inputs, once all are done
summary.json        what became of the batch
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils.batch import Claim, State
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.source import exclusively


def identity(name: str, job: Mapping[str, bytes], inputs: Sequence[str], relevant: Mapping[str, Any]) -> str:
    """Names a batch after all that decides about its results; slow on purpose, because the environment is part of it."""
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in job.items()}
    made_of = json.dumps([digests, list(inputs), dict(relevant)], sort_keys=True).encode(errors="surrogatepass")
    return hashlib.pbkdf2_hmac("sha256", made_of, name.encode(), 100_000).hex()[:12]


class Queue:
    """The folder of a batch."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._file = self.folder / "batch.json"

    def known(self) -> State | None:
        """The state as it is; None where there is no batch. Raises ValueError for a file that is no such state."""
        try:
            data = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if not isinstance(data, dict) or data.get("format") != 1:
            raise ValueError(f"{self._file} is not a batch of this version of the collection")
        return State(data)

    def strange(self) -> bool:
        """Whether the folder holds anything but a batch that was killed while it was made."""
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        return any(name != "job" and not name.startswith(".") for name in names)

    def create(self, state: State, job: Mapping[str, bytes]) -> None:
        """Makes the folder of a new batch."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # one that was there may be open to others
        shutil.rmtree(self.folder / "job", ignore_errors=True)
        for name, content in job.items():
            path = self.folder / "job" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self._save(state)

    def set_aside(self) -> str:
        """Gives the folder of another batch a name of its own, and returns that."""
        known = self.known()
        base = f"{self.folder}.{known.data['id'] if known else 'old'}"
        names = (base, *(f"{base}.{number}" for number in range(2, 1000)))
        aside = next(name for name in names if not os.path.exists(name))
        self.folder.rename(aside)
        return aside

    @contextlib.contextmanager
    def change(self) -> Iterator[State]:
        """The state, for one fork at a time; written when the block ends well and has changed it: hosts that wait look often."""
        with exclusively(self.folder / ".lock"):
            state = self.known()
            if state is None:
                raise ValueError(f"{self._file} is gone")
            before = json.dumps(state.data)
            yield state
            if json.dumps(state.data) != before:
                self._save(state)

    def claim(self, host: str, room: int) -> list[Claim]:
        """Shards for a host that has room for so many."""
        with self.change() as state:
            return state.claim(host, room, lambda: secrets.token_hex(6), time.time())

    def over(self) -> bool:
        """Whether nothing can come any more. The shards of a host whose process on the controller was killed come to others first."""
        with self.change() as state:
            for host in state.present():
                if not os.path.exists(f"/proc/{state.data['hosts'][host]['pid']}"):
                    state.leave(host, "failed", "its process on the controller ended")
            return state.over()

    def line(self, seconds: float, *, last: bool = False) -> str:
        """The line of progress, for the fork that is the first to ask after so many seconds; empty for all others."""
        with self.change() as state:
            shown = state.data.setdefault("shown", {"at": 0.0, "line": ""})
            line = state.progress()
            if line == shown["line"] or (not last and time.time() - shown["at"] < seconds):
                return ""
            shown.update(at=time.time(), line=line)
            return line

    def keep(self, number: int, packed: bytes | Path) -> None:
        """Puts a shard's results in their place, all at once. Raises tarfile.TarError or OSError for an archive that cannot be one."""
        target = self.folder / "shards" / f"{number:05}"
        target.parent.mkdir(exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix="."))
        try:
            source = io.BytesIO(packed) if isinstance(packed, bytes) else packed.open("rb")
            with source, tarfile.open(fileobj=source, mode="r:gz") as archive:
                _extract(archive, scratch)
            shutil.rmtree(target, ignore_errors=True)
            scratch.rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def error(self, number: int, words: str) -> None:
        """Keeps why a shard failed last."""
        target = self.folder / "shards" / f"{number:05}"
        target.mkdir(parents=True, exist_ok=True)
        (target / "error").write_text(words + "\n", encoding="utf-8")

    def finish(self) -> dict[str, Any]:
        """Writes the summary, and the output of all shards as one file where all are done."""
        with self.change() as state:
            summary = state.summary()
        (self.folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        if summary["outcome"] == "succeeded":
            with open(self.folder / "stdout.new", "wb") as whole:
                for number in range(summary["shards"]):
                    with open(self.folder / "shards" / f"{number:05}" / "stdout", "rb") as part:
                        shutil.copyfileobj(part, whole)
            os.replace(self.folder / "stdout.new", self.folder / "stdout")
        return summary

    def _save(self, state: State) -> None:
        descriptor, scratch = tempfile.mkstemp(dir=self.folder, prefix=".")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(state.data, file)
        os.replace(scratch, self._file)


def _extract(archive: tarfile.TarFile, folder: Path) -> None:
    """Plain files and folders, below the folder: a host is not trusted with paths of the controller."""
    for member in archive:
        name = PurePosixPath(member.name)
        content = archive.extractfile(member) if member.isreg() else None
        if name.is_absolute() or ".." in name.parts or not (content or member.isdir()):
            raise tarfile.TarError(f"{member.name!r} is no plain file of a shard")
        target = folder / name
        if content is None:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with content, target.open("xb") as file:
            shutil.copyfileobj(content, file)
