# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of private indexes (H2): which ones a project declares, and tokens, each fetched once in a run."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import posixpath
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils import process
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import scrub
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding
from ansible_collections.pyfleet.runtime.plugins.module_utils.patterns import fits
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.pyproject import loads, table, uv_table
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.source import exclusively

#: Seconds that a command may take to print a token.
TOKEN_TIMEOUT = 120.0
#: Of this run of ansible-playbook, as in deployment.py: what a run that was killed leaves on the disk can be read by nobody.
_RUN_KEY = secrets.token_bytes(32)


class TokenError(Exception):
    """A command printed no token; carries the finding."""

    def __init__(self, problem: Finding) -> None:
        super().__init__(problem.message)
        self.finding = problem


def declared(texts: Mapping[str, str], root: str) -> list[dict[str, Any]] | None:
    """The named indexes of the project at `root`, of folders above it, whose workspace it may belong to, and of that workspace's members.

    None when Python cannot read a file. A uv.toml wins over the pyproject.toml beside it, as uv has it. A name is there twice only where a
    member gives it an address of its own, which uv (0.13) takes for what this member needs.
    """
    found: dict[str, dict[str, Any]] = {}
    members: list[str] = []
    folder = root
    while True:
        project, settings = (_read(texts, posixpath.join(folder, name)) for name in ("pyproject.toml", "uv.toml"))
        if project is None or settings is None:
            return None
        uv = uv_table(project)
        for entry in _named(settings if posixpath.join(folder, "uv.toml") in texts else uv):
            found.setdefault(str(entry["name"]), entry)
        members += _members(texts, folder, table(uv.get("workspace")))
        if not folder:
            break
        folder = posixpath.dirname(folder)
    everything = list(found.values())
    for member in members:
        project = _read(texts, member)
        if project is None:
            return None
        everything += _named(uv_table(project))
    return list({(str(entry["name"]), str(entry["url"])): entry for entry in everything}.values())


def _read(texts: Mapping[str, str], name: str) -> dict[str, Any] | None:
    return loads(texts.get(name, ""))


def _named(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = settings.get("index")
    entries = entries if isinstance(entries, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and entry.get("name") and entry.get("url")]


def _members(texts: Mapping[str, str], folder: str, workspace: Mapping[str, Any]) -> list[str]:
    """The pyproject.toml of each member of the workspace in `folder`, by its patterns."""
    prefix = f"{folder}/" if folder else ""
    inside = [name[len(prefix) :] for name in texts if name.startswith(prefix)]

    def meant(key: str) -> set[str]:
        patterns = workspace.get(key)
        wanted = [
            f"{each}/pyproject.toml"
            for each in (patterns if isinstance(patterns, list) else [])
            if isinstance(each, str)
        ]
        return {name for name in inside if any(fits(each, name, hidden=True) for each in wanted)}

    return [prefix + name for name in sorted(meant("members") - meant("exclude"))]


def token(variable: str, index: str, command: Sequence[str], cache: str) -> str:
    """Runs the command that prints an index's token: on the controller, without a shell, once per run for all hosts.

    `variable` is what a message names. What the command prints is shown nowhere, what it says on stderr is. Failures are remembered, too.

    Raises:
        TokenError: it cannot be started, fails, takes too long, or prints nothing that can be a token.
    """
    os.makedirs(cache, mode=0o700, exist_ok=True)
    name = hmac.new(_RUN_KEY, "\0".join(command).encode(errors="surrogateescape"), "sha256").hexdigest()[:24]
    memo = os.path.join(cache, f"token-{name}")
    with exclusively(f"{memo}.lock"):
        answer: dict[str, str] = {}
        with contextlib.suppress(FileNotFoundError), open(memo, "rb") as file:
            answer = json.loads(_sealed(file.read(), name))
        if not answer:
            answer = _ask(command)
            descriptor, scratch = tempfile.mkstemp(dir=cache)
            with os.fdopen(descriptor, "wb") as written:
                written.write(_sealed(json.dumps(answer).encode(), name))
            os.replace(scratch, memo)
    if answer.get("why"):
        raise TokenError(
            finding("index_token", variable, command[0], index=index, why=answer["why"], words=answer["words"])
        )
    return answer["token"]


def _ask(command: Sequence[str]) -> dict[str, str]:
    """`token`, or `why` there is none and what the command said."""
    try:
        done = process.run(command, cwd=os.getcwd(), environment=os.environ, timeout=TOKEN_TIMEOUT, raw_stdout=True)
    except process.ProcessError as error:
        return {"why": "it could not be started", "words": str(error.__cause__)}
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    # Scripts under `set -x` print what they print on stderr, too.
    said = [line.strip() for line in scrub(done.stderr, [line for line in lines if len(line) > 7]).splitlines()]
    words = " | ".join([line for line in said if line][-3:])[-190:] or "(nothing on stderr)"
    if done.timed_out:
        return {"why": f"it did not end within {TOKEN_TIMEOUT:g} s", "words": words}
    if done.returncode != 0:
        return {"why": f"it ended with status {done.returncode}", "words": words}
    if not lines:
        return {"why": "it printed nothing", "words": words}
    if not lines[-1].isprintable():
        return {"why": "the last line that it printed is no token", "words": words}
    return {"token": lines[-1]}


def _sealed(content: bytes, name: str) -> bytes:
    """Content that only this run can read; the same again opens it. Each name is used for one content."""
    stream = hashlib.shake_256(_RUN_KEY + name.encode()).digest(len(content))
    return bytes(left ^ right for left, right in zip(content, stream))
