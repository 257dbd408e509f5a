# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch as the controller drives it: it opens the queue, lets each host work through it, and reports.

Ansible runs the step V(work) of all hosts in forks at once. Each takes a shard whenever it has room, so that a fast host does more than
a slow one. A host that is lost is no failure as long as others finish its shards: no step ever loses a host for Ansible.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import json
import os
import secrets
import signal
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.pyfleet.runtime.plugins.module_utils import batch, shipping
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import scrub, secret_values, validate
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding, render_findings
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.batch_queue import Queue, identity
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.journal import run_id
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.rolling import controller, holder, is_dead

MODULE = "pyfleet.runtime.batch_shard"
#: Seconds that a host waits for a shard's end in one call, and how much longer a call may take before the host counts as lost.
SLICE, HANGS = 10, 30
#: So often, and with such pauses in seconds, a connection that failed is tried again.
AGAIN = (2.0, 5.0)
#: Seconds between two looks at the queue of a host that has nothing to do.
IDLE = 0.5
#: A job up to this size travels within the module's arguments.
INLINE = 256 * 1024
#: Seconds that a file may take on its way.
TRANSFER = 600
#: What the controller lacks when it cannot write: no shard is to blame for that.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
T = TypeVar("T")
#: Settings that decide about results, besides script, files, inputs and environment.
RELEVANT = ("arguments", "input_mode", "shard_size")


class HangError(BaseException):
    """A call to a host takes longer than it ever should. No Exception: the connection plugin tries those again by itself."""


class LostError(Exception):
    """A host that cannot be reached any more."""


class FullError(Exception):
    """The controller cannot keep what a host has."""


