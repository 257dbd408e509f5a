# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requirements files as text (B7): the names in them, what is no requirement, and what ties an environment to one release.

pip and uv decide what a line means; here only lines that neither could take are errors. Nothing is read from disk.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import scrub
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_CLAUSE = r"(?:===\s*[^\s;,)]+|(?:~=|==|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_${}-]+)"
_CLAUSES = rf"{_CLAUSE}(?:\s*,\s*{_CLAUSE})*\s*,?"
_REQUIREMENT = re.compile(
    rf"(?P<name>{_NAME})\s*(?:\[(?P<extras>[^\]]*)\])?\s*"
    rf"(?:@\s*(?P<url>\S.*)|(?P<versions>{_CLAUSES}|\(\s*{_CLAUSES}\s*\))?\s*(?:;\s*(?P<marker>\S.*))?)\Z"
)
_PROJECT = re.compile(rf"{_NAME}\Z")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:|(?:git|hg|svn|bzr)\+")
_ARCHIVE = re.compile(
    r"\.(whl|zip|tar\.gz|tgz|tar\.bz2|tbz|tar\.xz|txz|tar\.lz|tar)(\s*\[[^\]]*\])?\s*(;.*)?\Z", re.IGNORECASE
)
_EGG = re.compile(rf"[#&]egg=({_NAME})")
_WHEEL = re.compile(r"(?:^|/)([A-Za-z0-9][A-Za-z0-9._]*)-[0-9][^/]*\.whl")

# Options of a requirements file: those with a value, and those without.
_WITH_VALUE = frozenset(
    {
        "-i", "--index-url", "--pypi-url", "--extra-index-url", "-f", "--find-links", "--no-binary", "--only-binary",
        "--trusted-host", "--use-feature", "--build-constraint", "--uploaded-prior-to", "--exclude-newer",
    }
)  # fmt: skip
_WITHOUT_VALUE = frozenset({"--no-index", "--pre", "--prefer-binary", "--require-hashes", "--always-unzip", "-Z"})
_INCLUDES = {"-r": "-r", "--requirement": "-r", "-c": "-c", "--constraint": "-c"}
# Options that follow a requirement on its line.
_TRAILING = re.compile(
    r"\s+(?=--(?:hash|global-option|install-option|build-option|config-settings?|no-build-isolation)\b|-C\b)"
)
_LONGEST = 80
_DEEPEST = 20


@dataclass
class Requirements:
    """What a requirements file says together with the files that it names.

    `names` are normalised (`flask-login`), `local` the paths and editables in it, `unseen` what may hold names that cannot be
    read here (URLs without a name, files that are not in the source's texts).
    """

    path: str = ""
    names: dict[str, str] = field(default_factory=dict)
    local: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    hashes: bool = False
    findings: list[Finding] = field(default_factory=list)

    def has(self, *names: str) -> bool:
        """Whether one of these packages is required by name."""
        return any(normalise(name) in self.names for name in names)


