# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets Ansible reach its hosts through `count_ssh.sh`, and reads what that wrote down."""

from __future__ import annotations

import pathlib

from ansible_collections.pyfleet.runtime.tests.benchmark.counting import Trip, parse_trips

SHIM = pathlib.Path(__file__).resolve().parent / "count_ssh.sh"


class Recorder:
    """Counts what goes over SSH; `folder` holds its programs and its record."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._record = folder / "trips"
        self._programs = folder / "bin"
        self._programs.mkdir(parents=True, exist_ok=True)
        for name in ("ssh", "scp", "sftp"):
            (self._programs / name).unlink(missing_ok=True)
            (self._programs / name).symlink_to(SHIM)
        self.clear()

    @property
    def ssh(self) -> str:
        """The program to call in place of ssh, with `environment`."""
        return str(self._programs / "ssh")

    @property
    def environment(self) -> dict[str, str]:
        """What makes Ansible use it."""
        programs = {f"ANSIBLE_{name.upper()}_EXECUTABLE": str(self._programs / name) for name in ("ssh", "scp", "sftp")}
        return {**programs, "PYFLEET_SSH_COUNT": str(self._record)}

    def clear(self) -> None:
        """Begin anew."""
        self._record.write_bytes(b"")

    def trips(self) -> list[Trip]:
        """Everything since the last `clear`."""
        return parse_trips(self._record.read_text(encoding="utf-8", errors="replace"))
