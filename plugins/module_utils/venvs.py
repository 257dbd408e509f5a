# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual environments that several releases of an application use: an unchanged requirements file installs nothing (B5, B9).

An environment lies where it was built, in `venvs/KEY` of the application's folder, and a release's `.venv` is a link to it. It
counts as built once the marker inside says so; what lacks one is the rest of a build that did not end. `venvs/.links` holds
one link per release that was built on one of them, so that pruning need not search the releases' sources.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

#: Name of the folder below the application's.
FOLDER = "venvs"
#: Written last, into the environment itself.
MARKER = ".pyfleet.json"
KEY = re.compile(r"[0-9a-f]{16}\Z")
LINKS = ".links"
LOCK = ".lock"
SALT = ".salt"
#: Settings that change how an environment is made and not what is in it.
_INDIFFERENT = re.compile(
    r"(UV_(CACHE_DIR|LINK_MODE|NO_PROGRESS|NO_CACHE|HTTP_.*|CONCURRENT_.*|PYTHON_DOWNLOADS|PYTHON_INSTALL_DIR|SYSTEM_CERTS|NATIVE_TLS"
    r"|INDEX_.+_(USERNAME|PASSWORD)|KEYRING_PROVIDER|COMPILE_BYTECODE|PYTHON|CREDENTIALS_DIR|OFFLINE)"
    r"|PIP_(CACHE_DIR|NO_CACHE_DIR|TIMEOUT|DEFAULT_TIMEOUT|RETRIES|QUIET|VERBOSE|PROGRESS_BAR"
    r"|NO_COLOR|NO_INPUT|LOG|DISABLE_PIP_VERSION_CHECK|ROOT_USER_ACTION))\Z"
)


class BusyError(Exception):
    """Another build holds the lock for longer than one wants to wait."""


def normal(name: str) -> str:
    """Returns a distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def steering(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables that decide what is installed from given requirements."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(("UV_", "PIP_")) and not _INDIFFERENT.match(name)
    }


def key_of(salt: bytes, facts: Mapping[str, Any], contents: Iterable[tuple[str, bytes]] = ()) -> str:
    """Returns 16 hexadecimal digits for everything that an environment is made from.

    `facts` is JSON-able; `contents` are files by name. The digest is keyed with the host's own salt, because indexes' passwords are
    among the facts and the key is a folder's name that everyone on the host may read.
    """
    digest = hmac.new(salt, digestmod=hashlib.sha256)
    digest.update(json.dumps(facts, sort_keys=True).encode("utf-8", "surrogatepass"))
    for name, content in contents:
        digest.update(f"\0{name}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        digest.update(content)
    return digest.hexdigest()[:16]


def read_marker(venv: str) -> dict[str, Any] | None:
    """Returns what the marker of an environment says; None when it has none, and so was not built to its end."""
    try:
        stored = json.loads(Path(venv, MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stored if isinstance(stored, dict) else None


def usable(venv: str) -> dict[str, Any] | None:
    """Returns the marker of an environment that was built to its end and whose interpreter is still there."""
    return read_marker(venv) if os.access(os.path.join(venv, "bin", "python"), os.X_OK) else None


def installed(venv: str) -> dict[str, str]:
    """Returns normalized name → version of the distributions in an environment.

    The version of one that an editable installation of the old kind points to is empty.
    """
    found: dict[str, str] = {}
    for folder in sorted(Path(venv).glob("lib/python*/site-packages")):
        for entry in folder.iterdir():
            stem, extension = os.path.splitext(entry.name)
            if extension == ".egg-link":
                found.setdefault(normal(stem), "")
            elif extension in (".dist-info", ".egg-info", ".egg") and "-" in stem:
                parts = stem.split("-")
                found[normal(parts[0])] = parts[1]
    return found


def python_of(venv: str) -> str | None:
    """Returns the Python version that an environment was made for, from its pyvenv.cfg."""
    try:
        text = Path(venv, "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+(?:\.\d+)?)", text, re.MULTILINE)
    return match.group(1) if match else None


class Shelf:
    """The shared environments of one application: `path` is the folder `venvs`, which belongs to root."""

    def __init__(self, path: str) -> None:
        self.path = path

    def venv(self, key: str) -> str:
        """Path of the environment with this key."""
        return os.path.join(self.path, key)

    def create(self) -> None:
        """Makes the folder and what it needs; needs no lock."""
        os.makedirs(os.path.join(self.path, LINKS), mode=0o755, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(os.path.join(self.path, SALT), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))

    def salt(self) -> bytes:
        """Returns the host's own part of every key; empty before the first build."""
        try:
            return Path(self.path, SALT).read_bytes()
        except OSError:
            return b""

    @contextlib.contextmanager
    def locked(self, timeout: float) -> Iterator[None]:
        """Holds the lock of all environments of the application. Raises BusyError after `timeout` seconds."""
        descriptor = os.open(os.path.join(self.path, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = time.monotonic() + timeout
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= end:
                        raise BusyError(f"another build holds {os.path.join(self.path, LOCK)}") from None
                    time.sleep(0.1)
            yield
        finally:
            os.close(descriptor)

    def note(self, link: str) -> None:
        """Remembers the path of a release's `.venv` that leads here; to be called before the link is made."""
        entry = os.path.join(self.path, LINKS, hashlib.sha256(os.fsencode(link)).hexdigest()[:16])
        with contextlib.suppress(FileExistsError):
            os.symlink(link, entry)

    def _uses(self) -> dict[str, str]:
        """Returns the notes by their path: where each release's `.venv` leads."""
        folder = os.path.join(self.path, LINKS)
        uses = {}
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            entry = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                link = os.readlink(entry)
                uses[entry] = os.path.realpath(link) if os.path.islink(link) else ""
        return uses

    def unused(self) -> list[str]:
        """Returns the environments that no release's `.venv` leads to, unfinished ones included, oldest first."""
        if not os.path.isdir(os.path.join(self.path, LINKS)):
            return []  # without notes nothing can be said
        try:
            entries = [
                entry
                for entry in os.scandir(self.path)
                if KEY.match(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
        except OSError:
            return []
        used = set(self._uses().values())
        free = [entry.path for entry in entries if os.path.realpath(entry.path) not in used]
        return sorted(free, key=lambda path: (os.stat(path).st_mtime, path))

    def remove_unused(self, timeout: float = 0.0) -> list[str]:
        """Removes the environments that no release uses and returns their paths; removes nothing while a build runs."""
        if not os.path.isdir(self.path):
            return []
        removed = []
        try:
            with self.locked(timeout):
                for path in self.unused():
                    shutil.rmtree(path, ignore_errors=True)
                    if not os.path.lexists(path):
                        removed.append(path)
                for entry, where in self._uses().items():
                    if not where:
                        os.unlink(entry)
        except BusyError:
            return []
        return removed


def unused(layout_folder: str) -> list[str]:
    """Returns the shared environments of an application that no release uses; `layout_folder` is `Layout.folder`."""
    return Shelf(os.path.join(layout_folder, FOLDER)).unused()


def remove_unused(layout_folder: str, timeout: float = 0.0) -> list[str]:
    """Removes them and returns their paths. Waits `timeout` seconds for a build that runs, then leaves them to the next time."""
    return Shelf(os.path.join(layout_folder, FOLDER)).remove_unused(timeout)


__all__ = [
    "FOLDER", "KEY", "MARKER", "BusyError", "Shelf", "installed", "key_of", "normal", "python_of", "read_marker", "remove_unused",
    "steering", "unused", "usable",
]  # fmt: skip
