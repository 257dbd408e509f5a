# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands as text: when one is valid (A3), whether it takes its port from $PORT (D2), how a run script starts it (D4)."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_PORT = re.compile(r"\$(PORT(?![A-Za-z0-9_])|\{PORT\}|\{PORT[:?=+/#%^,@-])")
_SHELLS = frozenset({"sh", "bash", "dash"})
# Words that the shell itself understands: `exec` cannot start them.
_SHELL_WORDS = frozenset(
    [
        ".",
        ":",
        "[[",
        "{",
        "}",
        "!",
        "alias",
        "break",
        "builtin",
        "case",
        "cd",
        "command",
        "continue",
        "coproc",
        "declare",
        "do",
        "done",
        "elif",
        "else",
        "esac",
        "eval",
        "exec",
        "exit",
        "export",
        "fi",
        "for",
        "function",
        "hash",
        "if",
        "in",
        "let",
        "local",
        "mapfile",
        "popd",
        "pushd",
        "read",
        "readonly",
        "return",
        "select",
        "set",
        "shift",
        "shopt",
        "source",
        "then",
        "time",
        "trap",
        "type",
        "typeset",
        "ulimit",
        "umask",
        "unalias",
        "unset",
        "until",
        "wait",
        "while",
    ]
)


@dataclass(frozen=True)
class Word:
    """One word of a command: its text as written, where it starts and ends, and its value without quotes."""

    text: str
    start: int
    end: int

    @property
    def value(self) -> str:
        """The word without its quotes; the text itself when it cannot be split."""
        try:
            parts = shlex.split(self.text)
        except ValueError:
            return self.text
        return parts[0] if len(parts) == 1 else "".join(parts)


@dataclass(frozen=True)
class Scan:
    """What a shell would see: words up to the first operator, and whether more than one simple command is written.

    `operators` holds `;`, `&`, `|`, parentheses, newlines between commands and redirections; `substitution` is true for
    `$(…)` and backticks outside single quotes; `port` for $PORT where the shell expands it.
    """

    words: tuple[Word, ...]
    operators: tuple[str, ...]
    substitution: bool
    port: bool


@dataclass(frozen=True)
class Start:
    """How the run script starts a command: one shell text, and whether uv is left out of it."""

    script: str
    direct: bool


def problem(command: str) -> str:
    """A3: why the command is not valid, or an empty text when it is."""
    if "\0" in command:
        return "it holds a NUL character"
    if not command.strip():
        return "it is empty"
    try:
        words = shlex.split(command)
    except ValueError as error:
        return "it ends in a lone backslash" if "escape" in str(error) else "a quote is not closed"
    if not any(word.strip() for word in words):
        return "it names no program"
    for word in words:
        if not _ASSIGNMENT.match(word):
            return "" if word.strip() else "it names no program"
    return "it only sets variables and names no program"


def scan(command: str) -> Scan:
    """Read a command as a shell does, without running anything. Never raises; unbalanced quotes end at the end of the text."""
    words: list[Word] = []
    operators: list[str] = []
    substitution = port = False
    start = -1
    quote = ""
    position = 0
    while position < len(command):
        char = command[position]
        if quote == "'":
            quote = "" if char == "'" else quote
        elif char == "\\":
            start = position if start < 0 else start
            position += 2
            continue
        elif char in "$`":
            start = position if start < 0 else start
            substitution = substitution or char == "`" or command.startswith("$(", position)
            port = port or bool(_PORT.match(command, position))
        elif quote:
            quote = "" if char == '"' else quote
        elif char in "'\"":
            start = position if start < 0 else start
            quote = char
        elif char in " \t\r":
            start = _close(command, words, start, position)
        elif char in "\n;&|<>()":
            start = _close(command, words, start, position)
            operators.append(char)
        elif char == "#" and start < 0:
            end = command.find("\n", position)
            position = len(command) if end < 0 else end
            continue
        elif start < 0:
            start = position
        position += 1
    _close(command, words, start, len(command))
    return Scan(tuple(words), tuple(operators), substitution, port)