def normalise(name: str) -> str:
    """`Flask_Login` → `flask-login`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_name(text: str) -> str:
    """The normalised name of one requirement (`uvicorn[standard]==0.54.0` → `uvicorn`), or "" when it is none."""
    found = _REQUIREMENT.match(text.strip())
    return normalise(found.group("name")) if found else ""


def included(text: str, path: str) -> list[str]:
    """The files that a requirements file names with -r or -c, relative to the source's root. URLs and what leads out of the
    source are left out."""
    found = []
    for _number, line in _lines(text):
        kind, value = _option(line)
        if kind in ("-r", "-c") and value and not _URL.match(value):
            other = _beside(path, value)
            if other:
                found.append(other)
    return found


def read_requirements(path: str, texts: Mapping[str, str], files: Collection[str]) -> Requirements:
    """Read `path` and the files it names. All paths are relative to the source's root; `texts` holds the files' contents."""
    result = Requirements(path)
    _read(path, False, texts, files, result, set(), 0)
    return result


def _read(
    path: str,
    constraint: bool,
    texts: Mapping[str, str],
    files: Collection[str],
    result: Requirements,
    seen: set[tuple[str, bool]],
    depth: int,
) -> None:
    if (path, constraint) in seen or depth > _DEEPEST:
        return
    seen.add((path, constraint))
    text = texts.get(path)
    if not isinstance(text, str):
        if not constraint:
            result.unseen.append(path)
        return
    for number, line in _lines(text):
        kind, value = _option(line)
        if kind in ("-r", "-c"):
            other = "" if _URL.match(value) else _beside(path, value)
            if other and other in files:
                _read(other, constraint or kind == "-c", texts, files, result, seen, depth + 1)
            elif other and "${" not in other:
                shown = scrub(line, [])
                result.findings.append(finding("requirements_nested", path, shown, line=number, path=path, other=other))
            elif kind == "-r":
                result.unseen.append(scrub(value, []))
        elif kind == "-e":
            _opaque(value, result, local=not _URL.match(value) or value.startswith("file:"))
        elif kind == "option":
            result.hashes = result.hashes or value == "--require-hashes"
        elif kind == "bad":
            result.findings.append(_bad(path, number, line, value))
        else:
            _requirement(path, number, line, constraint, result)


def _requirement(path: str, number: int, line: str, constraint: bool, result: Requirements) -> None:
    parts = _TRAILING.split(line, maxsplit=1)
    body = parts[0].strip()
    if len(parts) > 1 and "--hash" in line:
        result.hashes = True
    found = _REQUIREMENT.match(body)
    if found and not _ARCHIVE.search(body if found.group("url") is None else ""):
        if constraint:
            return
        result.names.setdefault(normalise(found.group("name")), body)
        url = found.group("url") or ""
        if url.startswith(("file:", ".", "/")):
            result.local.append(scrub(body, []))
        return
    if _URL.match(body) or _looks_like_path(body):
        if not constraint:
            _opaque(body, result, local=not _URL.match(body) or body.startswith("file:"))
        return
    if body.startswith(("<<<<<<<", "=======", ">>>>>>>")):
        why = "it is the mark of a merge conflict"
    elif re.match(rf"{_NAME}\s*(\[[^\]]*\])?\s*=[^=]", body):
        why = "a version is given with two equals signs, ==" if "=" in body else ""
    elif re.match(rf"{_NAME}\s+[0-9]", body):
        why = "a version needs an operator in front, such as =="
    elif re.match(rf"{_NAME}\s+{_NAME}", body):
        why = "every requirement has a line of its own"
    else:
        why = "it is neither a name with versions, nor a URL, nor a path, nor an option"
    result.findings.append(_bad(path, number, line, why))


def _bad(path: str, number: int, line: str, why: str) -> Finding:
    shown = scrub(line, [])
    shown = shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "…"
    return finding("requirements_line", path, shown, path=path, line=number, why=why)


def _opaque(text: str, result: Requirements, local: bool) -> None:
    """A URL, a path or an editable: its name when it says one."""
    egg = _EGG.search(text) or _WHEEL.search(text.split("#", 1)[0])
    shown = scrub(text, [])
    if egg:
        result.names.setdefault(normalise(egg.group(1)), shown)
    else:
        result.unseen.append(shown)
    if local:
        result.local.append(shown)


def _looks_like_path(text: str) -> bool:
    return (
        text.startswith((".", "/", "~/", "${"))
        or bool(_ARCHIVE.search(text))
        or bool(re.match(r"[^\s=<>;@]*/[^\s]*(\s*;.*)?\Z", text))
        or bool(re.match(r"[^\s=<>;@]*\$\{[A-Z0-9_]+\}", text))
    )


def _option(line: str) -> tuple[str, str]:
    """(`-r`|`-c`|`-e`, value), (`option`, its name), (`bad`, why) or ("", "") for a requirement."""
    if not line.startswith("-"):
        return "", ""
    found = re.match(r"(--[A-Za-z][A-Za-z-]*)(?:\s*=\s*|\s+|\Z)(.*)|(-[A-Za-z])(?:\s*=\s*|\s*)(.*)", line, re.DOTALL)
    if not found:
        return "bad", "it is neither an option nor a requirement"
    name, value = (found.group(1) or found.group(3)), (found.group(2) or found.group(4) or "").strip()
    if name in _INCLUDES or name in ("-e", "--editable"):
        value = _unquoted(value)
        if not value:
            return "bad", f"{name} needs a path or a URL"
        return _INCLUDES.get(name, "-e"), value
    if name in _WITHOUT_VALUE:
        return "option", name
    if name in _WITH_VALUE:
        return ("option", name) if value else ("bad", f"{name} needs a value")
    return "bad", f"{name} is not an option of a requirements file"


def _unquoted(value: str) -> str:
    if value[:1] not in ("'", '"'):
        return value
    try:
        return " ".join(shlex.split(value))
    except ValueError:
        return value


def _lines(text: str) -> list[tuple[int, str]]:
    """The lines that say something, with their numbers: continued lines joined, comments and blank lines left out."""
    found: list[tuple[int, str]] = []
    start, joined = 0, ""
    for number, raw in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        comment = re.match(r"\s*#", raw)
        start = start or number
        if raw.endswith("\\") and not comment:
            joined += raw[:-1] + " "
            continue
        joined += "" if comment else raw
        line = _plain(joined)
        if line:
            found.append((start, line))
        start, joined = 0, ""
    line = _plain(joined)
    return [*found, (start, line)] if line else found


def _plain(line: str) -> str:
    """The line without its comment, every run of blanks as one: patterns may then stumble over one, not over thousands."""
    return " ".join(re.sub(r"(^|\s)#.*\Z", "", line, flags=re.DOTALL).split())


def _beside(path: str, value: str) -> str:
    """The file that a requirements file names, relative to the source's root; "" when it lies outside of the source."""
    if value.startswith(("/", "~")):
        return ""
    other = posixpath.normpath(posixpath.join(posixpath.dirname(path), value))
    return "" if other == ".." or other.startswith("../") else other


def is_project_name(text: str) -> bool:
    """Whether the text may name a package."""
    return bool(_PROJECT.match(text))
