# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A set of files as one transaction: all of them land, or none does.

What a set wrote is remembered by digest, so that a file that was there before, or that somebody edited since, is never
overwritten silently. While a set is being swapped, the state names the old and the new digest of each file: a run that was
killed in between leaves nothing that the next run would take for somebody's edit.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import hashlib
import json
import os
import pwd
import re
import shlex
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import scrub
from ansible_collections.pyfleet.runtime.plugins.module_utils.systemd import Completed, SystemdError, run_command

STATE_DIR = "/var/lib/pyfleet/sets"
COMMAND_TIMEOUT = 120.0
DIFF_LIMIT = 100_000
TOOL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SET_NAME = re.compile(r"\A[A-Za-z0-9_][A-Za-z0-9_.@:-]*\Z")
_MODE = re.compile(r"\A[0-7]{3,5}\Z")
_UNIT = re.compile(r"\.(service|socket|target|timer|path|mount|automount|swap|slice|scope|device)\Z")

Run = Callable[[Sequence[str], float], Completed]


class FileSetError(Exception):
    """Nothing was changed, or everything was put back; the message says why and what to do, all problems at once."""


@dataclass(frozen=True)
class WantedFile:
    """A file as it should be. `uid` or `gid` None: left as it is. `show` False: content never appears in a diff."""

    path: str
    content: bytes
    mode: int = 0o644
    uid: int | None = None
    gid: int | None = None
    show: bool = True


@dataclass(frozen=True)
class WantedDirectory:
    """A directory as it should be; it is removed with the set only when the set made it and it is empty."""

    path: str
    mode: int = 0o755
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True)
class Command:
    """A check of the staged or the live set. `{staged}` in an argument becomes the root of the staged files.

    A command whose program is missing is an error, unless it is `optional` or this is check mode.
    """

    argv: tuple[str, ...]
    optional: bool = False


@dataclass
class Change:
    """What happens to one path: created, changed, attributes, removed, kept (edited, so not removed)."""

    path: str
    action: str
    before: bytes | None = None
    after: bytes | None = None
    note: str = ""
    show: bool = True


@dataclass
class Outcome:
    """What was, or in check mode would be, done."""

    changes: list[Change] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    backups: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    daemon_reloaded: bool = False

    @property
    def changed(self) -> bool:
        return any(change.action != "kept" for change in self.changes)


@dataclass(frozen=True)
class _Found:
    """A path as it is. `content` None: not a regular file; `exists` False: nothing there."""

    exists: bool
    content: bytes | None = None
    mode: int = 0
    uid: int = -1
    gid: int = -1
    kind: str = ""


NOTHING_THERE = _Found(False)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def parse_mode(value: object) -> int:
    """Octal text as in `"0644"`, or the number that YAML makes of 0644. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("not a mode")
    if isinstance(value, int):
        number = value
    elif _MODE.match(value):
        number = int(value, 8)
    else:
        raise ValueError('not an octal mode such as "0644"')
    if not 0 <= number <= 0o7777:
        raise ValueError('not an octal mode such as "0644"')
    return number


def user_id(name: str) -> int:
    """Raises KeyError for a user that does not exist."""
    return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid


def group_id(name: str) -> int:
    """Raises KeyError for a group that does not exist."""
    return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid


def path_problem(path: str) -> str:
    """Why a path cannot be managed; empty when it can."""
    if not path.startswith("/"):
        return "is not absolute"
    if os.path.normpath(path) != path or path.startswith("//"):
        return f"is not in its plain form, which would be {os.path.normpath(path).replace('//', '/')}"
    if path == "/":
        return "is the root directory"
    if "\0" in path or "\n" in path:
        return "holds a NUL or a line break"
    return ""


def is_unit_file(path: str) -> bool:
    """True for files that systemd reads on daemon-reload: units and their drop-ins."""
    folder, name = os.path.split(path)
    if "/systemd/system" not in folder + "/":
        return False
    return bool(_UNIT.search(name)) or (name.endswith(".conf") and folder.endswith(".d"))


def diff_entry(change: Change) -> dict[str, str]:
    """One entry of Ansible's `diff`; content only where it may be shown."""

    def text(content: bytes | None) -> str:
        if content is None:
            return ""
        if not change.show:
            return "(content not shown)\n"
        if len(content) > DIFF_LIMIT:
            return f"({len(content)} bytes, not shown)\n"
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            return f"(binary, {len(content)} bytes)\n"

    before, after = text(change.before), text(change.after)
    if change.note:
        was, _arrow, becomes = change.note.partition(" -> ")
        before, after = f"{was}\n{before}", f"{becomes}\n{after}"
    elif not change.show and change.before is not None and change.after is not None:
        after = "(content differs, not shown)\n"
    header = f"{change.path} ({change.action})"
    return {"before_header": header, "after_header": header, "before": before, "after": after}


