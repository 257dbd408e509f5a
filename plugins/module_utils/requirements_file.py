# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a requirements file says about the environment made from it (contract B7), read the way pip reads it.

`read` follows every `-r` and `-c`. It resolves nothing: the lines that matter are those which decide whether environments made
from the same files are the same, and those which uv leaves to its command line where pip takes them from the file.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

#: More than people write; a file that includes itself through links must not keep a build busy.
FILE_LIMIT = 200
SIZE_LIMIT = 4 * 1024 * 1024

_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_DIRECT = re.compile(r"^[A-Za-z0-9._-]+\s*(?:\[[^\]]*\])?\s*@\s*(?P<where>\S+)")
_ARCHIVE = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar")
_OPTION = re.compile(r"^(?P<name>--?[A-Za-z][A-Za-z-]*)(?:\s*=\s*|\s+|(?<=^-[A-Za-z]))(?P<value>\S.*)$")
_INCLUDES = frozenset({"-r", "--requirement", "--requirements", "-c", "--constraint", "--constraints"})
_EDITABLE = frozenset({"-e", "--editable"})


def read_file(path: str) -> bytes | None:
    """Returns the content of a regular file; None where there is none that can be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read(SIZE_LIMIT)
    except OSError:
        return None


def decode(content: bytes) -> str:
    """Returns the text as pip reads it: by its byte order mark, else UTF-8."""
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig")):
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    return content.decode("utf-8", "replace")


def lines(text: str) -> Iterator[str]:
    """Yields the lines that say something: continued lines joined, comments removed."""
    joined = ""
    for raw in text.splitlines():
        # A comment ends a continuation, as in pip.
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            joined += raw[:-1]
            continue
        line = _COMMENT.sub("", joined + raw).strip()
        joined = ""
        if line:
            yield line
    line = _COMMENT.sub("", joined).strip()
    if line:
        yield line


@dataclass
class Requirements:
    """What a requirements file and everything it includes say."""

    #: Path and content of each file, in the order of reading.
    files: list[tuple[str, bytes]] = field(default_factory=list)
    #: Paths that were included and are not there.
    missing: list[str] = field(default_factory=list)
    #: Requirements that are directories or files of this host, and editable ones.
    local: list[str] = field(default_factory=list)
    #: Included files that lie on another host.
    remote: list[str] = field(default_factory=list)
    #: Local directories of packages (`--find-links`).
    links: list[str] = field(default_factory=list)
    #: Names of the variables that stand in the files as `${NAME}`.
    variables: set[str] = field(default_factory=set)
    #: Whether a requirement carries a hash: pip then wants one for all of them.
    hashes: bool = False
    #: Options which pip takes from the file and uv from its command line only.
    prereleases: bool = False
    trusted_hosts: list[str] = field(default_factory=list)
    #: Options of the file that uv has not at all.
    unknown: list[str] = field(default_factory=list)

    @property
    def own(self) -> str | None:
        """Why an environment made from these files is good for one release only; None when others may use it too."""
        if self.local:
            return f"the requirements install from the release itself ({self.local[0]})"
        if self.remote:
            return "the requirements include a file from an address, whose content may change"
        return None


def read(
    path: str,
    *,
    directory: str = "",
    is_directory: Callable[[str], bool] = os.path.isdir,
    content_of: Callable[[str], bytes | None] = read_file,
) -> Requirements:
    """Reads a requirements file and what it includes. `directory` is where pip would run: local paths start there.

    An included file is found from the folder of the file that includes it. Never raises for what the files hold.
    """
    found = Requirements()
    waiting = [os.path.abspath(path)]
    known = set(waiting)
    while waiting and len(found.files) < FILE_LIMIT:
        here = waiting.pop(0)
        content = content_of(here)
        if content is None:
            found.missing.append(here)
            continue
        found.files.append((here, content))
        text = decode(content)
        found.variables.update(_VARIABLE.findall(text))
        for line in lines(text):
            for included in _line(found, line, directory or os.path.dirname(here), is_directory):
                target = os.path.abspath(os.path.join(os.path.dirname(here), included))
                if target not in known:
                    known.add(target)
                    waiting.append(target)
    return found


def _line(found: Requirements, line: str, directory: str, is_directory: Callable[[str], bool]) -> list[str]:
    """Notes what one line says; returns the files it includes."""
    if "--hash" in line:
        found.hashes = True
    if not line.startswith("-"):
        if _is_local(line, directory, is_directory):
            found.local.append(line.split(";", maxsplit=1)[0].strip())
        return []
    match = _OPTION.match(line)
    name, value = (match["name"], _unquote(match["value"])) if match else (line.split(maxsplit=1)[0], "")
    if name in _INCLUDES:
        if _ADDRESS.match(value) and not value.startswith("file:"):
            found.remote.append(value)
            return []
        return [re.sub(r"^file:(//)?", "", value)] if value else []
    if name in _EDITABLE:
        found.local.append(value)
    elif name in ("-f", "--find-links"):
        if not _ADDRESS.match(value) or value.startswith("file:"):
            found.links.append(os.path.join(directory, re.sub(r"^file:(//)?", "", value)))
    elif name == "--pre":
        found.prereleases = True
    elif name == "--trusted-host":
        found.trusted_hosts.append(value)
    elif name in ("--prefer-binary", "--use-feature", "--global-option", "--config-settings"):
        found.unknown.append(name)
    return []


def _unquote(value: str) -> str:
    try:
        parts = shlex.split(value)
    except ValueError:
        return value
    return parts[0] if parts else ""


def _is_local(line: str, directory: str, is_directory: Callable[[str], bool]) -> bool:
    """Whether a requirement names a directory or an archive of this host instead of a package of an index."""
    direct = _DIRECT.match(line)
    where = direct["where"] if direct else line.split(";", maxsplit=1)[0].split(" --", maxsplit=1)[0].strip()
    if where.startswith("file:"):
        return True
    if _ADDRESS.match(where):
        return False
    if where.startswith((".", "/", "~")) or direct:
        return True
    path = re.sub(r"\[[^\]]*\]$", "", where)
    if path.lower().endswith(_ARCHIVE):
        return True
    return "/" in path and is_directory(os.path.join(directory, path))


__all__ = ["FILE_LIMIT", "Requirements", "decode", "lines", "read", "read_file"]
