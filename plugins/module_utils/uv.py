# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this collection knows about uv: where it is, which versions it can drive, how its report and its errors read.

`parse_sync_report` and `classify_failure` are pure. The report of `uv sync --output-format json` is marked "preview" by
uv, so every field is checked and what a version leaves out is named instead of guessed:

* up to 0.7.20 there is no report at all;
* 0.7.21 to 0.9.18 report the environment and the lock file, but not the packages: whether an existing environment
  changed cannot be told from such a report;
* 0.9.19 and later list the packages in `sync.changes`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding

# The first version whose report lists package changes, found by trying the versions of the Python index
# (tests/fixtures/uv_json holds what 0.7.21, 0.9.18, 0.9.19 and later ones really print).
MINIMUM_VERSION = "0.9.19"
# The first version that has `--output-format json` for `uv sync` at all.
FIRST_WITH_REPORT = "0.7.21"
# From this version on the setting is called `system-certs`; before it was `native-tls`.
FIRST_WITH_SYSTEM_CERTS = "0.11.0"
DEFAULT_EXECUTABLE = "/usr/local/bin/uv"

_VERSION = re.compile(
    r"^v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)"
    r"(?:[-_.]?(?P<pre_l>a|b|c|rc|alpha|beta|pre|preview)[-_.]?(?P<pre_n>\d*))?"
    r"(?:-(?P<post_i>\d+)|[-_.]?(?P<post_l>post|rev|r)[-_.]?(?P<post_n>\d*))?"
    r"(?:[-_.]?(?P<dev_l>dev)[-_.]?(?P<dev_n>\d*))?"
    r"(?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?$",
    re.IGNORECASE,
)
_PRE_ORDER = {"a": 0, "alpha": 0, "b": 1, "beta": 1, "c": 2, "rc": 2, "pre": 2, "preview": 2}
_LARGE = 1 << 62


