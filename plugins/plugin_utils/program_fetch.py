# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings one program to the controller, once per checksum: hosts need no way out for it, and get what was checked."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path

from ansible.module_utils.urls import open_url

from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import scrub


class ProgramError(Exception):
    """A program could not be brought: what, the rule and the next step, as text."""

    def __init__(self, what: str, rule: str, next_step: str) -> None:
        super().__init__(f"{what}\nRule:      {rule}\nNext step: {next_step}")


def normal_checksum(text: str) -> str:
    """A sha256 checksum as 64 hexadecimal digits. Raises ProgramError for anything else."""
    digits = text.strip().lower()
    digits = digits.removeprefix("sha256:")
    if len(digits) == 64 and all(digit in "0123456789abcdef" for digit in digits):
        return digits
    raise ProgramError(
        f"This is not a sha256 checksum: {text or '(not set)'}",
        "a program from elsewhere is checked; a checksum is 64 hexadecimal digits, with or without sha256: before them",
        "Take it from the place the program comes from (sha256sum FILE).",
    )


def fetch(name: str, location: str, checksum: str, cache: Path) -> Path:
    """The program on the controller. `location` is a URL or a file there, of the program itself or an archive that holds it.

    `checksum` is that of what lies at the location. Raises ProgramError.
    """
    digits = normal_checksum(checksum)
    target = cache / f"{name}-{digits[:12]}"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (cache / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # many hosts ask for the same program at once
        if target.is_file():
            return target
        content = _read(name, location)
        found = hashlib.sha256(content).hexdigest()
        if found != digits:
            raise ProgramError(
                f"What came as {name} has the checksum {found}, not {digits}.",
                "a program from elsewhere is checked against its checksum",
                "Find out why it differs; only then change the checksum.",
            )
        program = _unpack(name, content)
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as stream:
            stream.write(program)
        os.chmod(stream.name, 0o755)  # noqa: S103 - a program
        os.replace(stream.name, target)
    return target


def _read(name: str, location: str) -> bytes:
    try:
        if "://" in location:
            content: bytes = open_url(location, timeout=300).read()
            return content
        return Path(location).expanduser().read_bytes()
    except Exception as error:
        raise ProgramError(
            f"{name} could not be fetched: {scrub(str(error), ())}",
            "the controller fetches programs, once, from the URL or the file that is set",
            "Check URL or path, proxy and certificates on the controller.",
        ) from error


def _unpack(name: str, content: bytes) -> bytes:
    """The program out of an archive, or the content itself when it is no archive."""
    names: list[str] = []
    if content[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            for member in names:
                if member.rsplit("/", 1)[-1] == name:
                    return archive.read(member)
    elif content[:4] == b"\x7fELF" or content[:2] == b"#!":
        return content
    else:
        with contextlib.suppress(tarfile.TarError, EOFError), tarfile.open(fileobj=io.BytesIO(content)) as tar:
            for item in tar:
                stream = tar.extractfile(item) if item.isfile() else None
                names.append(item.name)
                if stream is not None and item.name.rsplit("/", 1)[-1] == name:
                    return stream.read()
    raise ProgramError(
        f"There is no {name} in what was fetched" + (f"; it holds {', '.join(names[:10])}." if names else "."),
        f"an archive (tar or zip) holds a file of the name {name}; anything else is the program itself",
        "Name the right archive, or the program.",
    )
