# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a set of files is as it should be, told from a look at the host that was taken anyway.

`app_info` looks at the files while it gathers facts, and the action plugin of managed_files compares: a run without changes
then needs no round trip for them. In doubt the answer is no, and the module itself has a look.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

STATE_DIR = "/var/lib/pyfleet/sets"


def look(name: str, state_dir: str = STATE_DIR) -> dict[str, dict[str, Any]]:
    """Path → `sha256`, `mode`, `uid`, `gid` of the set's files as they are; empty when they are not what the set wrote last."""
    try:
        with open(os.path.join(state_dir, name + ".json"), encoding="utf-8") as stream:
            state = json.load(stream)
        if state.get("pending"):
            return {}
        found = {path: _file(path) for path in state["files"]}
        written = {path: str(entry["sha256"]) for path, entry in state["files"].items() if "secret" not in entry}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    return found if {path: facts["sha256"] for path, facts in found.items()} == written else {}


def _file(path: str) -> dict[str, Any]:
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(path)
    with open(path, "rb") as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    return {"sha256": digest, "mode": stat.S_IMODE(status.st_mode), "uid": status.st_uid, "gid": status.st_gid}


def settled(options: Mapping[str, Any], known: Any) -> bool:
    """Whether managed_files, run by root with these options (contents encoded), would find nothing to do."""
    files = options.get("files")
    if not isinstance(known, Mapping) or not known or not isinstance(files, Sequence):
        return False
    if options.get("directories") or options.get("state", "present") != "present":
        return False
    wanted = {}
    for entry in files:
        if not isinstance(entry, Mapping) or not {"path", "encoded"} <= set(entry) <= {"path", "encoded", "mode"}:
            return False
        mode = entry.get("mode", "0644")
        try:
            content = base64.b64decode(entry["encoded"], validate=True)
            number = int(mode, 8) if isinstance(mode, str) else -1
        except (binascii.Error, ValueError, TypeError):
            return False
        wanted[str(entry["path"])] = {"sha256": hashlib.sha256(content).hexdigest(), "mode": number, "uid": 0, "gid": 0}
    return len(wanted) == len(files) and wanted == {path: dict(facts) for path, facts in known.items()}


__all__ = ["STATE_DIR", "look", "settled"]
