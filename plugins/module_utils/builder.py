# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every build of an application shares, in uv mode and in legacy mode (contract B6, B8).

The variables of the build from a file that only root reads, the user, a uv that is new enough, commands that run as that user
in an environment built from nothing, the hooks, and how a module ends when something is wrong.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils import environment as app_environment
from ansible_collections.pyfleet.runtime.plugins.module_utils import indexes, process, uv
from ansible_collections.pyfleet.runtime.plugins.module_utils.hidden import keep_hidden

HOOKS = {"pre_build_hook": "CC_PRE_BUILD_HOOK", "post_build_hook": "CC_POST_BUILD_HOOK"}


class Builder:
    """One build, driven by one module.

    Of the module's options it reads `project`, `environment_file`, `run_as`, `executable`, `timeout` and `hook_directory`, and the
    hooks where the module has options for them.
    """

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.options: dict[str, Any] = dict(module.params)
        self.check = bool(module.check_mode)
        self.result: dict[str, Any] = {"changed": False, "commands": [], "hooks": [], "dropped": [], "packages": []}
        self.trouble: uv.UvError | None = None
        self.secrets: list[str] = []
        self.project = Path(self.options["project"])
        self.scratch: Path | None = None
        self.netrc: Path | None = None
        self.stored = self.from_file(self.options["environment_file"])
        self.netrc_text = self.stored.pop(indexes.NETRC_TEXT, "")
        self.secrets += indexes.netrc_secrets(self.netrc_text)
        for option, name in HOOKS.items():
            self.options[option] = self.options.get(option) or self.stored.get(name)

    def keep_secret(self, hidden_options: Sequence[str], *environments: Mapping[str, str]) -> None:
        """Scrubs what may be secret in `environments` from every output, and the options' values from the echoed arguments."""
        for environment in environments:
            secret = {name: value for name, value in environment.items() if name not in process.NOT_SECRET}
            self.secrets += app_environment.secret_values(secret)
        keep_hidden(self.module, hidden_options, self.secrets)

    def close(self) -> None:
        """Removes what check mode needed, and what the build alone was to see."""
        if self.netrc is not None:
            with contextlib.suppress(FileNotFoundError):
                self.netrc.unlink()
        if self.scratch is not None:
            shutil.rmtree(str(self.scratch), ignore_errors=True)

    def from_file(self, path: str | None) -> dict[str, str]:
        """Reads the environment of a build from a root-only file, and removes the file: the build is all it is for (B8)."""
        if not path:
            return {}
        try:
            text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
            if not self.check:
                Path(path).unlink()
            return app_environment.parse_environment_file(text)
        except (OSError, ValueError) as error:
            # In check mode the step that writes it did not.
            if not self.check:
                self.trouble = uv.UvError(
                    "environment_file_unreadable",
                    "The file with the build's variables cannot be read.",
                    words=str(error),
                    facts=[("Variable", "environment_file"), ("Value", path)],
                    rule="B8: the build sees the application's environment",
                    next_step="Run the step that writes it first (release with state prepared), or remove environment_file.",
                )
            return {}

    # -- ends -------------------------------------------------------------------------------------------------------------

    def fail(self, error: uv.UvError) -> NoReturn:
        """Ends the module with what went wrong, in a person's words and in a program's."""
        self.result.update(
            reason=error.reason, rule=error.rule, next_step=error.next_step, words=self.scrub(error.words)
        )
        self.result.pop("msg", None)
        self.module.fail_json(msg=self.scrub(error.render()), **self.result)
        raise SystemExit(1)  # fail_json never returns; this tells the type checker

    def predict(self, reason: str, why: str) -> NoReturn:
        """Ends check mode where what the sync needs is made by a step that check mode did not carry out."""
        self.result.update(changed=True, reason=reason, msg=f"check mode can say more once {why}")
        if self.module._diff:
            after = f"(packages are known once {why})\n"
            self.result["diff"] = {
                "before": "",
                "after": after,
                "before_header": "nothing",
                "after_header": str(self.project / ".venv"),
            }
        self.module.exit_json(**self.result)
        raise SystemExit(0)

    def scrub(self, text: str) -> str:
        """Returns `text` without secrets."""
        return app_environment.scrub(text, self.secrets)

    # -- parts ------------------------------------------------------------------------------------------------------------

    def find_account(self) -> process.Account:
        """Returns the user to build as."""
        name = self.options["run_as"]
        if not name:
            return process.current_account()
        try:
            account = process.find_account(name)
        except KeyError:
            if self.check:
                self.predict("user_missing", f"the user {name} exists")
            raise uv.UvError(
                "user_missing",
                f"There is no user {name} on this host.",
                rule="the build runs as its own user",
                next_step="Create the user, or set run_as to one that exists.",
            )
        if account.uid != os.geteuid() and os.geteuid() != 0:
            raise uv.UvError(
                "not_root",
                "Only root can build as another user.",
                facts=[("Value", "run_as: " + name)],
                rule="the build runs as `run_as`",
                next_step="Run the task with become: true.",
            )
        return account

    def write_netrc(self, environment: dict[str, str], account: process.Account) -> None:
        """Puts the netrc of the build beside its variables, for its user alone, until the build ends (H2)."""
        if not self.options["environment_file"] or self.check:
            return
        path = Path(self.options["environment_file"]).with_suffix(".netrc")
        with contextlib.suppress(FileNotFoundError):  # of a build that was killed
            path.unlink()
        if not self.netrc_text:
            return
        self.netrc = path
        with open(os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            os.fchown(file.fileno(), account.uid, account.gid)
            file.write(self.netrc_text)
        environment["NETRC"] = str(path)

    def find_uv(self, path: str, environment: Mapping[str, str], account: process.Account) -> str:
        """Returns a uv that is new enough."""
        try:
            executable = uv.find_executable(self.options["executable"], path)
        except uv.UvError as error:
            if self.check:
                self.predict(error.reason, "uv is on this host")
            raise
        done = self.run([executable, "--version"], environment, account, directory="/", parsed=True, listed=False)
        version = uv.working_version(executable, ok=done.ok, stdout=done.stdout, stderr=done.stderr)
        self.result["uv_version"] = version
        uv.require_version(version, executable=executable)
        return executable

    def run(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        account: process.Account,
        *,
        directory: str,
        merge: bool = False,
        parsed: bool = False,
        listed: bool = True,
    ) -> process.Completed:
        """Runs a command of the build and lists it; `parsed` keeps stdout as it is, for a program to read."""
        if listed:
            self.result["commands"].append(process.command_line(argv, self.secrets))
        try:
            return process.run(
                argv,
                cwd=directory,
                environment=environment,
                account=account,
                timeout=self.options["timeout"],
                merge=merge,
                secrets=self.secrets,
                raw_stdout=parsed,
            )
        except process.ProcessError as error:
            raise uv.UvError(
                "not_started",
                self.scrub(str(error)),
                rule="commands of the build run in the project as the build's user",
                next_step="Check that the program and the directory exist and that the user may enter it.",
            )

    def keep_out(self, executable: str, environment: dict[str, str], account: process.Account) -> None:
        """Check mode: what uv would create outside the project, its cache and its store of credentials, goes to a scratch place.

        What is there already is used, so that a dry run is as quick as it can be and sees the same indexes.
        """
        self.scratch = scratch = Path(tempfile.mkdtemp(prefix="uv-check-"))
        os.chown(str(scratch), account.uid, account.gid)
        # uv knows where its configuration puts the cache.
        cache = self.run([executable, "cache", "dir"], environment, account, directory=str(self.project), listed=False)
        data = Path(environment.get("XDG_DATA_HOME") or Path(environment["HOME"]) / ".local" / "share")
        for variable, usual in (
            ("UV_CACHE_DIR", cache.stdout.strip()),
            ("UV_CREDENTIALS_DIR", environment.get("UV_CREDENTIALS_DIR") or str(data / "uv" / "credentials")),
        ):
            if not usual or not Path(usual).is_dir():
                environment[variable] = str(scratch / variable)

    def hook(self, option: str, text: str | None, environment: Mapping[str, str], account: process.Account) -> None:
        """Runs one hook of the build (B6)."""
        if not text or not text.strip():
            return
        name = HOOKS[option]
        entry: dict[str, Any] = {"name": name, "ran": not self.check}
        self.result["hooks"].append(entry)
        if self.check:
            return
        directory = self.options["hook_directory"] or str(self.project)
        # By name, not as an argument: arguments are visible in the process list (F14, I).
        done = self.run(
            ["/bin/bash", "-c", f'eval "${name}"'],
            {**environment, name: text},
            account,
            directory=directory,
            merge=True,
        )
        entry.update(seconds=round(done.seconds, 2), status=done.returncode, output=process.tail(done.stdout))
        if done.ok:
            return
        how = (
            "did not end within {} s".format(self.options["timeout"])
            if done.timed_out
            else (
                "was ended by signal %s" % -done.returncode
                if done.returncode < 0
                else f"ended with exit status {done.returncode}"
            )
        )
        raise uv.UvError(
            "hook_failed",
            f"{name} failed: it {how}.",
            words=process.tail(done.stdout),
            facts=[("Variable", name), ("Value", self.scrub(text.strip().splitlines()[0]))],
            rule="B6: CC_PRE_BUILD_HOOK runs before dependencies are installed, CC_POST_BUILD_HOOK after; either "
            "failing fails the "
            "deployment",
            next_step="Read the last lines of its output above, correct the hook and deploy again; the running "
            "release is untouched.",
        )
