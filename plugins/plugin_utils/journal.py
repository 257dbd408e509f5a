# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout has done so far, host by host, for the steps that decide on it and for the report.

Facts of other hosts are dear in Ansible: reading `hostvars` makes every variable of every host anew. Action plugins note what
they learn in a folder of this run of ansible-playbook, one small file per host. It goes with the run; what outlives it is on hosts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible import constants


def run_id() -> str:
    """Names this run of ansible-playbook; Ansible's temporary folder is its own in every run. Twelve hexadecimal digits."""
    given = f"{socket.gethostname()}:{os.path.basename(constants.DEFAULT_LOCAL_TMP)}"
    return hashlib.sha256(given.encode()).hexdigest()[:12]


def _root() -> str:
    return os.path.join(constants.DEFAULT_LOCAL_TMP, "pyfleet-rollout")


class Journal:
    """The notes of one run about one application. A host's file has one writer at a time: Ansible runs one task of a host at once."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    @classmethod
    def of(cls, app: str) -> Journal:
        """The journal of this run of ansible-playbook for the application `app`."""
        return cls(os.path.join(_root(), urllib.parse.quote(app, safe="")))

    @classmethod
    def latest(cls) -> Journal:
        """The journal of the rollout that was opened last, for where the application's name is not known."""
        folders = [path.parent for path in Path(_root()).glob("*/run.json")]
        found = [cls(str(folder)) for folder in folders]
        return max(
            found, key=lambda each: float(each.run().get("started") or 0), default=cls(os.path.join(_root(), "none"))
        )

    def note(self, host: str, **facts: Any) -> None:
        """Adds facts about a host."""
        self._write(self._path(host), {**self.entry(host), "host": host, **facts})

    def entry(self, host: str) -> dict[str, Any]:
        """What is known of a host; empty when nothing is."""
        return self._read(self._path(host))

    def entries(self) -> dict[str, dict[str, Any]]:
        """What is known of all hosts, by name."""
        found = (self._read(path) for path in sorted(self.folder.glob("host-*.json")))
        return {entry["host"]: entry for entry in found if entry}

    def run(self) -> dict[str, Any]:
        """Facts about the run as a whole."""
        return self._read(self.folder / "run.json")

    def note_run(self, **facts: Any) -> None:
        """Adds facts about the run as a whole; for tasks that run once."""
        self._write(self.folder / "run.json", {**self.run(), **facts})

    @contextlib.contextmanager
    def phase(self, host: str, name: str) -> Iterator[dict[str, Any]]:
        """Notes when a phase of a host began and ended. The caller sets `ok` and `words` in what it is given."""
        phase: dict[str, Any] = {"name": name, "started": time.time(), "ended": None, "ok": None, "words": ""}
        others = list(self.entry(host).get("phases", []))
        self.note(host, phases=[*others, phase])
        try:
            yield phase
        finally:
            phase["ended"] = time.time()
            self.note(host, phases=[*others, phase])

    def _path(self, host: str) -> Path:
        return self.folder / f"host-{urllib.parse.quote(host, safe='')}.json"

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return stored if isinstance(stored, dict) else {}

    @staticmethod
    def _write(path: Path, content: dict[str, Any]) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=".")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
        os.replace(scratch, path)
