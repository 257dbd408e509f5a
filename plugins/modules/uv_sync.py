#!/usr/bin/python
# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: uv_sync
short_description: Bring a project's virtual environment to what its uv.lock says
version_added: "0.1.0"
author:
  - pyfleet contributors (@pyfleet)
description:
  - Runs C(uv sync) in a project directory, as another user if wanted and in an environment built from nothing.
  - What changed, and the diff, come from uv's own JSON report, never from its text or exit codes.
  - With O(application) it decides the application's mode first and, in uv mode, runs the build of the plan, hooks included.
requirements:
  - uv 0.9.19 or newer on the host, the first version whose JSON report lists the package changes.
attributes:
  check_mode:
    support: full
    description:
      - Runs C(uv sync --dry-run); nothing is written, no hook runs and no Python is downloaded.
      - Where the project, its user, its Python or uv are not there yet, a change without details is predicted.
  diff_mode:
    support: full
    description: The packages that change, before and after.
  platform:
    support: full
    platforms: posix
    description: Linux hosts.
options:
  project:
    description: Directory of the project, which holds C(pyproject.toml). In application mode the root of the source.
    type: path
    required: true
  locked:
    description: Fail when C(uv.lock) does not match C(pyproject.toml), instead of updating it.
    type: bool
    default: true
  frozen:
    description: Take C(uv.lock) as it is, without comparing it with C(pyproject.toml). Wins over O(locked).
    type: bool
    default: false
  groups:
    description: Dependency groups to include besides the default ones.
    type: list
    elements: str
    default: []
  extras:
    description: Extras to include.
    type: list
    elements: str
    default: []
  no_dev:
    description: Leave out the C(dev) group.
    type: bool
    default: false
  package:
    description: Sync for this member of the workspace only.
    type: str
  all_packages:
    description: Sync for all members of the workspace.
    type: bool
    default: false
  no_install_project:
    description: Install the dependencies without the project itself.
    type: bool
    default: false
  no_editable:
    description: Install the project and workspace members as ordinary packages, not editable.
    type: bool
    default: false
  python:
    description: Python to use, as a version or the path of an interpreter. By default uv's own rules choose.
    type: str
  python_install_dir:
    description: Where Pythons managed by uv lie. Used when the directory exists.
    type: path
    default: /opt/pyfleet/python
  cache_dir:
    description: uv's cache. Default C(~/.cache/uv) of the user, or what C(/etc/uv/uv.toml) says.
    type: path
  link_mode:
    description: How packages get from the cache into the environment.
    type: str
    choices: [clone, copy, hardlink, symlink]
  compile_bytecode:
    description: Whether to compile installed modules to bytecode. By default uv's configuration decides.
    type: bool
  system_certs:
    description: Whether to trust the certificates of the host. By default uv's configuration decides.
    type: bool
  indexes:
    description:
      - The indexes of the build, as the plan lists them (C(build.indexes)), for the message when one of them refuses the build.
      - Each with C(name), C(url), and C(way) and C(origin) of its credentials. Holds no secret.
    type: list
    elements: dict
    default: []
  index_credentials:
    description:
      - Credentials by index name, each with C(username) and C(password). They reach uv as C(UV_INDEX_<NAME>_USERNAME) and
        C(UV_INDEX_<NAME>_PASSWORD), never as an argument.
    type: dict
    default: {}
  environment_file:
    description:
      - File with further variables of the build, in the format of systemd's C(EnvironmentFile=). It is removed once read.
      - For secrets that must not pass through the task's arguments.
    type: path
  environment:
    description:
      - Variables of the build, added to a clean environment that holds nothing else but C(PATH), C(HOME), C(USER),
        C(LANG), C(TMPDIR) and the host's proxy and certificate variables. Values count as secret.
    type: dict
    default: {}
  executable:
    description: The uv to use. Default C(/usr/local/bin/uv), then the first one on C(PATH).
    type: str
  run_as:
    description: User to build as. The user needs to own the project. Default the user the module runs as.
    type: str
  argv:
    description:
      - Everything after C(uv), for example C([sync, --locked, --no-progress, --no-dev]). Replaces the options that become flags;
        O(python) reaches uv as a variable then. C(--output-format json) is added.
    type: list
    elements: str
  pre_build_hook:
    description:
      - Shell text run by C(bash -c) before the sync, as the same user in the same environment.
      - Default C(CC_PRE_BUILD_HOOK) of O(environment_file), if there is one.
    type: str
  post_build_hook:
    description:
      - Shell text run by C(bash -c) after the sync.
      - Default C(CC_POST_BUILD_HOOK) of O(environment_file), if there is one.
    type: str
  hook_directory:
    description: Directory the hooks run in. Default the project.
    type: path
  timeout:
    description: Seconds each command may take.
    type: int
    default: 1800
  application:
    description:
      - Application mode. What the plan needs besides the project's files, which the module reads itself.
      - O(argv), the hooks, O(python) and the flags come from the plan then.
    type: dict
    suboptions:
      app:
        description: The application's settings as the plan takes them, at least C(name).
        type: dict
        required: true
      env:
        description: The application's environment. Values count as secret.
        type: dict
        default: {}
      host:
        description: Facts of the host as the plan takes them.
        type: dict
      source:
        description: C(commit) and C(digest) of the source, when known.
        type: dict
        default: {}
      today:
        description: Date that decides about Python's support, as YYYY-MM-DD. Default the host's date.
        type: str
      release_id:
        description: Id of the release.
        type: str
