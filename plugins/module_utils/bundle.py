# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives for AWS Lambda from a lock file (contract H6): what goes into one, in which form, and how large it gets.

The same content has to give the same bytes, wherever and as whoever it is built. What an installation brings from the machine
that made it (paths, times, who installed) is left out or made constant, and the archive holds names in order, one date and two
file modes.

Everything is pure but what stands under "files".
"""

from __future__ import annotations

import base64
import csv
import email.parser
import hashlib
import io
import json
import os
import posixpath
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding
from ansible_collections.pyfleet.runtime.plugins.module_utils.patterns import fits, parts_of
from ansible_collections.pyfleet.runtime.plugins.module_utils.python_version import satisfies

#: Lambda's name of an architecture -> the wheels' name of it.
ARCHITECTURES = {"x86_64": "x86_64", "arm64": "aarch64"}
FUNCTION, LAYER, CODE = "function", "layer", "code"
#: Bytes that a function and its layers may have together, unpacked, and those of an archive that is uploaded without S3.
UNZIPPED_LIMIT = 262144000
DIRECT_UPLOAD_LIMIT = 52428800
#: Where Lambda's Python looks for packages in a layer.
LAYER_FOLDER = "python/"
#: The default of what `include` does not mean; at the root of the code, but for names with `**`.
EXCLUDED = (
    *("pyproject.toml", "uv.lock", "uv.toml", "*.zip"),
    *("build", "dist", "tests", "**/*.egg-info", "**/node_modules"),
)
#: The earliest date that a zip archive can hold, so that nobody takes it for one that says something.
MOMENT = (1980, 1, 1, 0, 0, 0)
#: The levels of manylinux that uv takes as a platform.
LEVELS = (17, 28, *range(31, 41))
#: Enough packages to find the one that is too large.
BIGGEST = 10

_PATCHES = 100
_VERSION = re.compile(r"3\.[0-9]{1,2}\Z")
_MANYLINUX = re.compile(r"(2014|2_[0-9]{1,2})\Z")
#: What tells when, from where or by whom a package was installed, and uv's lock on the folder.
_OF_THE_INSTALLATION = frozenset({"INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"})
_RECORD = re.compile(r"(?P<root>(?:.*/)?)(?P<info>(?P<name>[^/]+?)-(?P<version>[^/-]+)\.dist-info)/RECORD\Z")
#: The first line of a script that an installer made, and the three lines where the interpreter's path is too long for one.
_SHEBANG = re.compile(rb"#![^\n]*python[0-9.]*[ \t]*\n")
_LONG_SHEBANG = re.compile(rb"#!/bin/sh\n'''exec' [^\n]*python[^\n]*\n' '''\n")
ANY_PYTHON = b"#!/usr/bin/env python3\n"


# -- options ---------------------------------------------------------------------------------------------------------------


def check_options(
    python_version: str, manylinux: str, code_dir: str, patterns: Mapping[str, Sequence[str]]
) -> list[Finding]:
    """Returns what is wrong with options that no file has to be looked at for; all of it at once."""
    found = []
    if not _VERSION.match(python_version) or python_version in ("3.1", "3.2"):
        found.append(finding("lambda_python_version", "python_version", python_version))
    if not _MANYLINUX.match(manylinux):
        found.append(finding("lambda_manylinux", "manylinux", manylinux))
    if leads_out(code_dir):
        found.append(finding("lambda_code_dir", "code_dir", code_dir, what="leads out of the project"))
    for option, given in patterns.items():
        found += [finding("lambda_pattern", option, text) for text in given if leads_out(text) or not text.strip(" /")]
    return found


def leads_out(text: str) -> bool:
    """Whether a relative path may lead elsewhere."""
    return text.startswith("/") or ".." in text.split("/")


def platform(architecture: str, manylinux: str) -> str:
    """Returns the value of uv's `--python-platform`."""
    return "{}-manylinux{}".format(ARCHITECTURES[architecture], manylinux if manylinux == "2014" else "_" + manylinux)


def runs_on(python_version: str, requires: str) -> bool:
    """Whether any patch release of `python_version` (`3.13`) fits `requires`; True where that cannot be judged."""
    minor = int(python_version.partition(".")[2])
    return any(satisfies((3, minor, patch), requires) is not False for patch in range(_PATCHES))