class ActionModule(ActionBase):
    """The task `pyfleet.runtime.batch`; one method per step."""

    TRANSFERS_FILES = True
    _VALID_ARGS = frozenset(("step", "settings", "env"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Runs one step."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.variables = task_vars or {}
        self.host = str(self.variables.get("inventory_hostname"))
        self.settings: dict[str, Any] = dict(self._task.args.get("settings") or {})
        env = self._task.args.get("env")
        self.env: Mapping[str, Any] = env if isinstance(env, Mapping) else {"batch_env is not a mapping": ""}
        name = str(self.settings.get("name"))
        self.queue = Queue(os.path.abspath(str(self.settings.get("results") or f"batch-{name}")))
        steps = {"open": self._open, "work": self._work, "report": self._report}
        step = steps.get(str(self._task.args.get("step")))
        if step is None:
            return {**result, "failed": True, "msg": f"step is one of {', '.join(steps)}."}
        return {**result, "changed": False, **step()}

    # -- open ----------------------------------------------------------------------------------------------------------------

    def _open(self) -> dict[str, Any]:
        """Runs once, before any host changes: what is wrong, what is done already, what is left."""
        findings: list[Finding] = []
        job = self._job(findings)
        self._take_inputs(findings)
        script = job.get(os.path.basename(str(self.settings.get("script"))))
        findings += batch.check(self.settings, self.env, None if script is None else script.decode("utf-8", "replace"))
        if findings:
            return _wrong(findings)
        settings, env = self.settings, validate(self.env)[0]
        inputs = batch.inputs_of(settings["inputs"]) or []
        shards = batch.share_out(inputs, settings["shard_size"])
        relevant = {name: settings[name] for name in RELEVANT}
        made = identity(settings["name"], job, inputs, {**relevant, "env": env})
        try:
            known = self.queue.known()
        except ValueError as error:
            return _wrong([finding("batch_results", "batch_results", self.queue.folder, why=str(error))])
        warnings = []
        if known is None and self.queue.strange():
            return _wrong([finding("batch_results", "batch_results", self.queue.folder, why="it holds other files")])
        run = dict(known.data["run"]) if known is not None else {}
        goes_on = (
            run and not run.get("ended") and run.get("id") != run_id() and not is_dead(run.get("controller") or {})
        )
        if goes_on and settings["takeover"] != run.get("id"):
            facts = {"holder": run.get("holder"), "run": run.get("id")}
            return _wrong([finding("batch_running", "batch_takeover", settings["takeover"] or "(not set)", **facts)])
        # Hosts know the folder of results by it, whatever batch is in there.
        owner = str(known.data.get("owner") or "") if known is not None else ""
        if known is not None and settings["restart"]:
            if not self._task.check_mode:
                warnings.append(f"The earlier results are in {self.queue.set_aside()}.")
            known = None
        if known is not None and known.data["id"] != made:
            return _wrong([finding("batch_other", "batch_results", self.queue.folder, old=known.data["id"], new=made)])
        state = known or batch.State.new(made, settings["name"], shards, settings["attempts"], settings["max_failed"])
        hosts = list(self.variables.get("ansible_play_hosts_all") or [self.host])
        left = len(state.shards) - state.count(batch.DONE)
        answer = {"id": made, "shards": len(state.shards), "left": left, "results": str(self.queue.folder)}
        words = f"{left} of {len(state.shards)} shards with {len(inputs)} inputs are left for {len(hosts)} hosts"
        if known is not None and not left and not self._task.check_mode:
            self.queue.finish()  # an earlier run may have ended before it did
        if self._task.check_mode or not left:
            return {**answer, "changed": bool(left), "msg": words, "warnings": warnings}
        if known is None:
            self.queue.create(state, job)
        with self.queue.change() as state:
            run = {"id": run_id(), "holder": holder(self.variables), "controller": controller()}
            state.data["owner"] = owner or secrets.token_hex(6)
            state.open(run, hosts, settings["attempts"], settings["max_failed"], time.time())
        return {**answer, "msg": words, "warnings": warnings}

    def _job(self, findings: list[Finding]) -> dict[str, bytes]:
        """Script, lock and files by the name that they get on the hosts."""
        script = str(self.settings.get("script") or "")
        files = self.settings.get("files")
        if not isinstance(files, list) or not all(isinstance(path, str) and path for path in files):
            findings.append(
                finding(
                    "option_invalid",
                    "batch_files",
                    files,
                    expected="a list of files on the controller",
                    example="[logo.png]",
                )
            )
            files = []
        lock = [f"{script}.lock"] if script and os.path.isfile(f"{script}.lock") else []
        job: dict[str, bytes] = {}
        for variable, path in (("batch_script", script), *(("batch_files", path) for path in [*lock, *files])):
            name = os.path.basename(path)
            if name in job:
                findings.append(finding("batch_file", variable, path, why="another file has the same name"))
                continue
            try:
                job[name] = Path(path).read_bytes()
            except OSError as error:
                findings.append(finding("batch_file", variable, path, why=error.strerror or str(error)))
        return job

    def _take_inputs(self, findings: list[Finding]) -> None:
        """Inputs from a file, where one is named."""
        path = self.settings.get("inputs_file")
        if not path:
            return
        if self.settings.get("inputs"):
            findings.append(finding("batch_inputs", "batch_inputs", path, why="batch_inputs_file is set, too"))
        try:
            self.settings["inputs"] = Path(str(path)).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            findings.append(finding("batch_file", "batch_inputs_file", path, why=str(error)))

    # -- work ----------------------------------------------------------------------------------------------------------------

    def _work(self) -> dict[str, Any]:
        """Works through the queue with this host, until nothing is left for it."""
        if self._task.check_mode:
            return {"skipped": True, "skip_reason": "A dry run runs no script."}
        self.secrets = secret_values(validate(self.env)[0])
        self.ran = self.failures = 0
        self.prepared = self.started = False
        self.warnings: list[str] = []
        with self.queue.change() as state:
            self.identity, self.owner = str(state.data["id"]), str(state.data["owner"])
            self.of = len(state.shards)
            state.join(self.host, os.getpid())
            earlier = state.data["runs"] > 1
        how, why, full = "failed", "the task broke off", False
        try:
            self._through()
            if self.prepared or earlier:  # a run that broke off may have left its environment and shards here
                self._call(state="absent")
            how, why = "left", ""
        except (LostError, AnsibleConnectionFailure, HangError) as error:
            how, why = "lost", _last_line(error)
            self._connection._shell.tmpdir = (
                None  # or Ansible would reach for the host once more, to tidy up, and lose it for good
            )
        except (UnusableError, AnsibleError) as error:
            why = str(error)
            with contextlib.suppress(LostError, UnusableError, AnsibleError):
                self._call(state="absent")
        except FullError as error:
            why, full = str(error), True
        finally:  # whatever happened: others wait for the shards of this host
            with self.queue.change() as state:
                if full:
                    state.stop(self.host, why)
                else:
                    state.leave(self.host, how, why, started=self.started)
        self._tell(last=True)
        answer: dict[str, Any] = {"changed": bool(self.ran), "ran": self.ran, "state": how}
        answer["msg"] = f"{self.ran} shards done" + (f", {self.failures} failed" if self.failures else "")
        if how != "left":
            self.warnings.append(f"{self.host} is out of the batch ({how}): {why}")
        return {**answer, "warnings": self.warnings}

    def _through(self) -> None:
        claims: dict[int, batch.Claim] = {}
        while True:
            new = self.queue.claim(self.host, self.settings["slots"] - len(claims))
            claims.update({claim.number: claim for claim in new})
            if not claims:
                if self.queue.over():
                    return
                time.sleep(IDLE)
                continue
            if not self.prepared:
                self._prepare()
            self.started = True
            answer = self._call(state="worked", shards=self._shards(*claims.values()))
            if not answer.get("ready"):
                self._prepare()  # the host was restarted
                continue
            for ended in answer["ended"]:
                self._ended(claims.pop(int(ended["number"])), ended)
            self._tell()

    def _shards(self, *claims: batch.Claim) -> str:
        """A text, because the module keeps that out of the host's log as a whole."""
        return json.dumps([self._shard(claim) for claim in claims])

    def _shard(self, claim: batch.Claim) -> dict[str, Any]:
        fixed, stdin = batch.inputs_of(self.settings["arguments"]) or [], self.settings["input_mode"] == batch.STDIN
        return {
            "number": claim.number,
            "token": claim.token,
            "attempt": claim.attempt,
            "of": self.of,
            "arguments": fixed if stdin else [*fixed, *claim.inputs],
            "stdin": claim.inputs if stdin else [],
        }

    def _prepare(self) -> None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for path in sorted((self.queue.folder / "job").iterdir()):
                archive.add(path, path.name)
        if packed.tell() <= INLINE:
            self._call(state="prepared", job=base64.b64encode(packed.getvalue()).decode())
        else:
            self._persist(lambda: self._bring(packed.getvalue()))
        self.prepared = True

    def _bring(self, job: bytes) -> None:
        """Prepares the host with a job that is too large for an argument."""
        with self._scratch() as folder, tempfile.NamedTemporaryFile() as local:
            local.write(job)
            local.flush()
            remote = self._connection._shell.join_path(folder, "job.tar.gz")
            with self._reaching(TRANSFER):
                self._transfer_file(local.name, remote)
                self._fixup_perms2([folder, remote])
            self._call(state="prepared", job_file=remote)

    def _ended(self, claim: batch.Claim, ended: Mapping[str, Any]) -> None:
        """Keeps the results of a shard that is done, and tells of one that failed."""
        how = batch.verdict(str(ended["result"]), str(ended["code"]), str(ended["status"]), self.settings)
        seconds = float(ended["seconds"])
        if not how:
            try:
                self._persist(lambda: self._collect(claim, ended))
            except (OSError, EOFError, tarfile.TarError, ValueError) as error:
                if isinstance(error, OSError) and error.errno in FULL:
                    raise FullError(f"the controller cannot keep results in {self.queue.folder}: {error}") from error
                how = f"has output that cannot be brought to the controller: {error}"
        with self.queue.change() as state:
            if how:
                counts = state.failed(claim.number, claim.token, self.host, how, seconds)
                final = counts and state.shards[claim.number]["state"] == batch.FAILED
            else:
                counts, final = state.done(claim.number, claim.token, self.host, seconds), False
        self.ran += bool(counts and not how)
        if how and counts:
            self.failures += 1
            words = f"shard {claim.number}, attempt {claim.attempt} on {self.host}: {how}"
            tail = "".join(f"\n    {line}" for line in str(ended["words"]).splitlines())
            self.queue.error(claim.number, scrub(words + tail, self.secrets))
            Display().warning(scrub(words + (tail if final else ""), self.secrets), formatted=True)

    def _collect(self, claim: batch.Claim, ended: Mapping[str, Any]) -> None:
        if ended["output"] is not None:
            self.queue.keep(claim.number, base64.b64decode(ended["output"]))
            return
        with self._scratch() as folder, tempfile.TemporaryDirectory(dir=self.queue.folder) as place:
            remote = self._connection._shell.join_path(folder, "output.tar.gz")
            answer = self._call(state="packed", shards=self._shards(claim), bundle=remote)
            if answer.get("problem"):
                raise ValueError(answer["problem"])
            local = Path(place) / "output.tar.gz"
            with self._reaching(TRANSFER):
                self._connection.fetch_file(remote, str(local))
            with local.open("rb") as file:
                if shipping.sha256_of(file) != answer["sha256"]:
                    raise ValueError("it changed on its way")
            self.queue.keep(claim.number, local)

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[str]:
        """A temporary folder on the host, beside the one that Ansible has made for the task."""
        before = self._connection._shell.tmpdir
        with self._reaching(HANGS):
            folder = self._make_tmp_path()
        try:
            yield folder
        finally:
            with contextlib.suppress(AnsibleConnectionFailure, HangError), self._reaching(HANGS):
                self._remove_tmp_path(folder, force=True)
            self._connection._shell.tmpdir = before

    def _call(self, **more: Any) -> dict[str, Any]:
        """Calls the module on the host; a connection that breaks is tried again, because every call may be repeated.

        Raises:
            LostError: the host is not reached.
            UnusableError: the module failed.
        """
        settings, state = self.settings, more["state"]
        arguments = {
            "name": settings["name"],
            "id": self.identity,
            "owner": self.owner,
            "takeover": settings["takeover"],
            "root": settings["root"],
            "user": settings["user"],
            "script": os.path.basename(settings["script"]),
            "env": dict(self.env) if state == "prepared" else {},
            "executable": settings["uv_executable"],
            "python_dir": settings["python_dir"],
            "build_timeout": settings["build_timeout"],
            "options": {
                **{name: settings[name] for name in ("memory_max", "cpu_quota", "timeout", "unit_lines")},
                "stdin": settings["input_mode"] == batch.STDIN,
            },
            "wait": SLICE,
            **more,
        }
        seconds = {"worked": SLICE, "prepared": settings["build_timeout"]}.get(state, 120) + HANGS

        def execute() -> dict[str, Any]:
            with self._reaching(seconds):
                answer: dict[str, Any] = self._execute_module(
                    module_name=MODULE, module_args=arguments, task_vars=self.variables
                )
            return answer

        answer = self._persist(execute)
        self.warnings += [str(each) for each in answer.get("warnings") or []]
        if answer.get("failed"):
            raise UnusableError(str(answer.get("msg") or "no message"))
        return answer

    def _persist(self, work: Callable[[], T], pauses: Sequence[float] = AGAIN) -> T:
        """Does what reaches for the host, and again where the connection breaks or hangs: all of it may be repeated.

        Raises:
            LostError: the host is not reached.
        """
        try:
            return work()
        except (AnsibleConnectionFailure, HangError) as error:
            if not pauses:
                raise LostError(_last_line(error)) from error
        # A connection that is shared hangs for as long as nobody notices that the other end is gone.
        with contextlib.suppress(Exception, HangError), self._reaching(HANGS):
            self._connection.reset()
        time.sleep(pauses[0])
        return self._persist(work, pauses[1:])

    @contextlib.contextmanager
    def _reaching(self, seconds: float) -> Iterator[None]:
        """Ends what waits for a host for too long. A task runs in the main thread of a process of its own."""

        def ring(_number: int, _frame: object) -> None:
            raise HangError(f"no answer within {seconds:g} s")

        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, seconds, HANGS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _tell(self, *, last: bool = False) -> None:
        line = self.queue.line(float(self.settings["progress_seconds"]), last=last)
        if line:
            Display().display(line)

    # -- report --------------------------------------------------------------------------------------------------------------

    def _report(self) -> dict[str, Any]:
        """Runs once: what became of the batch."""
        if self._task.check_mode:
            return {"skipped": True, "skip_reason": "A dry run runs no script."}
        with self.queue.change() as state:
            state.data["run"]["ended"] = time.time()
            words = _words(state)
        summary = self.queue.finish()
        answer: dict[str, Any] = {"summary": summary, "results": str(self.queue.folder)}
        if summary["outcome"] != "succeeded":
            return {**answer, "failed": True, "msg": words}
        return {**answer, "msg": f"All {summary['shards']} shards are done; results are in {self.queue.folder}."}


def _last_line(error: BaseException) -> str:
    return (str(error).strip() or "no connection").splitlines()[-1]


class UnusableError(Exception):
    """A host on which the batch cannot run; the message says why."""


def _words(state: batch.State) -> str:
    """What failed, for a person: the shards, where and how, the hosts that are out, and what to do."""
    failed = [(number, shard) for number, shard in enumerate(state.shards) if shard["state"] == batch.FAILED]
    lines = [state.progress() + "."]
    if state.data["run"].get("stopped"):
        lines.append(f"No other shard was begun: {state.data['run']['stopped']}.")
    for number, shard in failed[:10]:
        lines.append(f"shard {number} ({', '.join(shard['inputs'][:3])}{' …' if len(shard['inputs']) > 3 else ''}):")
        lines += [f"  {each['host']}: {each['how']}" for each in shard["tries"]]
    lines += [f"and {len(failed) - 10} more shards"] if len(failed) > 10 else []
    lines += [
        f"{host} is out ({entry['state']}): {entry['why']}"
        for host, entry in state.data["hosts"].items()
        if entry["state"] in ("lost", "failed")
    ]
    lines.append("Rule: H7: a batch has succeeded when every input has its result; what is done stays done.")
    lines.append(
        "Next step: correct what failed (shards/NUMBER/error in the results has its words), then run the same batch again."
    )
    return "\n".join(lines)


def _wrong(findings: list[Finding]) -> dict[str, Any]:
    return {"failed": True, "msg": render_findings(findings), "codes": [each.code for each in findings]}
