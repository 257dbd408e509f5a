# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules around uv share: options, finding a uv that is new enough, running it, and ending with its own words."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils import environment as app_environment
from ansible_collections.pyfleet.runtime.plugins.module_utils import process, uv
from ansible_collections.pyfleet.runtime.plugins.module_utils.hidden import keep_hidden


class Runner:
    """Runs uv for one module, in a clean environment, and collects what every result holds."""

    def __init__(
        self, module: AnsibleModule, variables: Mapping[str, str], credentials: Mapping[str, str] | None = None
    ) -> None:
        self.module = module
        self.check = bool(module.check_mode)
        self.result: dict[str, Any] = {"changed": False, "commands": [], "dropped": []}
        given, findings = app_environment.validate(module.params["environment"] or {})
        secrets = {name: value for name, value in given.items() if name not in process.NOT_SECRET}
        self.secrets = app_environment.secret_values({**secrets, **(credentials or {})})
        self.timeout: int = module.params["timeout"]
        system_certs = module.params["system_certs"]
        if module.params["cache_dir"]:
            given["UV_CACHE_DIR"] = module.params["cache_dir"]
        if system_certs is not None:
            given["UV_SYSTEM_CERTS"] = given["UV_NATIVE_TLS"] = "1" if system_certs else "0"
        given.update(UV_NO_PROGRESS="1", **variables)
        given.update(credentials or {})
        keep_hidden(module, ("environment",), self.secrets)
        self.account = process.current_account()
        self.environment, self.result["dropped"] = process.clean_environment(self.account, given, os.environ)
        self.executable = ""
        self._scratch: Path | None = None
        self.findings = findings

    def close(self) -> None:
        """Removes the scratch directory of check mode."""
        if self._scratch is not None:
            shutil.rmtree(str(self._scratch), ignore_errors=True)

    def find(self) -> str:
        """Finds a uv that is new enough and returns its version. Raises UvError."""
        if self.findings:
            raise uv.environment_error(self.findings[0])
        path = self.environment["PATH"] + ":" + os.environ.get("PATH", "")
        self.executable = uv.find_executable(self.module.params["executable"], path)
        done = self.run("--version", listed=False)
        version = uv.working_version(self.executable, ok=done.ok, stdout=done.stdout, stderr=done.stderr)
        self.result["uv_version"] = version
        uv.require_version(version, executable=self.executable)
        if self.check:
            # Check mode leaves neither a cache nor a store of credentials behind.
            self._scratch = Path(tempfile.mkdtemp(prefix="uv-check-"))
            cache = self.run("cache", "dir", listed=False).stdout.strip()
            if not cache or not Path(cache).is_dir():
                self.environment["UV_CACHE_DIR"] = str(self._scratch / "cache")
            self.environment.setdefault("UV_CREDENTIALS_DIR", str(self._scratch / "credentials"))
        return version

    def run(self, *argv: str, listed: bool = True) -> process.Completed:
        """Runs uv with `argv`. stdout is left unscrubbed, for programs to read."""
        return self.command([self.executable, *argv], listed=listed)

    def command(
        self, argv: Sequence[str], *, listed: bool = True, account: process.Account | None = None
    ) -> process.Completed:
        """Runs any command in the same environment."""
        if listed:
            self.result["commands"].append(process.command_line(argv, self.secrets))
        try:
            return process.run(
                argv,
                cwd="/",
                environment=self.environment,
                account=account or self.account,
                timeout=self.timeout,
                secrets=self.secrets,
                raw_stdout=True,
            )
        except process.ProcessError as error:
            raise uv.UvError(
                "not_started",
                str(error),
                rule="uv is a program for this host's architecture and system library",
                next_step="Install uv with the role uv, or set `executable` to one that runs here.",
            )

    def must(
        self, done: process.Completed, what: str, rule: str, next_step: str, reason: str, unreachable: str = ""
    ) -> process.Completed:
        """Returns `done` when it succeeded; raises UvError in uv's own words otherwise.

        `unreachable` is the next step where the network is the cause.
        """
        if done.ok:
            return done
        verdict = uv.classify_failure(done.stderr, without=("python_not_found",))
        steps = {
            "disk_full": "Free space on the host (df -h), then run again.",
            "index_unreachable": unreachable or verdict.next_step,
            "index_unauthorized": verdict.next_step,
            "permission_denied": "Run the task as a user who may write there (become: true).",
            "hash_mismatch": next_step,
        }
        special = verdict.reason in steps
        raise uv.UvError(
            verdict.reason if special else reason,
            what,
            words=uv.error_words(done.stderr) or process.tail(done.stdout),
            rule=rule,
            next_step=steps.get(verdict.reason, next_step),
            facts=[("Command", done.command), ("Status", str(done.returncode))],
        )

    def fail(self, error: uv.UvError) -> NoReturn:
        """Ends the module with what went wrong, in a person's words and in a program's."""
        self.result.update(reason=error.reason, rule=error.rule, next_step=error.next_step)
        self.result.pop("msg", None)
        self.module.fail_json(msg=app_environment.scrub(error.render(), self.secrets), **self.result)
        raise SystemExit(1)  # fail_json never returns; this tells the type checker