# -- what uv writes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """Where a lock file finds a package that is a folder: `kind` is virtual, editable or directory, `path` relative to the lock."""

    name: str
    kind: str
    path: str


def sources(lock: str) -> list[Source]:
    """Returns the packages of a uv.lock that are folders. A tolerant search: Python 3.9 reads no TOML, and uv writes one form."""
    found = []
    for block in re.split(r"^\[\[package\]\][ \t]*$", lock, flags=re.MULTILINE)[1:]:
        name = re.search(r'^name = "([^"]+)"', block, re.MULTILINE)
        where = re.search(r'^source = \{ (virtual|editable|directory) = ("(?:[^"\\]|\\.)*")', block, re.MULTILINE)
        if name and where:
            found.append(Source(name.group(1), where.group(1), str(json.loads(where.group(2)))))
    return found


def required_python(lock: str) -> str:
    """Returns `requires-python` of a uv.lock or a pylock.toml, or an empty text."""
    match = re.search(r'^requires-python = "([^"]*)"', lock, re.MULTILINE)
    return match.group(1) if match else ""


def for_another_python(pylock: str) -> str:
    """Returns a pylock.toml without `requires-python`: uv would hold it against the Python of this machine, not of the function."""
    return re.sub(r"^requires-python = .*\n", "", pylock, count=1, flags=re.MULTILINE)


def exported_names(pylock: str) -> list[str]:
    """Returns the names of the packages in a pylock.toml."""
    return sorted(set(re.findall(r'^\[\[packages\]\]\nname = "([^"]+)"', pylock, re.MULTILINE)))


def exported_wheels(pylock: str, name: str) -> list[str]:
    """Returns the file names of the wheels of one package in a pylock.toml."""
    wheels = []
    for block in re.split(r"^\[\[packages\]\]$", pylock, flags=re.MULTILINE)[1:]:
        if re.match(rf'\s*name = "{re.escape(name)}"', block):
            wheels += re.findall(r'[/"]([^/"]+\.whl)"', block)
    return sorted(set(wheels))


def local_requirements(text: str) -> list[tuple[str, str]]:
    """Returns path and marker of each line that `uv export --only-emit-local` prints without header, notes and hashes."""
    found = []
    for line in text.splitlines():
        path, _separator, marker = line.partition(" ; ")
        if path.strip() and not path.startswith(("#", " ")):
            found.append((path.strip(), marker.strip()))
    return found


def wheel_tags(name: str) -> str:
    """Returns the tags of a wheel, from its file name: `cp313-cp313-manylinux_2_28_x86_64`."""
    return "-".join(name[: -len(".whl")].split("-")[-3:])


def newer_manylinux(wheels: Iterable[str], architecture: str, python_version: str) -> str | None:
    """Returns the lowest `manylinux` with which one of the wheels would fit (`2_28`); None when the cause is another one."""
    minor = int(python_version.partition(".")[2])
    machine = ARCHITECTURES[architecture]
    needed = []
    for wheel in wheels:
        python, abi, platforms = wheel_tags(wheel).split("-")
        stable = [int(found) for found in re.findall(r"cp3([0-9]+)", python)] if abi == "abi3" else []
        if f"cp3{minor}" in python.split(".") or "py3" in python.split(".") or any(one <= minor for one in stable):
            needed += [int(found) for found in re.findall(rf"manylinux_2_([0-9]+)_{machine}(?![a-z0-9_])", platforms)]
    enough = [level for level in LEVELS if needed and level >= min(needed)]
    return f"2_{enough[0]}" if enough else None


def offered(wheels: Iterable[str], architecture: str) -> str:
    """Returns the tags of wheels for a person who looks for one: those for Linux on the architecture, or else a few of all."""
    tags = sorted(map(wheel_tags, wheels))
    near = [tag for tag in tags if re.search(rf"linux\w*_{ARCHITECTURES[architecture]}(\.|$)", tag)]
    return ", ".join(near[:12] or tags[:6]) or "none"


# -- the code --------------------------------------------------------------------------------------------------------------


