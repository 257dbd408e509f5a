# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Celery beside a legacy application (section G): a worker and, when asked for, beat."""

from __future__ import annotations

import posixpath
import re
import shlex

from ansible_collections.pyfleet.runtime.plugins.module_utils.legacy import REQUIREMENTS, Project, check_module
from ansible_collections.pyfleet.runtime.plugins.module_utils.requirements import Requirements
from ansible_collections.pyfleet.runtime.plugins.module_utils.settings import Settings, relative_path
from ansible_collections.pyfleet.runtime.plugins.module_utils.workers import Worker

MODULE = "CC_PYTHON_CELERY_MODULE"
LOGFILE = "CC_PYTHON_CELERY_LOGFILE"
BEAT = "CC_PYTHON_CELERY_USE_BEAT"
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*(:[A-Za-z_][A-Za-z0-9_.]*)?\Z", re.ASCII)


def read_celery(settings: Settings, *, home: str, first: int, restart: str, delay: float) -> list[Worker]:
    """The worker and beat, counted from `first`. `home` is the application's home, where beat keeps its schedule."""
    module = settings.text(MODULE)
    if not module:
        return []
    if not _MODULE.match(module):
        settings.error("celery_module", MODULE)
        return []
    roles = ["worker"] + (["beat"] if settings.flag(BEAT) else [])
    folder, files = _logfiles(settings)
    workers = []
    for index, role in enumerate(roles, first):
        arguments = ["celery", "-A", module, role, "--loglevel", "INFO"]
        if role == "beat":
            # The release may be read-only, and the schedule outlives it. systemd knows the process: no pid file.
            arguments += ["--schedule", posixpath.join(home, "celerybeat-schedule"), "--pidfile="]
        if files:
            arguments += ["--logfile", files[role]]
        command = " ".join(shlex.quote(argument) for argument in arguments)
        make = f"mkdir -p {shlex.quote(folder)} && " if files and folder else ""
        workers.append(Worker(index, MODULE, command, f"{make}exec {command}", restart, delay))
    return workers


def check(settings: Settings, project: Project, required: Requirements) -> None:
    """Celery has to be required by name, so that a missing one is known before any host changes; the module should be there."""
    module = settings.text(MODULE).split(":", 1)[0]
    check_module(settings, MODULE, module, project, inner=("celery",))
    if not project.known or required.has("celery"):
        return
    path = project.path(required.path or REQUIREMENTS)
    if required.unseen:
        settings.error("celery_unseen", MODULE, path=path, unseen=", ".join(required.unseen[:3]))
    else:
        settings.error("celery_missing", MODULE, path=path)


def _logfiles(settings: Settings) -> tuple[str, dict[str, str]]:
    """The folder of the log files and each role's file, relative to the project root; empty without CC_PYTHON_CELERY_LOGFILE.

    A name with an extension is the worker's file; anything else a folder.
    """
    text = settings.text(LOGFILE)
    if not text:
        return "", {}
    path = relative_path(text)
    if path is None or re.search(r"[\x00-\x1f\x7f]", path):
        settings.error("celery_logfile", LOGFILE)
        return "", {}
    # Celery replaces %n, %h, %i and the like in names of files; here a percent sign is one.
    folder, path = path, path.replace("%", "%%")
    stem, extension = posixpath.splitext(path)
    if text.endswith("/") or not extension:
        return folder, {role: posixpath.join(path, f"{role}.log") for role in ("worker", "beat")}
    return posixpath.dirname(folder), {"worker": path, "beat": f"{stem}-beat{extension}"}