def secrets_of(files: Iterable[WantedFile]) -> list[str]:
    """What of the secret files must not appear in the words of a command: their lines, and the values in them."""
    found: set[str] = set()
    for each in files:
        if each.show:
            continue
        for line in each.content.decode("utf-8", "replace").splitlines():
            value = line.partition("=")[2].strip().strip("\"'")
            found.update(text for text in (line.strip(), value) if len(text) >= 4)
    return sorted(found, key=len, reverse=True)


def _look(path: str) -> _Found:
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING_THERE
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as stream:
            return _Found(True, stream.read(), mode, status.st_uid, status.st_gid, "file")
    kind = "directory" if stat.S_ISDIR(status.st_mode) else "link" if stat.S_ISLNK(status.st_mode) else "special file"
    return _Found(True, None, mode, status.st_uid, status.st_gid, kind)


def _write(path: str, content: bytes, mode: int, uid: int | None, gid: int | None) -> None:
    """Write a new file that nobody else can read before its mode says so."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        if uid is not None or gid is not None:
            os.fchown(stream.fileno(), -1 if uid is None else uid, -1 if gid is None else gid)
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())


def _beside(path: str, word: str) -> str:
    """A name in the same directory that no include pattern matches: hidden, and with another ending."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.pyfleet-{word}")