def _close(command: str, words: list[Word], start: int, end: int) -> int:
    if start >= 0:
        words.append(Word(command[start:end], start, end))
    return -1


def honours_port(command: str) -> bool:
    """D2: whether the command takes its port from $PORT or ${PORT…}, outside single quotes.

    Single quotes around the script of `sh -c` do not count: that shell expands the variable.
    """
    found = scan(command)
    if found.port:
        return True
    values = [word.value for word in found.words]
    return any(
        value.rsplit("/", 1)[-1] in _SHELLS and _nested(values[index + 1 :]) for index, value in enumerate(values)
    )


def _nested(values: list[str]) -> bool:
    """Whether the arguments of a shell are `-c SCRIPT` with a script that honours $PORT."""
    for index, value in enumerate(values):
        if not value.startswith(("-", "+")):
            return False
        if re.match(r"-[a-z]*c\Z", value):
            return index + 1 < len(values) and bool(scan(values[index + 1]).port)
    return False


def start(command: str, uv_mode: bool = True) -> Start:
    """D4: how the run script starts a valid command. In legacy mode `uv run` stays as written: nothing else has synced.

    `uv run PROGRAM …` without options of uv and without shell operators starts the program itself, out of the release's
    .venv/bin: uv then neither syncs nor holds the cache's lock while the application lives. Everything else runs as written,
    with `exec` in front where that means the same, so that the application is the process systemd looks after.
    """
    text = command.strip()
    found = scan(text)
    if not found.words:
        return Start(text, False)
    # A redirection (`> file`) leaves one simple command; a comment is not in the words.
    simple = not any(operator in "\n;&|()" for operator in found.operators)
    first = 0
    while first < len(found.words) and _ASSIGNMENT.match(found.words[first].text):
        first += 1
    if not simple or first == len(found.words):
        return Start(text, False)
    program = found.words[first]
    if uv_mode and first == 0 and not found.substitution and not found.operators:
        rest = _after_uv_run(text, found.words)
        if rest is not None:
            return Start("exec " + rest, True)
    if program.value in _SHELL_WORDS or program.text[:1] in "<>":
        return Start(text, False)
    # Leading assignments stay in front: `FOO=1 exec program` sets FOO for the program.
    return Start(text[: program.start] + "exec " + text[program.start :], False)


def _after_uv_run(text: str, words: tuple[Word, ...]) -> str | None:
    """What `uv run` would start, or None when uv has a say in it (its options, a script with inline metadata, a URL)."""
    if len(words) < 3 or words[0].value != "uv" or words[1].value != "run":
        return None
    index = 2
    if words[index].value == "--":
        index += 1
    elif words[index].value in ("-m", "--module"):
        return "python -m " + text[words[index + 1].start :] if index + 1 < len(words) else None
    if index >= len(words):
        return None
    target = words[index]
    value = target.value
    if value.startswith("-") or not value or "$" in target.text or "://" in value or value in _SHELL_WORDS:
        return None
    rest = text[target.start :]
    if value.endswith((".py", ".pyw")) or value == "-":
        return "python " + rest
    return rest


def needs_network(command: str) -> str:
    """D4: the part of the command that may fetch packages at start, or an empty text."""
    values = [word.value for word in scan(command).words]
    for index, value in enumerate(values):
        following = values[index + 1] if index + 1 < len(values) else ""
        if value == "uvx" and index == 0:
            return "uvx installs a tool"
        if value != "uv":
            continue
        if following in ("sync", "add", "lock", "pip"):
            return f"uv {following}"
        if following == "tool" and "run" in values[index + 2 : index + 3]:
            return "uv tool run installs a tool"
        if following == "run":
            for option in values[index + 2 :]:
                if option == "--" or not option.startswith("-"):
                    break
                name = option.split("=", 1)[0]
                if name in ("--with", "--with-editable", "--with-requirements", "--isolated", "--refresh", "-w"):
                    return f"uv run {name}"
    return ""
