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
#: So many findings of one kind are told whole; the value of so many more stands in one line. A source may hold a thousand bad links.
_WHOLE = 10
_IN_A_LINE = 20


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
    """All errors as one text for a person, many of one kind in short; an empty text when there is none."""
    items: list[Finding] = list(findings)
    if not items:
        return ""
    kinds: dict[str, list[Finding]] = {}
    for item in items:
        kinds.setdefault(item.code, []).append(item)
    count = "1 problem" if len(items) == 1 else f"{len(items)} problems"
    parts = [f"{count}, nothing was changed:"]
    numbered = [item for item in items if item in kinds[item.code][:_WHOLE]]
    for number, item in enumerate(numbered, 1):
        parts.append(f"{number}. " + item.render().replace("\n", "\n   "))
    for same in kinds.values():
        more = same[_WHOLE:]
        if more:
            values = [item.value or item.variable for item in more[:_IN_A_LINE]] + ["…"] * (len(more) > _IN_A_LINE)
            parts.append(f"And {len(more)} more like this: {same[0].message}\n   " + "\n   ".join(values))
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
    # -- rollouts ----------------------------------------------------------------------------------------------------------
    "rollback_ambiguous": _error(
        "input",
        "The hosts have different previous releases: going back to each one's own would leave several versions.",
        "a rollback leaves one version on all hosts",
        "Name the release with -e app_release=ID; the playbook status.yml shows what each host has.",
    ),
    "rollback_impossible": _error(
        "input",
        "There is no previous release to go back to on {hosts}.",
        "a rollback goes to the previous release unless app_release names one",
        "Name a release with -e app_release=ID (the playbook status.yml lists them), or deploy.",
    ),
    "rollback_unknown": _error(
        "input",
        "There is no release {value} on {hosts}.",
        "a rollback leaves one version on all hosts, so each of them must have the release",
        "Name another release (the playbook status.yml lists them), or deploy.",
    ),
    "rollback_to_failed": _error(
        "E6",
        "This release failed on {hosts}.",
        "nothing rolls back onto a release that failed, unless it is forced",
        "Name another release, or set app_rollback_force.",
    ),
    "nothing_serves": _error(
        "input",
        "The application serves nothing on {hosts}.",
        "a restart needs a release that serves",
        "Deploy it there first, or leave these hosts out with --limit.",
    ),
    "hosts_away": _error(
        "input",
        "{hosts} cannot be reached, and {allowed} of {all} hosts may fail.",
        "nothing changes anywhere when more hosts than app_failure_budget are away",
        "Bring them back, leave them out with --limit, or raise app_failure_budget.",
    ),
    "task_file_missing": _error(
        "input",
        "{variable} names a file that does not exist.",
        "the tasks around a host's switch are a file on the controller; a relative path starts where ansible-playbook was started",
        "Correct {variable}.",
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
    "port_derived": _error(
        "D2",
        "With {variable} as it is, {job} would be {value}, and ports end at 65535.",
        "app_port is followed by ports that lie 10000, 20000 and, behind a chain, 30000 above it; the public port by those of the hops",
        "Set {variable} to a lower port: app_port to 35535 at most, for example 9000.",
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
    # -- environments that other platforms exported ------------------------------------------------------------------------
    "export_unreadable": _error(
        "input",
        "The exported environment {file} cannot be read: {why}.",
        "a relative path starts from the folder in which ansible-playbook was started; a file of ansible-vault needs its password",
        "Correct the path, or write an absolute one, for example below inventory_dir.",
    ),
    "export_not_text": _error(
        "D6",
        "Line {line} of {file} is not valid UTF-8 text.",
        "values hold any characters of Unicode, and an exported environment is a file in UTF-8",
        "Export again, without an editor or a shell that converts text in between.",
    ),
    "export_empty": _error(
        "input",
        "{file} is empty.",
        "the export of an application without variables has a line all the same; a command that failed leaves an empty file",
        "Export again, and look at what the command says.",
    ),
    "export_line": _error(
        "D6",
        "Line {line} of {file} cannot be read: {why}.",
        "values arrive byte for byte, so what does not look as the platform writes it is refused",
        "Correct the line, or export again as JSON, with: {command}",
    ),
    "export_ambiguous": _error(
        "D6",
        "Line {line} of {file} can be read in two ways: it is not certain where the value of {variable} ends.",
        "values arrive byte for byte, and a backslash at the end of a value looks like one that escapes a quote",
        "Export again as JSON, which has one reading only, with: {command}",
    ),
    "export_json": _error(
        "input",
        "{file} is not JSON: {why}.",
        "an exported environment is JSON as a whole, or the text of `clever env`",
        "Export again, or name the right format.",
    ),
    "export_shape": _error(
        "input",
        "In {file}, {place} is not {expected}.",
        "JSON of an environment is what `clever env --format json` writes, an array of objects with name and value, or one object "
        "of names and values",
        "Correct it, or export again.",
    ),
    "export_name": _error(
        "D6",
        "The name of a variable is malformed, in {file}, {place}.",
        "names match [A-Za-z_][A-Za-z0-9_]*",
        "Rename it{suggestion}, or leave it out with the option drop.",
    ),
    "export_twice": _error(
        "input",
        "{variable} stands twice in {file}: {first}, and {second}.",
        "a variable has one value; the application's own counts before that of an add-on",
        "Leave one of them, or name it in the option drop and set it in app_env.",
    ),
    "export_value": _error(
        "D6",
        "In {file}, {place}: {why}",
        "values hold any character that a process can receive",
        "{how}",
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
    "extras_in_flags": _error(
        "B3",
        "CC_PYTHON_UV_SYNC_FLAGS names extras, and so does {variable}.",
        "the extras of app_extras and app_accelerator are added to the flags, which then name none themselves",
        "Move the extras from CC_PYTHON_UV_SYNC_FLAGS to app_extras, or leave out {variable}.",
    ),
    # -- H3: extras and accelerators ------------------------------------------------------------------------------------------
    "extra_unknown": _error(
        "H3",
        "{variable} names an extra that the project does not have: {value}.",
        "an extra is one of [project.optional-dependencies] in pyproject.toml; this project has: {known}",
        "Correct the name, or add the extra to pyproject.toml and run `uv lock`.",
    ),
    "extras_conflict": _error(
        "H3",
        "A host cannot have these extras together: {why}.",
        "a host has one accelerator, and never two extras of a set of tool.uv.conflicts",
        "Leave one out of app_extras, or choose another app_accelerator for this host or group.",
    ),
    "project_unreadable": _error(
        "H2",
        "pyproject.toml or uv.toml of the source cannot be read, so {value} cannot be compared with it.",
        "no credential is sent to, and no extra taken from, a project that nobody could read; uv reads newer TOML than Python",
        "Write it in TOML 1.0 (an inline table has one line), or leave the variable out.",
    ),
    "accelerator_none": _error(
        "H3",
        "The project has no extra for this host: {found}.",
        "auto picks cuNNN, rocmN.N, xpu or cpu out of the project's extras, which are: {known}",
        "Add such an extra (cpu suits every host), or name one with app_accelerator.",
    ),
    "accelerator_without_driver": _warning(
        "H3",
        "The host has a GPU ({vendor}), but no driver that serves it: the application will not use it.",
        "auto picks an accelerator that the host's kernel shows with a working driver",
        "Install the driver and deploy again, or set app_accelerator: cpu for this host.",
    ),
    "accelerator_backend": _error(
        "H3",
        "{value} is no accelerator of the pip interface.",
        "in legacy mode app_accelerator becomes UV_TORCH_BACKEND: auto, cpu, cuNNN, rocmN.N or xpu",
        "Correct app_accelerator.",
    ),
    "accelerator_twice": _error(
        "H3",
        "UV_TORCH_BACKEND is set in the environment, and app_accelerator would set it, too.",
        "in legacy mode app_accelerator becomes UV_TORCH_BACKEND of the build",
        "Leave one of the two out.",
    ),
    # -- H2: indexes -------------------------------------------------------------------------------------------------------------
    "index_entry": _error(
        "H2",
        "The entry {value} of app_indexes cannot be used: {why}.",
        "an entry has a name, a url or a preset with its parts, and at most one of password, token_command and keyring",
        "Correct it; docs/indexes.md has an entry for each kind of index.",
    ),
    "index_unknown": _error(
        "H2",
        "Nothing says where the index {value} is: neither pyproject.toml, nor uv.toml of the host, nor its entry.",
        "credentials belong to an index by name, so the name has to be known to uv",
        "Correct the name, or give the entry a url or a preset.",
    ),
    "index_address_differs": _error(
        "H2",
        "The index {name} has two addresses: {value} and {there} (in app_indexes, the project, or uv.toml of the host).",
        "credentials for one address are sent to no other",
        "Write the same address everywhere, or leave url and preset out of the entry; names that differ in signs alone share one password.",
    ),
    "index_credentials_twice": _warning(
        "H2",
        "The index {value} has credentials in app_indexes and in app_env; those of app_indexes are used.",
        "an index has one user name and one password",
        "Remove UV_INDEX_{stem}_USERNAME and UV_INDEX_{stem}_PASSWORD from app_env.",
    ),
    "index_keyring_missing": _error(
        "H2",
        "The host has no program keyring, which the index {value} takes its password from.",
        "uv calls keyring as a program, which has to be on the build's PATH",
        "Add it to uv_tools, {tool}, and run the provision playbook.",
    ),
    "index_token": _error(
        "H2",
        "There is no token for the index {index}: {value} on the controller printed none, {why}. It says: {words}",
        "token_command runs on the controller, once in a run that has something to build, and the last line that it prints is the token",
        "Run the command by hand as the user who runs ansible-playbook; log in again if its session has ended.",
    ),
    "source_credentials": _error(
        "I",
        "{variable} holds a user and a password in an address: {value}.",
        "what lies in the source lies in every release; credentials exist for the build only, and appear in no lock",
        "Take them out ({how}), give them in app_indexes or app_env, and replace the password, which others may have read by now.",
    ),
    # -- H7: batches --------------------------------------------------------------------------------------------------------------
    "batch_no_metadata": _error(
        "H7",
        "The script has no inline metadata.",
        "a batch runs a script that names its Python and its packages itself, between `# /// script` and `# ///`",
        "Add the block: uv init --script FILE, then uv add --script FILE PACKAGE.",
    ),
    "batch_file": _error(
        "input",
        "A file of the batch cannot be used: {why}.",
        "script, lock and files are read on the controller; hosts get them side by side under their own names",
        "Correct {variable}; relative paths start from the folder in which ansible-playbook was started.",
    ),
    "batch_inputs": _error(
        "input",
        "The inputs cannot be used: {why}.",
        "inputs are a list of texts, a text with one per line, or such a file",
        "Correct {variable}.",
    ),
    "batch_shards": _error(
        "input",
        "The inputs make {shards} shards.",
        "a batch has {limit} shards at most, because its state is written at every step",
        "Set batch_shard_size to {least} or more.",
    ),
    "batch_arguments": _error(
        "input",
        "The inputs of one shard are too long for arguments: {size} bytes.",
        "Linux takes {limit} bytes of arguments beside the environment, and 131071 in one of them",
        "Make batch_shard_size smaller, or set batch_input_mode: stdin and read one input per line.",
    ),
    "batch_results": _error(
        "input",
        "The folder of results cannot be used: {why}.",
        "batch_results is a folder of this batch alone; nothing that is in it is overwritten",
        "Set batch_results to another folder, or move what is there.",
    ),
    "batch_other": _error(
        "H7",
        "The folder of results holds another batch ({old}; this one is {new}).",
        "a batch is its script, lock, files, inputs, arguments, shard size and environment; when one changes, results would mix",
        "Set batch_restart: true (the earlier results keep a folder of their own), or batch_results to another folder.",
    ),
    "batch_running": _error(
        "H7",
        "Another run is at this batch: {holder}, run {run}.",
        "one run at a time works through a batch",
        "Wait for it to end. When it is known to be dead, run again with batch_takeover: {run}.",
    ),
    # -- B7: build of legacy mode ---------------------------------------------------------------------------------------------
    "requirements_missing": _error(
        "B7",
        "{variable} names a file that the source does not have: {path}.",
        "legacy mode installs requirements.txt, or the file that CC_PIP_REQUIREMENTS_FILE names relative to the project root",
        "Correct {variable}, or commit the file if it is new or ignored{hint}.",
    ),
    "requirements_outside": _error(
        "B7",
        "{variable} leaves the project root.",
        "the requirements file is part of the release: a path relative to the project root",
        "Name a file inside of the project, without `..`.",
    ),
    "requirements_none": _warning(
        "B7",
        "There is no {path}, so none of the application's packages are installed.",
        "legacy mode installs requirements.txt, or the file that CC_PIP_REQUIREMENTS_FILE names",
        "Commit a requirements.txt, or set CC_PIP_REQUIREMENTS_FILE to the file that lists the application's packages{hint}.",
    ),
    "requirements_later": _warning(
        "B7",
        "{path} cannot be read before the build ({other}): CC_PRE_BUILD_HOOK may write it.",
        "legacy mode installs requirements.txt, or the file that CC_PIP_REQUIREMENTS_FILE names, after the pre-build hook",
        "Nothing, if the hook writes it; otherwise commit the file.",
    ),
    "requirements_line": _error(
        "B7",
        "Line {line} of {path} is no requirement: {why}.",
        "a line of a requirements file is a requirement (name==1.0), a URL, a path or an option of pip",
        "Correct line {line} of {path}.",
    ),
    "requirements_nested": _error(
        "B7",
        "Line {line} of {path} names a file that the source does not have: {other}.",
        "files named with -r or -c are found relative to the file that names them",
        "Correct line {line} of {path}, or commit {other} if it is new or ignored.",
    ),
    "setup_goal": _error(
        "B7",
        "PYTHON_SETUP_PY_GOAL is not one goal of setup.py.",
        "PYTHON_SETUP_PY_GOAL is one word, which `python setup.py` gets after the requirements are installed",
        "Set PYTHON_SETUP_PY_GOAL to one goal, for example develop; a CC_POST_BUILD_HOOK can run more.",
    ),
    "setup_py_missing": _error(
        "B7",
        "PYTHON_SETUP_PY_GOAL is set, but the source has no {path}.",
        "PYTHON_SETUP_PY_GOAL runs `python setup.py GOAL` in the project root",
        "Remove PYTHON_SETUP_PY_GOAL, or commit setup.py at the project root.",
    ),
    "manage_task": _error(
        "B7",
        "An entry of CC_PYTHON_MANAGE_TASKS cannot be run ({entry}): {why}.",
        "CC_PYTHON_MANAGE_TASKS is a list separated by commas; every entry is a task of manage.py with its options, split under "
        "shell quoting rules",
        "Correct the entry, for example: migrate, collectstatic --noinput",
    ),
    "manage_py_missing": _error(
        "B7",
        "CC_PYTHON_MANAGE_TASKS is set, but the source has no {path}.",
        "every entry of CC_PYTHON_MANAGE_TASKS is one `python manage.py TASK` in the project root",
        "Remove CC_PYTHON_MANAGE_TASKS, set APP_FOLDER to the folder that holds manage.py, or commit manage.py.",
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
    "python_2_missing": _error(
        "C2",
        "CC_PYTHON_VERSION asks for Python 2.7, and the host has none.",
        "CC_PYTHON_VERSION=2 means 2.7 and is never replaced by Python 3, which could not run the application",
        'On Debian 11 (bullseye) the distribution still has it: add python_versions: ["2.7"] and run the provision playbook. Newer '
        "hosts have none: port the application to Python 3 and set CC_PYTHON_VERSION to {example}.",
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
    "request_flow_literal_port": _warning(
        "F4",
        "{variable} names the chain's port {port} itself ({part}): the application would not be where the chain looks for it.",
        "behind a chain the application listens on $PORT, or on 9000 where it does not take its port from there",
        "Write $PORT in place of {port}.",
    ),
    "haproxy_too_old": _error(
        "F9",
        "{service} needs HAProxy {least}, and {found}.",
        "{service} is HAProxy of the distribution; what it needs came with HAProxy {least}",
        "Use a newer release of the distribution, install HAProxy {least} on the host, or take {service} out of the chain.",
    ),
    "challenge_secret_missing": _error(
        "F9",
        "The chain holds otoroshi-challenge, but OTOROSHI_CHALLENGE_SECRET is empty or not set.",
        "otoroshi-challenge verifies requests with the secret that it shares with Otoroshi",
        "Set OTOROSHI_CHALLENGE_SECRET to the secret that Otoroshi has for this service, or take otoroshi-challenge out of the chain.",
    ),
    "challenge_secret_short": _warning(
        "F9",
        "{variable} has {size} bytes only, which can be guessed.",
        "whoever guesses the secret walks past Otoroshi; it should have {least} bytes at least, and better 64",
        "Make one with `python3 -c 'import secrets; print(secrets.token_urlsafe(48))'` and give it to Otoroshi as well.",
    ),
    "challenge_secret_long": _error(
        "F9",
        "{variable} has {size} bytes.",
        "HAProxy takes secrets of up to {most} bytes",
        "Choose a shorter secret, and give it to Otoroshi as well.",
    ),
    "challenge_secret_blank": _warning(
        "F9",
        "{variable} begins or ends with a blank or a line break, which is part of the secret.",
        "the secret is taken byte for byte",
        "Remove it, unless Otoroshi has the same one.",
    ),
    "challenge_previous_invalid": _error(
        "F9",
        "app_challenge_previous_secret is not a secret: it is empty, no text, or holds a NUL character.",
        "app_challenge_previous_secret is the value that OTOROSHI_CHALLENGE_SECRET had before, as text",
        "Set it to the old value in quotes, or remove it.",
    ),
    "challenge_previous_same": _warning(
        "F9",
        "app_challenge_previous_secret is the same as OTOROSHI_CHALLENGE_SECRET.",
        "app_challenge_previous_secret is the value that OTOROSHI_CHALLENGE_SECRET had before",
        "Set OTOROSHI_CHALLENGE_SECRET to the new secret, or remove app_challenge_previous_secret.",
    ),
    "challenge_until_invalid": _error(
        "F9",
        "app_challenge_previous_until does not say until when the previous secret is accepted.",
        "a previous secret is accepted until a date and time, written with its time zone",
        'Set app_challenge_previous_until to when Otoroshi signs with the new secret everywhere, for example "{example}".',
    ),
    "challenge_until_alone": _warning(
        "F9",
        "app_challenge_previous_until is set, but app_challenge_previous_secret is not.",
        "a previous secret is accepted until a date and time",
        "Remove app_challenge_previous_until, or set app_challenge_previous_secret.",
    ),
    "challenge_until_past": _warning(
        "F9",
        "app_challenge_previous_until has passed: the previous secret is not accepted any more.",
        "a previous secret is accepted until a date and time",
        "Remove app_challenge_previous_secret and app_challenge_previous_until.",
    ),
    "challenge_path_invalid": _error(
        "F9",
        "OTOROSHI_CHALLENGE_EXCLUDE_PATHS names something that is no path: {path} ({why}).",
        "OTOROSHI_CHALLENGE_EXCLUDE_PATHS is a list of exact paths, separated by commas, each beginning with /",
        "Correct the path, or remove it.",
    ),
    "challenge_path_pattern": _warning(
        "F9",
        "OTOROSHI_CHALLENGE_EXCLUDE_PATHS holds {path}, which is taken literally, with its *.",
        "paths without a challenge are exact: there are no patterns",
        "Name every path, or remove it.",
    ),
    "varnish_file_outside": _error(
        "F8",
        "CC_VARNISH_FILE leaves the project root.",
        "CC_VARNISH_FILE is a path relative to the project root, although it is written with a leading /",
        "Name a file inside of the project, without `..`.",
    ),
    "varnish_file_missing": _error(
        "F8",
        "The chain holds varnish, but the source has no file {path}.",
        "Varnish runs clevercloud/varnish.vcl, or the file that CC_VARNISH_FILE names relative to the project root",
        "Commit the file (.gitignore keeps files out of the source), or correct CC_VARNISH_FILE.",
    ),
    "varnish_file_unreadable": _error(
        "F8",
        "{path} is not a VCL: it is no text file, or has more than {most} KiB.",
        "a VCL is a text of up to {most} KiB",
        "Correct {path}.",
    ),
    "varnish_backend": _error(
        "F8",
        "The VCL {value} declares a backend of its own: {shown}.",
        "the chain supplies the backend, because it knows the port of what stands behind Varnish",
        "Remove the declaration, and what names it (`set req.backend_hint = …`): everything goes to the application.",
    ),
    "varnish_shares_pages": _warning(
        "F8",
        "vcl_recv of {value} ends in return (hash), behind oauth2-proxy: a page that one user got is served to all others.",
        "Varnish's own vcl_recv lets requests with a cookie pass by the cache; one that ends in return (hash) does not come to it",
        "End vcl_recv without a return, or with return (pass) for what depends on the user; or put varnish before oauth2-proxy.",
    ),
    "varnish_before_challenge": _warning(
        "F3",
        "{variable} puts varnish before otoroshi-challenge: a page in the cache is served without a challenge, with an answer signed "
        "for somebody else.",
        "the challenge protects what stands behind it, and Varnish does not ask it for what is in its cache",
        "Put otoroshi-challenge first, as the default order does.",
    ),
    "varnish_storage": _error(
        "F8",
        "CC_VARNISH_STORAGE_SIZE is not a size that Varnish takes: {why}.",
        "CC_VARNISH_STORAGE_SIZE is a number with a unit, k, M, G or T, and 1M at least",
        "Set it for example to 512M, or remove it for 1G.",
    ),
    "varnish_storage_memory": _error(
        "F8",
        "Varnish's storage of {value} is more than the memory of the host, {memory} MB.",
        "CC_VARNISH_STORAGE_SIZE (1G when it is not set) is memory, which the application needs as well",
        "Set CC_VARNISH_STORAGE_SIZE to {fits}, for example.",
    ),
    "varnish_storage_half": _warning(
        "F8",
        "Varnish's storage of {value} is more than half of the host's memory, {memory} MB.",
        "CC_VARNISH_STORAGE_SIZE (1G when it is not set) is memory; for a while after a change of the chain two of them run",
        "Set CC_VARNISH_STORAGE_SIZE to {fits}, for example.",
    ),
    "flow_program_missing": _error(
        "input",
        "The chain holds {service}, but {variable} is not set: nobody knows where the program {name} is.",
        "the distribution does not have {name}; {variable} is its path on the hosts, or a URL and a checksum",
        "Set {variable}: /usr/local/bin/{name}, or {variable}: {{url: …, checksum: sha256:…}}.",
    ),
    "flow_program_path": _error(
        "input",
        "{variable} is neither a path on the hosts nor a URL with its checksum.",
        "{variable} is the absolute path of {name} on the hosts, or a mapping of url (URL, or path on the controller) and checksum",
        "Write {variable}: {{url: {value}, checksum: sha256:…}}, or the program's absolute path.",
    ),
    "flow_program_shape": _error(
        "input",
        "{variable} does not say where the program is.",
        "{variable} is the absolute path of {name} on the hosts, or a mapping of url (URL, or path on the controller) and checksum",
        "Write {variable}: {{url: …, checksum: sha256:…}}, or the program's absolute path.",
    ),
    "flow_program_checksum": _error(
        "input",
        "{variable} is not a sha256 checksum.",
        "a program from elsewhere is checked; a checksum is 64 hexadecimal digits, with or without sha256: before them",
        "Take it from the place that the program comes from (sha256sum FILE).",
    ),
    "flow_program_credentials": _error(
        "I",
        "{variable} holds a user or a password.",
        "the location of a program is shown; credentials are not part of it",
        "Write the URL without them, and put them into ~/.netrc of the controller.",
    ),
    "redirectionio_key_missing": _error(
        "F10",
        "The chain holds redirectionio, but CC_REDIRECTIONIO_PROJECT_KEY is not set.",
        "the agent asks redirection.io for the rules of a project, by its key",
        "Set CC_REDIRECTIONIO_PROJECT_KEY, or take redirectionio out of CC_REQUEST_FLOW.",
    ),
    "redirectionio_text": _error(
        "F10",
        "{variable} holds a control character or ${{…}}, which the agent would replace.",
        "key and name of the instance stand in the agent's configuration as they are",
        "Correct {variable}.",
    ),
    "redirectionio_generation": _error(
        "input",
        "app_redirectionio_generation is neither 2 nor 3.",
        "the agent of redirection.io reads its configuration in one of two forms, named after its major version",
        "Set it to 2 or 3, as the program's version says.",
    ),
    "redirectionio_configuration": _error(
        "input",
        "app_redirectionio_configuration is no text.",
        "app_redirectionio_configuration is the complete configuration file of the agent",
        "Write it as a block of text (|), or remove it.",
    ),
    "redirectionio_placeholders": _error(
        "F10",
        "app_redirectionio_configuration lacks @LISTEN_PORT@ or @FORWARD_PORT@.",
        "a configuration of one's own gets the ports of the chain in place of @LISTEN_PORT@ and @FORWARD_PORT@",
        "Write @LISTEN_PORT@ where the agent listens and @FORWARD_PORT@ where it forwards to.",
    ),
    "redirectionio_port": _error(
        "F10",
        "CC_REDIRECTIONIO_FORWARD_PORT is not a port.",
        "a port is a whole number from 1 to 65535",
        "Correct it, or remove it: the agent then forwards to the next service of the chain.",
    ),
    "redirectionio_circle": _error(
        "F10",
        "CC_REDIRECTIONIO_FORWARD_PORT is {value}, which leads back into the chain: requests would go round in a circle.",
        "the agent forwards to what stands behind it",
        "Remove CC_REDIRECTIONIO_FORWARD_PORT: the agent then forwards to the next service of the chain.",
    ),
    "oauth2_owned": _warning(
        "F11",
        "{variable} is not passed on to oauth2-proxy.",
        "where oauth2-proxy listens and forwards to comes from the chain, and all else from its variables",
        "Remove {variable}.",
    ),
    "oauth2_singular": _warning(
        "F11",
        "oauth2-proxy does not read {variable}; the list is called {plural}{wins}.",
        "variables that hold a list have a name in the plural, other than the options of the command line",
        "Rename {variable} to {plural}.",
    ),
    "oauth2_missing": _error(
        "F11",
        "The chain holds oauth2-proxy, but {variable} is not set.",
        "oauth2-proxy does not start without it",
        "Set {variable}{instead}.",
    ),
    "oauth2_cookie_missing": _error(
        "F11",
        "The chain holds oauth2-proxy, but OAUTH2_PROXY_COOKIE_SECRET is not set.",
        "oauth2-proxy encrypts its cookies with a secret of 16, 24 or 32 bytes",
        "Make one with `python3 -c 'import secrets; print(secrets.token_urlsafe(32))'`, and keep it.",
    ),
    "oauth2_cookie_size": _error(
        "F11",
        "OAUTH2_PROXY_COOKIE_SECRET has {size} bytes.",
        "a cookie secret has 16, 24 or 32 bytes, as it is or once URL-safe base64 (- and _ instead of + and /) is decoded",
        "Make one with `python3 -c 'import secrets; print(secrets.token_urlsafe(32))'`, and keep it.",
    ),
    "oauth2_email_rule": _error(
        "F11",
        "The chain holds oauth2-proxy, but nothing says who may sign in.",
        "oauth2-proxy needs OAUTH2_PROXY_EMAIL_DOMAINS, OAUTH2_PROXY_AUTHENTICATED_EMAILS_FILE or OAUTH2_PROXY_HTPASSWD_FILE",
        "Set OAUTH2_PROXY_EMAIL_DOMAINS to the domains of your users; * lets in whoever the provider knows.",
    ),
    "oauth2_file": _error(
        "F11",
        "{variable} is not an absolute path.",
        "oauth2-proxy runs as a user of its own, outside of the project",
        "Put the file on the hosts, readable for everybody or by its group, and name its absolute path.",
    ),
    "oauth2_health_path": _warning(
        "F11",
        "The health check asks for {path}, which oauth2-proxy answers with a page to sign in unless {variable} excludes it.",
        "health check paths are asked through the whole chain, and answer 200",
        "Add {example} to {variable}.",
    ),
    # -- G: server settings of legacy mode ------------------------------------------------------------------------------------
    "setting_number": _error(
        "G",
        "{variable} is not a number that it can be.",
        "{variable} is {bounds}",
        "Set {variable} to {bounds}, for example {default}, or remove it.",
    ),
    "setting_flag": _error(
        "G",
        "{variable} neither switches something on nor off.",
        "{variable} is true, yes, on or 1, or false, no, off or 0",
        "Set {variable} to true or false, or remove it.",
    ),
    "setting_choice": _error(
        "G",
        "{variable} is none of its values.",
        "{variable} is one of: {choices}",
        "Set {variable} to one of: {choices} (default {default}).",
    ),
    "setting_renamed": _warning(
        "G",
        "{variable} is the old name of {new}{used}.",
        "{new} is the setting's name",
        "Rename {variable} to {new}.",
    ),
    "module_syntax": _error(
        "G1",
        "CC_PYTHON_MODULE is not a module and its object: {why}.",
        "CC_PYTHON_MODULE is written module:object, with dots between packages",
        "Write it as module:object, for example shop.wsgi:application for the object application of shop/wsgi.py.",
    ),
    "module_call": _error(
        "G1",
        "The backend {backend} cannot start CC_PYTHON_MODULE: its object is {what}.",
        "uwsgi takes a name of the module, also followed by (); gunicorn takes attributes and calls; daphne and uvicorn take names and "
        "attributes",
        "Give the object a name of its own in the module, or set CC_PYTHON_BACKEND=gunicorn.",
    ),
    "module_missing": _warning(
        "G1",
        "The source has no module {module}: there is no {path} at the project root.",
        "the backend imports the module from the project root or from what the requirements install",
        "{hint}.",
    ),
    "backend_for_python": _error(
        "G2",
        "There is no {role} that can be installed for Python {python}.",
        "Python 2.7 gets Gunicorn 19, the last that runs there; other servers come from the application's requirements",
        "Set CC_PYTHON_BACKEND=gunicorn (without gevent), or name the package for {role} in the requirements file.",
    ),
    "uwsgi_engine": _error(
        "G7",
        "UWSGI_ASYNC_ENGINE is no engine that is there{hint}.",
        "UWSGI_ASYNC_ENGINE is one of: {engines}",
        "Set UWSGI_ASYNC_ENGINE to one of: {engines}, or remove it.",
    ),
    "uwsgi_engine_alone": _error(
        "G7",
        "UWSGI_ASYNC_ENGINE is set, but UWSGI_ASYNC is not.",
        "UWSGI_ASYNC is the number of asynchronous cores of every worker, and without it uWSGI is not asynchronous",
        "Set UWSGI_ASYNC to a number from 2 on, for example 100, or remove UWSGI_ASYNC_ENGINE.",
    ),
    "uwsgi_async_gevent": _error(
        "G7",
        "UWSGI_ASYNC_ENGINE and CC_PYTHON_USE_GEVENT ask for two engines.",
        "uWSGI has one asynchronous engine",
        "Remove UWSGI_ASYNC_ENGINE, or CC_PYTHON_USE_GEVENT.",
    ),
    "uwsgi_async_threads": _error(
        "G7",
        "UWSGI_ASYNC and WSGI_THREADS exclude one another.",
        "an asynchronous worker answers its requests in one thread",
        "Remove WSGI_THREADS, or UWSGI_ASYNC.",
    ),
    "uwsgi_harakiri_shared": _warning(
        "G4",
        "HARAKIRI={value} may let a request take longer: a worker answers several at once.",
        "uWSGI has one limit for a worker, not for a request, and each request that ends lifts it from those that go on",
        "For a limit on every request: WSGI_THREADS=1 and more WSGI_WORKERS, without UWSGI_ASYNC and gevent.",
    ),
    "uwsgi_extra_syntax": _error(
        "G8",
        "Directive {number} of CC_UWSGI_EXTRA_CONFIG cannot be read.",
        "directives are written key = value, each on a line of its own or separated by semicolons; key=value key=value also holds",
        "Correct the directive, for example: reload-mercy = 10",
    ),
    "uwsgi_extra_refused": _error(
        "G8",
        "{variable} may not set the directive {key} of uWSGI.",
        "where uWSGI listens, as whom it runs, what it starts and how systemd follows it is the platform's",
        "Remove {key}.",
    ),
    "uwsgi_extra_variable": _error(
        "G8",
        "{variable} may not set the directive {key} of uWSGI, which has a variable of its own.",
        "what a variable of the contract says is said there only",
        "Remove {key}, and set {own}.",
    ),
    "gunicorn_class": _error(
        "G10",
        "{variable} is no class of workers.",
        "a class is one of {classes}, or the dotted path of a class",
        "Set {variable} to one of: {classes}, or to a path such as uvicorn.workers.UvicornWorker.",
    ),
    "gunicorn_class_gone": _error(
        "G10",
        "The Gunicorn that would be installed ({pin}) has no workers of the class {value}.",
        "Gunicorn 27 has no eventlet, and only that has asgi; a version that the requirements name wins",
        "Choose another class (gevent for eventlet), or name a Gunicorn that has the class in the requirements file.",
    ),
    "gunicorn_argument": _error(
        "G10",
        "GUNICORN_CMD_ARGS may not hold {option}: {instead}.",
        "where Gunicorn listens, as whom it runs and how systemd follows it is the platform's, and its size and timeout have "
        "variables of their own",
        "Remove {option} from GUNICORN_CMD_ARGS.",
    ),
    "gunicorn_arguments": _error(
        "G10",
        "GUNICORN_CMD_ARGS cannot be split into arguments: a quote is not closed, or it ends in a lone backslash.",
        "Gunicorn reads its arguments from GUNICORN_CMD_ARGS, split under shell quoting rules",
        "Balance the quotes.",
    ),
    "server_variable": _error(
        "G2",
        "{variable} would change what the platform sets for {server}.",
        "where the server listens and how systemd follows it is the platform's",
        "Remove {variable}.",
    ),
    "nginx_buffers": _error(
        "G12",
        "CC_NGINX_PROXY_BUFFERS is not a number of buffers and their size.",
        "CC_NGINX_PROXY_BUFFERS is a number from 2 on and a size from 1k to 64m, as Nginx writes them",
        "Set it for example to: 8 16k",
    ),
    "nginx_buffer_size": _error(
        "G12",
        "CC_NGINX_PROXY_BUFFER_SIZE is not a size.",
        "CC_NGINX_PROXY_BUFFER_SIZE is a size from 1k to 64m, as Nginx writes it",
        "Set it for example to: 16k",
    ),
    "nginx_buffers_fit": _error(
        "G12",
        "CC_NGINX_PROXY_BUFFERS ({buffers}) and CC_NGINX_PROXY_BUFFER_SIZE ({size}) do not fit together; Nginx would refuse them.",
        "twice the largest buffer may not exceed all buffers of CC_NGINX_PROXY_BUFFERS but one",
        "Raise CC_NGINX_PROXY_BUFFERS, for example to 8 buffers of the size of CC_NGINX_PROXY_BUFFER_SIZE.",
    ),
    "gzip_types": _error(
        "G13",
        "GZIP_TYPES names something that is no media type: {wrong}.",
        "GZIP_TYPES is a list of media types, separated by spaces, or *",
        "Write types such as application/json, separated by spaces.",
    ),
    "static_half": _warning(
        "G14",
        "{variable} is set and {lacking} is not, so Nginx serves no static files.",
        "STATIC_FILES_PATH is served under STATIC_URL_PREFIX, and both are needed",
        "Set {lacking}, or remove {variable}.",
    ),
    "static_outside": _error(
        "G14",
        "STATIC_FILES_PATH leaves the release.",
        "STATIC_FILES_PATH is a folder below the project root, where a leading / stands for the project root",
        "Name a folder inside of the project, without `..`.",
    ),
    "static_root": _error(
        "G14",
        "STATIC_FILES_PATH is the project root itself, so everyone could read the application's code.",
        "STATIC_FILES_PATH is a folder below the project root",
        "Move the static files into a folder of their own and name that.",
    ),
    "static_unsafe": _error(
        "G14",
        "STATIC_FILES_PATH holds a character that Nginx's configuration cannot hold.",
        "paths of static files are without quotes, backslash, $, ;, <, >, braces and line breaks",
        "Rename the folder.",
    ),
    "static_file": _error(
        "G14",
        "STATIC_FILES_PATH is a file.",
        "STATIC_FILES_PATH is a folder below the project root",
        "Name the folder that holds the file.",
    ),
    "static_missing": _warning(
        "G14",
        "The source has no files below STATIC_FILES_PATH{maker}.",
        "STATIC_FILES_PATH is a folder below the project root, which the source has or the build makes",
        "Nothing, if the build makes the folder; otherwise correct STATIC_FILES_PATH.",
    ),
    "static_prefix": _error(
        "G14",
        "STATIC_URL_PREFIX is not the beginning of a URL's path.",
        "a prefix begins with / and is without spaces, ?, #, `..`, quotes, backslash, $, ;, <, > and braces",
        "Set STATIC_URL_PREFIX for example to /static.",
    ),
    "static_prefix_slash": _warning(
        "G14",
        "STATIC_URL_PREFIX does not begin with /; {used} is used.",
        "a prefix begins with /",
        "Set STATIC_URL_PREFIX to {used}.",
    ),
    "basic_auth": _error(
        "G15",
        "{variable} is not a login and its password: {why}.",
        "every CC_HTTP_BASIC_AUTH variable is written login:password",
        "Write {variable} as login:password; further pairs go into CC_HTTP_BASIC_AUTH_0, CC_HTTP_BASIC_AUTH_1, …",
    ),
    "basic_auth_index": _error(
        "G15",
        "{variable} would not be read: its index is not a plain number.",
        "pairs of login and password are in CC_HTTP_BASIC_AUTH and CC_HTTP_BASIC_AUTH_0, _1, … without leading zeros",
        "Rename it to CC_HTTP_BASIC_AUTH_0.",
    ),
    "intercept_without_pages": _warning(
        "G9",
        "{variable} changes nothing: clevercloud/http.json names no error_pages.",
        "Nginx answers in the application's place only for codes that it has a page for",
        'Name a page per code, such as {{"error_pages": {{"500": "errors/500.html"}}}}, or remove {variable}.',
    ),
    "http_json_broken": _error(
        "G16",
        "{variable} is not JSON: {why}.",
        "clevercloud/http.json is one JSON object",
        "Correct the file, for example with: python3 -m json.tool {variable}",
    ),
    "http_json_key": _warning(
        "G16",
        "{variable} has the key {value}, which means nothing here.",
        "the keys of http.json are {keys}",
        "Correct the key, or remove it.",
    ),
    "http_json_twice": _error(
        "G16",
        "{variable} has the key {value} twice in one object.",
        "a key stands once in an object",
        "Remove one of them.",
    ),
    "http_json_value": _error(
        "G16",
        "{key} in {variable} is not what it can be.",
        "{key} is {expected}",
        "Correct {key} in {variable}.",
    ),
    "http_json_unsafe": _error(
        "G16",
        "{key} in {variable} holds a character that Nginx's configuration cannot hold.",
        "paths and addresses are without quotes, backslash, $, ;, <, >, braces and line breaks",
        "Write such characters %-encoded, or leave them out.",
    ),
    "http_json_page": _warning(
        "G16",
        "{variable} names an error page that the source does not have: {page}.",
        "an error page is a file below the project root, which the source has or the build makes",
        "Nothing, if the build makes the file; otherwise correct the path.",
    ),
    "celery_module": _error(
        "G17",
        "CC_PYTHON_CELERY_MODULE is not the name of a module.",
        "`celery -A` gets a module, with dots between packages, and may be told the object after a colon",
        "Set CC_PYTHON_CELERY_MODULE for example to shop.tasks, or to shop.tasks:app.",
    ),
    "celery_missing": _error(
        "G17",
        "CC_PYTHON_CELERY_MODULE is set, but {path} does not require Celery.",
        "a Celery worker runs beside the application when its requirements name celery",
        "Add a line `celery` to {path}, or remove CC_PYTHON_CELERY_MODULE.",
    ),
    "celery_unseen": _warning(
        "G17",
        "{path} does not name Celery; it may come with something that cannot be looked into here: {unseen}.",
        "a Celery worker runs beside the application when its requirements name celery",
        "Add a line `celery` to {path}: the build ends when the environment lacks it.",
    ),
    "celery_logfile": _error(
        "G17",
        "CC_PYTHON_CELERY_LOGFILE leaves the project root, or holds a control character.",
        "CC_PYTHON_CELERY_LOGFILE is a folder or a file relative to the project root",
        "Name a folder inside of the project, for example logs.",
    ),
    "command_port_public": _error(
        "G18",
        "PORT is {value}, the public port, which Nginx has in legacy mode.",
        "in legacy mode CC_RUN_COMMAND listens behind Nginx, on 9000 when PORT is not set",
        "Remove PORT from the application's environment and write $PORT in CC_RUN_COMMAND, or set PORT=9000.",
    ),
    # -- archives for AWS Lambda
    "lambda_python_version": _error(
        "H6",
        "{variable} is {value}, which is no version of Python 3.",
        "python_version is the Python of the Lambda runtime: two numbers, as a text",
        'Write it in quotes, for example python_version: "3.13" (without quotes, 3.10 is the number 3.1).',
    ),
    "lambda_manylinux": _error(
        "H6",
        "{variable} is {value}, which is no level of manylinux.",
        "manylinux is 2014, or 2_ and the minor version of the C library that the wheels may need",
        "Leave it out, or write for example manylinux: '2_28' (in quotes).",
    ),
    "lambda_pattern": _error(
        "H6",
        "{variable} holds a pattern that cannot be used: {value}.",
        "patterns are relative to the folder of the code and do not leave it",
        "Write a path below the folder of the code, for example app or assets/**/*.json.",
    ),
    "lambda_code_dir": _error(
        "H6",
        "{variable} {what}.",
        "the code of a function lies in the project, or in a folder of it that code_dir names",
        "Set code_dir to a folder of the project, for example src, or leave it out.",
    ),
    "lambda_project": _error(
        "H6",
        "There is no pyproject.toml in the project directory.",
        "an archive is made from a project that uv manages: pyproject.toml and uv.lock",
        "Set {variable} to the directory that holds pyproject.toml.",
    ),
    "lambda_no_member": _error(
        "H6",
        "uv.lock knows no project here: {value}.",
        "an archive is made for one project of the lock file, which are: {members}",
        "Set package to one of them, or project to its directory.",
    ),
    "lambda_dest_is_folder": _error(
        "H6",
        "{variable} is a directory.",
        "dest is the file that is written",
        "Add the name of a file, for example {value}/package.zip.",
    ),
    "lambda_dest_folder": _error(
        "H6",
        "The directory of {variable} does not exist.",
        "the archive is written into a directory that is there",
        "Create {folder} first (ansible.builtin.file with state: directory), or correct dest.",
    ),
    "lambda_python_outside": _error(
        "H6",
        "The project does not run on Python {value}: uv.lock asks for {requires}.",
        "an archive is made for a Python that requires-python of the project admits",
        "Set python_version to the Python of the runtime, or change requires-python and run uv lock.",
    ),
    "lambda_lock_stale": _error(
        "H6",
        "uv.lock does not match pyproject.toml.",
        "an archive holds exactly what uv.lock says, and uv.lock what pyproject.toml asks for",
        "Run uv lock in the project and commit uv.lock.",
    ),
    "lambda_lock_missing": _error(
        "H6",
        "There is no uv.lock in the project.",
        "an archive holds exactly what uv.lock says",
        "Run uv lock in the project and commit uv.lock.",
    ),
    "lambda_lock_python": _error(
        "H6",
        "The Python that the project asks for is not on this machine, so uv.lock cannot be held against pyproject.toml.",
        "uv compares the two with a Python that requires-python admits",
        "Install one (module uv_python), name one with python, or set frozen: true if the lock file is known to be up to date.",
    ),
    "lambda_no_wheel": _error(
        "H6",
        "{value} has no wheel for Python {python} on {platform}.",
        "packages come as wheels for the platform of the function, and are not built on this machine unless source_packages says so",
        "Choose another version of {value} or another architecture or python_version; add it to source_packages if it is pure Python.",
    ),
    "lambda_newer_manylinux": _error(
        "H6",
        "{value} has no wheel for Python {python} on {platform}, but one for a newer C library.",
        "packages come as wheels for the platform of the function",
        "Set manylinux: '{manylinux}' if the runtime has it: python3.12 and newer run with version 2.34 of the library, older ones "
        "with 2.26.",
    ),
    "lambda_foreign_wheel": _error(
        "H6",
        "{value} was built for this machine and does not run on Python {python} on {platform}.",
        "what is built for an archive is pure Python, or made for the platform of the function",
        "Build it on such a machine with that Python, or make it a package with wheels for both.",
    ),
    "lambda_build_failed": _error(
        "H6",
        "A package could not be built: {value}.",
        "the project, members of its workspace and packages of source_packages are built before they go into the archive",
        "Read the build's output above; uv build --wheel in its directory shows the same.",
    ),
    "lambda_uv_failed": _error(
        "H6",
        "uv could not make the content of the archive.",
        "an archive holds what uv exports from uv.lock and installs for the platform of the function",
        "Read uv's words above; the command can be run by hand.",
    ),
    "lambda_pattern_unused": _error(
        "H6",
        "{variable} selects no file: {value}.",
        "each pattern of include selects a file of {folder} that exclude leaves, and hidden ones only if it begins with a dot itself",
        "Correct the pattern, or remove it.",
    ),
    "lambda_empty": _error(
        "H6",
        "There is nothing to pack.",
        "a function holds code, a layer packages",
        "Name the files of the code with include and code_dir, or the packages with extras and groups.",
    ),
    "lambda_link": _error(
        "H6",
        "A link of the code cannot be followed: {value}.",
        "links lead to files and folders of the project or its workspace, and not to a folder that they lie in",
        "Put the file itself there, or leave the link out with exclude.",
    ),
    "lambda_clash": _error(
        "H6",
        "The code and a package both bring {value}, with different content.",
        "every file of an archive has one content",
        "Rename the file, or leave it out with exclude.",
    ),
    "lambda_name": _error(
        "H6",
        "The name of a file is not UTF-8: {value}.",
        "names in an archive are UTF-8",
        "Rename the file, or leave it out with exclude.",
    ),
    "lambda_size": _error(
        "H6",
        "The archive is too large: {size} unpacked, where {limit} are allowed.",
        "a function and its layers together may have 250 MB unpacked",
        "Leave out what the runtime has with without (boto3), drop a package listed above, or deploy a container image.",
    ),
    "lambda_zip_size": _error(
        "H6",
        "The archive is too large: {size} packed, where {limit} are allowed.",
        "max_zipped_size bounds the file that is uploaded",
        "Leave out what is listed above, or raise max_zipped_size.",
    ),
    "lambda_direct_upload": _warning(
        "H6",
        "The archive has {size} packed, more than the 50 MB that are taken without S3.",
        "an archive is uploaded with the call up to 50 MB, from S3 beyond that",
        "Upload it to S3 and name bucket and key, or set max_zipped_size to fail instead.",
    ),
    "lambda_not_in_lock": _warning(
        "H6",
        "{variable} names a package that uv.lock does not have: {value}.",
        "source_packages and without are names of packages in uv.lock",
        "Correct the name, or remove it.",
    ),
    "lambda_file": _error(
        "H6",
        "A file cannot be read or written: {detail}.",
        "the user of the task reads the project, and writes dest and the folder for temporary files",
        "Correct its permissions, make room, or run the task as another user: {value}.",
    ),
    # -- container images
    "image_base_missing": _error(
        "H5",
        "There is no image to build on.",
        "image_base names the image that the application runs on, with its registry where it has one; none is assumed",
        "Set image_base to an image with bash and, unless uv brings one (image_python: managed), a Python that the project admits.",
    ),
    "image_legacy": _error(
        "H5",
        "No image is made of an application in legacy mode: {value}.",
        "legacy mode is Nginx in front of a backend on a socket of systemd, which one container does not hold; images are of uv mode",
        "Give the project a uv.lock (uv add -r requirements.txt) and set {variable}, or deploy it to a host.",
    ),
    "image_without_chain": _warning(
        "H5",
        "The chain is not in the image: {value}.",
        "an image holds the application alone, which listens for whatever stands in front of the container",
        "Put a proxy in front of the containers that does the same, or deploy to hosts where the chain is needed.",
    ),
    "image_not_layered": _warning(
        "H5",
        "Dependencies have no layer of their own in this image.",
        "{variable} runs before dependencies are installed (B6), and may need all of the source",
        "Move what does not decide on dependencies to CC_POST_BUILD_HOOK, or into the image that image_build_base names.",
    ),
    "image_credentials": _error(
        "H5",
        "The build of an image cannot ask {value} for the credentials of an index.",
        "in the build of an image an index gets a password or a token; there is no keyring in it, and no netrc",
        "Give the index in app_indexes a password or a token_command, for example in the variables of the play that builds the image.",
    ),
    "image_no_package": _error(
        "H5",
        "Without its source the image would hold no application.",
        "image_source: false installs the project as a package, which it is with a [build-system] or tool.uv.package in pyproject.toml",
        "Make the project a package (uv init --package shows how), or set image_source: true.",
    ),
    "image_secret": _error(
        "I",
        "A command or flag of the image holds the value of {variable}.",
        "whoever has an image can read it, and values of app_env are secret",
        "Write ${variable} in the command instead; if it is no secret, name it in image_public_variables.",
    ),
    "image_url_secret": _error(
        "I",
        "A command or flag of the image holds an address with a user or a password.",
        "whoever has an image can read it",
        "Put the address into a variable of {variable}, and its name into the command.",
    ),
    "image_public_unknown": _error(
        "H5",
        "{variable} names a variable that app_env does not have, or that only the build sees: {value}.",
        "image_public_variables are variables of the running application that stand in the image, for all to read",
        "Correct the name, or remove it.",
    ),
    "image_public_lines": _error(
        "H5",
        "{variable} cannot hold a value of several lines: {value}.",
        "a Containerfile has no way to write a line break into a value",
        "Take it out of image_public_variables, and give it to the container.",
    ),
    "image_path": _error(
        "H5",
        "A folder of the application cannot stand in a Containerfile: {value}.",
        "in an image folders have letters, digits and . _ + @ = ~ - in their names; a Containerfile reads anything else its own way",
        "Rename the folder (APP_FOLDER, app_root).",
    ),
    "image_accelerator": _error(
        "H3",
        "An image has no host, on which {value} could be decided.",
        "auto looks at a host's hardware",
        "Name the extra in app_accelerator, for example in the variables of the play that builds the image, and build one image for each.",
    ),
    "image_platform": _error(
        "H5",
        "{variable} names another platform: {value}.",
        "the image gets the uv of the machine that builds it",
        "Build on a machine of that platform (image_host).",
    ),
    "image_place": _error(
        "H5",
        "{variable} is a relative path on another machine: {value}.",
        "a relative path counts from where ansible-playbook was started, which image_host does not know",
        "Write an absolute path.",
    ),
    "image_several_lines": _warning(
        "D6",
        "{variable} cannot hold variables with several lines: {value}.",
        "a file for --env-file has one variable per line, and no way to write a line break",
        "Give them to the container one by one, with --env NAME from the environment of whoever starts it, or as a secret of the engine.",
    ),
    "image_engine": _error(
        "H5",
        "There is no {value} here to build with.",
        "image_engine builds the image, on the controller or on image_host",
        "Install {value} there, or set image_engine or image_host.",
    ),
    "image_base_unavailable": _error(
        "H5",
        "An image to build on is neither here nor can it be pulled: {value}.",
        "the engine pulls what is missing, with its own configuration and login",
        "Correct {variable}, or log in, pull or build that image with {engine} first.",
    ),
    "image_hook": _error(
        "B6",
        "{variable} failed while the image was built.",
        "CC_PRE_BUILD_HOOK runs before dependencies are installed, CC_POST_BUILD_HOOK after; either failing fails the build",
        "Read its output above. It runs in the build stage: image_build_base has to hold the programs that it calls.",
    ),
    "image_no_bash": _error(
        "H5",
        "There is no /bin/bash in {value}.",
        "commands and hooks of an application are lines for bash, in an image as on a host",
        "Choose another {variable}, or install bash in it.",
    ),
    "image_no_python": _error(
        "H5",
        "The Python of the build stage does not run in {value}.",
        "the application runs on the Python that its environment was made with, at the same place",
        "Let {variable} and image_build_base have the same Python, or set image_python: managed, which brings one along.",
    ),
    "image_build_failed": _error(
        "H5",
        "The image could not be built.",
        "a build that fails leaves the images that there are as they were",
        "Read the words above ({value}). With -v ansible-playbook shows the engine's command, to run by hand.",
    ),
    # -- notebook servers of a host ------------------------------------------------------------------------------------------
    "notebook_name": _error(
        "H4",
        "{value} cannot be the name of a notebook server.",
        "a lower-case letter, then lower-case letters, digits and hyphens, 22 characters at most: `notebook-` and the name are its account",
        "Choose another notebook_name, such as research.",
    ),
    "notebook_address": _error(
        "H4",
        "A notebook server cannot listen on {value}.",
        "the address is an IPv4 or IPv6 address of this host",
        "Set 127.0.0.1 for this host alone, or 0.0.0.0 for everybody who reaches it.",
    ),
    "notebook_port": _error(
        "H4",
        "A notebook server cannot listen on port {value}.",
        "it runs without the right to use a port below 1024",
        "Set a port from 1024 to 65535.",
    ),
    "notebook_port_claimed": _error(
        "H4",
        "Port {value} belongs to the application {app} on this host.",
        "an application has its public port, its inner ones and those of its releases, whether something listens there or not",
        "Set another notebook_port.",
    ),
    "notebook_port_taken": _error(
        "H4",
        "Port {value} is in use by {who}.",
        "two programs cannot listen on one port",
        "Stop that program, or set another notebook_port.",
    ),
    "notebook_base_url": _error(
        "H4",
        "{value} is not a path below which a server can answer.",
        "it begins with / and consists of letters, digits, dots, hyphens, underscores, tildes and slashes",
        "Set notebook_base_url to a path such as /research/.",
    ),
    "notebook_directory": _error(
        "H4",
        "Notebooks cannot lie in {value}: {why}.",
        "the server's account owns the directory, the unit sees it, and nothing else cleans it up",
        "Set notebook_directory to a directory of its own, such as /srv/notebooks/main.",
    ),
    "notebook_directory_foreign": _error(
        "H4",
        "The directory {value} is there, and belongs to {owner}.",
        "nothing that is somebody else's, and not empty, changes its owner",
        "Name another notebook_directory, or move this one away, run again, and move its content in with `chown -R {user}:`.",
    ),
    "notebook_token": _error(
        "H4",
        "The token is too easy to guess, or cannot stand in an address.",
        "at least 16 letters, digits, dots, hyphens, underscores and tildes; whoever has it runs any code as the server's account",
        "Take one from `openssl rand -hex 24`, or leave it empty: the host then makes one and keeps it.",
    ),
    "notebook_argument": _error(
        "H4",
        "{value} does not belong into notebook_arguments.",
        "every user of the host sees the arguments of a program",
        "Set notebook_token, which reaches the server as a credential of systemd.",
    ),
    "notebook_kernels": _error(
        "H4",
        "marimo has no kernels: {value}.",
        "marimo runs a notebook with the Python that it is installed in",
        "Take notebook_kernels out, and name packages in notebook_with; or set notebook_kind to jupyter.",
    ),
    "notebook_kernel_app": _error(
        "H4",
        "No application {value} has a release on this host; there are: {there}.",
        "a kernel runs in the environment of the release that serves",
        "Deploy it to this host first, or correct the name.",
    ),
    "notebook_kernel_ipykernel": _error(
        "H4",
        "The environment of {value} has no ipykernel (release {release}).",
        "a kernel is ipykernel in the application's own environment",
        "Add it to the application's dependencies (uv add ipykernel; a development dependency is not in a production release), and deploy.",
    ),
    "notebook_kernel_refused": _error(
        "H4",
        "The Python of {value} does not run for members of its group: {words}.",
        "the server's account reads the release as a member of the application's group, and is nobody else there",
        "Look at the permissions below the release, and of the Python that its .venv leads to.",
    ),
}
