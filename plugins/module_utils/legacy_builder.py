# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The build of a legacy application (contract B6, B7, B9, C2): hook, environment, requirements, setup.py, manage.py, hook."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils import environment as app_environment
from ansible_collections.pyfleet.runtime.plugins.module_utils import (
    indexes,
    legacy_verdicts,
    pip_settings,
    process,
    requirements_file,
    shipping,
    uv,
    venvs,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.builder import Builder

# The last versions that make and serve environments of Python 2.7. virtualenv brings pip 20.3.4 and setuptools 44 along.
VIRTUALENV_2 = "virtualenv==20.21.1"
# From 80 on `setup.py develop` is a call of pip; goals of the old kind want the setuptools of their time.
SETUPTOOLS = "setuptools<80"
SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
UV_CONFIGURATION = "/etc/uv/uv.toml"
# A release's own files that steer uv, and so what is installed.
STEERING_FILES = ("uv.toml", "pyproject.toml")

DRY_RUN = ("--dry-run", "--output-format", "json")
RUN_RULE = "B7: the application's user builds in the project root"
_INSTALLS = re.compile(
    r"(?<![\w./-])(?:[\w./-]*/)?(?:pip[0-9.]*|easy_install|pipenv|poetry|pdm|conda|mamba|virtualenv)(?![\w-])"
    r"|(?<![\w-])uv\s+(?:run|sync|add|remove|pip|venv)\b|-m\s+(?:pip|venv|virtualenv)\b"
)
#: What runs after the build, with the environment at hand.
_LATER = re.compile(r"(CC_RUN_COMMAND|CC_PRE_RUN_HOOK|CC_RUN_(SUCCEEDED|FAILED)_HOOK|CC_WORKER_COMMAND(_\w+)?)\Z")
_PIP = re.compile(r"(?<![\w-])pip[0-9.]*(?![\w-])")


_INDEXES = frozenset(
    {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX"}
)
#: Neither user nor password, and a path that is no token.
_OPEN_ADDRESS = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/(simple|pypi|pypi/simple|root/pypi/\+simple))?/?\Z")


@dataclass
class Venv:
    """The environment of this build: where it lies, whether others share it, and what became of it."""

    path: str
    shared: bool
    why: str
    key: str
    #: `create`, `replace`, `keep` (one of our own, or of the pre-build hook), `link` (a finished one is used), `check` (nothing to do)
    action: str = ""
    made_by_hook: bool = False
    before: dict[str, str] = field(default_factory=dict)


class LegacyBuild(Builder):
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        super().__init__(module)
        self.given, self.findings = app_environment.validate(self.stored)
        self.keep_secret((), {name: value for name, value in self.given.items() if not is_open_address(name, value)})
        self.translation = pip_settings.translate(self.given)
        self.given = {
            name: value
            for name, value in self.given.items()
            if name not in app_environment.DROPPED_FROM_APPLICATION and name not in pip_settings.ELSEWHERE
        }
        self.result.update(steps=[], cached=False, shared=False, translated=[])
        self.link = os.path.join(os.path.abspath(str(self.project)), ".venv")
        self.shelf = venvs.Shelf(self.options["venvs"] or "")
        self.python_version = self.options["python_version"] or ""
        self.requirements = requirements_file.Requirements()
        self.file = ""
        self.hashes = False
        self.uv = ""
        self.account = process.current_account()
        self.environment: dict[str, str] = {}

    # -- what is there ----------------------------------------------------------------------------------------------------

    @property
    def is_2(self) -> bool:
        """Whether the application asked for Python 2 (C2), which uv cannot make environments of."""
        return self.python_version.startswith("2.")

    def find_project(self) -> None:
        """Refuses a project that is not there."""
        if self.project.is_dir():
            return
        if self.check:
            self.predict("project_missing", f"the project directory {self.project} is there")
        raise uv.UvError(
            "project_missing",
            "The project directory does not exist.",
            facts=[("Value", f"project: {self.project}")],
            rule=RUN_RULE,
            next_step="Run the step that unpacks the source first (release with state prepared), or correct APP_FOLDER.",
        )

    def find_python(self) -> None:
        """Asks the interpreter for its version: what is not there, or does not run, is named before anything is made."""
        path = self.options["python"]
        code = "import sys; print('.'.join(str(part) for part in sys.version_info[:3]))"
        try:
            done = process.run(
                [path, "-c", code],
                cwd="/",
                environment={"PATH": process.DEFAULT_PATH},
                account=self.account,
                timeout=60,
            )
            words = "" if done.ok else process.tail(done.stderr) or f"it ended with status {done.returncode}"
        except process.ProcessError as error:
            done, words = None, str(error)
        if done is None or not done.ok:
            if self.check:
                self.predict("python_missing", f"the Python {path} is on this host")
            raise uv.UvError(
                "python_not_found",
                "The Python of the application is not on this host, or does not run.",
                words=words,
                facts=[("Variable", "CC_PYTHON_VERSION"), ("Value", path)],
                rule="C1: the newest supported Python of the host, or the one that CC_PYTHON_VERSION names",
                next_step="Add the version to python_versions and run the provision playbook, or change CC_PYTHON_VERSION.",
            )
        self.python_version = done.stdout.strip()

    def read_requirements(self) -> None:
        """Reads the requirements file and what it includes; after the hook, which may write them."""
        name = self.options["requirements"]
        if not name:
            return
        self.file = os.path.join(str(self.project), name)
        inside = os.path.realpath(self.file).startswith(os.path.realpath(str(self.project)) + os.sep)
        if os.path.isfile(self.file) and inside:
            self.requirements = requirements_file.read(self.file, directory=str(self.project))
            asked = {**self.given, **self.translation.variables}.get("UV_REQUIRE_HASHES")
            self.hashes = self.requirements.hashes or app_environment.is_true(asked)
            return
        self.file = ""
        if self.check and self.options["pre_build_hook"]:
            self.predict("requirements_missing", f"CC_PRE_BUILD_HOOK has run, which may write {name}")
        outside = os.path.lexists(os.path.join(str(self.project), name))
        raise uv.UvError(
            "requirements_missing",
            "The requirements file leads out of the project."
            if outside
            else "There is no such requirements file in the project.",
            facts=[("Variable", "CC_PIP_REQUIREMENTS_FILE"), ("Value", name)],
            rule="B7: CC_PIP_REQUIREMENTS_FILE (default requirements.txt) is the path of a file in the project, relative to its root",
            next_step="Correct CC_PIP_REQUIREMENTS_FILE, add the file to the source, or let CC_PRE_BUILD_HOOK write it.",
        )

    def require_programs(self) -> None:
        """setup.py and manage.py are there when they are to run."""
        for name, variable, wanted in (
            ("setup.py", "PYTHON_SETUP_PY_GOAL", self.options["setup_goal"]),
            ("manage.py", "CC_PYTHON_MANAGE_TASKS", " ".join((self.options["manage_tasks"] or [[""]])[0])),
        ):
            if not wanted or (self.project / name).is_file():
                continue
            if self.check and self.options["pre_build_hook"]:
                self.predict("program_missing", f"CC_PRE_BUILD_HOOK has run, which may write {name}")
            raise uv.UvError(
                "program_missing",
                f"{variable} is set, and there is no {name} in the project root.",
                facts=[("Variable", variable), ("Value", self.scrub(wanted)), ("Project", str(self.project))],
                rule=f"B7: {variable} runs {name} in the project root",
                next_step=f"Remove {variable}, add {name} to the source, or set APP_FOLDER to the folder that holds it.",
            )

    def settle(self, made_by_hook: bool) -> Venv:
        """Decides where the environment lies, and its key."""
        why = "a shared environment was not asked for"
        shared = bool(self.options["shared"])
        reasons = [
            "CC_PRE_BUILD_HOOK made .venv itself" if made_by_hook else None,
            self.requirements.own,
            f"setup.py {self.options['setup_goal']} works on the release's own files"
            if self.options["setup_goal"]
            else None,
            "CC_POST_BUILD_HOOK installs packages" if _INSTALLS.search(self.options["post_build_hook"] or "") else None,
            next(
                (
                    f"{name} installs packages"
                    for name, text in sorted(self.given.items())
                    if _LATER.match(name) and _INSTALLS.search(text)
                ),
                None,
            ),
        ]
        own = next((reason for reason in reasons if reason), None)
        if shared and own:
            shared, why = False, own
        elif shared:
            why = "its content follows from the requirements and the Python alone"
        facts = {
            "python": [self.options["python"], self.python_version],
            "requirements": bool(self.file),
            "install": [[item["requirement"], item["provides"]] for item in self.options["install"]],
            "pip": self.needs_pip(),
            "variables": venvs.steering(self.given),
            "expanded": {name: self.given.get(name) for name in sorted(self.requirements.variables)},
            "links": [
                [self.named(folder), _listing(folder)] for folder in [*self.requirements.links, *self.local_links()]
            ],
        }
        contents = [(self.named(path), content) for path, content in self.requirements.files]
        contents += [(self.named(path), requirements_file.read_file(path) or b"") for path in self.steering_files()]
        key = venvs.key_of(self.shelf.salt() if shared else b"", facts, contents)
        return Venv(self.shelf.venv(key) if shared else self.link, shared, why, key, made_by_hook=made_by_hook)

    def named(self, path: str) -> str:
        """Returns the name under which a file counts: what lies in the project has the same one in every release."""
        project = os.path.abspath(str(self.project))
        path = os.path.normpath(path)
        return os.path.relpath(path, project) if path.startswith(project + os.sep) else path

    def steering_files(self) -> list[str]:
        """Returns the files, besides the requirements, that decide what is installed from them."""
        files = [UV_CONFIGURATION, os.path.join(self.account.home, ".config", "uv", "uv.toml")]
        for name in STEERING_FILES:
            content = requirements_file.read_file(os.path.join(str(self.project), name))
            if content is not None and (name == "uv.toml" or b"[tool.uv" in content):
                files.append(os.path.join(str(self.project), name))
        for variable in (
            "PIP_CONSTRAINT",
            "PIP_BUILD_CONSTRAINT",
            "UV_CONSTRAINT",
            "UV_BUILD_CONSTRAINT",
            "UV_OVERRIDE",
            "UV_CONFIG_FILE",
        ):
            files += [
                os.path.join(str(self.project), part)
                for part in self.given.get(variable, "").split()
                if "://" not in part
            ]
        return files

    def local_links(self) -> list[str]:
        """Returns the local folders of packages that the environment names."""
        parts = self.given.get("PIP_FIND_LINKS", "").split() + self.given.get("UV_FIND_LINKS", "").split(",")
        return [os.path.join(str(self.project), part.strip()) for part in parts if part.strip() and "://" not in part]

    def needs_pip(self) -> bool:
        """Whether hooks and commands of the application may call pip; seeding it into every environment costs 0.2 s and 10 MB."""
        texts = [text for name, text in self.given.items() if _LATER.match(name)]
        return bool(
            self.options["setup_goal"] or self.options["post_build_hook"] or any(_PIP.search(text) for text in texts)
        )

    # -- commands ---------------------------------------------------------------------------------------------------------

    def as_user(self, *argv: str) -> None:
        """Changes something in the project, as its owner: root does not follow what lies in a folder of somebody else."""
        try:
            done = process.run(
                argv, cwd="/", environment={"PATH": process.DEFAULT_PATH}, account=self.account, timeout=300
            )
        except process.ProcessError as error:
            raise uv.UvError("not_started", str(error), rule=RUN_RULE, next_step="Look at the host's log.")
        if not done.ok:
            raise uv.UvError(
                "permission_denied",
                f"The user {self.account.name} may not change the environment of the project.",
                words=process.tail(done.stderr),
                facts=[("Command", done.command)],
                rule=RUN_RULE,
                next_step="Give the project to that user, or choose another `run_as`.",
            )

    def inside(self, venv: str) -> dict[str, str]:
        """Returns the build's environment with the virtual environment active in it."""
        path = os.path.join(venv, "bin") + ":" + self.environment["PATH"]
        return {**self.environment, "VIRTUAL_ENV": venv, "PATH": path}

    def uv_environment(self) -> dict[str, str]:
        """Returns the build's environment as uv needs it: pip's variables translated, nothing that leads elsewhere."""
        variables = {"UV_NO_PROGRESS": "1", **self.translation.variables}
        if self.requirements.prereleases and not self.given.get("UV_PRERELEASE"):
            variables["UV_PRERELEASE"] = "allow"
        if self.requirements.trusted_hosts:
            hosts = [
                variables.get("UV_INSECURE_HOST") or self.given.get("UV_INSECURE_HOST", ""),
                *self.requirements.trusted_hosts,
            ]
            variables["UV_INSECURE_HOST"] = " ".join(host for host in hosts if host)
        if self.options["cache_dir"]:
            variables["UV_CACHE_DIR"] = self.options["cache_dir"]
        if self.options["link_mode"]:
            variables["UV_LINK_MODE"] = self.options["link_mode"]
        if self.options["compile_bytecode"] is not None:
            variables["UV_COMPILE_BYTECODE"] = "1" if self.options["compile_bytecode"] else "0"
        environment = {**self.environment, **variables}
        environment.pop("UV_PYTHON", None)  # the interpreter is an argument
        return environment

    def step(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str], *, merge: bool = True, directory: str = ""
    ) -> process.Completed:
        """Runs one step of the build and notes how long it took."""
        entry: dict[str, Any] = {"name": name, "ran": True}
        self.result["steps"].append(entry)
        done = self.run(argv, environment, self.account, directory=directory or str(self.project), merge=merge)
        entry.update(seconds=round(done.seconds, 2), status=done.returncode)
        return done

    def program(self, name: str, variable: str, arguments: Sequence[str], venv: str) -> None:
        """Runs one goal of setup.py or one task of manage.py; what fails ends the build (B7)."""
        title = " ".join([name, *arguments])
        if self.check:
            self.result["steps"].append({"name": title, "ran": False})
            return
        python = os.path.join(venv, "bin", "python")
        done = self.step(title, [python, name, *arguments], self.inside(venv))
        self.result["steps"][-1]["output"] = process.tail(done.stdout)
        if done.ok:
            return
        how = (
            "did not end within {} s".format(self.options["timeout"])
            if done.timed_out
            else f"was ended by signal {-done.returncode}"
            if done.returncode < 0
            else f"ended with exit status {done.returncode}"
        )
        raise uv.UvError(
            "timeout" if done.timed_out else ("setup_failed" if name == "setup.py" else "manage_failed"),
            f"{self.scrub(title)} failed: it {how}.",
            words=process.tail(done.stdout),
            facts=[("Variable", variable), ("Value", self.scrub(" ".join(arguments))), ("Command", done.command)],
            rule="B7: PYTHON_SETUP_PY_GOAL runs one goal of setup.py, CC_PYTHON_MANAGE_TASKS each of its tasks; an error stops the "
            "build",
            next_step="Read the last lines of its output above, correct the application or the variable and deploy again; the "
            "running release is untouched.",
        )

    def failed(self, done: process.Completed) -> NoReturn:
        """Ends the build after an installation that failed, in the tool's own words with a verdict on top."""
        output = done.stderr or done.stdout
        if done.timed_out:
            verdict = uv.late("The installation", self.options["timeout"], "`timeout` (app_build_timeout)")
        else:
            verdict = shipping.missing_offline(output, self.given) or legacy_verdicts.classify(output)
        verdict, facts = indexes.refused(output, self.options["indexes"], verdict)
        words = uv.error_words(output) if not self.is_2 else process.tail(output, 30)
        raise uv.UvError(
            verdict.reason,
            verdict.what,
            words=words,
            rule=verdict.rule,
            next_step=verdict.next_step,
            facts=[
                *facts,
                ("File", self.options["requirements"] or "(none)"),
                ("Python", f"{self.python_version} ({self.options['python']})"),
                ("Command", done.command),
                ("Status", str(done.returncode)),
            ],
        )

    # -- installing -------------------------------------------------------------------------------------------------------

    def make(self, path: str) -> None:
        """Makes an empty environment at `path` (B9: where it stays)."""
        if self.is_2:
            argv = [
                self.uv,
                "tool",
                "run",
                "--from",
                VIRTUALENV_2,
                "virtualenv",
                "--no-periodic-update",
                "-q",
                "-p",
                self.options["python"],
                path,
            ]
        else:
            argv = [self.uv, "venv", "--no-project", "--python", self.options["python"], path]
        done = self.step("virtual environment", argv, self.uv_environment(), merge=False)
        if not done.ok:
            self.failed(done)

    def install_argv(self, venv: str) -> list[str]:
        """Returns the command that installs, without what to install."""
        python = os.path.join(venv, "bin", "python")
        if self.is_2:
            return [python, "-m", "pip", "install", "--progress-bar", "off"]
        return [self.uv, "pip", "install", "--python", python, *self.translation.options]

    def from_requirements(self) -> list[str]:
        """Returns what pip does by itself with the requirements file."""
        if not self.file:
            return []
        hashes = ["--require-hashes"] if self.hashes and not self.is_2 else []
        return ["-r", self.options["requirements"], *hashes]

    def install(self, name: str, venv: str, what: Sequence[str]) -> process.Completed:
        """Runs one installation."""
        environment = self.uv_environment()
        if name != "requirements":
            environment.pop("UV_REQUIRE_HASHES", None)  # what we add has none
        if self.is_2:
            environment = self.inside(venv)
        done = self.step(name, [*self.install_argv(venv), *what], environment, merge=self.is_2)
        if not done.ok and self.options["indexes"] and "was not found in the package registry" in done.stderr:
            # Over all indexes uv takes a refusal for an answer; over the first one it says what it was (H2).
            asked = {**environment, "UV_INDEX_STRATEGY": "first-index"}
            argv = [*self.install_argv(venv), *what, "--dry-run"]
            again = self.run(argv, asked, self.account, directory=str(self.project), listed=False)
            if legacy_verdicts.classify(again.stderr).reason == "index_unauthorized":
                done = again
        for line in (done.stderr or "").splitlines():
            if (
                line.startswith("warning:")
                and "unsupported option" in line
                and not re.search(r"`--(pre|trusted-host)`", line)
            ):
                self.module.warn(line[len("warning:") :].strip())
        return done

    def system_certs(self) -> bool:
        """Whether the host's certificates are what uv trusts here, and so what pip has to trust as well."""
        said = self.given.get("UV_SYSTEM_CERTS") or self.given.get("UV_NATIVE_TLS")
        if said is not None:
            return app_environment.is_true(said)
        text = (requirements_file.read_file(UV_CONFIGURATION) or b"").decode("utf-8", "replace")
        return bool(re.search(r"^\s*(system-certs|native-tls)\s*=\s*true", text, re.MULTILINE)) and os.path.isfile(
            SYSTEM_BUNDLE
        )

    def wanted(self, there: Mapping[str, str]) -> list[str]:
        """Returns what is installed besides the requirements: the backend, unless the requirements brought one of their own."""
        names = {venvs.normal(name) for name in there}
        found = [
            item["requirement"]
            for item in self.options["install"]
            if not names & {venvs.normal(name) for name in item["provides"]}
        ]
        if self.options["setup_goal"] and "setuptools" not in names:
            found.append(SETUPTOOLS)
        return found

    def beside(self, there: Mapping[str, str]) -> list[str]:
        """Returns what keeps the versions of the requirements as they are while something else is installed.

        Hashes do not mix with what has none: there the versions themselves stand for the file.
        """
        if not self.hashes:
            return self.from_requirements()
        return [f"{name}=={version}" for name, version in sorted(there.items()) if version]

    def fill(self, venv: Venv) -> None:
        """Installs the requirements, then what else the application needs to run."""
        if self.file:
            done = self.install("requirements", venv.path, self.from_requirements())
            if not done.ok:
                self.failed(done)
        there = venvs.installed(venv.path)
        wanted = self.wanted(there)
        pip = ["pip"] if self.needs_pip() and "pip" not in there else []
        if not wanted and not pip:
            return
        if wanted and self.hashes:
            self.module.warn(
                "The requirements carry hashes and lack {}: installed without one. Add it to the requirements.".format(
                    ", ".join(wanted)
                )
            )
        # With the requirements at hand, so that what they pin stays as it is.
        beside = self.beside(there)
        done = self.install("backend", venv.path, [*beside, *wanted, *pip])
        if (
            not done.ok
            and pip
            and re.search(r"(?<![\w-])pip (?:was not found|has no|is not available)|versions? of pip\b", done.stderr)
        ):
            # An index of one's own need not have pip, and a hook need not call it.
            self.module.warn("The index has no pip for the environment, so hooks and commands cannot call it there.")
            if not wanted:
                return
            done = self.install("backend", venv.path, [*beside, *wanted])
        if not done.ok:
            self.failed(done)

    def mark(self, venv: Venv) -> None:
        """Notes that the environment is complete. Last of all, and as its owner."""
        text = json.dumps(
            {
                "key": venv.key,
                "python": self.options["python"],
                "python_version": self.python_version,
                "made_by_hook": venv.made_by_hook,
                "built_at": int(time.time()),
            },
            sort_keys=True,
        )
        script = 'printf "%s\\n" "$1" > "$2.new" && mv -fT -- "$2.new" "$2"'
        self.as_user("sh", "-c", script, "sh", text, os.path.join(venv.path, venvs.MARKER))

    def build_shared(self, venv: Venv) -> None:
        """Uses the environment on the shelf, or builds it there; the release gets a link."""
        try:
            with self.shelf.locked(self.options["timeout"]):
                if venvs.usable(venv.path) is None:
                    self.build_on_shelf(venv)
                    venv.action = "create"
                else:
                    self.result["cached"] = True
                    venv.action = "link"
                if os.path.islink(self.link) and os.readlink(self.link) == venv.path:
                    venv.action = "check" if self.result["cached"] else venv.action
                    return
                self.shelf.note(self.link)
                if os.path.isdir(self.link) and not os.path.islink(self.link):
                    self.as_user("rm", "-rf", "--", self.link)
                self.as_user("ln", "-sfnT", "--", venv.path, self.link)
        except venvs.BusyError as error:
            raise uv.UvError(
                "busy",
                "Another build of this application makes its environment and does not end.",
                words=str(error),
                rule="B9: environments are built at their final path, one build at a time",
                next_step="Wait for the other deployment, or end it, then deploy again.",
            )

    def build_on_shelf(self, venv: Venv) -> None:
        """Builds an environment for all releases. The rest of one that did not end goes first, and so does what fails here."""
        shutil.rmtree(venv.path, ignore_errors=True)
        os.mkdir(venv.path, 0o750)  # as the releases: the group is the user's own
        os.chown(venv.path, self.account.uid, self.account.gid)
        try:
            self.make(venv.path)
            self.fill(venv)
            self.mark(venv)
        except BaseException:
            shutil.rmtree(venv.path, ignore_errors=True)
            raise

    def build_own(self, venv: Venv) -> None:
        """Builds the release's own .venv: a directory in the project."""
        marker = venvs.usable(venv.path) if not os.path.islink(self.link) else None
        keep = venv.made_by_hook or (marker is not None and marker.get("key") == venv.key)
        if venv.made_by_hook and not self.fits(venv.path):
            keep = False
            self.module.warn(
                f"The .venv that CC_PRE_BUILD_HOOK made has Python {venvs.python_of(venv.path)}, the application "
                f"{self.python_version}: it is made anew."
            )
        venv.made_by_hook = venv.made_by_hook and keep
        existed = os.path.lexists(self.link)
        if keep:
            venv.action = "keep"
        else:
            if existed:
                self.as_user("rm", "-rf", "--", self.link)
            self.make(venv.path)
            venv.action = "replace" if existed else "create"
        self.fill(venv)

    def fits(self, venv: str) -> bool:
        """Whether an environment that is there has the application's Python, at least in major and minor version."""
        return (venvs.python_of(venv) or "").split(".")[:2] == self.python_version.split(".")[:2] and os.access(
            os.path.join(venv, "bin", "python"), os.X_OK
        )

    # -- the whole --------------------------------------------------------------------------------------------------------

    def execute(self) -> None:
        """Builds, or predicts the build."""
        if self.findings:
            raise uv.environment_error(self.findings[0])
        if self.trouble is not None:
            raise self.trouble
        self.account = self.find_account()
        self.find_project()
        self.environment, self.result["dropped"] = process.clean_environment(self.account, self.given, os.environ)
        self.write_netrc(self.environment, self.account)
        self.uv = self.find_uv(
            self.environment["PATH"] + ":" + os.environ.get("PATH", ""), self.environment, self.account
        )
        self.find_python()
        # The environment's own pip, in hooks or for Python 2.7, asks the same indexes and trusts the same certificates as uv.
        added, said_to_pip = pip_settings.for_pip(self.given, SYSTEM_BUNDLE if self.system_certs() else None)
        self.environment.update(added)
        self.result["translated"] = said_to_pip if self.is_2 else list(self.translation.translated)
        for warning in self.translation.warnings:
            self.module.warn(warning)
        if self.options["shared"] and not self.check:
            self.shelf.create()
        before = venvs.installed(self.link)
        linked = os.readlink(self.link) if os.path.islink(self.link) else ""
        made_by_hook = self.pre_build()
        self.read_requirements()
        self.require_programs()
        venv = self.settle(made_by_hook)
        venv.before = before
        if self.check:
            self.predict_build(venv, linked)
            return
        if venv.shared:
            self.build_shared(venv)
        else:
            self.build_own(venv)
        here = self.link
        if self.options["setup_goal"]:
            self.program("setup.py", "PYTHON_SETUP_PY_GOAL", self.options["setup_goal"].split(), here)
        for task in self.options["manage_tasks"]:
            self.program("manage.py", "CC_PYTHON_MANAGE_TASKS", task, here)
        self.hook("post_build_hook", self.options["post_build_hook"], self.inside(here), self.account)
        self.require_celery(venvs.installed(here))
        if not venv.shared:
            self.mark(venv)
        self.look_for_static()
        self.report(venv, linked)

    def pre_build(self) -> bool:
        """Runs the pre-build hook (B6); returns whether the environment that is there now is the hook's work."""
        if self.check:
            self.hook("pre_build_hook", self.options["pre_build_hook"], self.environment, self.account)
            marker = venvs.read_marker(self.link) or {}
            return bool(marker.get("made_by_hook"))
        marker = {}
        if os.path.islink(self.link):
            if self.options["pre_build_hook"]:
                # What a hook installs must not reach other releases through the link.
                self.as_user("rm", "-f", "--", self.link)
        elif os.path.lexists(self.link):
            marker = venvs.read_marker(self.link) or {}
            if not marker:
                self.as_user("rm", "-rf", "--", self.link)
                self.module.warn(
                    "The project had a .venv of unknown origin, which was removed: environments do not move (B9)."
                )
        try:
            self.hook("pre_build_hook", self.options["pre_build_hook"], self.environment, self.account)
        except uv.UvError as error:
            if re.search(
                r"pip3?: (?:command )?not found|No module named pip|externally-managed-environment", error.words
            ):
                error.next_step = (
                    "CC_PRE_BUILD_HOOK runs before there is an environment: add the packages to the requirements file, or install "
                    "them in CC_POST_BUILD_HOOK."
                )
            raise
        there = os.path.isdir(self.link) and not os.path.islink(self.link)
        return there and (not marker or bool(marker.get("made_by_hook")))

    def require_celery(self, there: Mapping[str, str]) -> None:
        """Section G: a Celery worker needs Celery in the requirements."""
        if not self.given.get("CC_PYTHON_CELERY_MODULE", "").strip() or "celery" in there:
            return
        raise uv.UvError(
            "celery_missing",
            "CC_PYTHON_CELERY_MODULE is set, and Celery is not among the installed packages.",
            facts=[("Variable", "CC_PYTHON_CELERY_MODULE"), ("Value", self.given["CC_PYTHON_CELERY_MODULE"])],
            rule="G: Celery comes from the application's requirements; missing there, it aborts the deployment",
            next_step=f"Add celery to {self.options['requirements'] or 'a requirements.txt'}, or remove CC_PYTHON_CELERY_MODULE.",
        )

    def look_for_static(self) -> None:
        """Warns when the folder of static files is not there after the build."""
        name = self.options["static"]
        if name and not (self.project / name).is_dir():
            self.module.warn(
                f"STATIC_FILES_PATH: there is no folder {name} in the project after the build, so Nginx has no static files to serve. "
                "Let CC_PYTHON_MANAGE_TASKS collect them (collectstatic --noinput), or correct the path."
            )

    def report(self, venv: Venv, linked: str, after: Mapping[str, str] | None = None) -> None:
        """Fills the result from what lies in the environment, before and after."""
        there = dict(venvs.installed(self.link) if after is None else after)
        changes = compare(venv.before, there)
        moved = venv.action in ("create", "replace") or (venv.shared and linked != venv.path)
        works = bool(self.options["setup_goal"] or self.options["manage_tasks"] or self.result["hooks"])
        self.result.update(
            changed=bool(changes or moved or works),
            shared=venv.shared,
            packages=[change.to_dict() for change in changes],
            installed=there,
            venv={
                "path": self.link,
                "target": venv.path,
                "action": venv.action,
                "shared": venv.shared,
                "shared_reason": venv.why,
                "key": venv.key,
                "python": self.options["python"],
                "python_version": self.python_version,
                "made_by_hook": venv.made_by_hook,
            },
        )
        words = []
        if self.result["cached"]:
            words.append(f"environment {venv.key} of Python {self.python_version} was there already")
        elif venv.action in ("create", "replace"):
            words.append(f"environment of Python {self.python_version} {venv.action}d")
        if not self.result["cached"]:
            words.append(uv.summary(changes))
        words += [step["name"] for step in self.result["steps"] if step["name"].startswith(("setup.py ", "manage.py "))]
        self.result["msg"] = ("would be: " if self.check else "") + "; ".join(words)
        self.difference(venv.before, there)

    def difference(self, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        """Fills the diff: the packages of the environment, before and after."""
        if not self.module._diff:
            return
        old, new = (
            "".join(f"{name}=={version or '?'}\n" for name, version in sorted(which.items()))
            for which in (before, after)
        )
        self.result["diff"] = {"before": old, "after": new, "before_header": self.link, "after_header": self.link}

    def predict_build(self, venv: Venv, linked: str) -> None:
        """Check mode: says what a build would do, from the shelf or from uv's dry run into a scratch environment."""
        after: dict[str, str] | None = None
        current = venvs.usable(venv.path)
        if venv.shared and current is not None:
            self.result["cached"] = True
            venv.action = "check" if linked == venv.path else "link"
            after = venvs.installed(venv.path)
        elif not venv.shared and current is not None and current.get("key") == venv.key:
            venv.action = "keep"
            after = dict(venv.before)
        else:
            venv.action = "replace" if not venv.shared and os.path.lexists(self.link) else "create"
            after = None if self.is_2 else self.dry_run()
        if self.options["setup_goal"]:
            self.program("setup.py", "PYTHON_SETUP_PY_GOAL", self.options["setup_goal"].split(), self.link)
        for task in self.options["manage_tasks"]:
            self.program("manage.py", "CC_PYTHON_MANAGE_TASKS", task, self.link)
        self.hook("post_build_hook", self.options["post_build_hook"], self.environment, self.account)
        if after is None:
            self.result["venv"] = {"path": self.link, "target": venv.path, "action": venv.action, "shared": venv.shared,
                                   "shared_reason": venv.why, "key": venv.key, "python": self.options["python"],
                                   "python_version": self.python_version, "made_by_hook": venv.made_by_hook}  # fmt: skip
            self.predict("environment_missing", "the environment is built")
        self.report(venv, linked, after)

    def dry_run(self) -> dict[str, str] | None:
        """Returns what would be installed into an empty environment; None when this uv does not say."""
        environment = self.uv_environment()
        self.keep_out(self.uv, environment, self.account)
        scratch = os.path.join(str(self.scratch), "venv")
        argv = [self.uv, "venv", "-q", "--no-project", "--python", self.options["python"], scratch]
        made = self.run(argv, environment, self.account, directory=str(self.project), listed=False)
        if not made.ok:
            self.failed(made)
        there: dict[str, str] = {}
        for name in ("requirements", "backend"):
            wanted = self.wanted(there) if name == "backend" else []
            what = self.from_requirements() if name == "requirements" else [*self.beside(there), *wanted]
            if not what or (name == "backend" and not wanted):
                continue
            if name == "backend":
                environment.pop("UV_REQUIRE_HASHES", None)
            argv = self.install_argv(scratch)
            done = self.run(
                [*argv, *DRY_RUN, *what], environment, self.account, directory=str(self.project), parsed=True
            )
            if "unexpected argument '--output-format'" in done.stderr:
                # This uv is older than its JSON report of an installation: errors are told, packages are not.
                argv.append(DRY_RUN[0])
                done = self.run([*argv, *what], environment, self.account, directory=str(self.project), parsed=True)
            if not done.ok:
                self.failed(done)
            try:
                start = done.stdout.index("{")
                entries = json.loads(done.stdout[start:])["changes"]
                found = {venvs.normal(entry["name"]): str(entry.get("version") or "") for entry in entries}
            except (ValueError, KeyError, TypeError):
                return None
            there.update(found)
        if self.needs_pip():
            there.setdefault("pip", "")
        return there


def is_open_address(name: str, value: str) -> bool:
    """Whether a variable holds nothing but addresses of indexes that anybody may read: a failure is to name them."""
    return name in _INDEXES and all(_OPEN_ADDRESS.match(part) for part in value.split())


def compare(before: Mapping[str, str], after: Mapping[str, str]) -> list[uv.PackageChange]:
    """Returns the changes between two environments, by name."""
    changes = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if old is None or new is None:
            changes.append(uv.PackageChange(name, "install" if old is None else "remove", old, new))
        else:
            changes.append(uv.PackageChange(name, "downgrade" if uv.is_older(new, old) else "upgrade", old, new))
    return changes


def _listing(folder: str) -> list[list[Any]]:
    """Names and sizes of the packages in a local folder."""
    try:
        return sorted([entry.name, entry.stat().st_size] for entry in os.scandir(folder) if entry.is_file())
    except OSError:
        return []
