# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Named errors and warnings of the plan, and the catalogue they all come from.

Every message a user can meet is an entry of `CATALOGUE`; the troubleshooting page is generated from it. A finding names the
variable, its value (never of a secret), the rule of the contract and the next step.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

SECRET = "(secret)"  # noqa: S105
_VALUE_LIMIT = 200


@dataclass(frozen=True)
class Entry:
    """One kind of finding.

    `message` and `remedy` are `str.format` templates over the fields given to `finding()`, plus `variable` and `value`.
    `rule` is an id of the contract, or the word `input` for a rule of this project's own settings; `explanation` is that
    rule in one sentence.
    """

    severity: str
    rule: str
    message: str
    explanation: str
    remedy: str


@dataclass(frozen=True)
class Finding:
    """One error or warning. `value` is `(secret)` unless the variable is known to hold no secret."""

    code: str
    rule: str
    variable: str
    value: str
    message: str
    next_step: str

    @property
    def severity(self) -> str:
        """`error` or `warning`, as the catalogue says."""
        return CATALOGUE[self.code].severity

    def to_dict(self) -> dict[str, str]:
        """The finding as JSON-able text fields."""
        return {
            "code": self.code,
            "rule": self.rule,
            "variable": self.variable,
            "value": self.value,
            "message": self.message,
            "next_step": self.next_step,
        }

    def render(self) -> str:
        """Several lines: what is wrong, then variable, value, rule and next step."""
        lines = [self.message]
        if self.variable:
            lines.append(f"  Variable:  {self.variable}")
            lines.append(f"  Value:     {self.value}")
        lines.append(f"  Rule:      {self.rule}")
        lines.append(f"  Next step: {self.next_step}")
        return "\n".join(lines)


def finding(code: str, variable: str = "", value: object = "", **fields: object) -> Finding:
    """Make a finding from the catalogue.

    The caller passes `SECRET` as `value` for anything that may be one. Raises KeyError for a code or a template field that does
    not exist: a fault of the code, which the tests catch.
    """
    entry = CATALOGUE[code]
    shown = visible(value)
    values: dict[str, object] = {name: visible(given) for name, given in fields.items()}
    values.update(variable=visible(variable), value=shown)
    return Finding(
        code=code,
        rule=f"{entry.rule}: " + entry.explanation.format(**values),
        variable=visible(variable),
        value=shown,
        message=entry.message.format(**values),
        next_step=entry.remedy.format(**values),
    )


def visible(value: object) -> str:
    """Text on one line, without control characters and not endless: a value cannot forge lines of a message."""
    text = value if isinstance(value, str) else str(value)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda match: repr(match.group())[1:-1], text)
    return text if len(text) <= _VALUE_LIMIT else text[:_VALUE_LIMIT] + "…"


def render_findings(findings: Iterable[Finding]) -> str:
    """All errors as one text for a person; an empty text when there is none."""
    items: list[Finding] = list(findings)
    if not items:
        return ""
    count = "1 problem" if len(items) == 1 else f"{len(items)} problems"
    parts = [f"{count}, nothing was changed:"]
    for number, item in enumerate(items, 1):
        parts.append(f"{number}. " + item.render().replace("\n", "\n   "))
    return "\n\n".join(parts)


def from_dict(data: dict[str, str]) -> Finding:
    """The inverse of `Finding.to_dict`, for results that travelled as JSON."""
    return Finding(
        code=data["code"],
        rule=data["rule"],
        variable=data["variable"],
        value=data["value"],
        message=data["message"],
        next_step=data["next_step"],
    )


def _error(rule: str, message: str, explanation: str, remedy: str) -> Entry:
    return Entry("error", rule, message, explanation, remedy)


def _warning(rule: str, message: str, explanation: str, remedy: str) -> Entry:
    return Entry("warning", rule, message, explanation, remedy)


