# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps uv's cache below a size (contract B5), with uv's own commands and without ever waiting for its lock.

What counts is what the cache alone holds. A file that a release shares with it by a hard link takes no space of its own: to remove it
from the cache would free nothing, and the next release would hold a copy of its own. Such files are bounded by the number of releases.

Facts about uv, tried with 0.9.19 and 0.13.8:

* every uv that uses a cache holds a shared `flock` on `.lock` in it, `uv run PROGRAM` for as long as the program runs;
* `uv cache prune` and `uv cache clean` want it for themselves, wait up to `UV_LOCK_TIMEOUT` seconds and end with status 2; 0 means at once;
* `prune` removes what nothing refers to, and any file in the cache that is not uv's; `clean PACKAGE` removes all versions of a package.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils import process

MEGABYTE = 1024 * 1024
LOCK = ".lock"
#: A size that no cache has: only what nothing refers to is removed.
NO_CAP = 1 << 40
#: Names of packages on one command line.
BATCH = 200
_DIST_INFO = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._]*)-[^-]+\.dist-info\Z")


@dataclass
class Entry:
    """One unpacked package in the cache. `own` and `shared` are in bytes, `used` is when a file of it was last linked or unlinked.

    `folders` are the bytes of its folders, which have no second name: they go to the side that the files are on.
    """

    package: str
    own: int = 0
    shared: int = 0
    used: float = 0.0
    folders: int = 0


@dataclass
class Usage:
    """What a cache takes on the disk, in bytes. Every file counts once, however many names it has.

    `own` would become free if the cache were removed; `shared` has further names outside of it, that is in releases.
    """

    own: int = 0
    shared: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)

    def to_dict(self) -> dict[str, int]:
        """The two figures, as modules return them."""
        return {"own": self.own, "shared": self.shared}


def measure(cache_dir: str) -> Usage:
    """Measures a cache. What vanishes meanwhile does not count; a cache that is not there is empty."""
    usage = Usage()
    seen: dict[tuple[int, int], tuple[int, os.stat_result, str]] = {}
    for path, facts in _walk(cache_dir):
        parts = os.path.relpath(path, cache_dir).split(os.sep)
        entry = os.path.join(*parts[:2]) if len(parts) > 1 and parts[0].startswith("archive-v") else ""
        if entry and len(parts) == 3:
            named = _DIST_INFO.match(parts[2])
            if named is not None:
                usage.entries.setdefault(entry, Entry("")).package = named["name"]
        key = (facts.st_dev, facts.st_ino)
        count = seen[key][0] if key in seen else 0
        seen[key] = (count + 1, facts, entry)
    for count, facts, entry in seen.values():
        is_folder = stat.S_ISDIR(facts.st_mode)
        taken = facts.st_blocks * 512
        own, shared = (0, taken) if facts.st_nlink > count and not is_folder else (taken, 0)
        if not entry:
            usage.own += own
            usage.shared += shared
            continue
        one = usage.entries.setdefault(entry, Entry(""))
        one.folders += taken if is_folder else 0
        one.own += 0 if is_folder else own
        one.shared += shared
        one.used = max(one.used, facts.st_ctime)
    for one in usage.entries.values():
        own, shared = (one.own, one.shared + one.folders) if one.shared else (one.own + one.folders, 0)
        one.own, one.shared, one.folders = own, shared, 0
        usage.own += own
        usage.shared += shared
    return usage


