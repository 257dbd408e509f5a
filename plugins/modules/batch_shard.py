#!/usr/bin/python
# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: batch_shard
short_description: Runs shards of a batch as transient units of systemd
version_added: "0.1.0"
author:
  - pyfleet contributors (@pyfleet)
description:
  - A host's part in a batch. The action M(pyfleet.runtime.batch) calls it, which knows all hosts and all shards; use the role C(batch).
  - A shard is a transient unit with limits, in a sandbox. What it wrote, and how it ended, lies in files, so that whoever asks later
    learns it, too.
options:
  state:
    description:
      - V(prepared) makes the user, unpacks script and files, and brings the script's environment to what its metadata say.
      - V(worked) starts the O(shards) that do not run yet, waits until one of them ends, and returns what ended with its output.
      - V(packed) writes the output of one shard to O(bundle).
      - V(absent) ends and removes all that the batch left on the host.
    type: str
    choices: [prepared, worked, packed, absent]
    required: true
  name:
    description: Name of the batch.
    type: str
    required: true
  id:
    description: Id of the batch, which names what it is made of.
    type: str
    required: true
  owner:
    description: Names the folder of results on the controller. A host works for one owner at a time, as far as one name of a batch goes.
    type: str
    default: ""
  takeover:
    description: Another owner that is known to be dead.
    type: str
    default: ""
  root:
    description: Folder that holds batches.
    type: path
    default: /var/lib/pyfleet/batches
  user:
    description: User that shards run as. It is created when it is missing.
    type: str
    default: pyfleet-batch
  script:
    description: Name of the script among the files of the batch.
    type: str
    default: ""
  job:
    description: Script, lock and files as a base64 text of a gzip'd tar archive, with V(prepared).
    type: str
    default: ""
  job_file:
    description: The same as a file on the host, where it is large.
    type: path
  env:
    description: Environment of the script. What only a build may see (credentials of indexes) reaches the preparation alone.
    type: dict
    default: {}
  executable:
    description: Path of uv.
    type: str
    default: /usr/local/bin/uv
  python_dir:
    description: Folder of the Pythons that uv manages.
    type: path
    default: /opt/pyfleet/python
  build_timeout:
    description: Seconds that the preparation may take.
    type: int
    default: 1800
  options:
    description: Limits of a shard and how it gets its inputs (C(memory_max), C(cpu_quota), C(timeout), C(unit_lines), C(stdin)).
    type: dict
    default: {}
  shards:
    description: >-
      The shards that this host works on, as the JSON text of a list, each with C(number), C(token), C(attempt), C(arguments), C(stdin) and
      C(of).
    type: str
    default: "[]"
  wait:
    description: For how many seconds V(worked) waits for an end.
    type: int
    default: 10
  bundle:
    description: Where V(packed) writes the output of the only one of O(shards).
    type: path
attributes:
  check_mode:
    description: Nothing is predicted; the action that calls this does not in check mode.
    support: none
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Remove what a batch left on a host
  pyfleet.runtime.batch_shard:
    state: absent
    name: resize
    id: 0123456789ab
"""

RETURN = r"""
ended:
  description:
    - Shards that ended, with C(number), C(token), C(result), C(code) and C(status) as systemd tells them, C(seconds), C(words), which is
      the end of the error stream, and C(output), an archive as base64 text where it is small.
  returned: with state worked
  type: list
  elements: dict
running:
  description: Numbers of the shards that go on.
  returned: with state worked
  type: list
  elements: int
ready:
  description: Whether the host is prepared; V(false) asks for that first, as after a restart of the host.
  returned: with state worked
  type: bool
sha256:
  description: Checksum of the bundle.
  returned: with state packed
  type: str
reason:
  description: Why it failed, as a word for programs.
  returned: on failure
  type: str
uv_version:
  description: Version of uv.
  returned: with state prepared
  type: str
commands:
  description: The exact commands of the preparation, without secrets.
  returned: with state prepared
  type: list
  elements: str
