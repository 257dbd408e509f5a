# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Environments as other platforms export them, read byte for byte (D6): Clever Cloud's text and JSON, and Heroku's.

All values are secret: findings name the file, the place and the variable, and never hold a part of a value. No I/O here.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import NAME, PLATFORM, validate
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import SECRET, Finding, finding, visible

FORMATS = ("auto", "env", "json", "heroku")

#: What Clever Cloud sets for every instance itself, and what would be wrong here: the platform's own variables (D5), which a
#: deployment sets anew, and the addresses of its reverse proxies.
SET_BY_CLEVER: frozenset[str] = PLATFORM | {"CC_REVERSE_PROXY_IPS"}

_CLEVER_JSON = "clever env --format json"
_HEROKU_JSON = "heroku config --json"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: What `clever env --add-export` says of itself, among the variables.
_NOTICE = "`--add-export`"
_SECTION = re.compile(r"# (?:(?P<kind>Addon|Dependency) (?P<name>.*)|Manually set env variables)\Z")
#: Clever Cloud lets names have dots, hyphens and a digit in front; `_check_names` says which of them can be passed on.
_START = re.compile(r'(?P<export>export[ \t]+)?(?P<name>[A-Za-z0-9_.-]+)="')
_UNQUOTED = re.compile(r"(?:export[ \t]+)?[A-Za-z0-9_.-]+=")
_ESCAPED_QUOTE = re.compile(r'(\\+)"')
_HEROKU = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)=(?P<value>.*)\Z")
#: Heroku leaves a value bare, or puts it in single quotes, or, when it holds a single quote or a line break, in double ones.
_HEROKU_BARE = re.compile(r"[^\"\s#!$&'()*,:;<=>?@\[\\\]^`{|}]*\Z")
_HEROKU_SINGLE = re.compile(r"'((?:[^'\\]|\\\\)*)'\Z")
_HEROKU_DOUBLE = re.compile(r'"((?:[^"\\$`!]|\\["\\$`!n])*)"\Z')


@dataclass(frozen=True)
class Exported:
    """What an export holds: the variables, and the names of the platform's own ones that were left out.

    `covered` are pairs of a name that the application sets itself and of where else a value of it comes from.
    """

    variables: dict[str, str]
    dropped: tuple[str, ...]
    covered: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Entry:
    """One variable. `source` is where the platform has it from, "" for the application itself; `place` is its place in the file."""

    name: str
    value: str
    source: str
    place: str