CATALOGUE: dict[str, Entry] = {
    # -- getting at the host and the source
    "become_refused": _error(
        "input",
        "The host does not let this run act as root: {words}",
        "roles install packages, units and users, so they need root on the host",
        "Give the login user {value} the right to use sudo (or set ansible_become_method), or set ansible_become_password.",
    ),
    "source_kind": _error(
        "input",
        "app_source names {value} where exactly one kind of source is needed.",
        "app_source holds one of path, git or archive",
        "Write app_source as {{path: DIR}}, {{git: URL, version: REF}} or {{archive: PATH-OR-URL, checksum: sha256:DIGEST}}.",
    ),
    "source_option": _error(
        "input",
        "{variable} is not an option of this kind of source.",
        "path takes exclude; git takes version and exclude; archive takes checksum and exclude",
        "Remove {variable}.",
    ),
    "source_checksum": _error(
        "input",
        "The archive's checksum is missing or malformed.",
        "an archive from a URL needs a checksum, written sha256: and 64 hexadecimal digits",
        "Set app_source.checksum to sha256: and what sha256sum prints for the archive.",
    ),
    "source_mismatch": _error(
        "input",
        "The archive is not the one that the checksum names: {detail}.",
        "an archive must match its checksum",
        "Check where the archive comes from; if it is the right one, correct app_source.checksum.",
    ),
    "source_missing": _error(
        "input",
        "The source does not exist on the controller.",
        "relative paths start from the folder in which ansible-playbook was started",
        "Correct {variable}, or write an absolute path, for example below inventory_dir.",
    ),
    "source_unreadable": _error(
        "input",
        "The source cannot be read: {detail}",
        "the controller packs the source: directories, git repositories, tar and zip archives",
        "Correct the source that {variable} names.",
    ),
    "source_download": _error(
        "input",
        "The archive cannot be downloaded: {detail}",
        "the controller fetches the archive once for all hosts",
        "Check the address from the controller, or download the archive and give its path.",
    ),
    "source_git": _error(
        "input",
        "git cannot fetch the source: {detail}",
        "the controller fetches the repository once for all hosts, with its own git and credentials",
        "Try git fetch by hand on the controller; version is a branch, a tag or a commit.",
    ),
    "source_link": _error(
        "input",
        "A symbolic link leads out of the source: {value}.",
        "a release holds all it needs, so links stay inside the source",
        "Replace the link by the file, or exclude it with app_source.exclude.",
    ),
    "source_special": _error(
        "input",
        "{value} is neither a file nor a symbolic link.",
        "a release holds files, folders and symbolic links",
        "Remove it, or exclude it with app_source.exclude.",
    ),
    "source_empty": _error(
        "input",
        "The source has no files.",
        "ignored and excluded files are left out: .gitignore, app_source.exclude, .git, .venv and __pycache__",
        "Correct {variable}, or what the ignore files leave out.",
    ),
    "host_not_provisioned": _error(
        "input",
        "The host is not prepared for applications yet: {missing}.",
        "an application needs uv and the redirect table, which the playbook provision.yml installs",
        "Run the playbook provision.yml for this host, then deploy again.",
    ),
    # -- settings of this collection ---------------------------------------------------------------------------------------
    "app_name_invalid": _error(
        "input",
        "The application's name cannot name a unit, a directory and a user.",
        "a name is a lower-case letter, then up to 27 lower-case letters, digits or hyphens, and does not end in a hyphen: the "
        "user `app-<name>` may have 32 characters at most",
        "Choose another app_name, for example {suggestion}.",
    ),
    "option_invalid": _error(
        "input",
        "{variable} is not usable.",
        "{variable} is {expected}",
        "Set {variable} to {expected}, for example {example}.",
    ),
    "port_out_of_range": _error(
        "D2",
        "{variable} is not a port an application can listen on.",
        "ports are whole numbers from 1024 to 65535: applications run without the right to use lower ones",
        "Set {variable} to a free port from 1024 to 65535, for example {example}.",
    ),
    "ports_collide": _error(
        "D2",
        "Port {value} has two jobs in the same application: {first} and {second}.",
        "the public port, the application's port, the hops of the chain and the releases' own ports differ from one another",
        "Move one of them, with {variable}.",
    ),
    "port_taken_by_app": _error(
        "D2",
        "Port {value} belongs to the application {other} on the same host.",
        "applications that share a host share no port",
        "Give this application another {variable}.",
    ),
    "port_in_use": _error(
        "D2",
        "Port {value} is in use by {process}, which is not part of this application.",
        "the ports of an application are free before its first deployment",
        "Stop {process}, or set {variable} to a free port (ss -ltnp shows what listens).",
    ),
    # -- environment ---------------------------------------------------------------------------------------------------------
    "env_name_invalid": _error(
        "D6",
        "The name of an environment variable is malformed.",
        "names match [A-Za-z_][A-Za-z0-9_]*",
        "Rename it to letters, digits and underscores, not starting with a digit{suggestion}.",
    ),
    "env_value_type": _error(
        "D6",
        "The value of {variable} is {kind}, not text.",
        "values are text; numbers and true/false become text",
        "Give {variable} a text value, or remove it. A list or a mapping can be passed as JSON text.",
    ),
    "env_value_nul": _error(
        "D6",
        "The value of {variable} holds a NUL character.",
        "the operating system ends a value at the first NUL, so no process can ever receive one",
        "Remove the NUL character, or pass the value base64-encoded.",
    ),
    "env_value_not_text": _error(
        "D6",
        "The value of {variable} is not valid UTF-8 text.",
        "values hold any characters of Unicode; lone surrogates and the reserved noncharacters (such as U+FFFF) are none, and "
        "systemd drops a variable that holds one",
        "Save the file that holds the value as UTF-8, or pass the value base64-encoded.",
    ),
    "env_value_too_long": _error(
        "D6",
        "The value of {variable} is too long: {size} bytes with its name.",
        "the operating system takes at most 131071 bytes for name, equals sign and value",
        "Put the content into a file of the application and name the file in {variable}.",
    ),
    "env_too_large": _error(
        "D6",
        "The environment is too large: {size} bytes.",
        "all variables together may take at most {limit} bytes, or the operating system starts no program",
        "Move the longest values into files of the application.",
    ),
    "env_dropped": _warning(
        "B8",
        "{variable} is not passed on.",
        "{why}",
        "Remove {variable} from the application's environment.",
    ),
    "env_platform_wins": _warning(
        "D5",
        "{variable} is set by the platform; the value of the application's environment is not used.",
        "the platform's own variables describe the deployment that runs",
        "Remove {variable} from the application's environment, or use another name.",
    ),
    "env_forced": _warning(
        "D4",
        "{variable} is {forced} when the application starts; the value of the application's environment is not used.",
        "starting installs nothing, writes nothing into the environment and needs no network",
        "Remove {variable} from the application's environment.",
    ),
    "env_uv_python": _warning(
        "C5",
        "UV_PYTHON is not used: CC_PYTHON_VERSION asks uv for Python {used}.",
        "in uv mode CC_PYTHON_VERSION, when set, becomes the request handed to uv",
        "Remove one of CC_PYTHON_VERSION and UV_PYTHON.",
    ),
    "env_path_prefixed": _warning(
        "D4",
        "PATH begins with the release's own virtual environment; the value of the application's environment follows it.",
        "the application starts with what its build installed",
        "Nothing, if that is what you want; otherwise start the program by its absolute path.",
    ),
    # -- A: activation -------------------------------------------------------------------------------------------------------
    "app_folder_absolute": _error(
        "A2",
        "APP_FOLDER is an absolute path.",
        "APP_FOLDER is a folder below the source's root",
        "Write it relative to the source's root, for example {suggestion}.",
    ),
    "app_folder_outside": _error(
        "A2",
        "APP_FOLDER leaves the source tree.",
        "the project root is the source's root or a folder below it",
        "Name a folder inside the source, without `..`.",
    ),
    "app_folder_missing": _error(
        "A2",
        "APP_FOLDER names a folder that the source does not have.",
        "the project root is the source's root or a folder below it",
        "Correct APP_FOLDER{suggestion}, or commit the folder if it is new or ignored.",
    ),
    "uv_command_invalid": _warning(
        "A3",
        "CC_PYTHON_UV_RUN_COMMAND is not a valid command, so uv mode is off: {why}.",
        "a command is not empty, splits under shell quoting rules and names a program",
        "Correct the command, for example: uv run uvicorn shop:app --host 0.0.0.0 --port $PORT",
    ),
    "uv_command_without_lock": _warning(
        "A1",
        "CC_PYTHON_UV_RUN_COMMAND is set, but there is no uv.lock at the project root ({root}), so uv mode is off.",
        "uv mode needs both: uv.lock at the project root and a valid CC_PYTHON_UV_RUN_COMMAND",
        "Run `uv lock` and commit uv.lock{suggestion}.",
    ),
    "uv_lock_without_command": _warning(
        "A1",
        "There is a uv.lock at the project root, but CC_PYTHON_UV_RUN_COMMAND is not set, so uv mode is off.",
        "uv mode needs both: uv.lock at the project root and a valid CC_PYTHON_UV_RUN_COMMAND",
        "Set CC_PYTHON_UV_RUN_COMMAND, for example to: uv run uvicorn shop:app --host 0.0.0.0 --port $PORT",
    ),
    "nothing_to_run": _error(
        "A5",
        "There is nothing to run: neither mode has what it needs.",
        "legacy mode needs CC_PYTHON_MODULE, CC_RUN_COMMAND or CC_PYTHON_CELERY_MODULE; uv mode needs uv.lock at the project root "
        "and a valid CC_PYTHON_UV_RUN_COMMAND",
        "For uv mode: {missing}. For legacy mode set one of CC_PYTHON_MODULE, CC_RUN_COMMAND, CC_PYTHON_CELERY_MODULE.",
    ),
    "not_yet_legacy": _error(
        "A1",
        "Legacy mode is not there yet: this application would deploy in legacy mode, and nothing carries that out today.",
        "mode uv when uv.lock exists at the project root and CC_PYTHON_UV_RUN_COMMAND is a valid command, otherwise mode legacy",
        "To deploy today, use uv mode: {missing}.",
    ),
    # -- B: build phase ------------------------------------------------------------------------------------------------------
    "environment_unknown": _warning(
        "B2",
        "ENVIRONMENT is neither production nor development; the build leaves out development dependencies.",
        "ENVIRONMENT=development builds with development dependencies; the default is production",
        "Set ENVIRONMENT to production or development, or use another variable for the application's own purpose.",
    ),
    "sync_flags_invalid": _error(
        "B3",
        "CC_PYTHON_UV_SYNC_FLAGS cannot be split into flags: {why}.",
        "the flags replace those after `uv sync` and are split under shell quoting rules",
        "Balance the quotes, for example: --locked --no-dev --extra postgres",
    ),
    "sync_flags_credentials": _error(
        "I",
        "CC_PYTHON_UV_SYNC_FLAGS holds credentials in a URL.",
        "arguments are visible in the process list, so no secret is ever passed as one",
        "Name the index in pyproject.toml and set UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD.",
    ),
    # -- C: Python version ---------------------------------------------------------------------------------------------------
    "python_version_invalid": _error(
        "C3",
        "CC_PYTHON_VERSION is not a Python version.",
        "a version is written 3, 3.13 or 3.13.2 (or 2, for 2.7)",
        "Set CC_PYTHON_VERSION to a version, for example {example}, or remove it.",
    ),
    "python_version_yaml": _error(
        "C3",
        "CC_PYTHON_VERSION is {value}, a Python of long ago; {likely} was probably meant.",
        "a version is text: YAML reads 3.10 without quotes as the number 3.1",
        'Write the version in quotes: CC_PYTHON_VERSION: "{likely}" (or a newer one, such as "{example}").',
    ),
    "python_version_2_in_uv": _error(
        "C2",
        "CC_PYTHON_VERSION asks for Python 2.7, which uv cannot build for.",
        "CC_PYTHON_VERSION=2 means 2.7, and uv needs Python 3",
        "Remove CC_PYTHON_VERSION or set it to {example}. Python 2.7 needs legacy mode: remove CC_PYTHON_UV_RUN_COMMAND.",
    ),
    "python_version_unavailable": _warning(
        "C3",
        "Python {wanted} is not available here; Python {used} is used instead (support of {wanted} ends {end}).",
        "an unavailable version falls back to the newest available",
        "Set CC_PYTHON_VERSION to {used}, or add {wanted} to python_versions.",
    ),
    "python_version_ended": _warning(
        "C3",
        "Python {wanted} is out of support since {end}; Python {used} is used instead.",
        "a deprecated version falls back to the newest available",
        "Set CC_PYTHON_VERSION to {next}, or remove it.",
    ),
    "python_support_ended": _warning(
        "C4",
        "Python {used} is out of support since {end}, and it is used all the same: {why}.",
        "support ends five years after release",
        "Move to a newer Python: {how}.",
    ),
    "python_support_ending": _warning(
        "C4",
        "Support of Python {used} ends {end}, in less than six months.",
        "support ends five years after release; the six months before warn",
        "Plan the move to a newer Python: {how}.",
    ),
    "python_none": _error(
        "C1",
        "The host has no Python that this application can use.",
        "the default is the newest Python 3 that the host provides and upstream still supports",
        'Add a version to python_versions and run the provision playbook, for example python_versions: ["{example}"].',
    ),
    "python_none_uv": _warning(
        "C5",
        "The host has no Python 3 yet that uv could use; uv will try to fetch one.",
        "uv can bring versions the host does not have, from a mirror when one is configured",
        "Add a version to python_versions and run the provision playbook, for example: {example}.",
    ),
    "python_requires_unmet": _warning(
        "C5",
        "No Python of this host satisfies requires-python ({requires}): it has {available}.",
        "in uv mode uv's own rules hold: requires-python and .python-version",
        "Add a matching version to python_versions and run the provision playbook, or let uv fetch one from a mirror.",
    ),
    "python_requires_conflict": _warning(
        "C5",
        "Python {wanted} does not satisfy requires-python ({requires}); uv will refuse it.",
        "in uv mode CC_PYTHON_VERSION becomes the request handed to uv, and uv's own rules hold",
        "Change CC_PYTHON_VERSION, or requires-python in pyproject.toml.",
    ),
    # -- D: run phase --------------------------------------------------------------------------------------------------------
    "run_command_invalid": _error(
        "D1",
        "CC_RUN_COMMAND is not a valid command: {why}.",
        "CC_RUN_COMMAND takes precedence over CC_PYTHON_UV_RUN_COMMAND; a command splits under shell quoting rules and names a "
        "program",
        "Correct CC_RUN_COMMAND, or remove it.",
    ),
    "run_command_empty": _warning(
        "D1",
        "CC_RUN_COMMAND is set but empty; it counts as not set.",
        "CC_RUN_COMMAND takes precedence over CC_PYTHON_UV_RUN_COMMAND when it is a command",
        "Remove CC_RUN_COMMAND.",
    ),
    "run_needs_network": _warning(
        "D4",
        "The run command may fetch packages when it starts: {what}.",
        "starting installs nothing and needs no network, so that a host reboots into a running application",
        "Add the packages to the project (uv add) and start the program with `uv run PROGRAM`.",
    ),
    "task_without_command": _error(
        "D9",
        "CC_TASK is true, but there is no CC_RUN_COMMAND to run.",
        "a task runs CC_RUN_COMMAND once to its end and reports its exit status",
        "Set CC_RUN_COMMAND to the task's command, or remove CC_TASK.",
    ),
    "port_env_invalid": _error(
        "D2",
        "PORT is not a port an application can listen on.",
        "PORT is a whole number from 1024 to 65535; when set, it is the port the application listens on",
        "Remove PORT from the application's environment (the platform sets it), or give it a number, for example 8080.",
    ),
    "port_fixed_side_by_side": _error(
        "D2",
        "PORT is fixed by the application's environment, so two releases cannot run side by side.",
        "where releases switch side by side, PORT is the release's own port",
        "Remove PORT from the application's environment, or set app_switch: in_place.",
    ),
    "in_place_gap": _warning(
        "D2",
        "The switch happens in place: the application stops before the new release starts, so requests fail for a moment{last}.",
        "releases run side by side when the command takes its port from $PORT",
        "Write $PORT instead of the port number in {variable}. If the application reads PORT in its code, set "
        "app_switch: side_by_side.",
    ),
    "in_place_gap_port": _warning(
        "D2",
        "The switch happens in place: the application stops before the new release starts, so requests fail for a "
        "moment{last}.",
        "a PORT set by the environment is the port the application listens on, and two releases cannot share it",
        "Remove PORT from the application's environment and write $PORT in the run command: releases then run side by side.",
    ),
    "worker_command_invalid": _error(
        "D7",
        "{variable} is not a valid command: {why}.",
        "workers run beside the application; a command splits under shell quoting rules and names a program",
        "Correct the command, or remove {variable}.",
    ),
    "worker_command_empty": _warning(
        "D7",
        "{variable} is set but empty; no worker runs for it.",
        "every CC_WORKER_COMMAND that is a command runs beside the application",
        "Remove {variable}.",
    ),
    "worker_restart_invalid": _error(
        "D7",
        "CC_WORKER_RESTART is not one of the restart policies.",
        "CC_WORKER_RESTART is on-failure (default), always or no",
        "Set CC_WORKER_RESTART to on-failure, always or no.",
    ),
    "worker_delay_invalid": _error(
        "D7",
        "CC_WORKER_RESTART_DELAY is not a number of seconds.",
        "the delay is a number of seconds from 0 to 86400 (default 1)",
        "Set CC_WORKER_RESTART_DELAY to a number, for example 1.",
    ),
    # -- E: health check -----------------------------------------------------------------------------------------------------
    "health_path_invalid": _error(
        "E1",
        "{variable} is not a path that can be requested: {why}.",
        "a health check path begins with / and holds no spaces or control characters (write them %-encoded)",
        "Set {variable} to a path, for example {example}.",
    ),
    "health_path_gap": _warning(
        "E1",
        "{variable} is not checked: {missing} is missing before it.",
        "indexed paths count from 0 up to the first missing index",
        "Renumber the paths without a gap.",
    ),
    "index_malformed": _warning(
        "input",
        "{variable} is not used: its index is not a plain number.",
        "indexes are written 0, 1, 2, … without leading zeros",
        "Rename it to {example}.",
    ),
    # -- F: Request Flow -----------------------------------------------------------------------------------------------------
    "request_flow_unknown": _error(
        "F1",
        "CC_REQUEST_FLOW names a service that does not exist: {name}.",
        "services are {valid}",
        "Use one of: {valid}.",
    ),
    "request_flow_empty": _error(
        "F3",
        "CC_REQUEST_FLOW holds an empty item.",
        "CC_REQUEST_FLOW is a list of services, separated by commas, from the public side inwards",
        "Remove the extra comma, or the variable; `disable` switches the chain off.",
    ),
    "request_flow_duplicate": _error(
        "F3",
        "CC_REQUEST_FLOW names {name} more than once.",
        "every service stands in the chain once at most",
        "Name {name} once, at its place from the public side inwards.",
    ),
    "request_flow_ignored": _warning(
        "F6",
        "{special} in CC_REQUEST_FLOW stands alone; ignored: {ignored}.",
        "block answers everything itself; disable means no hop: neither can be combined",
        "Write CC_REQUEST_FLOW={special}, or remove {special}.",
    ),
    "request_flow_custom_missing": _error(
        "F5",
        "CC_REQUEST_FLOW names custom, but CC_REQUEST_FLOW_CUSTOM is not set.",
        "custom runs CC_REQUEST_FLOW_CUSTOM",
        "Set CC_REQUEST_FLOW_CUSTOM to a command with @@LISTEN_PORT@@ and @@FORWARD_PORT@@, or remove custom.",
    ),
    "request_flow_custom_placeholder": _error(
        "F5",
        "CC_REQUEST_FLOW_CUSTOM lacks {missing}.",
        "custom runs CC_REQUEST_FLOW_CUSTOM with @@LISTEN_PORT@@ and @@FORWARD_PORT@@ replaced; both are required",
        "Write {missing} where the program takes that port.",
    ),
    "request_flow_custom_invalid": _error(
        "F5",
        "CC_REQUEST_FLOW_CUSTOM is not a valid command: {why}.",
        "custom runs CC_REQUEST_FLOW_CUSTOM; a command splits under shell quoting rules and names a program",
        "Correct CC_REQUEST_FLOW_CUSTOM.",
    ),
    "not_yet_request_flow": _error(
        "F1",
        "The Request Flow chain is not there yet: this application asks for {services}, and nothing carries that out today.",
        "services stand between the public port and the application",
        "To deploy today, without the chain, set CC_REQUEST_FLOW=disable.",
    ),
}