notes:
  - Two environments are told apart by their path, so the environment lies in the project and does not move.
"""

EXAMPLES = r"""
- name: Install exactly what uv.lock says, without development dependencies
  pyfleet.runtime.uv_sync:
    project: /srv/tools/report
    no_dev: true
    run_as: report

- name: Packages from an index that asks for credentials
  pyfleet.runtime.uv_sync:
    project: /srv/tools/report
    groups: [batch]
    index_credentials:
      internal:
        username: deploy
        password: "{{ vault_index_password }}"

- name: Decide the mode of an application and build it in one round trip
  pyfleet.runtime.uv_sync:
    project: /srv/pyfleet/shop/releases/0123456789ab
    run_as: app-shop
    application:
      app: {name: shop}
      env: "{{ app_env }}"
"""

RETURN = r"""
packages:
  description: What changes, one entry per package.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: The package., type: str, returned: always}
    action: {description: 'One of install, remove, upgrade, downgrade and reinstall.', type: str, returned: always}
    from: {description: The version before., type: str, returned: always}
    to: {description: The version after., type: str, returned: always}
  sample: [{name: fastapi, action: upgrade, from: 0.118.0, to: 0.119.1}]
venv:
  description: The environment, its Python, and whether it was created or replaced (an environment of another Python is replaced).
  returned: success
  type: dict
  sample: {path: /srv/tools/report/.venv, action: create, python: /srv/tools/report/.venv/bin/python, python_version: 3.13.5}
lock_action:
  description: What happened to C(uv.lock), in uv's word.
  returned: success
  type: str
hooks:
  description: The hooks of the build and whether they ran.
  returned: always
  type: list
  elements: dict
  sample: [{name: CC_PRE_BUILD_HOOK, ran: true, seconds: 0.2}]
commands:
  description: The exact commands, without secrets.
  returned: always
  type: list
  elements: str
dropped:
  description: Variables of the module's surroundings that would steer uv and were left out.
  returned: always
  type: list
  elements: str
uv_version:
  description: Version of uv.
  returned: when uv was found
  type: str
reason:
  description: Why it failed (or why check mode could not say more), as a word for programs.
  returned: on failure
  type: str
  sample: lock_stale
report_missing:
  description: Fields that uv's report should have and has not.
  returned: success
  type: list
  elements: str
plan:
  description: The whole plan, in application mode.
  returned: with O(application)
  type: dict