class _UnreadableError(Exception):
    """The file cannot be read; it holds what is wrong."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__()
        self.findings = list(findings)


def read(
    content: bytes, file: str, form: str = "auto", drop: Collection[str] = ()
) -> tuple[Exported | None, list[Finding]]:
    """The variables of an export; None and everything that is wrong where it cannot be read.

    `file` names it in messages, `form` is one of FORMATS, `drop` names variables to leave out besides the platform's own.
    """
    try:
        entries = _entries(content, file, form)
    except _UnreadableError as problem:
        return None, problem.findings
    left_out = SET_BY_CLEVER | set(drop)
    # Who names a variable to leave out knows that it is.
    dropped = sorted({entry.name for entry in entries if entry.name in SET_BY_CLEVER and entry.name not in drop})
    entries = [entry for entry in entries if entry.name not in left_out]
    findings = _check_names(entries, file)
    chosen, covered, found = _choose(entries, file)
    findings += found + _check_values(chosen, file)
    if findings:
        return None, findings
    variables = {name: entry.value for name, entry in chosen.items()}
    return Exported(variables, tuple(dropped), tuple(covered)), []


def _entries(content: bytes, file: str, form: str) -> list[_Entry]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _UnreadableError(finding("export_not_text", "", SECRET, file=file, line=line)) from None
    if not text.strip():
        raise _UnreadableError(finding("export_empty", "", SECRET, file=file))
    if form == "json" or (form == "auto" and text.lstrip()[0] in "{["):
        return _read_json(text, file)
    return _read_heroku(text, file) if form == "heroku" else _CleverText(text, file).read()


# -- Clever Cloud's text -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _End:
    """Where a value may end: the position of its closing quote, and the line after it."""

    quote: int
    following: int


class _CleverText:
    """`NAME="value"` or `export NAME="value";`, one variable after another; values over several lines stand as they are.

    In a value n backslashes before a quote are written as 2n + 1, and nothing else is escaped. Backslashes at the end of a
    value stand before the closing quote as they are, which then looks like an escaped one when their number is odd. So every
    reading of the text is tried, and a text with two of them is refused.
    """

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.lines = text.split("\n")
        self.offsets = [0]
        for line in self.lines[:-1]:
            self.offsets.append(self.offsets[-1] + len(line) + 1)
        self.ends: dict[int, list[_End]] = {}
        self.wrong: dict[int, Finding] = {}
        self.any_comment = False

    def read(self) -> list[_Entry]:
        """The variables in order. Raises _UnreadableError at the first line without a reading, or with two."""
        ways, reach = self._readings()
        if not ways[0]:
            self.any_comment = True
            ways, reach = self._readings()
        return self._walk(ways, reach)

    def _readings(self) -> tuple[list[int], list[int]]:
        """From each line on: in how many ways the text can be read (2 stands for more), and how far the best of them gets."""
        count = len(self.lines)
        ways, reach = [0] * count + [1], [*range(count), count]
        for line in reversed(range(count)):
            following = [line + 1]
            if not self._says_nothing(line):
                self.ends[line] = self._scan(line)
                following = [end.following for end in self.ends[line]]
            ways[line] = min(2, sum(ways[index] for index in following))
            reach[line] = max((reach[index] for index in following), default=line)
        return ways, reach

    def _walk(self, ways: list[int], reach: list[int]) -> list[_Entry]:
        entries: list[_Entry] = []
        line, source = 0, ""
        while line < len(self.lines):
            if self._says_nothing(line):
                source = self._section(line, source)
                line += 1
                continue
            ends = [end for end in self.ends[line] if ways[end.following]]
            start = _START.match(self.text, self.offsets[line])
            if len(ends) > 1 and start:
                raise _UnreadableError(self._finding("export_ambiguous", line, start.group("name")))
            ends = ends or [end for end in self.ends[line] if reach[end.following] == reach[line]]
            if not ends or not start:
                raise _UnreadableError(self.wrong[line])
            raw = self.text[start.end() : ends[0].quote]
            value = _ESCAPED_QUOTE.sub(lambda match: "\\" * (len(match.group(1)) // 2) + '"', raw)
            entries.append(_Entry(start.group("name"), value, source, f"line {line + 1}"))
            line = ends[0].following
        return entries

    def _scan(self, line: int) -> list[_End]:
        """Where the value of the variable that begins in this line may end; what is wrong where there is no certain end."""
        start = _START.match(self.text, self.offsets[line])
        if not start:
            why = 'it is not in the form NAME="value"'
            if _UNQUOTED.match(self.text, self.offsets[line]):
                why = "its value is not in double quotes (`heroku config --shell` needs format=heroku)"
            self.wrong[line] = self._finding("export_line", line, why=why)
            return []
        found: list[_End] = []
        quote = self.text.find('"', start.end())
        while quote >= 0:
            last = bisect_right(self.offsets, quote) - 1
            behind = quote + 1 - self.offsets[last]
            rest = self.lines[last][behind : behind + 3]  # enough to tell what it is, also of a line without end
            if self._backslashes(start.end(), quote) % 2:
                # An escaped quote; or the end of a value that ends in a backslash.
                if rest == (";" if start.group("export") else ""):
                    found.append(_End(quote, last + 1))
            elif rest in ("", ";"):
                return [*found, _End(quote, last + 1)]
            else:
                why = 'something follows its closing quote; a quote inside of a value is written \\"'
                if rest in ("\r", ";\r"):
                    why = "it ends in a carriage return, so the file was converted, and values with line breaks with it"
                self.wrong[line] = self._finding("export_line", last, start.group("name"), why=why)
                return found
            quote = self.text.find('"', quote + 1)
        self.wrong[line] = self._finding("export_line", line, start.group("name"), why="its value has no closing quote")
        return found

    def _backslashes(self, begin: int, quote: int) -> int:
        first = quote
        while first > begin and self.text[first - 1] == "\\":
            first -= 1
        return quote - first

    def _says_nothing(self, line: int) -> bool:
        """Whether the line is blank or a comment. One of a person's with a quote may as well be the end of a value."""
        text = self.lines[line].strip()
        if text.startswith("#"):
            return self.any_comment or '"' not in text or bool(_SECTION.match(text))
        return not text or _COLOUR.sub("", text).startswith(_NOTICE)

    def _section(self, line: int, source: str) -> str:
        """Where the variables after this comment come from."""
        match = _SECTION.match(self.lines[line].rstrip())
        if not match:
            return source
        kind = {"Addon": "the add-on", "Dependency": "the application"}.get(match.group("kind") or "")
        return f"{kind} {match.group('name')}" if kind else ""

    def _finding(self, code: str, line: int, name: str = "", **fields: object) -> Finding:
        return finding(code, name, SECRET, file=self.file, line=line + 1, command=_CLEVER_JSON, **fields)