class Choice:
    """Which files are the code, by patterns; notes which of the `include` patterns select nothing."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        self.include = list(include)
        self.exclude = list(exclude)
        self.unused = dict.fromkeys(include)
        self._hidden = any(part.startswith(".") for pattern in include for part in parts_of(pattern))

    def enters(self, name: str) -> bool:
        """Whether anything below the folder `name` can be wanted."""
        last = name.rpartition("/")[2]
        if last == "__pycache__" or (last.startswith(".") and not self._hidden):
            return False
        return not any(fits(pattern, name, hidden=True) for pattern in self.exclude)

    def wants(self, name: str) -> bool:
        """Whether the file `name` is wanted."""
        if name.endswith((".pyc", ".pyo")):
            return False
        meant = [pattern for pattern in self.include if fits(pattern, name)]
        if not meant or any(fits(pattern, name, hidden=True) for pattern in self.exclude):
            return False
        for pattern in meant:
            self.unused.pop(pattern, None)
        return True


# -- what an installation brings from its machine ----------------------------------------------------------------------------


def is_of_the_installation(name: str) -> bool:
    """Whether a file of a site folder says something about the installation and nothing about the package."""
    folder, _separator, last = name.rpartition("/")
    return name == ".lock" or (folder.endswith(".dist-info") and "/" not in folder and last in _OF_THE_INSTALLATION)


def portable_script(data: bytes) -> bytes:
    """Returns a script that looks for its Python on PATH if it names one of this machine; anything else as it is."""
    match = _LONG_SHEBANG.match(data) or _SHEBANG.match(data)
    return ANY_PYTHON + data[match.end() :] if match else data


def constant_record(text: str, changed: Mapping[str, bytes], kept: Collection[str]) -> str:
    """Returns a package's RECORD for what is in the archive: in order, with `changed` measured anew and nothing but `kept`."""
    rows = []
    for row in csv.reader(io.StringIO(text)):
        if len(row) != 3 or posixpath.normpath(row[0]) not in kept:
            continue
        data = changed.get(posixpath.normpath(row[0]))
        if data is not None:
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            row[1:] = [f"sha256={digest}", str(len(data))]
        rows.append(row)
    output = io.StringIO()
    csv.writer(output, lineterminator="\n").writerows(sorted(rows))
    return output.getvalue()


# -- the archive ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """One file of an archive: its name there, and its content as `data` or in the file `path`."""

    name: str
    path: Path
    size: int
    executable: bool = False
    data: bytes | None = None

    def read(self) -> bytes:
        """Returns the content."""
        return self.path.read_bytes() if self.data is None else self.data


@dataclass(frozen=True)
class Package:
    """A package in an archive. `size` is in bytes, unpacked; `digest` stands for names and content, and is empty when unknown."""

    name: str
    version: str
    size: int
    digest: str = ""

    def to_dict(self) -> dict[str, object]:
        """The package as the module returns it."""
        return {"name": self.name, "version": self.version, "size": self.size}

    def line(self) -> str:
        """The package as a line of a diff."""
        return f"{self.name}=={self.version}  {self.size} bytes  {self.digest}".rstrip()


@dataclass(frozen=True)
class Member:
    """Size in bytes and checksum of a file in an archive."""

    size: int
    checksum: int = 0


def describe(members: Mapping[str, Member], read: Callable[[str], bytes]) -> tuple[list[Package], list[str]]:
    """Returns the packages of an archive by name, and the names of the files that belong to none: the code."""
    packages: list[Package] = []
    owned: set[str] = set()
    for name in sorted(members):
        match = _RECORD.match(name)
        if match is None or match["root"] not in ("", LAYER_FOLDER):
            continue
        rows = csv.reader(io.StringIO(read(name).decode("utf-8", "replace")))
        own = {posixpath.normpath(match["root"] + row[0]) for row in rows if row} & set(members)
        own |= {other for other in members if other.startswith(f"{match['root']}{match['info']}/")}
        own -= owned
        owned |= own
        metadata = f"{match['root']}{match['info']}/METADATA"
        head = email.parser.HeaderParser().parsestr(
            read(metadata).decode("utf-8", "replace") if metadata in own else ""
        )
        digest = 0
        for each in sorted(own):
            digest = zlib.crc32(f"{each} {members[each].checksum}\n".encode("utf-8", "surrogateescape"), digest)
        packages.append(
            Package(
                str(head.get("Name") or match["name"]),
                str(head.get("Version") or match["version"]),
                sum(members[each].size for each in own),
                f"{digest:08x}" if any(members[each].checksum for each in own) else "",
            )
        )
    packages.sort(key=lambda package: (package.name.lower(), package.version))
    return packages, sorted(set(members) - owned)


