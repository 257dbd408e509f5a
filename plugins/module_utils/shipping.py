# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build once, ship many: one host of each kind asks the index, the others build from its uv cache, offline.

A *bundle* is a uv cache as one tar.gz, named after its sha256. Its *key* names what it was made for: lock file or requirements, kind of
host, index settings. Hosts record which keys they hold, so that a new release with the same packages ships nothing.

Packing and unpacking happen in the folder of a user whom nobody has to trust: a child process does it, as that user.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import json
import os
import posixpath
import re
import secrets
import shutil
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import is_true
from ansible_collections.pyfleet.runtime.plugins.module_utils.process import Account

if (
    TYPE_CHECKING
):  # hosts that are only looked at import this module, too, and nothing should cost them what they do not use
    from ansible_collections.pyfleet.runtime.plugins.module_utils.uv import Verdict

BUILDER, RECEIVER, ALONE, NONE = "builder", "receiver", "alone", "none"
#: Name of the record of held bundles, in the application's folder.
RECORD = "uv-cache.json"
#: Keys that a host remembers.
REMEMBERED = 5
#: Seconds to wait for somebody who cleans the cache.
LOCK_WAIT = 30.0
#: Raised when bundles are made differently.
FORMAT = 1

_BUCKET = re.compile(r"[a-z][a-z-]*-v[0-9]+\Z")
#: What uv finds out about a host's interpreters, and environments at their final paths: good on one host only.
_OF_ONE_HOST = re.compile(r"(interpreter|environments|builds|python|binaries|osv)-v[0-9]+\Z")
_CREDENTIALS = re.compile(r"UV_INDEX_\w+_(USERNAME|PASSWORD)\Z|UV_(KEYRING_PROVIDER|PUBLISH_\w+)\Z|PYFLEET_NETRC\Z")
_CREDENTIALS_OF_PIP = re.compile(r"PIP_(KEYRING_PROVIDER|CLIENT_CERT)\Z|SSL_CLIENT_CERT\Z|NETRC\Z")
_ADDRESSES = re.compile(r"(UV|PIP)_\w*(INDEX|INDEX_URL|FIND_LINKS)\Z")
_USER_PART = re.compile(r"(?<=://)[^/@\s]*@")
_MISSING = re.compile(
    r"Because ([\w.-]+) was not found in the cache|Failed to (?:download|fetch|read)[^`]{0,40}`([\w.-]+)"
)
#: Variables that say how uv works here, and not what it looks for.
_INDIFFERENT = re.compile(
    # The branch of NVIDIA's driver, which decides, is part of the kind.
    r"UV_(CUDA_DRIVER_VERSION|CACHE_DIR|LINK_MODE|NO_PROGRESS|HTTP_\w+|CONCURRENT_\w+|COMPILE_BYTECODE|OFFLINE|NATIVE_TLS|SYSTEM_CERTS)\Z"
)


class ShippingError(Exception):
    """A bundle that cannot be made or is refused; the text is for people."""


# -- who builds ------------------------------------------------------------------------------------------------------------


def elect_builders(entries: Mapping[str, Mapping[str, Any]], order: Sequence[str]) -> dict[str, str]:
    """Returns kind → the host that builds for its kind: the first in order that can be reached; pure.

    Of an entry it reads `ship` (`kind` among others), `action` and `outcome`. A kind of which no other host has to build is not in the
    result: its hosts are left to themselves. So are hosts whose kind is empty.
    """
    groups: dict[str, list[str]] = {}
    for host in order:
        entry = entries.get(host, {})
        kind = str((entry.get("ship") or {}).get("kind") or "")
        if kind and not entry.get("outcome"):
            groups.setdefault(kind, []).append(host)
    return {
        kind: hosts[0]
        for kind, hosts in groups.items()
        if any(entries[host].get("action") == "build" for host in hosts[1:])
    }


def role_of(host: str, entries: Mapping[str, Mapping[str, Any]], order: Sequence[str]) -> tuple[str, str]:
    """Returns a host's part and, for a receiver, the name of its builder; pure.

    A builder is one even when it has nothing to build itself: its cache has what others need.
    """
    entry = entries.get(host, {})
    builders = elect_builders(entries, order)
    builder = builders.get(str((entry.get("ship") or {}).get("kind") or ""), "")
    if builder == host:
        return BUILDER, ""
    if entry.get("action") != "build" or entry.get("outcome"):
        return NONE, ""
    return (RECEIVER, builder) if builder else (ALONE, "")