# -- Heroku's text -----------------------------------------------------------------------------------------------------------


def _read_heroku(text: str, file: str) -> list[_Entry]:
    """`heroku config --shell`: one variable per line, line breaks written as \\n."""
    entries: list[_Entry] = []
    findings: list[Finding] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        match = _HEROKU.match(line)
        value = _heroku_value(match.group("value")) if match else None
        if match and value is not None:
            entries.append(_Entry(match.group("name"), value, "", f"line {number}"))
            continue
        # A line without a quote may be a part of a value, whatever stands before its equals sign.
        quoted = match and match.group("value")[:1] in ("'", '"')
        name = match.group("name") if match and quoted else ""
        why = (
            "its value is not quoted as `heroku config --shell` does it"
            if match
            else "it is not in the form NAME=value"
        )
        findings.append(finding("export_line", name, SECRET, file=file, line=number, why=why, command=_HEROKU_JSON))
    if findings:
        raise _UnreadableError(*findings)
    return entries


def _heroku_value(text: str) -> str | None:
    if _HEROKU_BARE.match(text):
        return text
    single = _HEROKU_SINGLE.match(text)
    if single:
        return single.group(1).replace("\\\\", "\\")
    double = _HEROKU_DOUBLE.match(text)
    if double:
        return re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match.group(1), match.group(1)), double.group(1))
    return None


# -- JSON --------------------------------------------------------------------------------------------------------------------


class _Object(dict[str, object]):
    """A JSON object that remembers which of its keys stood more than once."""

    twice: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, object]]) -> _Object:
    made = _Object(pairs)
    if len(made) < len(pairs):
        counts = Counter(name for name, _value in pairs)
        made.twice = tuple(name for name, count in counts.items() if count > 1)
    return made


def _read_json(text: str, file: str) -> list[_Entry]:
    """Clever Cloud's `{env, fromAddons, fromDependencies}`, its console's `[{name, value}]`, Heroku's `{NAME: value}`."""
    try:
        content = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        why = f"{error.msg.split(':')[0]}, in line {error.lineno}, column {error.colno}"
        raise _UnreadableError(finding("export_json", "", SECRET, file=file, why=why)) from None
    except (ValueError, RecursionError):
        raise _UnreadableError(finding("export_json", "", SECRET, file=file, why="it cannot be taken in")) from None
    reader = _Json(file)
    if isinstance(content, list):
        reader.variables(content, "", "")
    elif isinstance(content, _Object) and any(isinstance(content.get(key), list) for key in _PARTS):
        reader.parts(content)
    elif isinstance(content, _Object):
        reader.flat(content)
    else:
        reader.wrong("the content", "an object or an array")
    if reader.findings:
        raise _UnreadableError(*reader.findings)
    return reader.entries


_PARTS = ("env", "fromAddons", "fromDependencies")