"""

import base64
import contextlib
import dataclasses
import fcntl
import glob
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils import batch, process, shipping, uv
from ansible_collections.pyfleet.runtime.plugins.module_utils import environment as app_environment
from ansible_collections.pyfleet.runtime.plugins.module_utils.builder import Builder
from ansible_collections.pyfleet.runtime.plugins.module_utils.systemd import Systemd, SystemdError

RESULTS = ("stdout", "stderr", "files")
#: Output up to this size comes with the module's answer, larger one as a file of its own.
INLINE = 256 * 1024
#: A unit that is gone is looked for this often, in seconds; the file with its end is looked for at every turn.
LOOK = 1.0
TURN = 0.1
#: After so many seconds without a word from its controller a batch counts as dead. Fetching a large output may take long.
SILENT = 900.0
WORDS = 4096
ARGUMENTS: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "choices": ["prepared", "worked", "packed", "absent"], "required": True},
    "name": {"type": "str", "required": True},
    "id": {"type": "str", "required": True},
    "owner": {"type": "str", "default": ""},
    "takeover": {"type": "str", "default": ""},
    "root": {"type": "path", "default": "/var/lib/pyfleet/batches"},
    "user": {"type": "str", "default": "pyfleet-batch"},
    "script": {"type": "str", "default": ""},
    "job": {"type": "str", "default": "", "no_log": True},
    "job_file": {"type": "path"},
    "env": {"type": "dict", "default": {}, "no_log": True},
    "executable": {"type": "str", "default": "/usr/local/bin/uv"},
    "python_dir": {"type": "path", "default": "/opt/pyfleet/python"},
    "build_timeout": {"type": "int", "default": 1800},
    "options": {"type": "dict", "default": {}},
    "shards": {"type": "str", "default": "[]", "no_log": True},
    "wait": {"type": "int", "default": 10},
    "bundle": {"type": "path"},
}


class Batch(Builder):
    """The batch on this host."""

    def __init__(self, module: AnsibleModule) -> None:
        params = module.params
        self.folder = Path(params["root"]) / f"{params['name']}-{params['id']}"
        self.home = Path(params["root"]) / "home"
        self.environment_file = Path(f"/run/pyfleet/batch-{params['name']}-{params['id']}.env")
        # What a build asks of its module.
        params.update(project=str(self.folder), environment_file=None, run_as=params["user"], hook_directory=None)
        params["timeout"] = params["build_timeout"]
        self.job, params["job"] = params["job"], ""  # an echo of it would be longer than the result
        super().__init__(module)
        self.shards: list[dict[str, Any]] = json.loads(params["shards"])
        self.env = app_environment.validate(params["env"] or {})[0]
        self.keep_secret(("env",), self.env)
        self.systemd = Systemd()

    # -- prepared ------------------------------------------------------------------------------------------------------------

    def prepared(self) -> dict[str, Any]:
        """Makes what shards need; a second time only what is missing."""
        if not os.path.isdir("/run/systemd/system"):
            raise uv.UvError(
                "no_systemd",
                "systemd does not run this host.",
                rule="H7: a shard is a transient unit of systemd",
                next_step="Leave this host out of the batch.",
            )
        for option, kind in (("memory_max", "memory"), ("cpu_quota", "cpu")):
            if self.options["options"].get(option) and not _controlled(kind):
                self.module.warn(
                    f"batch_{option} has no effect: systemd has no control group controller {kind} on this host."
                )
        with self._preparing():
            self._prepare()
            self._seen()
        return self.result

    def _prepare(self) -> None:
        self._other_batches()
        account = self._user()
        for folder, mode, group in ((self.folder.parent, 0o755, 0), (self.folder, 0o750, account.gid)):
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
            os.chown(str(folder), 0, group)
            os.chmod(str(folder), mode)
        (self.folder / "owner").write_text(self.options["owner"], encoding="utf-8")
        mark = self.folder / "ready"
        if not mark.exists():
            self._unpack()
            self._sync(account)
            mark.touch()
            self.result["changed"] = True
        self.environment_file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        runtime = {name: value for name, value in self.env.items() if not app_environment.is_build_only(name, value)}
        descriptor = os.open(str(self.environment_file), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(app_environment.to_environment_file(runtime))

    @contextlib.contextmanager
    def _preparing(self) -> Iterator[None]:
        """Keeps out what would end this batch's shards, or have its own ended: another batch of the name, whose controller is at work.

        A preparation of this batch that goes on after its connection broke is waited for.
        """
        self.environment_file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        deadline = time.monotonic() + self.options["build_timeout"]
        self._refuse_others()
        while (lock := self._lock()) is None:
            if time.monotonic() > deadline:
                raise uv.UvError(
                    "preparing",
                    "Another preparation of this batch goes on.",
                    rule="H7: the preparation ends within batch_build_timeout",
                    next_step="Look for a process of uv on the host, and end it.",
                )
            time.sleep(TURN)
            self._refuse_others()
        with lock:
            self._refuse_others()
            yield

    def _lock(self) -> IO[str] | None:
        """The lock of this name of a batch, if nobody holds it."""
        path = self.environment_file.parent / f"batch-{self.options['name']}.lock"
        lock = path.open("w")
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have removed it.
            if os.path.samestat(os.fstat(lock.fileno()), os.stat(str(path))):
                return lock
        lock.close()
        return None

    def _refuse_others(self) -> None:
        for folder in self._folders():
            try:
                owner = (folder / "owner").read_text(encoding="utf-8")
                silent = time.time() - (folder / "owner").stat().st_mtime
            except OSError:
                continue
            if owner not in (self.options["owner"], self.options["takeover"]) and silent < SILENT:
                raise uv.UvError(
                    "batch_busy",
                    f"Another batch named {self.options['name']} is at work on this host.",
                    rule="H7: one batch of a name works on a host at a time; they would end each other's shards",
                    next_step=f"Wait for it, or choose another batch_name. When it is known to be dead: batch_takeover: {owner}.",
                    facts=[("Last heard of", f"{silent:.0f} seconds ago")],
                )

    def _owned(self) -> bool:
        """Whether the folder is not another owner's by now."""
        try:
            owner = (self.folder / "owner").read_text(encoding="utf-8")
        except OSError:
            return True
        return bool(owner == self.options["owner"])

    def _seen(self) -> None:
        with contextlib.suppress(OSError):
            os.utime(str(self.folder / "owner"))

    def _user(self) -> process.Account:
        name = self.options["user"]
        try:
            return process.find_account(name)
        except KeyError:
            command = ["useradd", "--system", "--user-group", "--create-home", "--home-dir", str(self.home)]
            self.home.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            done = subprocess.run(
                [*command, "--shell", "/usr/sbin/nologin", name], capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise uv.UvError(
                    "user_missing",
                    f"The user {name} cannot be created.",
                    words=done.stderr,
                    rule="H7: shards run as a user of their own",
                    next_step="Create the user, or set batch_user.",
                )
            return process.find_account(name)

    def _unpack(self) -> None:
        """Writes script, lock and files, which the user may read and not change."""
        shutil.rmtree(str(self.folder / "job"), ignore_errors=True)
        given = self.options["job_file"]
        content = Path(given).read_bytes() if given else base64.b64decode(self.job)
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for member in archive:
                target = self.folder / "job" / member.name
                file = archive.extractfile(member)
                if file is None or ".." in target.parts or member.name.startswith("/"):
                    raise uv.UvError(
                        "job_invalid",
                        f"{member.name} cannot be a file of a batch.",
                        rule="H7: a batch brings its script and plain files",
                        next_step="Run the batch with the collection's own action, pyfleet.runtime.batch.",
                    )
                target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                with file, target.open("wb") as written:
                    shutil.copyfileobj(file, written)
                target.chmod(0o644)
        for name, text in (("start", batch.START), ("ended", batch.ENDED)):
            (self.folder / name).write_text(text, encoding="utf-8")
            (self.folder / name).chmod(0o755)

    def _sync(self, account: process.Account) -> None:
        """Makes the script's environment, so that starting a shard resolves nothing and needs no network."""
        script = self.folder / "job" / self.options["script"]
        venv = self.folder / ".venv"
        shutil.rmtree(str(venv), ignore_errors=True)
        venv.mkdir(mode=0o755)
        os.chown(str(venv), account.uid, account.gid)
        given = {**self.env, "UV_NO_PROGRESS": "1", "VIRTUAL_ENV": str(venv)}
        if os.path.isdir(self.options["python_dir"]):
            given.setdefault("UV_PYTHON_INSTALL_DIR", self.options["python_dir"])
        environment, _dropped = process.clean_environment(account, given, os.environ)
        executable = self.find_uv(environment["PATH"] + ":" + os.environ.get("PATH", ""), environment, account)
        locked = ["--locked"] if Path(f"{script}.lock").exists() else []
        command = [executable, "sync", *locked, "--no-progress", "--active", "--script", str(script)]
        done = self.run(command, environment, account, directory=str(self.folder))
        if done.ok:
            return
        verdict = uv.classify_failure(done.stderr)
        if done.timed_out:
            rule = "H7: the preparation ends within batch_build_timeout"
            verdict = uv.late("uv", self.options["timeout"], "batch_build_timeout", rule)
        elif verdict.reason == "lock_stale":
            verdict = dataclasses.replace(
                verdict,
                what=f"{script.name}.lock does not match {script.name}.",
                next_step=f"Run `uv lock --script {script.name}` and start the batch again.",
            )
        raise uv.UvError(
            verdict.reason,
            verdict.what,
            words=uv.error_words(done.stderr),
            rule=verdict.rule,
            next_step=verdict.next_step,
            facts=[("Script", script.name), ("Command", done.command), ("Status", str(done.returncode))],
        )

    def _other_batches(self) -> None:
        """What an earlier batch of this name left here when its host was lost."""
        for folder in self._folders():
            if folder != self.folder:
                self._remove(folder, folder.name.rpartition("-")[2])

    def _folders(self) -> list[Path]:
        """Folders of batches of this name."""
        start = f"{self.options['name']}-"
        found = [Path(each) for each in glob.glob(str(self.folder.parent / f"{start}*"))]
        return [each for each in found if re.match("[0-9a-f]{12}\\Z", each.name[len(start) :])]

    # -- worked --------------------------------------------------------------------------------------------------------------

    def worked(self) -> dict[str, Any]:
        """Starts what does not run, waits until something ends, and hands that over."""
        self.result.update(
            ended=[], running=[], ready=(self.folder / "ready").exists() and self.environment_file.exists()
        )
        if not self._owned():
            raise uv.UvError(
                "batch_taken",
                f"Another run has taken this host's part of the batch {self.options['name']} over.",
                rule="H7: one batch of a name works on a host at a time; they would end each other's shards",
                next_step="Let the other run end, then run this batch again: it does what is missing.",
            )
        self._seen()
        if not self.result["ready"]:
            return self.result
        # A script may print what it was given; its last words are shown.
        text = self.environment_file.read_text(encoding="utf-8", errors="surrogateescape")
        self.secrets += app_environment.secret_values(app_environment.parse_environment_file(text))
        wanted = {int(shard["number"]): shard for shard in self.shards}
        self._forget_others(wanted)
        for shard in wanted.values():
            self._start(shard)
        deadline = time.monotonic() + self.options["wait"]
        looked = time.monotonic()
        left = dict(wanted)
        while left:
            for number in [number for number in left if (self._shard(number) / "ended").exists()]:
                self.result["ended"].append(self._end(left.pop(number)))
            if self.result["ended"] or time.monotonic() >= deadline:
                break
            if time.monotonic() - looked >= LOOK:
                looked = time.monotonic()
                for number in self._vanished(left):
                    self.result["ended"].append(self._end(left.pop(number)))
            time.sleep(TURN)
        self.result["running"] = sorted(left)
        return self.result

    def _shard(self, number: int) -> Path:
        return self.folder / "shards" / str(number)

    def _unit(self, number: int) -> str:
        return batch.unit_name(self.options["name"], self.options["id"], number)

    def _forget_others(self, wanted: dict[int, dict[str, Any]]) -> None:
        """Shards that ended and were handed over, or that another host has by now."""
        for folder in (self.folder / "shards").glob("*"):
            if not folder.name.isdigit() or int(folder.name) not in wanted:
                self._stop(self._unit(int(folder.name)))
                shutil.rmtree(str(folder), ignore_errors=True)

    def _start(self, shard: dict[str, Any]) -> None:
        """Starts a shard, unless this very attempt was started before."""
        number, folder = int(shard["number"]), self._shard(int(shard["number"]))
        try:
            if (folder / "token").read_text(encoding="utf-8") == shard["token"]:
                return
        except OSError:
            pass
        self._stop(self._unit(number))
        shutil.rmtree(str(folder), ignore_errors=True)
        account = process.find_account(self.options["user"])
        folder.mkdir(mode=0o750, parents=True)
        os.chown(str(folder), 0, account.gid)
        for name in ("files", "home"):
            (folder / name).mkdir(mode=0o750)
            os.chown(str(folder / name), account.uid, account.gid)
        stdin = bool(self.options["options"].get("stdin"))
        arguments = b"".join(str(item).encode() + b"\0" for item in shard["arguments"])
        (folder / "arguments").write_bytes(arguments)
        if stdin:
            (folder / "stdin").write_text("".join(f"{line}\n" for line in shard["stdin"]), encoding="utf-8")
        variables = {
            "BATCH_NAME": self.options["name"],
            "BATCH_SHARD": str(number),
            "BATCH_SHARDS": str(shard["of"]),
            "BATCH_ATTEMPT": str(shard["attempt"]),
            "BATCH_FILES": str(self.folder / "job"),
            "BATCH_OUTPUT_DIR": str(folder / "files"),
            "HOME": str(folder / "home"),
        }
        options = {
            **self.options["options"],
            "user": self.options["user"],
            "script": self.options["script"],
            "stdin": stdin,
        }
        command = batch.unit_command(
            self._unit(number), str(self.folder), str(folder), str(self.environment_file), options, variables
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise uv.UvError(
                "unit_refused",
                "systemd does not start the unit of a shard.",
                words=done.stderr,
                rule="H7: each shard is a transient unit with the limits of the batch",
                next_step="Correct the limits, or batch_unit_lines, that it names.",
            )
        (folder / "token").write_text(shard["token"], encoding="utf-8")
        self.result["changed"] = True

    def _vanished(self, left: dict[int, dict[str, Any]]) -> list[int]:
        """Shards that no unit runs and whose end nobody wrote down."""
        states = self.systemd.show([self._unit(number) for number in left], ["ActiveState", "LoadState"])
        gone = [
            number for number in left if states[self._unit(number)].get("ActiveState") in ("inactive", "failed", None)
        ]
        # The end may have been written since.
        return [number for number in gone if not (self._shard(number) / "ended").exists()]

    def _end(self, shard: dict[str, Any]) -> dict[str, Any]:
        """What a shard that ended has to say."""
        folder = self._shard(int(shard["number"]))
        try:
            result, code, status, ended = (folder / "ended").read_text(encoding="utf-8").splitlines()
            seconds = max(float(ended) - (folder / "token").stat().st_mtime, 0.0)
        except (OSError, ValueError):
            result, code, status, seconds = "gone", "", "", 0.0
        words = ""
        with contextlib.suppress(OSError), (folder / "stderr").open("rb") as file:
            # Scrubbed first and cut then: of a secret across the cut a part would stay.
            longest = max((len(each.encode("utf-8", "surrogateescape")) for each in self.secrets), default=0)
            begin = max(os.fstat(file.fileno()).st_size - 4 * WORDS - longest, 0)
            file.seek(begin)
            text = self.scrub(file.read().decode("utf-8", "replace"))
            words = process.tail(text.partition("\n")[2] if begin else text, 10)[-WORDS:]
        answer = {
            "number": int(shard["number"]),
            "token": shard["token"],
            "result": result,
            "code": code,
            "status": status,
            "seconds": round(seconds, 2),
            "words": words if result != "gone" else "",
            "output": None,
        }
        try:
            if result == "success" and _size(folder) <= INLINE:
                packed = io.BytesIO()
                _pack(folder, packed)
                answer["output"] = base64.b64encode(packed.getvalue()).decode()
        except (OSError, tarfile.TarError) as error:  # of this shard: others and the host go on
            answer.update(result="output", words=self.scrub(str(error)))
        return answer

    # -- packed, absent ------------------------------------------------------------------------------------------------------

    def packed(self) -> dict[str, Any]:
        """Writes a shard's output where the login user may fetch it."""
        folder, path = self._shard(int(self.shards[0]["number"])), self.options["bundle"]
        try:
            with shipping.handed_over(path) as file:
                _pack(folder, file)
                digest = shipping.sha256_of(file)
        except (OSError, tarfile.TarError) as error:
            return {**self.result, "problem": self.scrub(str(error))}
        return {**self.result, "sha256": digest}

    def absent(self) -> dict[str, Any]:
        """Ends and removes everything; the user and uv's cache stay for the next batch."""
        if self._owned() or not self.options["owner"]:
            self.result["changed"] = self.folder.exists()
            self._remove(self.folder, self.options["id"])
            place = self.environment_file.parent
            lock = self._lock() if place.is_dir() and not self._folders() else None
            if lock is not None:
                with lock:
                    os.unlink(lock.name)
        return self.result

    def _remove(self, folder: Path, identity: str) -> None:
        units = self.systemd.list_units(f"batch-{self.options['name']}-{identity[:8]}-*.service")
        if units:
            self.systemd.stop(*units, timeout=60)
        shutil.rmtree(str(folder), ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            Path(f"/run/pyfleet/batch-{self.options['name']}-{identity}.env").unlink()

    def _stop(self, unit: str) -> None:
        with contextlib.suppress(SystemdError):
            self.systemd.stop(unit, timeout=60)


def _controlled(kind: str) -> bool:
    """Whether systemd can limit memory or processor time here; in a container it may not."""
    try:
        return kind in Path("/sys/fs/cgroup/cgroup.controllers").read_text(encoding="ascii").split()
    except OSError:
        return Path(f"/sys/fs/cgroup/{kind}").is_dir()


def _pack(folder: Path, file: IO[bytes]) -> None:
    """Packs what a shard wrote: plain files and folders, no links, which could lead anywhere."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        archive.inodes.clear()  # type: ignore[attr-defined]  # or the second name of a file would be a link
        return member if member.isreg() or member.isdir() else None

    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for name in RESULTS:
            archive.add(str(folder / name), name, filter=plain)


def _size(folder: Path) -> int:
    """Bytes of what a shard wrote."""
    found = [folder / "stdout", folder / "stderr", *(folder / "files").rglob("*")]
    return sum(each.lstat().st_size for each in found)


def main() -> None:
    """Entry point."""
    os.umask(0o022)  # a host may have a stricter one, and another user reads what is made here
    module = AnsibleModule(argument_spec=ARGUMENTS)
    work = Batch(module)
    try:
        result = getattr(work, module.params["state"])()
    except uv.UvError as error:
        work.fail(error)
    except (OSError, SystemdError, tarfile.TarError) as error:
        module.fail_json(msg=work.scrub(str(error)), **work.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