def waiting(builder: str, entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names the hosts that need the bundle of `builder`: its receivers that can still build and do not hold it yet; pure."""
    found = []
    for host, entry in entries.items():
        ship = entry.get("ship") or {}
        receives = (ship.get("role"), ship.get("builder")) == (RECEIVER, builder)
        if receives and not entry.get("outcome") and ship.get("key") not in (ship.get("held") or []):
            found.append(host)
    return sorted(found)


def bundle_key(kind: str, texts: Iterable[tuple[str, bytes]], facts: Mapping[str, Any]) -> str:
    """Returns 16 hexadecimal digits for what a bundle is made for; pure.

    `texts` are the files that say which packages are installed; `facts` is JSON-able and holds no secret.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, kind, facts], sort_keys=True, default=str).encode())
    for name, content in sorted(texts):
        digest.update(f"\0{name}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        digest.update(content)
    return digest.hexdigest()[:16]


def without_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns an environment without what an index asks for: user names, passwords, keyrings, client certificates; pure.

    uv files what it fetched under the address without them, so that the cache is found all the same.
    """
    return {
        name: _USER_PART.sub("", value) if _ADDRESSES.match(name) else value
        for name, value in environment.items()
        if not _CREDENTIALS.match(name) and not _CREDENTIALS_OF_PIP.match(name)
    }


def for_receiver(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the build environment of a host that receives: without credentials, and offline; pure."""
    return {**without_credentials(environment), "UV_OFFLINE": "1"}


def steering(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables that decide what is looked for and where, without credentials; pure."""
    found = without_credentials(environment)
    return {
        name: value
        for name, value in found.items()
        if name.startswith(("UV_", "PIP_")) and not _INDIFFERENT.match(name)
    }


def missing_offline(words: str, environment: Mapping[str, str]) -> Verdict | None:
    """Returns what the words of a build mean that failed because it had no network; None when that is not why; pure."""
    if not is_true(environment.get("UV_OFFLINE", "")):
        return None
    flat = re.sub(r"[\s│├─▶╰×]+", " ", words)
    if not re.search(r"[Nn]etwork (connectivity is|was) disabled|not found in the cache", flat):
        return None
    named = _MISSING.search(flat)
    package = next((part for part in named.groups() if part), "") if named is not None else ""
    from ansible_collections.pyfleet.runtime.plugins.module_utils.uv import Verdict

    return Verdict(
        "package_not_shipped",
        f"{package or 'A package'} is not in uv's cache, and this host builds offline.",
        "app_build: once lets the first host of each kind build; the others receive its uv cache and ask no index",
        f"Deploy again, which ships everything anew. If that does not help, {package or 'the package'} is needed on this host and not on "
        "the one that builds (a hook, a marker, other variables): set app_build: every_host.",
    )


# -- what a host holds -----------------------------------------------------------------------------------------------------


def held(folder: str) -> list[str]:
    """Names the keys of the bundles that a host holds completely; `folder` is the application's.

    What was cleaned out of the cache since then is not held any more.
    """
    record = _read(os.path.join(folder, RECORD))
    cache_dir = str(record.get("cache_dir") or "")
    return [
        key
        for key, one in (record.get("held") or {}).items()
        if cache_dir and all(os.path.isdir(os.path.join(cache_dir, entry)) for entry in one.get("entries", []))
    ]


def remember(folder: str, cache_dir: str, key: str, sha256: str, entries: Sequence[str]) -> None:
    """Records that a host holds a bundle. The folder is root's."""
    path = os.path.join(folder, RECORD)
    record = _read(path)
    known = dict(record.get("held") or {}) if record.get("cache_dir") == cache_dir else {}
    known.pop(key, None)
    known[key] = {"sha256": sha256, "entries": list(entries)}
    names = list(known)[-REMEMBERED:]
    descriptor, scratch = tempfile.mkstemp(dir=folder, prefix=".uv-cache-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"cache_dir": cache_dir, "held": {name: known[name] for name in names}}, file)
    os.replace(scratch, path)


def forget(folder: str) -> None:
    """Lets a host hold nothing any more, so that the next build is sent everything."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(folder, RECORD))


def _read(path: str) -> dict[str, Any]:
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


# -- as the application's user ---------------------------------------------------------------------------------------------


def as_user(account: Account, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Runs `work` in a child process as `account` and returns its JSON-able result. Raises ShippingError with the child's words."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            if account.uid != os.geteuid():
                os.setgroups(list(account.groups))
                os.setgid(account.gid)
                os.setuid(account.uid)
            os.chdir("/")
            os.umask(0o022)
            answer: dict[str, Any] = {"result": work()}
        except ShippingError as error:
            answer = {"error": str(error)}
        except BaseException as error:  # noqa: BLE001 the parent tells it
            answer = {"error": f"{type(error).__name__}: {error}"}
        with os.fdopen(writer, "w", encoding="utf-8") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    answer = json.loads(text) if text else {"error": "the process that worked as the application's user was ended"}
    if "error" in answer:
        raise ShippingError(str(answer["error"]))
    result: dict[str, Any] = answer["result"]
    return result


@contextlib.contextmanager
def _using(cache_dir: str) -> Iterator[None]:
    """Keeps the cache from being cleaned meanwhile, as every uv that uses it does."""
    descriptor = os.open(os.path.join(cache_dir, ".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        deadline = time.monotonic() + LOCK_WAIT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ShippingError(f"uv's cache {cache_dir} is being cleaned by another process.") from None
                time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


# -- bundles ---------------------------------------------------------------------------------------------------------------


def pack(cache_dir: str, file: IO[bytes]) -> dict[str, Any]:
    """Writes a cache into `file` as a tar.gz; returns `entries`, the unpacked packages in it, and `files`."""
    if not os.path.isdir(cache_dir):
        raise ShippingError(f"There is no uv cache {cache_dir} to ship. UV_NO_CACHE, or a build without packages?")
    root = os.path.realpath(cache_dir)
    entries: list[str] = []
    files = 0
    # The same content gives the same bytes.
    with (
        _using(root),
        gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        buckets = (name for name in os.listdir(root) if _BUCKET.match(name) and not _OF_ONE_HOST.match(name))
        for bucket in sorted(buckets, key=lambda name: (not name.startswith("archive-v"), name)):
            for path, info in _members(root, bucket):
                if info.isfile():
                    with open(path, "rb") as content:
                        info.size = os.fstat(content.fileno()).st_size
                        archive.addfile(info, content)
                    files += 1
                else:
                    archive.addfile(info)
                if info.isdir() and info.name.count("/") == 1 and bucket.startswith("archive-v"):
                    entries.append(info.name)
    file.flush()
    return {"entries": entries, "files": files}


def _members(root: str, bucket: str) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Yields what belongs into a bundle, folders before their content."""
    top = os.path.join(root, bucket)
    unpacked = bucket.startswith("archive-v")
    for folder, folders, names in os.walk(top):
        if folder == top:  # of a uv that was interrupted
            folders[:] = [name for name in folders if not name.startswith(".tmp")]
        folders.sort()
        yield folder, _info(root, folder)
        for name in sorted([*folders, *names]):
            path = os.path.join(folder, name)
            is_lock = name.endswith(".lock") and not unpacked and os.path.getsize(path) == 0
            if os.path.islink(path) or (os.path.isfile(path) and not is_lock):
                yield path, _info(root, path)


def _info(root: str, path: str) -> tarfile.TarInfo:
    facts = os.lstat(path)
    info = tarfile.TarInfo(os.path.relpath(path, root))
    info.mtime = int(facts.st_mtime)
    info.mode = 0o755 if facts.st_mode & 0o100 else 0o644
    if stat.S_ISLNK(facts.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, _inside(root, path)
    elif stat.S_ISDIR(facts.st_mode):
        info.type = tarfile.DIRTYPE
    return info


def _inside(root: str, link: str) -> str:
    """Returns where a link of the cache leads, as a relative path: uv up to 0.9 wrote absolute ones."""
    target = os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link)))
    if not target.startswith(root + os.sep):
        real = os.path.realpath(link)  # the cache may be reached through another link
        if not real.startswith(root + os.sep):
            raise ShippingError(f"A link in uv's cache leads out of it: {link}")
        target = real
    return os.path.relpath(target, os.path.dirname(link))


@contextlib.contextmanager
def handed_over(path: str) -> Iterator[IO[bytes]]:
    """A new file, refused where anything is already, which the owner of its folder may read once it is written: the login user."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "w+b") as file:
        yield file
        owner = os.stat(os.path.dirname(path))
        os.fchown(file.fileno(), owner.st_uid, owner.st_gid)


def sha256_of(file: IO[bytes]) -> str:
    """Returns the digest of an open file, which is at its beginning then."""
    file.seek(0)
    digest = hashlib.sha256()
    for chunk in iter(lambda: file.read(1024 * 1024), b""):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()


def unpack(cache_dir: str, file: IO[bytes]) -> dict[str, Any]:
    """Unpacks a bundle into a folder of its own, then renames what is new into it; returns `entries` and how many of them are `new`.

    Refuses everything that is not a folder, a plain file or a link within the cache, before the cache is touched.
    """
    os.makedirs(cache_dir, exist_ok=True)
    cache_dir = os.path.realpath(cache_dir)
    # On the cache's file system, and what an interruption leaves is nothing that `uv cache prune` knows.
    staging = os.path.join(cache_dir, f".incoming-{secrets.token_hex(4)}")
    with _using(cache_dir):
        os.mkdir(staging, 0o700)
        try:
            entries = _extract(staging, file)
            new = [entry for entry in entries if not os.path.isdir(os.path.join(cache_dir, entry))]
            _merge(staging, cache_dir)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return {"entries": entries, "new": len(new)}


def _extract(staging: str, file: IO[bytes]) -> list[str]:
    entries: list[str] = []
    folders = {""}
    try:
        with tarfile.open(fileobj=file, mode="r|gz") as archive:
            for member in archive:
                name = _checked(member)
                path = os.path.join(staging, name)
                parent = posixpath.dirname(name)
                if parent not in folders:  # a folder of the bundle, made here: never a link
                    raise ShippingError(f"The bundle is refused: {name!r} lies in no folder of it.")
                if member.isdir():
                    if name not in folders:
                        os.mkdir(path, 0o755)
                    folders.add(name)
                    if name.startswith("archive-v") and name.count("/") == 1:
                        entries.append(name)
                elif member.issym():
                    os.symlink(member.linkname, path)
                else:
                    content = archive.extractfile(member)
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                    mode = 0o755 if member.mode & 0o100 else 0o644
                    with os.fdopen(os.open(path, flags, mode), "wb") as written:
                        if content is not None:
                            shutil.copyfileobj(content, written, 1024 * 1024)
                    os.utime(path, (member.mtime, member.mtime))
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise ShippingError(f"The bundle is refused: it is no complete tar.gz ({error}).") from error
    except FileExistsError as error:
        raise ShippingError(f"The bundle is refused: it holds {error.filename!r} twice.") from error
    return entries


def _checked(member: tarfile.TarInfo) -> str:
    """Returns the normal name of a member. Raises ShippingError for what has no business in a cache."""
    name = posixpath.normpath(member.name)
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or not _BUCKET.match(parts[0]):
        raise ShippingError(f"The bundle is refused: {member.name!r} is not a path within uv's cache.")
    if member.issym():
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        if member.linkname.startswith("/") or not _BUCKET.match(target.split("/")[0]) or len(parts) == 1:
            raise ShippingError(f"The bundle is refused: the link {name!r} leads out of uv's cache.")
    elif not (member.isdir() or member.isreg()):
        raise ShippingError(f"The bundle is refused: {name!r} is neither a file nor a folder nor a link.")
    return name


def _merge(source: str, target: str) -> None:
    """Renames what is in `source` into `target`. Packages that are there stay: releases share their files."""
    keep = os.path.basename(source).startswith("archive-v")
    for name in sorted(os.listdir(source), key=lambda name: (not name.startswith("archive-v"), name)):
        new, old = os.path.join(source, name), os.path.join(target, name)
        if not _is_folder(old):
            if _is_folder(new) and os.path.lexists(old):
                os.unlink(old)
            os.replace(new, old)
        elif keep:
            continue
        elif _is_folder(new):
            _merge(new, old)
        else:
            shutil.rmtree(old)
            os.replace(new, old)


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


__all__ = [
    "ALONE",
    "BUILDER",
    "NONE",
    "RECEIVER",
    "ShippingError",
    "as_user",
    "bundle_key",
    "elect_builders",
    "for_receiver",
    "forget",
    "held",
    "missing_offline",
    "pack",
    "remember",
    "role_of",
    "sha256_of",
    "steering",
    "unpack",
    "waiting",
    "without_credentials",
]