class _Json:
    """Collects the variables of one JSON file, and what is wrong with it."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.entries: list[_Entry] = []
        self.findings: list[Finding] = []

    def parts(self, content: Mapping[str, object]) -> None:
        """The application's own variables, those of its add-ons and of the applications that it depends on."""
        self.variables(content.get("env", []), "env", "")
        for key, kind in (("fromAddons", "the add-on"), ("fromDependencies", "the application")):
            given = content.get(key, [])
            if not isinstance(given, list):
                self.wrong(key, "an array")
                continue
            for index, part in enumerate(given):
                if isinstance(part, Mapping):
                    name = part.get("addonName") or part.get("addonId") or f"{key}[{index}]"
                    self.variables(part.get("env"), f"{key}[{index}].env", f"{kind} {name}")
                else:
                    self.wrong(f"{key}[{index}]", 'an object with the array "env"')

    def variables(self, given: object, place: str, source: str) -> None:
        """An array of objects with name and value."""
        if not isinstance(given, list):
            self.wrong(place, "an array")
            return
        for index, item in enumerate(given):
            name = item.get("name") if isinstance(item, Mapping) else None
            value = item.get("value") if isinstance(item, Mapping) else None
            if isinstance(name, str) and isinstance(value, str):
                self.entries.append(_Entry(name, value, source, f"{place}[{index}]"))
            else:
                known = _shown(name) if isinstance(name, str) else ""
                self.wrong(f"{place}[{index}]", 'an object with the texts "name" and "value"', known)

    def flat(self, content: _Object) -> None:
        """One key per variable."""
        for name in content.twice:
            self.findings.append(
                finding("export_twice", _shown(name), SECRET, file=self.file, first="the object", second="it again")
            )
        for name, value in content.items():
            if isinstance(value, str):
                self.entries.append(_Entry(name, value, "", "the object"))
            else:
                self.wrong(f"the value of {_shown(name)}", "text", _shown(name))

    def wrong(self, place: str, expected: str, name: str = "") -> None:
        """Notes a part of the file that is not what it has to be."""
        self.findings.append(finding("export_shape", name, SECRET, file=self.file, place=place, expected=expected))


# -- what is found -----------------------------------------------------------------------------------------------------------


def _shown(name: str) -> str:
    """A name for a message: what follows an equals sign may be a value that slipped into it."""
    return name.split("=", 1)[0] or "(empty)"


def _check_names(entries: Iterable[_Entry], file: str) -> list[Finding]:
    """D6: names that an environment can have."""
    findings = []
    for entry in entries:
        if NAME.match(entry.name):
            continue
        shown = _shown(entry.name)
        fixed = re.sub(r"[^A-Za-z0-9_]", "_", shown).lstrip("0123456789")
        suggestion = f", for example to {fixed}" if NAME.match(fixed) and fixed != shown else ""
        findings.append(finding("export_name", shown, SECRET, file=file, place=entry.place, suggestion=suggestion))
    return findings


def _choose(entries: Iterable[_Entry], file: str) -> tuple[dict[str, _Entry], list[tuple[str, str]], list[Finding]]:
    """One entry per name. The application's own wins; two others with different values are an error."""
    chosen: dict[str, _Entry] = {}
    covered: list[tuple[str, str]] = []
    findings: list[Finding] = []
    for entry in sorted(entries, key=lambda entry: bool(entry.source)):
        first = chosen.setdefault(entry.name, entry)
        if first is entry or (first.source != entry.source and first.value == entry.value):
            continue
        if not first.source and entry.source:
            covered.append((entry.name, entry.source))
            continue
        where = [f"{one.place}" + (f" ({one.source})" if one.source else "") for one in (first, entry)]
        findings.append(finding("export_twice", _shown(entry.name), SECRET, file=file, first=where[0], second=where[1]))
    return chosen, covered, findings


def _check_values(chosen: Mapping[str, _Entry], file: str) -> list[Finding]:
    """D6: values that no process can receive."""
    named = {name: entry for name, entry in chosen.items() if NAME.match(name)}
    _texts, found = validate({name: entry.value for name, entry in named.items()})
    return [
        finding(
            "export_value",
            item.variable,
            SECRET,
            file=file,
            place=named[item.variable].place,
            why=item.message,
            how=item.next_step,
        )
        for item in found
        if item.variable in named
    ]


def warnings(exported: Exported, file: str) -> list[str]:
    """What a person should know of an export that was read: names only."""
    lines = []
    if exported.dropped:
        what = "it is not taken over" if len(exported.dropped) == 1 else "they are not taken over"
        lines.append(
            f"{visible(file)} holds {', '.join(exported.dropped)}: {what}, because a deployment sets such variables itself (D5)."
        )
    for name, source in exported.covered:
        lines.append(
            f"{visible(file)} has {name} from {visible(source)} and from the application itself, whose own value is used."
        )
    return lines