def _walk(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yields everything in and with `folder`; follows no link."""
    try:
        yield folder, os.lstat(folder)
    except OSError:
        return
    waiting = [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as found:
            for entry in found:
                with contextlib.suppress(OSError):
                    facts = entry.stat(follow_symlinks=False)
                    yield entry.path, facts
                    if stat.S_ISDIR(facts.st_mode):
                        waiting.append(entry.path)


def to_evict(usage: Usage, most: int) -> list[str]:
    """Names the packages to remove so that the cache's own size falls to `most` bytes; pure.

    First those that no release uses, the longest unused first. Then those of which a release uses another version: removing them costs
    a download, so the largest gain comes first.
    """
    packages: dict[str, Entry] = {}
    for entry in usage.entries.values():
        if not entry.package:
            continue
        one = packages.setdefault(entry.package, Entry(entry.package))
        # A few files of a package in use are the cache's own, those that uv writes anew at every installation: no gain.
        one.own += 0 if entry.shared else entry.own
        one.shared += entry.shared
        one.used = max(one.used, entry.used)
    unused = sorted((each for each in packages.values() if not each.shared), key=lambda each: (each.used, each.package))
    mixed = [each for each in packages.values() if each.shared and each.own]
    excess = usage.own - most
    chosen = []
    for each in [*unused, *sorted(mixed, key=lambda each: (-each.own, each.package))]:
        if excess <= 0:
            break
        chosen.append(each.package)
        excess -= each.own
    return chosen


def holders(cache_dir: str) -> list[str]:
    """Says who uses the cache right now: names of systemd units, or process ids; empty when nobody does.

    Asks the lock and does not keep it.
    """
    try:
        # The folder is a user's: whatever he makes of the file, opening it neither follows nor waits.
        descriptor = os.open(os.path.join(cache_dir, LOCK), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return []
    except BlockingIOError:
        return _lockers(os.fstat(descriptor).st_ino) or ["another process"]
    except OSError:
        return []
    finally:
        os.close(descriptor)


def _lockers(inode: int) -> list[str]:
    found = []
    with contextlib.suppress(OSError), open("/proc/locks", encoding="ascii") as table:
        for line in table:
            parts = line.split()
            if "->" not in parts and len(parts) > 5 and parts[5].rpartition(":")[2] == str(inode):
                found.append(_unit_of(parts[4]))
    return sorted(set(found))


def _unit_of(pid: str) -> str:
    """Names the unit of a process; its arguments may hold secrets."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
        for part in reversed(re.split(r"[/\n]", file.read())):
            if part.endswith(".service"):
                return part
    return f"process {pid}"


@dataclass
class Report:
    """What became of a cache. `state` is `unbounded`, `missing`, `in_use`, `bounded` or `too_large`; sizes are in bytes."""

    state: str
    cache_dir: str
    max_mb: int
    before: Usage = field(default_factory=Usage)
    after: Usage = field(default_factory=Usage)
    removed: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    note: str = ""

    @property
    def over(self) -> bool:
        """Whether the cache is larger than it may be."""
        return 0 < self.max_mb * MEGABYTE < self.after.own

    @property
    def changed(self) -> bool:
        """Whether the cache got smaller for its size. What `prune` finds now and then is upkeep, and no change."""
        return bool(self.removed)

    def to_dict(self) -> dict[str, Any]:
        """The report as modules return it."""
        return {
            "state": self.state,
            "cache_dir": self.cache_dir,
            "max_mb": self.max_mb,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "removed": list(self.removed),
            "commands": list(self.commands),
            "note": self.note,
            "changed": self.changed,
        }


def find(uv: str, cache_dir: str, account: process.Account, outside: Mapping[str, str]) -> str:
    """Returns where the cache of `account` is: `cache_dir` if given, else what uv says; empty when uv does not."""
    if cache_dir:
        return cache_dir
    environment, _dropped = process.clean_environment(account, {}, outside)
    try:
        done = process.run([uv, "cache", "dir"], cwd="/", environment=environment, account=account, timeout=60)
    except process.ProcessError:
        return ""
    return done.stdout.strip() if done.ok else ""


class _BusyError(Exception):
    """Somebody took the lock between two commands."""


class _FailedError(Exception):
    """uv refused; the text is its own."""


def bound(
    uv: str,
    cache_dir: str,
    user: str,
    max_mb: int,
    *,
    check: bool = False,
    timeout: float = 300.0,
    outside: Mapping[str, str] | None = None,
) -> Report:
    """Prunes a cache and brings it below `max_mb` megabytes; 0 means that it may grow, and nothing is done.

    `cache_dir` may be empty: uv's configuration on the host and the home of `user` decide then. uv runs as `user`, each command for at
    most `timeout` seconds. A cache in use is left alone, with a note. Raises nothing: what goes wrong is in the note, because a
    release serves all the same.
    """
    if max_mb <= 0:
        return Report("unbounded", cache_dir, max_mb)
    try:
        account = process.find_account(user) if user else process.current_account()
    except KeyError:
        return Report("missing", cache_dir, max_mb, note=f"There is no user {user}, and so no cache of his.")
    report = Report("bounded", find(uv, cache_dir, account, outside or {}), max_mb)
    given = {"UV_NO_PROGRESS": "1", "UV_LOCK_TIMEOUT": "0", "UV_OFFLINE": "1", "UV_CACHE_DIR": report.cache_dir}
    environment, _dropped = process.clean_environment(account, given, outside or {})

    def call(*arguments: str) -> None:
        try:
            done = process.run([uv, *arguments], cwd="/", environment=environment, account=account, timeout=timeout)
        except process.ProcessError as error:
            raise _FailedError(str(error)) from error
        report.commands.append(done.command)
        if done.ok:
            return
        if holders(report.cache_dir):
            raise _BusyError
        raise _FailedError(process.tail(done.stderr or done.stdout, 3) or f"it ended with status {done.returncode}")

    try:
        if not report.cache_dir or not os.path.isdir(report.cache_dir):
            report.state = "missing"
            return report
        _bound(report, call, max_mb * MEGABYTE, check)
    except _BusyError:
        report.after = measure(report.cache_dir)
        _say_in_use(report, holders(report.cache_dir))
    except _FailedError as error:
        report.after = measure(report.cache_dir) if report.cache_dir else Usage()
        report.state = "bounded" if report.after.own <= max_mb * MEGABYTE else "too_large"
        report.note = f"uv could not clean its cache {report.cache_dir}: {error}"
    return report


def _bound(report: Report, call: Any, most: int, check: bool) -> None:
    report.before = report.after = measure(report.cache_dir)
    using = holders(report.cache_dir)
    if using:
        _say_in_use(report, using)
        return
    if check:
        # What prune would find is not to be known without pruning: a dry run says what would be too much now.
        report.removed = to_evict(report.before, most)
        return
    call("cache", "prune")
    report.after = measure(report.cache_dir)
    if report.after.own > most:
        _clean(report, call, to_evict(report.after, most))
    if report.after.own > most:
        # Checkouts, sources and wheels that were built have no name that uv takes: everything is what is left.
        call("cache", "clean")
        report.removed = sorted({*report.removed, "(everything)"})
        report.after = measure(report.cache_dir)
    if report.after.own > most:
        report.state = "too_large"
        report.note = (
            f"uv's cache {report.cache_dir} is larger than {report.max_mb} MB, and uv finds nothing in it to remove."
        )


def _clean(report: Report, call: Any, packages: Sequence[str]) -> None:
    for start in range(0, len(packages), BATCH):
        batch = packages[start : start + BATCH]
        call("cache", "clean", *batch)
        report.removed = [*report.removed, *batch]
    report.after = measure(report.cache_dir)


def _say_in_use(report: Report, using: Sequence[str]) -> None:
    report.state = "in_use"
    report.note = (
        f"uv's cache {report.cache_dir} is in use by {', '.join(using) or 'another process'} and was left as it is"
        + (f", although it is larger than app_uv_cache_max_mb ({report.max_mb})" if report.over else "")
        + "."
    )


__all__ = ["NO_CAP", "Entry", "Report", "Usage", "bound", "find", "holders", "measure", "to_evict"]