def describe_items(items: Iterable[Item]) -> tuple[list[Package], list[str]]:
    """As `describe`, of what is about to be packed."""
    by_name = {item.name: item for item in items}
    return describe({name: Member(item.size) for name, item in by_name.items()}, lambda name: by_name[name].read())


def lines(members: Mapping[str, Member], read: Callable[[str], bytes]) -> str:
    """Returns what an archive holds as the text of a diff: a line per package, and one per file of the code."""
    packages, code = describe(members, read)
    rows = [package.line() for package in packages]
    rows += [f"{name}  {members[name].size} bytes  {members[name].checksum:08x}" for name in code]
    return "".join(row + "\n" for row in rows)


def megabytes(size: int) -> str:
    """Returns a size as Lambda counts: 262144000 bytes are 250.0 MB. Small ones come in kB."""
    return f"{size / 1048576:.1f} MB" if size >= 1048576 else f"{size / 1024:.1f} kB"


def biggest(packages: Iterable[Package], code: int, count: int = BIGGEST) -> list[str]:
    """Returns the largest parts of an archive, one line each; `code` is the size of the code in bytes."""
    parts = [(package.size, f"{package.name} {package.version}") for package in packages]
    parts += [(code, "the code")] if code else []
    parts.sort(key=lambda part: (-part[0], part[1]))
    width = max((len(name) for _size, name in parts[:count]), default=0)
    rows = [f"{name:<{width}}  {megabytes(size):>9}" for size, name in parts[:count]]
    rest = parts[count:]
    return [*rows, f"and {len(rest)} more, {megabytes(sum(size for size, _name in rest))}"] if rest else rows


def merge(items: Iterable[Item]) -> tuple[list[Item], list[Finding]]:
    """Returns items by name, each once, and a finding for every name that has two contents or cannot stand in an archive."""
    merged: dict[str, Item] = {}
    found = []
    for item in items:
        try:
            item.name.encode("utf-8")
        except UnicodeEncodeError:
            found.append(finding("lambda_name", "include", item.name))
            continue
        other = merged.setdefault(item.name, item)
        if other is not item and other.read() != item.read():
            found.append(finding("lambda_clash", "include", item.name))
    return [merged[name] for name in sorted(merged)], found