"""

import datetime
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils import environment as app_environment
from ansible_collections.pyfleet.runtime.plugins.module_utils import indexes, process, shipping, uv
from ansible_collections.pyfleet.runtime.plugins.module_utils.builder import Builder

# What the plan reads of a file, and which files it may want.
TEXT_LIMIT = 64 * 1024
FILE_LIMIT = 20000
TEXT_NAMES = frozenset(
    {"pyproject.toml", "uv.toml", "uv.lock", ".python-version", ".python-versions", "requirements.txt"}
)
SKIPPED_FOLDERS = frozenset({".git", ".venv", "node_modules", "__pycache__"})
ARGUMENTS: dict[str, dict[str, Any]] = {
    "project": {"type": "path", "required": True},
    "locked": {"type": "bool", "default": True},
    "frozen": {"type": "bool", "default": False},
    "groups": {"type": "list", "elements": "str", "default": []},
    "extras": {"type": "list", "elements": "str", "default": []},
    "no_dev": {"type": "bool", "default": False},
    "package": {"type": "str"},
    "all_packages": {"type": "bool", "default": False},
    "no_install_project": {"type": "bool", "default": False},
    "no_editable": {"type": "bool", "default": False},
    "python": {"type": "str"},
    "python_install_dir": {"type": "path", "default": "/opt/pyfleet/python"},
    "cache_dir": {"type": "path"},
    "link_mode": {"type": "str", "choices": ["clone", "copy", "hardlink", "symlink"]},
    "compile_bytecode": {"type": "bool"},
    "system_certs": {"type": "bool"},
    "index_credentials": {"type": "dict", "default": {}, "no_log": True},
    "environment": {"type": "dict", "default": {}, "no_log": True},
    "environment_file": {"type": "path"},
    "executable": {"type": "str"},
    "indexes": {"type": "list", "elements": "dict", "default": []},
    "run_as": {"type": "str"},
    "argv": {"type": "list", "elements": "str"},
    "pre_build_hook": {"type": "str"},
    "post_build_hook": {"type": "str"},
    "hook_directory": {"type": "path"},
    "timeout": {"type": "int", "default": 1800},
    "application": {
        "type": "dict",
        "options": {
            "app": {"type": "dict", "required": True},
            "env": {"type": "dict", "default": {}, "no_log": True},
            "host": {"type": "dict"},
            "source": {"type": "dict", "default": {}},
            "today": {"type": "str"},
            "release_id": {"type": "str"},
        },
    },
}


def sync_flags(options: Mapping[str, Any]) -> list[str]:
    """Returns everything after `uv` for the options of the plain mode."""
    argv = ["sync"]
    if options["frozen"]:
        argv.append("--frozen")
    elif options["locked"]:
        argv.append("--locked")
    argv.append("--no-progress")
    argv += ["--no-dev"] if options["no_dev"] else []
    for group in options["groups"]:
        argv += ["--group", group]
    for extra in options["extras"]:
        argv += ["--extra", extra]
    argv += ["--package", options["package"]] if options["package"] else []
    argv += ["--all-packages"] if options["all_packages"] else []
    argv += ["--no-install-project"] if options["no_install_project"] else []
    argv += ["--no-editable"] if options["no_editable"] else []
    argv += ["--python", options["python"]] if options["python"] else []
    return argv


def with_report(argv: Sequence[str], dry_run: bool) -> list[str]:
    """Returns `argv` with the JSON report asked for; flags that would suppress it or ask for another form are left out."""
    result: list[str] = []
    skip = False
    for part in argv:
        if skip:
            skip = False
        elif part == "--output-format":
            skip = True
        elif part not in ("-q", "--quiet", "-qq", "--dry-run") and not part.startswith("--output-format="):
            result.append(part)
    return [*result, *(["--dry-run"] if dry_run else []), "--output-format", "json"]


def uv_variables(options: Mapping[str, Any], python_as_variable: bool) -> dict[str, str]:
    """Returns the variables that carry options to uv."""
    variables = {"UV_NO_PROGRESS": "1"}
    if options["cache_dir"]:
        variables["UV_CACHE_DIR"] = options["cache_dir"]
    if options["link_mode"]:
        variables["UV_LINK_MODE"] = options["link_mode"]
    if options["compile_bytecode"] is not None:
        variables["UV_COMPILE_BYTECODE"] = "1" if options["compile_bytecode"] else "0"
    if options["system_certs"] is not None:
        variables["UV_SYSTEM_CERTS"] = variables["UV_NATIVE_TLS"] = "1" if options["system_certs"] else "0"
    if python_as_variable and options["python"]:
        variables["UV_PYTHON"] = options["python"]
    if options["python_install_dir"] and Path(options["python_install_dir"]).is_dir():
        variables["UV_PYTHON_INSTALL_DIR"] = options["python_install_dir"]
    return variables


def read_source(root: Path) -> dict[str, Any]:
    """Lists the project's files for the plan and reads the few it looks into."""
    files: list[str] = []
    texts: dict[str, str] = {}
    for folder, folders, names in os.walk(str(root)):
        folders[:] = sorted(set(folders) - SKIPPED_FOLDERS)
        for name in sorted(names):
            path = Path(folder) / name
            relative = path.relative_to(root).as_posix()
            files.append(relative)
            if name in TEXT_NAMES:
                with path.open("rb") as stream:
                    texts[relative] = stream.read(4096 if name == "uv.lock" else TEXT_LIMIT).decode("utf-8", "replace")
        if len(files) > FILE_LIMIT:
            break
    return {"files": files[:FILE_LIMIT], "texts": texts}


