# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plugin for the real `keyring`, in the place of those of the clouds: it notes who asks, and reads the password from a file."""

from __future__ import annotations

import zipfile
from pathlib import Path

NAME, VERSION = "keyrings-standin", "1.0"
PLUGIN = '''\
"""Answers from ~/index-token, and notes in ~/keyring.log what it was asked."""
import pathlib

import keyring.backend


class StandIn(keyring.backend.KeyringBackend):
    priority = 9

    def get_password(self, service, username):
        home = pathlib.Path.home()
        with (home / "keyring.log").open("a") as log:
            log.write(f"{service} {username}\\n")
        return (home / "index-token").read_text().strip()

    def set_password(self, service, username, password):
        raise NotImplementedError

    def delete_password(self, service, username):
        raise NotImplementedError
'''


def make_plugin(folder: Path) -> Path:
    """Writes the plugin's wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    module = NAME.replace("-", "_")
    info = f"{module}-{VERSION}.dist-info"
    files = {
        f"{module}.py": PLUGIN,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\nRequires-Dist: keyring\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: stand-in\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[keyring.backends]\nstandin = {module}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    wheel = folder / f"{module}-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return wheel