class FileSet:
    """One named set of files on this host.

    `state_dir` holds what sets wrote; `staging_parent` is where the private staging directory is made; `run` executes
    commands and is injectable for tests. Methods raise FileSetError.
    """

    def __init__(
        self, name: str, state_dir: str = STATE_DIR, staging_parent: str | None = None, run: Run = run_command
    ) -> None:
        if not _SET_NAME.match(name):
            raise FileSetError(
                f"{name!r} cannot name a set of files.\nVariable: set\nRule: letters, digits and ._@:- only, not beginning "
                "with one of .@:-\nNext step: choose another name."
            )
        self.name = name
        self._state_dir = state_dir
        self._state_file = os.path.join(state_dir, name + ".json")
        self._staging_parent = staging_parent
        self._run = run

    # State

    def _load(self, path: str) -> dict[str, Any]:
        try:
            with open(path, encoding="utf-8") as stream:
                state = json.load(stream)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise FileSetError(
                f"{path} cannot be read: {error}\nRule: it holds what this set wrote, and without it nobody's edits can be "
                "told from ours.\nNext step: restore it, or remove it and run again with force: true."
            ) from error
        return state if isinstance(state, dict) else {}

    def _save(self, state: Mapping[str, Any]) -> None:
        os.makedirs(self._state_dir, mode=0o700, exist_ok=True)
        staged = _beside(self._state_file, "new")
        text = json.dumps({"version": 1, "set": self.name, **state}, indent=1, sort_keys=True) + "\n"
        _write(staged, text.encode(), 0o600, None, None)
        os.rename(staged, self._state_file)

    def _forget(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._state_file)

    @contextlib.contextmanager
    def _locked(self, check_mode: bool) -> Iterator[None]:
        if check_mode:
            yield
            return
        os.makedirs(self._state_dir, mode=0o700, exist_ok=True)
        descriptor = os.open(self._state_dir, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _owners(self) -> dict[str, str]:
        """Paths of the other sets."""
        owners: dict[str, str] = {}
        with contextlib.suppress(FileNotFoundError):
            for name in sorted(os.listdir(self._state_dir)):
                if name.endswith(".json") and not name.startswith(".") and name != self.name + ".json":
                    for path in self._load(os.path.join(self._state_dir, name)).get("files", {}):
                        owners[path] = name[:-5]
        return owners

    # Commands

    def _check(
        self, commands: Sequence[Command], what: str, root: str, outcome: Outcome, files: Sequence[WantedFile]
    ) -> None:
        """Run commands; `root` is stripped from their words, so that messages name the real paths."""
        secrets = secrets_of(files)
        for command in commands:
            argv = [argument.replace("{staged}", root) for argument in command.argv]
            shown = shlex.join(command.argv)
            program = shutil.which(argv[0], path=os.environ.get("PATH", "") + ":" + TOOL_PATH)
            if program is None:
                if command.optional:
                    outcome.skipped.append(shown)
                    continue
                raise FileSetError(
                    f"The {what} set cannot be checked: {argv[0]} is not installed.\nCommand: {shown}\n"
                    "Next step: install the package that brings it."
                )
            outcome.commands.append(shown)
            try:
                done = self._run([program, *argv[1:]], COMMAND_TIMEOUT)
            except SystemdError as error:
                done = Completed(-1, "", error.stderr)
            if done.returncode != 0:
                words = "\n".join(part.strip() for part in (done.stdout, done.stderr) if part.strip())
                words = scrub(words.replace(root, "") if root else words, secrets)
                raise FileSetError(
                    f"The {what} set {self.name} is refused by {argv[0]} (status {done.returncode}).\nCommand: {shown}\n{words}\n"
                    "Rule: a set lands as a whole or not at all; the files are as they were.\n"
                    "Next step: correct what it names and run again."
                )

    def _stage(self, files: Sequence[WantedFile], root: str) -> None:
        for each in files:
            path = root + each.path
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _write(path, each.content, each.mode, None, None)

    # The transaction

    def apply(
        self,
        files: Sequence[WantedFile],
        directories: Sequence[WantedDirectory] = (),
        *,
        validate: Sequence[Command] = (),
        verify: Sequence[Command] = (),
        daemon_reload: bool = False,
        force: bool = False,
        backup: bool = False,
        check_mode: bool = False,
    ) -> Outcome:
        """Make the set's files exactly these. In check mode nothing is written; the staged set is validated all the same."""
        # Removing a set from a host that never had one leaves no trace either.
        nothing = not files and not directories and not os.path.isdir(self._state_dir)
        with self._locked(check_mode or nothing):
            return _Transaction(self, files, directories, force, backup).run(
                validate, verify, daemon_reload, check_mode
            )


class _Transaction:
    """One run of `FileSet.apply`."""

    def __init__(
        self,
        owner: FileSet,
        files: Sequence[WantedFile],
        directories: Sequence[WantedDirectory],
        force: bool,
        backup: bool,
    ) -> None:
        self.owner = owner
        self.files = list(files)
        self.directories = list(directories)
        self.force = force
        self.backup = backup
        self.outcome = Outcome()
        self.state = owner._load(owner._state_file)
        self.recorded: dict[str, Any] = dict(self.state.get("files", {}))
        self.pending: dict[str, Any] = dict(self.state.get("pending", {}))
        self.made: list[str] = list(self.state.get("directories", []))
        self.found = {each.path: _look(each.path) for each in self.files}
        self.foreign: list[str] = []
        self.problems: list[str] = []
        self.undo: list[Callable[[], object]] = []
        self.reload_tried = False
        self.leftovers: list[str] = []

    def _ours(self, path: str, found: _Found) -> bool:
        """Whether what lies at a path is what this set wrote, finished or not."""
        if found.content is None:
            return False
        known = {entry.get("sha256") for entry in (self.recorded.get(path), self.pending.get(path)) if entry}
        return digest(found.content) in known

    def _plan_file(self, wanted: WantedFile, owners: Mapping[str, str]) -> None:
        path, found = wanted.path, self.found[wanted.path]
        if path in owners:
            self.problems.append(f"{path} belongs to the set {owners[path]}: take it out of one of the two.")
            return
        if not found.exists:
            self.outcome.changes.append(Change(path, "created", None, wanted.content, show=wanted.show))
            return
        if found.kind == "directory":
            self.problems.append(f"{path} is a directory: move it away.")
            return
        if found.content != wanted.content:
            if not self._ours(path, found):
                known = path in self.recorded or path in self.pending
                if not self.force:
                    why = (
                        "was edited since we wrote it"
                        if known
                        else f"is there already, a {found.kind} that we did not write"
                    )
                    self.problems.append(f"{path} {why}.")
                    return
                self.foreign.append(path)
            self.outcome.changes.append(Change(path, "changed", found.content, wanted.content, show=wanted.show))
            return
        note = self._attributes(found, wanted)
        if note:
            self.outcome.changes.append(Change(path, "attributes", note=note))

    @staticmethod
    def _attributes(found: _Found, wanted: WantedFile | WantedDirectory) -> str:
        before, after = [], []
        if found.mode != wanted.mode:
            before.append(f"mode {found.mode:04o}")
            after.append(f"mode {wanted.mode:04o}")
        if wanted.uid is not None and found.uid != wanted.uid:
            before.append(f"uid {found.uid}")
            after.append(f"uid {wanted.uid}")
        if wanted.gid is not None and found.gid != wanted.gid:
            before.append(f"gid {found.gid}")
            after.append(f"gid {wanted.gid}")
        return f"{', '.join(before)} -> {', '.join(after)}" if before else ""

    def _plan_directory(self, wanted: WantedDirectory) -> None:
        try:
            status = os.stat(wanted.path)
        except FileNotFoundError:
            self.outcome.changes.append(Change(wanted.path, "created", note="absent -> directory"))
            return
        if not stat.S_ISDIR(status.st_mode):
            self.problems.append(f"{wanted.path} is not a directory: move it away.")
            return
        found = _Found(True, None, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, "directory")
        note = self._attributes(found, wanted)
        if note:
            self.outcome.changes.append(Change(wanted.path, "attributes", note=note))

    def _plan_removal(self) -> None:
        wanted = {each.path for each in self.files}
        for path in sorted(set(self.recorded) | set(self.pending)):
            if path in wanted:
                continue
            found = self.found[path] = _look(path)
            if not found.exists:
                continue
            show = not (self.recorded.get(path) or self.pending.get(path) or {}).get("secret")
            if self._ours(path, found):
                self.outcome.changes.append(Change(path, "removed", found.content, None, show=show))
            elif self.force and found.kind != "directory":
                self.foreign.append(path)
                self.outcome.changes.append(Change(path, "removed", found.content, None, show=show))
            else:
                self.outcome.changes.append(Change(path, "kept"))
                self.outcome.warnings.append(
                    f"{path} is no longer part of the set {self.owner.name}, but was edited since we wrote it, so it stays. "
                    "Remove it by hand, or run with force: true."
                )

    def _plan_empty_directories(self) -> None:
        """Directories that the set made and no longer has. Those that only empty with this run go without a word."""
        gone: set[str] = set()
        for folder in self._unneeded():
            if os.path.isdir(folder) and {os.path.join(folder, name) for name in os.listdir(folder)} <= gone:
                gone.add(folder)
                self.outcome.changes.append(Change(folder, "removed", note="directory -> absent"))

    def _unneeded(self) -> list[str]:
        """Directories of the set's making that it does not need any more, deepest first."""
        needed = {directory.path for directory in self.directories}
        for path in [*(each.path for each in self.files), *needed]:
            folder = os.path.dirname(path)
            while folder not in needed:
                needed.add(folder)
                folder = os.path.dirname(folder)
        return sorted((folder for folder in self.made if folder not in needed), key=len, reverse=True)

    def _plan(self) -> None:
        new = {each.path for each in self.files} - set(self.recorded)
        owners = {path: name for path, name in self.owner._owners().items() if path in new} if new else {}
        for directory in self.directories:
            self._plan_directory(directory)
        for each in self.files:
            self._plan_file(each, owners)
        self._plan_removal()
        self._plan_empty_directories()
        if self.problems:
            raise FileSetError(
                "\n".join(
                    [
                        f"Set {self.owner.name}: {len(self.problems)} "
                        f"{'file is' if len(self.problems) == 1 else 'files are'} in the way, nothing was changed:",
                        *(f"- {problem}" for problem in self.problems),
                        "Rule: a file that is not ours, or that was edited, is never overwritten silently.",
                        "Next step: move it away or take its changes over, then run again; or overwrite it with force: true "
                        "(backup: true keeps a copy).",
                    ]
                )
            )

    def _next_state(self) -> dict[str, Any]:
        files = {}
        for each in self.files:
            files[each.path] = {"sha256": digest(each.content), "mode": f"{each.mode:04o}"}
            if not each.show:
                files[each.path]["secret"] = "yes"  # noqa: S105 - a flag
        return {"files": files, "directories": sorted(self.made)}

    def run(
        self, validate: Sequence[Command], verify: Sequence[Command], daemon_reload: bool, check_mode: bool
    ) -> Outcome:
        self._plan()
        outcome = self.outcome
        next_state = self._next_state()
        if not outcome.changed:
            if not check_mode and {name: self.state.get(name) for name in (*next_state, "pending")} != {
                **next_state,
                "pending": None,
            }:
                self._remember(next_state)
                self._clean()
            return outcome
        if validate and self.files:
            self._validate(validate, check_mode)
        if check_mode:
            return outcome
        touched = [change.path for change in outcome.changes if change.action != "kept"]
        reload_units = daemon_reload and any(is_unit_file(path) for path in touched)
        before_files = self.state.get("files", {})
        try:
            # The new digests are known before the first file moves.
            self.owner._save({"files": before_files, "pending": next_state["files"], "directories": sorted(self.made)})
            self.undo.append(lambda: self.owner._save(self.state) if self.state else self.owner._forget())
            self._swap()
            if reload_units:
                self.reload_tried = True
                self._reload()
                outcome.daemon_reloaded = True
            self.owner._check(verify, "live", "", outcome, self.files)
            self._remember(self._next_state())
        except BaseException as error:
            self._roll_back(error)
            if isinstance(error, OSError):
                raise FileSetError(
                    f"Set {self.owner.name}: {error.filename or 'a file'} cannot be written: {error.strerror or error}\n"
                    "Rule: a set lands as a whole or not at all; the files are as they were.\n"
                    "Next step: make room or correct the path, and run again."
                ) from error
            raise
        self._clean()
        return outcome

    def _remember(self, state: Mapping[str, Any]) -> None:
        if state["files"] or state["directories"]:
            self.owner._save(state)
        else:
            self.owner._forget()

    def _validate(self, validate: Sequence[Command], check_mode: bool) -> None:
        root = tempfile.mkdtemp(prefix="pyfleet-set-", dir=self.owner._staging_parent)
        try:
            self.owner._stage(self.files, root)
            commands = [Command(each.argv, True) for each in validate] if check_mode else validate
            self.owner._check(commands, "staged", root, self.outcome, self.files)
        finally:
            shutil.rmtree(root, ignore_errors=True)

    def _reload(self) -> None:
        try:
            done = self.owner._run(["systemctl", "--no-pager", "daemon-reload"], COMMAND_TIMEOUT)
        except SystemdError as error:
            done = Completed(-1, "", error.stderr)
        if done.returncode != 0:
            raise FileSetError(
                f"Set {self.owner.name}: systemctl daemon-reload failed: {done.stderr.strip()}\n"
                "Rule: a set lands as a whole or not at all; the files are as they were.\n"
                "Next step: see `systemctl status` on the host and run again."
            )

    def _make_parents(self, path: str) -> None:
        missing = []
        folder = os.path.dirname(path)
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            os.mkdir(folder, 0o755)
            os.chmod(folder, 0o755)  # noqa: S103 - whatever the umask is
            self._made(folder)

    def _made(self, folder: str) -> None:
        self.made.append(folder)
        self.undo.append(lambda: _remove_directory(folder))

    def _set_directory(self, wanted: WantedDirectory) -> None:
        if not os.path.isdir(wanted.path):
            self._make_parents(wanted.path)
            os.mkdir(wanted.path, 0o700)
            self._made(wanted.path)
        else:
            status = os.stat(wanted.path)
            self.undo.append(lambda: _set_attributes(wanted.path, status.st_mode, status.st_uid, status.st_gid))
        _set_attributes(wanted.path, wanted.mode, wanted.uid, wanted.gid)

    def _keep_copy(self, path: str) -> None:
        copy = f"{path}.{time.strftime('%Y-%m-%dT%H:%M:%S')}~"
        shutil.copy2(path, copy, follow_symlinks=False)
        self.outcome.backups.append(copy)

    def _swap(self) -> None:
        actions = {change.path: change.action for change in self.outcome.changes}
        for directory in self.directories:
            if directory.path in actions:
                self._set_directory(directory)
        # Everything is on its file system before the first file moves: a full disk ends it here.
        moves = []
        for each in self.files:
            if each.path not in actions:
                continue
            found = self.found[each.path]
            if actions[each.path] == "attributes":
                self.undo.append(_restorer(each.path, found))
                _set_attributes(each.path, each.mode, each.uid, each.gid)
                continue
            self._make_parents(each.path)
            staged = _beside(each.path, "new")
            self.undo.append(_remover(staged))
            _write(staged, each.content, each.mode, each.uid, each.gid)
            moves.append((staged, each.path))
        if self.backup:
            for path in self.foreign:
                self._keep_copy(path)
        for staged, path in moves:
            self._set_aside(path)
            os.rename(staged, path)
        for path, action in actions.items():
            if action == "removed" and path in self.found:
                self._set_aside(path)
                os.unlink(path)

    def _set_aside(self, path: str) -> None:
        """Keep what is there under a second name, so that undoing is one rename and gives back the very file."""
        if not self.found[path].exists:
            self.undo.append(_remover(path))
            return
        aside = _beside(path, "old")
        _remover(aside)()
        os.link(path, aside, follow_symlinks=False)
        self.leftovers.append(aside)
        # Renaming one name of a file to another name of the same file does nothing, hence the removal.
        self.undo += [_remover(aside), lambda: os.replace(aside, path)]  # undone from the end

    def _roll_back(self, error: BaseException) -> None:
        failures = []
        for step in reversed(self.undo):
            try:
                step()
            except (OSError, FileSetError) as failure:  # noqa: PERF203 - every step counts
                failures.append(str(failure))
        if self.reload_tried:  # systemd knows the new units and has to read the old ones again
            with contextlib.suppress(FileSetError):
                self._reload()
        if failures:
            raise FileSetError(f"{error}\nNot everything could be put back: {'; '.join(failures)}") from error

    def _clean(self) -> None:
        for path in self.leftovers:
            _remover(path)()
        for path in set(self.pending) | set(self.recorded):  # of a run that was killed
            _remover(_beside(path, "old"))()
            _remover(_beside(path, "new"))()
        self._remove_empty_directories()

    def _remove_empty_directories(self) -> None:
        gone = [folder for folder in self._unneeded() if _remove_directory(folder)]
        if gone:
            self.made = [folder for folder in self.made if folder not in gone]
            self._remember(self._next_state())


def _remove_directory(folder: str) -> bool:
    """Remove a directory that is empty; True when it is gone."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _remover(path: str) -> Callable[[], None]:
    def remove() -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    return remove


def _restorer(path: str, found: _Found) -> Callable[[], None]:
    return lambda: _set_attributes(path, found.mode, found.uid, found.gid)


def _set_attributes(path: str, mode: int, uid: int | None, gid: int | None) -> None:
    if uid is not None or gid is not None:
        os.chown(path, -1 if uid is None else uid, -1 if gid is None else gid)
    os.chmod(path, stat.S_IMODE(mode))