def write(stream: IO[bytes], items: Iterable[Item]) -> None:
    """Writes the archive: the same items give the same bytes."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in sorted(items, key=lambda item: item.name):
            entry = zipfile.ZipInfo(item.name, MOMENT)
            entry.create_system = 3  # Unix, on any system: the modes below mean nothing otherwise
            entry.external_attr = (stat.S_IFREG | (0o755 if item.executable else 0o644)) << 16
            archive.writestr(entry, item.read(), zipfile.ZIP_DEFLATED, 6)


# -- files -----------------------------------------------------------------------------------------------------------------


def site_items(folder: Path, prefix: str) -> list[Item]:
    """Returns what uv installed into `folder`, without what it brings from this machine, as items below `prefix`."""
    names = {
        path.relative_to(folder).as_posix(): path
        for root, _folders, files in os.walk(str(folder))
        for path in (Path(root) / name for name in files)
    }
    kept = {name: path for name, path in names.items() if not is_of_the_installation(name)}
    changed: dict[str, bytes] = {}
    for name, path in kept.items():
        if name.startswith("bin/") and name.count("/") == 1:
            data = path.read_bytes()
            if portable_script(data) != data:
                changed[name] = portable_script(data)
    for name, path in kept.items():
        match = _RECORD.match(name)
        if match and not match["root"]:
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
            changed[name] = constant_record(text, changed, kept).encode("utf-8", "surrogateescape")
    items = []
    for name, path in kept.items():
        facts = path.stat()
        given = changed.get(name)
        size = facts.st_size if given is None else len(given)
        items.append(Item(prefix + name, path, size, bool(facts.st_mode & stat.S_IXUSR), given))
    return items


def code_items(
    folder: Path, choice: Choice, boundary: Path, without: Collection[Path]
) -> tuple[list[Item], list[Finding]]:
    """Returns the files below `folder` that are wanted, and a finding for each link that cannot be followed.

    Links are followed within `boundary`. Virtual environments and what lies in `without` (resolved paths) are left out.
    """
    items: list[Item] = []
    found: list[Finding] = []
    for name, path in _walk(folder, "", choice, boundary.resolve(), without, ()):
        if path is None:
            found.append(finding("lambda_link", "include", name))
            continue
        facts = path.stat()
        if stat.S_ISREG(facts.st_mode):
            items.append(Item(name, path, facts.st_size, bool(facts.st_mode & stat.S_IXUSR)))
    return items, found


def _walk(
    folder: Path, prefix: str, choice: Choice, boundary: Path, without: Collection[Path], above: tuple[Path, ...]
) -> Iterator[tuple[str, Path | None]]:
    """Yields name and path of every wanted file; no path for a wanted link that leads out, nowhere or into itself."""
    here = folder.resolve()
    for path in sorted(folder.iterdir()):
        name = prefix + path.name
        target = path.resolve()
        if target in without:
            continue
        lost = path.is_symlink() and (not target.exists() or not within(target, boundary) or target in (here, *above))
        if lost:
            if choice.wants(name):
                yield name, None
        elif path.is_dir():
            if choice.enters(name) and not (path / "pyvenv.cfg").exists():
                yield from _walk(path, name + "/", choice, boundary, without, (here, *above))
        elif choice.wants(name):
            yield name, path


def within(path: Path, folder: Path) -> bool:
    """Whether a path is `folder` or lies below it."""
    return path == folder or folder in path.parents


def copy_for_build(source: Path, tree: Path, without: Collection[Path] = (), top: Path | None = None) -> None:
    """Copies a folder to its own absolute path below `tree`, but for `without` (resolved paths) and what was built in it before.

    So a build backend finds its neighbours, leaves nothing in the project, and takes over nothing from an earlier build. `.git`
    becomes a link: versions that follow from it stay what they are.
    """
    top = top or source
    target = tree / str(source).lstrip("/")
    target.mkdir(parents=True, exist_ok=True)
    for entry in sorted(source.iterdir()):
        copy = target / entry.name
        if entry.name == ".git":
            if not copy.is_symlink():
                copy.symlink_to(entry)
        elif entry.is_symlink():
            inside = within(entry.resolve(), top.resolve())
            if not copy.is_symlink():
                copy.symlink_to(os.readlink(str(entry)) if inside else str(entry.resolve()))
        elif entry.is_dir():
            if not _is_built(entry):
                copy_for_build(entry, tree, without, top)
        elif entry.is_file() and entry.resolve() not in without:
            copy.write_bytes(entry.read_bytes())
            copy.chmod(stat.S_IMODE(entry.stat().st_mode) | stat.S_IWUSR)


def _is_built(folder: Path) -> bool:
    """Whether a folder holds what tools made: environments, caches, and what a build of the project beside it left."""
    if folder.name in ("__pycache__", "node_modules", ".tox", ".nox") or folder.name.endswith(".egg-info"):
        return True
    if (folder / "pyvenv.cfg").exists() or (folder / "CACHEDIR.TAG").exists():
        return True
    return folder.name in ("build", "dist") and (folder.parent / "pyproject.toml").exists()


def read_archive(path: Path) -> str | None:
    """Returns what an existing archive holds, as the text of a diff; None when it is not there or no archive."""
    try:
        with zipfile.ZipFile(str(path)) as archive:
            members = {entry.filename: Member(entry.file_size, entry.CRC) for entry in archive.infolist()}
            return lines(members, archive.read)
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError):
        return None


def sha256(path: Path) -> str | None:
    """Returns the checksum of a file in hexadecimal digits, or None when it is not there."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                digest.update(chunk)
    except FileNotFoundError:
        return None
    return digest.hexdigest()