def previous_python(project: Path) -> str | None:
    """Returns the Python version of the environment as it is now, from its pyvenv.cfg."""
    try:
        text = (project / ".venv" / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+\.\d+\S*)", text, re.MULTILINE)
    return match.group(1) if match else None


class Sync(Builder):
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        super().__init__(module)
        given = {**self.stored, **(self.options["environment"] or {})}
        self.given, self.findings = app_environment.validate(given)
        self.application: dict[str, Any] | None = self.options["application"]
        application_env: dict[str, str] = {}
        if self.application is not None:
            # Findings about the application's environment are the plan's to report.
            application_env = app_environment.validate(self.application["env"] or {})[0]
        self.credentials: dict[str, str] = {}
        try:
            self.credentials = uv.credential_variables(self.options["index_credentials"] or {})
        except uv.UvError as error:
            self.trouble = error
        self.secrets += app_environment.secret_values(self.credentials)
        self.keep_secret(("environment", "index_credentials"), application_env, self.given)
        if self.application is not None:
            module.params["application"] = {
                **self.application,
                "env": dict.fromkeys(self.application["env"] or {}, "(hidden)"),
            }

    # -- the whole --------------------------------------------------------------------------------------------------------

    def plan(self) -> bool:
        """Application mode: makes the plan and takes over its build. Returns whether there is something to sync."""
        if self.application is None:
            return True
        from ansible_collections.pyfleet.runtime.plugins.module_utils.plan import make_plan, public_view

        source = {**(self.application["source"] or {}), **read_source(self.project)}
        source.setdefault("commit", "")
        source.setdefault("digest", "")
        inputs = {
            "app": self.application["app"],
            "env": self.application["env"] or {},
            "source": source,
            "host": self.application["host"],
            "today": self.application["today"] or datetime.date.today().isoformat(),
            "release_id": self.application["release_id"],
        }
        plan = make_plan(inputs)
        self.result["plan"] = public_view(plan)
        errors = plan["errors"]
        if errors:
            text = "\n\n".join("{}\n  Next step: {}".format(error["message"], error["next_step"]) for error in errors)
            self.result["reason"] = errors[0]["code"]
            self.module.fail_json(msg=self.scrub(text), **self.result)
        if plan["mode"] != "uv":
            return False
        build = plan["build"]
        self.options["argv"] = list(build["argv"])
        self.options["pre_build_hook"] = build.get("pre_hook")
        self.options["post_build_hook"] = build.get("post_hook")
        self.given = {**build.get("environment", {}), **self.given}
        self.options["python"] = None  # the plan's environment carries the request
        if plan["project_root"]:
            self.project = self.project / plan["project_root"]
        return True

    def execute(self) -> None:
        """Runs hooks and sync, or predicts them."""
        if self.findings:
            raise uv.environment_error(self.findings[0])
        if self.trouble is not None:
            raise self.trouble
        account = self.find_account()
        if not self.project.is_dir():
            if self.check:
                self.predict("project_missing", f"the project directory {self.project} is there")
            raise uv.UvError(
                "project_missing",
                "The project directory does not exist.",
                facts=[("Value", f"project: {self.project}")],
                rule="B1: the build runs `uv sync` in the project root",
                next_step="Set `project` to the directory that holds pyproject.toml.",
            )
        if self.application is not None and not self.plan():
            self.module.exit_json(msg="mode {}: nothing to sync".format(self.result["plan"]["mode"]), **self.result)
        argv = self.options["argv"]
        if argv is not None and argv[:1] != ["sync"]:
            raise uv.UvError(
                "argv_invalid",
                "argv does not begin with sync.",
                facts=[("Value", "argv: " + self.scrub(" ".join(argv)))],
                rule="argv is everything after `uv`, and this module syncs",
                next_step="Begin argv with sync.",
            )
        given = {**self.given, **uv_variables(self.options, argv is not None), **self.credentials}
        environment, self.result["dropped"] = process.clean_environment(account, given, os.environ)
        self.write_netrc(environment, account)
        downloads_allowed = environment.get("UV_PYTHON_DOWNLOADS", "") != "never"
        if self.check:
            environment["UV_PYTHON_DOWNLOADS"] = "never"
        executable = self.find_uv(environment["PATH"] + ":" + os.environ.get("PATH", ""), environment, account)
        if self.check:
            self.keep_out(executable, environment, account)
        before = previous_python(self.project)
        self.hook("pre_build_hook", self.options["pre_build_hook"], environment, account)
        command = [executable, *with_report(sync_flags(self.options) if argv is None else argv, self.check)]
        done = self.run(command, environment, account, directory=str(self.project), parsed=True)
        self.result["stderr"] = done.stderr
        if not done.ok:
            self.failed(done, downloads_allowed)
        try:
            report = uv.parse_sync_report(done.stdout)
        except uv.ReportError as error:
            raise uv.UvError(
                "report_unreadable",
                f"uv's JSON report cannot be read: {error}.",
                words=uv.error_words(done.stderr),
                rule="`changed` and the diff come from uv's own JSON report",
                facts=[("Value", "uv " + self.result["uv_version"])],
                next_step="Pin uv_version to a version this collection was tested with, and report this.",
            )
        self.report(report, before)
        self.hook("post_build_hook", self.options["post_build_hook"], environment, account)

    def failed(self, done: process.Completed, downloads_allowed: bool) -> NoReturn:
        """Ends the module after a uv that failed, in uv's own words with a verdict on top."""
        if done.timed_out:
            verdict = uv.late("uv", self.options["timeout"], "`timeout`")
        else:
            verdict = shipping.missing_offline(done.stderr, self.given) or uv.classify_failure(done.stderr)
        verdict, facts = indexes.refused(done.stderr, self.options["indexes"], verdict)
        if self.check and verdict.reason in ("python_not_found", "python_incomplete") and downloads_allowed:
            self.predict("python_missing", "the Python that the project asks for is on this host")
        raise uv.UvError(
            verdict.reason,
            verdict.what,
            words=uv.error_words(done.stderr) or process.tail(done.stdout),
            rule=verdict.rule,
            next_step=verdict.next_step,
            facts=[*facts, ("Project", str(self.project)), ("Command", done.command), ("Status", str(done.returncode))],
        )

    def report(self, report: uv.SyncReport, before: str | None) -> None:
        """Fills the result from uv's report."""
        changed = report.changed
        if changed is None:
            raise uv.UvError(
                "report_incomplete",
                "uv's JSON report does not say whether anything changed.",
                facts=[("Missing", ", ".join(report.missing))],
                rule="`changed` and the diff come from uv's own JSON report",
                next_step="Pin uv_version to a version this collection was tested with, and report this.",
            )
        changes = report.changes or ()
        self.result.update(
            changed=changed,
            packages=[change.to_dict() for change in changes],
            venv={
                "path": report.environment_path,
                "action": report.environment_action,
                "python": report.python_path,
                "python_version": report.python_version,
                "previous_python_version": before,
            },
            lock_action=report.lock_action,
            report_missing=list(report.missing),
        )
        words = [uv.summary(changes)]
        if report.replaced:
            words.insert(
                0, "environment of Python {} replaced by one of Python {}".format(before or "?", report.python_version)
            )
        elif report.environment_action == "create":
            words.insert(0, f"environment of Python {report.python_version} created")
        if report.lock_action in ("create", "update"):
            words.append(f"uv.lock {report.lock_action}d")
        self.result["msg"] = ("would be: " if self.check else "") + "; ".join(words)
        for unknown in report.unknown:
            self.module.warn(
                "uv {} reports {}, which this collection does not know.".format(self.result["uv_version"], unknown)
            )
        if self.module._diff:
            self.result["diff"] = self.diff(report, before)

    def diff(self, report: uv.SyncReport, before: str | None) -> dict[str, str]:
        """Returns the packages that change, before and after."""
        old, new = uv.package_lines(report.changes or ())
        if report.replaced and before:
            old.insert(0, f"# Python {before}")
        if report.replaced or report.environment_action == "create":
            new.insert(0, f"# Python {report.python_version}")
        if report.lock_action in ("create", "update"):
            new.append(f"# uv.lock: {report.lock_action}")
        header = report.environment_path or str(self.project / ".venv")
        return {
            "before": "".join(line + "\n" for line in old),
            "after": "".join(line + "\n" for line in new),
            "before_header": header,
            "after_header": header,
        }


def main() -> None:
    """Entry point."""
    os.umask(0o022)  # a host may have a stricter one, and the users of services read what is made here
    module = AnsibleModule(
        argument_spec=ARGUMENTS, supports_check_mode=True, mutually_exclusive=[("argv", "application")]
    )
    sync = Sync(module)
    try:
        sync.execute()
    except uv.UvError as error:
        sync.fail(error)
    finally:
        sync.close()
    module.exit_json(**sync.result)


if __name__ == "__main__":
    main()
