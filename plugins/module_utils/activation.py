# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Section A of the contract: the project root and the mode, with every reason and everything that is ignored."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ansible_collections.pyfleet.runtime.plugins.module_utils import command as commands
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import (
    LEGACY_SERVER,
    secret_values,
    show,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding

_UV_COMMAND = "CC_PYTHON_UV_RUN_COMMAND"
_LEGACY_RUN = ("CC_PYTHON_MODULE", "CC_RUN_COMMAND", "CC_PYTHON_CELERY_MODULE")
_BASIC_AUTH = re.compile(r"CC_HTTP_BASIC_AUTH_[0-9]+\Z")


@dataclass(frozen=True)
class Activation:
    """The mode (`uv` or `legacy`), why, what is ignored as a result, and what uv mode still lacks in plain words."""

    mode: str
    reasons: tuple[str, ...]
    ignored: tuple[tuple[str, str], ...]
    missing: str
    findings: tuple[Finding, ...]


def project_root(env: Mapping[str, str], files: Collection[str]) -> tuple[str, list[Finding]]:
    """A2: the project root relative to the source's root, "" for the root itself. An error leaves the root at ""."""
    folder = env.get("APP_FOLDER", "")
    if not folder.strip():
        return "", []
    if folder.startswith(("/", "~")) or re.match(r"[A-Za-z]:[\\/]", folder):
        return "", [finding("app_folder_absolute", "APP_FOLDER", folder, suggestion=folder.strip("/~") or "backend")]
    root = posixpath.normpath(folder)
    if root == ".":
        return "", []
    if root == ".." or root.startswith("../"):
        return "", [finding("app_folder_outside", "APP_FOLDER", folder)]
    if not any(path.startswith(root + "/") for path in files):
        folders = sorted({path.split("/", 1)[0] for path in files if "/" in path and not path.startswith(".")})
        suggestion = f"; the source has the folders {', '.join(folders[:8])}" if folders else ""
        return "", [finding("app_folder_missing", "APP_FOLDER", folder, suggestion=suggestion)]
    return root, []


def run_command(env: Mapping[str, str]) -> tuple[str, list[Finding]]:
    """CC_RUN_COMMAND when it is a command, else ""; what is wrong with it otherwise."""
    command = env.get("CC_RUN_COMMAND")
    if command is None:
        return "", []
    if not command.strip():
        return "", [finding("run_command_empty", "CC_RUN_COMMAND", "(empty)")]
    why = commands.problem(command)
    if why:
        shown = show("CC_RUN_COMMAND", command, secret_values(env))
        return "", [finding("run_command_invalid", "CC_RUN_COMMAND", shown, why=why)]
    return command, []


def activate(env: Mapping[str, str], files: Iterable[str], root: str = "") -> Activation:
    """A1, A3, A4, A5: decide the mode. `files` are relative to the source's root, `root` is the project root."""
    present = set(files)
    prefix = root + "/" if root else ""
    where = root or "the source's root"
    lock = prefix + "uv.lock"
    has_lock = lock in present
    command = env.get(_UV_COMMAND)
    why = commands.problem(command) if command is not None else ""
    has_command = command is not None and not why
    mode = "uv" if has_lock and has_command else "legacy"

    findings: list[Finding] = []
    reasons = [f"{lock} exists" if has_lock else f"there is no uv.lock at the project root ({where})"]
    if has_command:
        reasons.append(f"{_UV_COMMAND} is a valid command")
    elif command is None:
        reasons.append(f"{_UV_COMMAND} is not set")
    else:
        reasons.append(f"{_UV_COMMAND} is not a valid command: {why}")
        shown = show(_UV_COMMAND, command, secret_values(env)) if command.strip() else "(empty)"
        findings.append(finding("uv_command_invalid", _UV_COMMAND, shown, why=why))

    todo = []
    if not has_lock:
        todo.append(f"commit a uv.lock at the project root ({where}; `uv lock` writes it)")
    if not has_command:
        todo.append(f"set {_UV_COMMAND} to a valid command" + (f" ({why})" if why else ""))
    missing = " and ".join(todo)

    if mode == "uv":
        ignored = _ignored_in_uv(env, present, prefix)
    else:
        ignored = _ignored_in_legacy(env, has_lock, lock, why)
        if has_command:
            elsewhere = sorted(path for path in present if path.endswith("/uv.lock") and path != lock)
            hint = f", or set APP_FOLDER to {posixpath.dirname(elsewhere[0])}" if elsewhere else ""
            shown = show(_UV_COMMAND, command or "", secret_values(env))
            findings.append(finding("uv_command_without_lock", _UV_COMMAND, shown, root=where, suggestion=hint))
        elif has_lock and command is None:
            findings.append(finding("uv_lock_without_command", _UV_COMMAND, "(not set)"))
        run, _run_findings = run_command(env)
        runnable = bool(run) or any(env.get(name, "").strip() for name in _LEGACY_RUN if name != "CC_RUN_COMMAND")
        # An unbalanced CC_RUN_COMMAND has an error of its own, and is not "nothing".
        if not runnable and not env.get("CC_RUN_COMMAND", "").strip():
            findings.append(
                finding("nothing_to_run", ", ".join((*_LEGACY_RUN, _UV_COMMAND)), "(none usable)", missing=missing)
            )
    return Activation(mode, tuple(reasons), tuple(ignored), missing, tuple(findings))


def _ignored_in_uv(env: Mapping[str, str], present: set[str], prefix: str) -> list[tuple[str, str]]:
    locked = "uv.lock is what uv mode installs"
    requirements = (prefix + "requirements.txt", prefix + env.get("CC_PIP_REQUIREMENTS_FILE", "").lstrip("/"))
    ignored = [(path, locked) for path in dict.fromkeys(requirements) if path in present]
    if env.get("PYTHON_SETUP_PY_GOAL", "").strip() and prefix + "setup.py" in present:
        ignored.append((prefix + "setup.py", "uv mode runs no setup.py goal"))
    reasons = {
        "CC_PIP_REQUIREMENTS_FILE": locked,
        "PYTHON_SETUP_PY_GOAL": "uv mode runs no setup.py goal",
        "CC_PYTHON_MANAGE_TASKS": "uv mode runs no manage.py tasks; CC_POST_BUILD_HOOK or CC_PRE_RUN_HOOK can",
        "CC_PYTHON_MODULE": "the run command starts the application's own server",
        "CC_PYTHON_BACKEND": "the run command starts the application's own server",
    }
    ignored += [(name, why) for name, why in reasons.items() if name in env]
    for name in sorted(env):
        if name in LEGACY_SERVER or _BASIC_AUTH.match(name):
            ignored.append((name, "server settings apply in legacy mode only"))
    if prefix + "clevercloud/http.json" in present:
        ignored.append((prefix + "clevercloud/http.json", "server settings apply in legacy mode only"))
    run, _findings = run_command(env)
    if run:
        ignored.append((_UV_COMMAND, "CC_RUN_COMMAND takes precedence"))
    return ignored


def _ignored_in_legacy(env: Mapping[str, str], has_lock: bool, lock: str, why: str) -> list[tuple[str, str]]:
    ignored = []
    if has_lock:
        ignored.append((lock, f"{_UV_COMMAND} is not {'a valid command' if why else 'set'}"))
    if _UV_COMMAND in env:
        ignored.append((_UV_COMMAND, why or "there is no uv.lock at the project root"))
    if "CC_PYTHON_UV_SYNC_FLAGS" in env:
        ignored.append(("CC_PYTHON_UV_SYNC_FLAGS", "legacy mode runs no uv sync"))
    run, _findings = run_command(env)
    if run:
        replaced = ("CC_PYTHON_MODULE", "CC_PYTHON_BACKEND", "PYTHON_BACKEND")
        ignored += [(name, "CC_RUN_COMMAND replaces the backend") for name in replaced if name in env]
    return ignored