class UvError(Exception):
    """Something about uv that a person has to put right: what, uv's own words, the rule and the next step."""

    def __init__(
        self,
        reason: str,
        what: str,
        *,
        rule: str,
        next_step: str,
        words: str = "",
        facts: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.reason = reason
        self.what = what
        self.rule = rule
        self.next_step = next_step
        self.words = words.strip()
        self.facts = tuple(facts)
        super().__init__(self.render())

    def render(self) -> str:
        """One line what, then uv's own words, the facts, the rule and the next step."""
        lines = [self.what]
        if self.words:
            lines += ["", *("  " + line if line else "" for line in self.words.splitlines()), ""]
        lines += [f"{name + ':':<10} {value}" for name, value in self.facts]
        lines += [f"Rule:      {self.rule}", f"Next step: {self.next_step}"]
        return "\n".join(lines)


def late(
    what: str, seconds: float, option: str, rule: str = "every command of the build ends within `timeout`"
) -> Verdict:
    """The verdict on a command that did not end in time; `option` is what to raise."""
    next_step = f"Look at the last lines above; raise {option} if they show progress."
    return Verdict("timeout", f"{what} did not finish within {seconds} s and was ended.", rule, next_step)


def version_key(text: str) -> tuple[Any, ...] | None:
    """Returns a key that orders versions as PEP 440 does, or None for what is not a version."""
    match = _VERSION.match(text.strip())
    if match is None:
        return None
    release = [int(part) for part in match["release"].split(".")]
    while len(release) > 1 and release[-1] == 0:
        release.pop()
    post: float = -1
    if match["post_i"] or match["post_l"]:
        post = int(match["post_i"] or match["post_n"] or 0)
    dev = int(match["dev_n"] or 0) if match["dev_l"] else _LARGE
    if match["pre_l"]:
        pre: tuple[int, int] = (_PRE_ORDER[match["pre_l"].lower()], int(match["pre_n"] or 0))
    elif match["dev_l"] and post < 0:
        pre = (-1, 0)  # a development version comes before the pre-releases of the same release
    else:
        pre = (3, 0)
    local = tuple(
        (1, int(part), "") if part.isdigit() else (0, 0, part)
        for part in re.split(r"[-_.]", (match["local"] or "").lower())
        if part
    )
    return (int(match["epoch"] or 0), tuple(release), pre, post, dev, local)


def is_older(version: str, than: str) -> bool:
    """Whether `version` is older than `than`. What cannot be read as a version is not older."""
    left, right = version_key(version), version_key(than)
    return left is not None and right is not None and left < right


def parse_version_output(text: str) -> str | None:
    """Returns the version out of `uv --version` ("uv 0.13.8 (x86_64-unknown-linux-gnu)"), or None."""
    match = re.match(r"^uv\s+(\d\S*)", text.strip())
    return match.group(1) if match else None


def working_version(executable: str, *, ok: bool, stdout: str, stderr: str) -> str:
    """Returns the version of a uv that runs, from what `uv --version` said; whether it is new enough is another question.

    Raises:
        UvError: it does not run on this host.
    """
    version = parse_version_output(stdout)
    if not ok or version is None:
        raise UvError(
            "uv_broken",
            f"{executable} does not run on this host.",
            words=stderr or stdout,
            rule="uv is a program for this host's architecture and system library",
            next_step="Install uv with the role uv, or set `executable` to one that runs here.",
        )
    return version


def require_version(version: str, minimum: str = MINIMUM_VERSION, executable: str = DEFAULT_EXECUTABLE) -> None:
    """Raises UvError when `version` is older than `minimum`."""
    if not is_older(version, minimum):
        return
    if is_older(version, FIRST_WITH_REPORT):
        why = f"uv reports in JSON from {FIRST_WITH_REPORT} on"
    else:
        why = f"uv lists package changes in its JSON report from {MINIMUM_VERSION} on"
    raise UvError(
        "uv_too_old",
        f"uv {version} is too old: this needs {minimum} or newer.",
        facts=[("Executable", executable), ("Value", version)],
        rule=f"`changed` and the diff come from uv's own JSON report, never from text or exit codes; {why}",
        next_step=f"Set uv_version to {minimum} or newer and run the provision playbook (or set `executable` to a "
        f"newer uv).",
    )


def find_executable(option: str | None, path: str, exists: Any = None) -> str:
    """Returns the uv to use: the option when given, else /usr/local/bin/uv, else the first one on `path`.

    `exists` tells whether a path is an executable file (default: ask the file system). Raises UvError when there is none.
    """
    is_executable = exists or (lambda name: Path(name).is_file() and os.access(name, os.X_OK))
    if option and "/" in option:
        candidates = [option]
    else:
        name = option or "uv"
        candidates = [] if option else [DEFAULT_EXECUTABLE]
        candidates += [str(Path(folder) / name) for folder in path.split(":") if folder.startswith("/")]
    for candidate in candidates:
        if is_executable(candidate):
            return candidate
    raise UvError(
        "uv_missing",
        "There is no uv on this host.",
        facts=[("Looked for", ", ".join(dict.fromkeys(candidates)))],
        rule=f"uv is found by the option `executable`, as {DEFAULT_EXECUTABLE}, or on PATH",
        next_step="Run the provision playbook (role uv) for this host, or set `executable`.",
    )


# -- the report -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PackageChange:
    """What happens to one package. `action` is install, remove, upgrade, downgrade or reinstall; versions may be unknown."""

    name: str
    action: str
    before: str | None
    after: str | None

    def to_dict(self) -> dict[str, str | None]:
        """The change as the modules return it."""
        return {"name": self.name, "action": self.action, "from": self.before, "to": self.after}


@dataclass(frozen=True)
class SyncReport:
    """uv's report of one sync.

    `changes` is None when this version of uv does not list packages; `missing` names every field that was expected and is
    not there (or not of the expected kind), in dotted form; `unknown` names values that this collection has never seen.
    """

    environment_path: str | None
    environment_action: str | None
    python_path: str | None
    python_version: str | None
    lock_action: str | None
    dry_run: bool | None
    changes: tuple[PackageChange, ...] | None
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def replaced(self) -> bool:
        """Whether an environment made by another Python gave way: uv says "replace" in a dry run and "update" after it."""
        return self.environment_action in ("replace", "update")

    @property
    def changed(self) -> bool | None:
        """Whether anything changes; None when the report does not say."""
        if self.environment_action not in (None, "check") or self.lock_action in ("create", "update"):
            return True
        if self.changes:
            return True
        if self.changes is None or self.environment_action is None:
            return None
        return False


class ReportError(ValueError):
    """uv's output is not a report at all."""


@dataclass
class _Reader:
    """Takes fields out of untrusted JSON and remembers what was not there."""

    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def take(self, data: Any, name: str, kind: type | tuple[type, ...], where: str) -> Any:
        value = data.get(name) if isinstance(data, Mapping) else None
        if isinstance(value, kind):
            return value
        self.missing.append((where + "." if where else "") + name)
        return None

    def word(self, value: str | None, known: Iterable[str], where: str) -> str | None:
        if value is not None and value not in known:
            self.unknown.append(f"{where}={value}")
        return value


_ENVIRONMENT_ACTIONS = ("check", "create", "replace", "update")
_LOCK_ACTIONS = ("use", "check", "create", "update")


def parse_sync_report(text: str) -> SyncReport:
    """Reads what `uv sync --output-format json` printed on stdout. Raises ReportError when it is no JSON object."""
    start = text.find("{")
    if start < 0:
        raise ReportError("uv printed no JSON report" + (": " + text.strip()[:200] if text.strip() else ""))
    try:
        data, _end = json.JSONDecoder().raw_decode(text[start:])
    except ValueError as error:
        raise ReportError(f"uv's report is not valid JSON: {error}") from error
    if not isinstance(data, dict):  # raw_decode at "{" yields an object; this is for the type checker
        raise ReportError("uv's report is not a JSON object")
    reader = _Reader()
    sync = reader.take(data, "sync", dict, "") or {}
    environment = reader.take(sync, "environment", dict, "sync") or {}
    python = reader.take(environment, "python", dict, "sync.environment") or {}
    # With --frozen there is no statement about the lock in some versions: it is not looked at.
    lock = data.get("lock") if isinstance(data.get("lock"), dict) else None
    raw_changes = reader.take(sync, "changes", list, "sync")
    changes = None if raw_changes is None else _pair_changes(raw_changes, reader)
    return SyncReport(
        environment_path=reader.take(environment, "path", str, "sync.environment"),
        environment_action=reader.word(reader.take(sync, "action", str, "sync"), _ENVIRONMENT_ACTIONS, "sync.action"),
        python_path=reader.take(python, "path", str, "sync.environment.python"),
        python_version=reader.take(python, "version", str, "sync.environment.python"),
        lock_action=reader.word(reader.take(lock, "action", str, "lock"), _LOCK_ACTIONS, "lock.action")
        if lock is not None
        else None,
        dry_run=reader.take(data, "dry_run", bool, ""),
        changes=changes,
        missing=tuple(reader.missing),
        unknown=tuple(reader.unknown),
    )


def _pair_changes(entries: Sequence[Any], reader: _Reader) -> tuple[PackageChange, ...]:
    """Turns uv's single steps (uninstalled, installed, reinstalled) into one statement per package."""
    removed: dict[str, list[str | None]] = {}
    added: dict[str, list[str | None]] = {}
    again: dict[str, str | None] = {}
    order: list[str] = []
    for number, entry in enumerate(entries):
        where = f"sync.changes[{number}]"
        name = reader.take(entry, "name", str, where)
        action = reader.take(entry, "action", str, where)
        if name is None or action is None:
            continue
        version = entry.get("version")
        version = version if isinstance(version, str) else None
        if name not in order:
            order.append(name)
        if action == "installed":
            added.setdefault(name, []).append(version)
        elif action == "uninstalled":
            removed.setdefault(name, []).append(version)
        else:
            if action != "reinstalled":
                reader.unknown.append(f"{where}.action={action}")
            again[name] = version
    return tuple(_pair(name, removed.get(name, []), added.get(name, []), again) for name in sorted(order))


def _pair(
    name: str, removed: list[str | None], added: list[str | None], again: Mapping[str, str | None]
) -> PackageChange:
    if name in again:
        return PackageChange(name, "reinstall", again[name], again[name])
    if not removed:
        return PackageChange(name, "install", None, added[0])
    if not added:
        return PackageChange(name, "remove", removed[0], None)
    before, after = removed[0], added[0]
    left, right = version_key(before or ""), version_key(after or "")
    if left is None or right is None or left == right:
        return PackageChange(name, "reinstall", before, after)
    return PackageChange(name, "upgrade" if left < right else "downgrade", before, after)


def summary(changes: Sequence[PackageChange]) -> str:
    """ "2 installed, 1 upgraded", or "nothing to do"."""
    words = (
        ("install", "installed"),
        ("upgrade", "upgraded"),
        ("downgrade", "downgraded"),
        ("reinstall", "reinstalled"),
        ("remove", "removed"),
    )
    counts = [(sum(change.action == action for change in changes), word) for action, word in words]
    return ", ".join(f"{count} {word}" for count, word in counts if count) or "nothing to do"


def package_lines(changes: Sequence[PackageChange]) -> tuple[list[str], list[str]]:
    """Returns the changed packages before and after, as lines of a diff."""
    before, after = [], []
    for change in changes:
        same = change.action == "reinstall" and change.before == change.after
        if change.action != "install":
            before.append("{}=={}".format(change.name, change.before or "?"))
        if change.action != "remove":
            after.append("{}=={}{}".format(change.name, change.after or "?", " (installed again)" if same else ""))
    return before, after


# -- failures -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What a failure of uv means: a code for programs, one line, the rule behind it and the next step."""

    reason: str
    what: str
    rule: str
    next_step: str


# Searched in this order in uv's words; the first match wins, so what causes the others stands first.
VERDICTS: tuple[tuple[str, Verdict], ...] = (
    (
        r"No space left on device|os error 28\b|Disk quota exceeded|os error 122\b",
        Verdict(
            "disk_full",
            "The disk is full: uv could not write what it downloads or installs.",
            "B9: environments are built at their final path; a failed build leaves the running release untouched",
            "Free space on the file system of the project and of uv's cache (df -h; `uv cache prune`), then deploy "
            "again.",
        ),
    ),
    (
        r"Unable to find lockfile|No lockfile found|Could not find (?:a )?`?uv\.lock",
        Verdict(
            "lock_missing",
            "There is no uv.lock in the project.",
            "B1: the build is exactly what uv.lock says",
            "Run `uv lock` in the project, commit uv.lock and deploy again (or set `locked: false`).",
        ),
    ),
    (
        r"lockfile at `uv\.lock` needs to be updated|needs to be updated, but `--(?:locked|frozen|check)`",
        Verdict(
            "lock_stale",
            "uv.lock does not match pyproject.toml.",
            "B4: a lock file that does not match pyproject.toml fails the deployment; the running release is not "
            "touched",
            "Run `uv lock` in the project, commit uv.lock and deploy again.",
        ),
    ),
    (
        r"Failed to parse:? `?\S*uv\.lock|Failed to parse lockfile|lockfile at `uv\.lock` uses an unsupported schema",
        Verdict(
            "lock_unparsable",
            "uv.lock cannot be read.",
            "B4: the build is exactly what uv.lock says, so it has to be readable",
            "Look for merge conflict markers in uv.lock, or make it anew with `uv lock`; a newer uv may have written "
            "it (uv_version).",
        ),
    ),
    (
        r"Failed to parse:? `?\S*pyproject\.toml",
        Verdict(
            "project_unparsable",
            "pyproject.toml cannot be read.",
            "B1: the build runs `uv sync` in the project root, which reads pyproject.toml",
            "Correct pyproject.toml (`uv lock --check` shows the same error on a developer's machine).",
        ),
    ),
    (
        r"No `?pyproject\.toml`? found",
        Verdict(
            "project_missing",
            "There is no pyproject.toml in the project directory.",
            "B1: the build runs `uv sync` in the project root",
            "Point `project` (or APP_FOLDER) at the directory that holds pyproject.toml.",
        ),
    ),
    (
        r"Python installation is missing `?distutils|missing the `?distutils",
        Verdict(
            "python_incomplete",
            "The distribution's Python lacks distutils, without which uv cannot use it.",
            "C5: uv chooses among the Pythons of the host that it can use",
            "Add that version to python_versions and run the provision playbook (the role python adds the package "
            "python3-distutils), or ask for another version.",
        ),
    ),
    (
        r"No interpreter found|No download found for request|is not a valid Python (?:download )?request"
        r"|Failed to inspect Python interpreter"
        r"|Python interpreter not found|python-build-standalone|Failed to (?:download|fetch).*cpython-",
        Verdict(
            "python_not_found",
            "The Python that the project asks for is not on this host.",
            "C5: uv's own rules (requires-python, .python-version) and CC_PYTHON_VERSION choose the Python",
            "Add the version to python_versions and run the provision playbook, or change requires-python, "
            ".python-version or "
            "CC_PYTHON_VERSION.",
        ),
    ),
    (
        r"incompatible with the project(?:'s)? [Pp]ython requirement",
        Verdict(
            "python_incompatible",
            "The chosen Python does not satisfy the project's requires-python.",
            "C5: uv's own rules (requires-python, .python-version) hold; CC_PYTHON_VERSION is the request handed to uv",
            "Change CC_PYTHON_VERSION (or `python`), .python-version or requires-python so that they agree.",
        ),
    ),
    (
        r"\b401 Unauthorized|\b403 Forbidden|status code 40[13]|Missing credentials|missing password"
        r"|keyring.{0,80}(?:fail|not found)",
        Verdict(
            "index_unauthorized",
            "The package index refused the credentials.",
            "H2: named indexes take their credentials from UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD",
            "Check the index's name and its credentials (`index_credentials`, or the two variables in the "
            "environment).",
        ),
    ),
    (
        r"error sending request|client error \(Connect\)|Connection refused|Connection reset|dns error"
        r"|Could not connect|timed out"
        r"|Network is unreachable|invalid peer certificate|tcp connect error|5\d\d (?:Internal|Bad Gateway|Service"
        r"|Gateway)"
        r"|operation timed out|error decoding response body|[Nn]etwork connectivity is disabled",
        Verdict(
            "index_unreachable",
            "The package index (or another download address) cannot be reached from this host.",
            "B1: the build downloads what is neither installed nor in uv's cache",
            "Check the address, proxy and certificates on the host (uv_indexes, uv_system_certs, proxy variables), "
            "then deploy again.",
        ),
    ),
    (
        r"[Hh]ash mismatch",
        Verdict(
            "hash_mismatch",
            "A downloaded package is not the one that uv.lock names.",
            "B1: the build is exactly what uv.lock says, checksums included",
            "Find out why the index serves another file; only then run `uv lock --upgrade-package NAME` and commit "
            "uv.lock.",
        ),
    ),
    (
        r"Failed to build|Build backend failed|Failed to prepare metadata|Failed building",
        Verdict(
            "build_failed",
            "A package could not be built.",
            "B1: packages without a wheel for this platform are built from source on the host",
            "Read the build's output above: usually a compiler or a system library is missing (host_packages), or no "
            "wheel exists "
            "for this Python.",
        ),
    ),
    (
        r"Permission denied|os error 13\b|Read-only file system|os error 30\b|Operation not permitted",
        Verdict(
            "permission_denied",
            "The user of the build may not write where uv has to.",
            "the build runs as its own user (`run_as`), who owns the project, the environment and the cache",
            "Give the directory in uv's words to that user, or choose another `run_as`, `cache_dir` or project.",
        ),
    ),
    (
        r"No solution found|requirements are unsatisfiable",
        Verdict(
            "unsatisfiable",
            "The project's requirements contradict each other, or the index lacks a version they ask for.",
            "B1: the build is exactly what the project asks for",
            "Read uv's explanation above and change the requirement it names.",
        ),
    ),
    (
        r"can't be installed because it doesn't have a|doesn't have a source distribution or wheel"
        r"|no wheels with a matching",
        Verdict(
            "no_wheel",
            "A locked package has no file for this platform and Python.",
            "B1: the build is exactly what uv.lock says",
            "Choose another Python for the project, or a version of the package that supports this platform.",
        ),
    ),
    (
        r"error: unexpected argument|error: invalid value|the following required arguments|cannot be used with",
        Verdict(
            "flags_invalid",
            "uv does not accept the flags of the build command.",
            "B3: CC_PYTHON_UV_SYNC_FLAGS (or `argv`) replaces the flags after `uv sync`",
            "Correct the flags; `uv sync --help` on the host lists them.",
        ),
    ),
)

OTHER_FAILURE = Verdict(
    "sync_failed",
    "uv sync failed.",
    "B1: the build runs `uv sync` in the project root",
    "Read uv's words above; the same command can be run by hand on the host.",
)


def classify_failure(words: str, without: Sequence[str] = ()) -> Verdict:
    """Returns what uv's error text means. Pure; `words` is what uv wrote to stderr, `without` names reasons that do not apply.

    Older versions draw boxes and wrap lines, so the text is flattened before it is searched.
    """
    flat = re.sub(r"[\s│├─▶╰×]+", " ", words)
    for pattern, verdict in VERDICTS:
        if verdict.reason not in without and re.search(pattern, flat):
            return verdict
    return OTHER_FAILURE


def environment_error(finding: Finding) -> UvError:
    """The refusal of an environment (D6), worded by its first finding."""
    return UvError(
        "environment_invalid",
        finding.message,
        rule=finding.rule,
        next_step=finding.next_step,
        facts=[("Variable", "environment: " + finding.variable)],
    )


def index_variable_stem(name: str) -> str:
    """Returns the part of UV_INDEX_<NAME>_USERNAME that uv derives from an index name (H2)."""
    return re.sub(r"[^A-Za-z0-9]", "_", name).upper()


def normal_name(name: str) -> str:
    """The normalised form of a package's name."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def credential_variables(credentials: Mapping[str, Any]) -> dict[str, str]:
    """Returns UV_INDEX_<NAME>_USERNAME and _PASSWORD for every index (H2). Raises UvError for anything else than two texts."""
    variables = {}
    for name, entry in credentials.items():
        unknown = sorted(set(entry) - {"username", "password"}) if isinstance(entry, Mapping) else ["(not a mapping)"]
        if unknown:
            raise UvError(
                "credentials_invalid",
                "index_credentials of the index {} cannot be used: {}.".format(name, ", ".join(map(str, unknown))),
                rule="H2: each entry of index_credentials holds username and password",
                next_step=f"Write index_credentials: {{{name}: {{username: …, password: …}}}}.",
            )
        for key in ("username", "password"):
            if entry.get(key) is not None:
                variables[f"UV_INDEX_{index_variable_stem(str(name))}_{key.upper()}"] = str(entry[key])
    return variables


def error_words(stderr: str, lines: int = 60) -> str:
    """Returns uv's own error text: from its first `error:` line on, without progress lines, at most `lines` lines."""
    rows = stderr.strip().splitlines()
    for number, row in enumerate(rows):
        if re.match(r"\s*(?:error:|×|The lockfile|Unable to find|warning: Failed to inspect)", row):
            rows = rows[number:]
            break
    if len(rows) > lines:
        rows = [*rows[: lines // 2], "[... %s lines left out ...]" % (len(rows) - lines), *rows[-(lines // 2) :]]
    return "\n".join(rows)
