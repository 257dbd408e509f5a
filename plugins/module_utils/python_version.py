# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Section C of the contract: which Python runs the application.

Upstream's calendar names months. A version counts as supported up to and including the last day of the named month.
"""

from __future__ import annotations

import calendar
import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding

# C4: series → the month its support ends. A series that is not in the table has no known end and counts as supported when it is
# newer than all of these, as ended when it is older.
SUPPORT: dict[tuple[int, int], tuple[int, int]] = {
    (2, 7): (2020, 1),
    (3, 5): (2020, 9),
    (3, 6): (2021, 12),
    (3, 7): (2023, 6),
    (3, 8): (2024, 10),
    (3, 9): (2025, 10),
    (3, 10): (2026, 10),
    (3, 11): (2027, 10),
    (3, 12): (2028, 10),
    (3, 13): (2029, 10),
    (3, 14): (2030, 10),
    (3, 15): (2031, 10),
}
WARN_MONTHS = 6

_REQUEST = re.compile(r"[23](\.[0-9]{1,2}){0,2}\Z", re.ASCII)
_VERSION = re.compile(r"([0-9]{1,3})\.([0-9]{1,4})(?:\.([0-9]{1,4}))?", re.ASCII)
_CLAUSE = re.compile(r"\s*(===|~=|==|!=|<=|>=|<|>)\s*v?([0-9]+(?:\.[0-9]+)*)(\.\*)?\s*\Z", re.ASCII)


@dataclass(frozen=True)
class Python:
    """One Python of the host. `managed`: uv's; `installable`: not there yet, but uv can bring it."""

    version: str
    release: tuple[int, ...]
    path: str
    managed: bool
    installable: bool

    @property
    def series(self) -> tuple[int, int]:
        """(3, 13) of 3.13.2."""
        return self.release[0], self.release[1]

    @property
    def minor(self) -> str:
        """`3.13` of 3.13.2."""
        return f"{self.release[0]}.{self.release[1]}"

    def to_dict(self) -> dict[str, object]:
        """JSON-able form, as in the host's facts."""
        return {
            "version": self.version,
            "path": self.path,
            "managed": self.managed,
            "installable": self.installable,
        }


@dataclass(frozen=True)
class Selection:
    """`request` is what uv is asked for (None: uv decides); `selected` the Python expected to run, None when unknown."""

    request: str | None
    selected: Python | None
    source: str
    findings: tuple[Finding, ...]


def parse(version: object) -> tuple[int, ...]:
    """The release numbers of a version text, or an empty tuple."""
    match = _VERSION.match(version) if isinstance(version, str) else None
    return tuple(int(part) for part in match.groups() if part is not None) if match else ()


def read_available(entries: Iterable[object]) -> list[Python]:
    """The host's Pythons, newest first; on the host before what uv would have to fetch. Unreadable entries are left out."""
    pythons = []
    for entry in entries:
        if not isinstance(entry, Mapping):
            continue
        release = parse(entry.get("version"))
        if release:
            pythons.append(
                Python(
                    str(entry.get("version")),
                    release,
                    str(entry.get("path") or ""),
                    bool(entry.get("managed")),
                    bool(entry.get("installable")),
                )
            )
    return sorted(pythons, key=lambda one: (one.release[:2], not one.installable, one.release), reverse=True)


def ends(series: tuple[int, int]) -> datetime.date | None:
    """The last day of support, or None when the table does not know it."""
    month = SUPPORT.get(series)
    if month is None:
        return None
    return datetime.date(month[0], month[1], calendar.monthrange(*month)[1])


def is_ended(series: tuple[int, int], today: datetime.date) -> bool:
    """C4: whether support ended before today."""
    last = ends(series)
    return series < min(SUPPORT) or (series not in SUPPORT and series < max(SUPPORT)) if last is None else today > last


def is_ending(series: tuple[int, int], today: datetime.date) -> bool:
    """C4: whether support ends within six months."""
    last = ends(series)
    if last is None or today > last:
        return False
    months = last.year * 12 + last.month - 1 - WARN_MONTHS
    year, month = divmod(months, 12)
    return today >= datetime.date(year, month + 1, calendar.monthrange(year, month + 1)[1])


def _end_text(series: tuple[int, int]) -> str:
    last = ends(series)
    return last.isoformat() if last else "on a date not known here"


def _text(series: Sequence[int]) -> str:
    return ".".join(str(part) for part in series)


def _newest_known(today: datetime.date) -> str:
    """The newest series that has been out for a year, for examples in messages."""
    known = [series for series, (year, month) in SUPPORT.items() if datetime.date(year - 4, month, 1) <= today]
    return _text(max(known, default=max(SUPPORT)))


def requires_python(pyproject: str) -> str:
    """`requires-python` out of the text of pyproject.toml, or "". A tolerant search: Python 3.9 reads no TOML."""
    match = re.search(r"^[ \t]*\[project\][ \t]*(?:#.*)?$(.*?)(?=^[ \t]*\[|\Z)", pyproject, re.MULTILINE | re.DOTALL)
    if not match:
        return ""
    value = re.search(r"^[ \t]*requires-python[ \t]*=[ \t]*([\"'])(.*?)\1", match.group(1), re.MULTILINE)
    return value.group(2).strip() if value else ""


def pinned_version(text: str) -> str:
    """The first version of a .python-version file (`3.12`, `cpython@3.12.4`), or "" when it names none."""
    for raw in text.splitlines():
        line = raw.split("#", 1)[0].strip()
        if line:
            match = re.match(r"(?:c?python[@-]?)?([23](?:\.[0-9]{1,2}){0,2})(?![0-9.])", line)
            return match.group(1) if match else ""
    return ""


def satisfies(release: Sequence[int], requires: str) -> bool | None:
    """Whether a release fits a specifier such as `>=3.11,<3.14`; None when the specifier cannot be judged here."""
    clauses = [part for part in requires.split(",") if part.strip()]
    verdict = True
    for clause in clauses:
        match = _CLAUSE.match(clause)
        if not match or len(match.group(2)) > 40:
            return None
        operator, wildcard = match.group(1), bool(match.group(3))
        wanted = [int(part) for part in match.group(2).split(".")]
        verdict = verdict and _compare(list(release), operator, wanted, wildcard)
    return verdict


def _compare(release: list[int], operator: str, wanted: list[int], wildcard: bool) -> bool:
    # A host entry may name a series only (3.13): it then stands for its newest patch release.
    size = max(len(wanted), len(release))
    if operator in ("==", "!=", "===") and wildcard:
        same = release[: len(wanted)] == wanted
        return same if operator != "!=" else not same
    left = release + [0] * (size - len(release))
    right = wanted + [0] * (size - len(wanted))
    if operator == "~=":
        return left >= right and release[: len(wanted) - 1] == wanted[:-1]
    if operator in ("==", "==="):
        return left == right
    if operator == "!=":
        return left != right
    if operator == ">=":
        return left >= right
    if operator == "<=":
        return left <= right
    return left > right if operator == ">" else left < right


def select(
    request: str | None,
    available: Iterable[object] | None,
    today: datetime.date,
    mode: str = "legacy",
    requires: str = "",
    pinned: str = "",
) -> Selection:
    """C1-C5: the Python for an application.

    `request` is CC_PYTHON_VERSION or None, `available` the host's Pythons (None: no host is looked at), `requires` and `pinned`
    come from pyproject.toml and .python-version and count in uv mode only. A patch version that the host lacks falls back
    to the newest of the same series, any other to the newest available; in uv mode to one that `requires` admits, if any.
    """
    variable = "CC_PYTHON_VERSION"
    wanted = (request or "").strip()
    known = read_available(available) if available is not None else None
    example = _newest_known(today)
    if wanted and not _REQUEST.match(wanted):
        return Selection(None, None, "", (finding("python_version_invalid", variable, wanted, example=example),))
    if wanted in ("3.1", "3.2"):
        # YAML reads an unquoted 3.10 as the number 3.1; nobody asks for a Python of 2009 on purpose.
        late = finding("python_version_yaml", variable, wanted, likely=wanted + "0", example=example)
        return Selection(None, None, "", (late,))
    if mode == "uv" and wanted.startswith("2"):
        return Selection(None, None, "", (finding("python_version_2_in_uv", variable, wanted, example=example),))
    if wanted == "2":
        wanted = "2.7"
    if mode == "uv" and not wanted:
        return _uv_decides(known, today, requires, pinned, example)

    threes = None if known is None else [one for one in known if one.release[0] == 3]
    if mode == "legacy" and threes is not None:
        threes = [one for one in threes if not one.installable]
    if not wanted or wanted == "3":
        if threes is None:
            return Selection("3" if wanted and mode == "uv" else None, None, "", ())
        best = _newest(threes, today, requires if mode == "uv" else "")
        if best is None:
            return Selection(
                None, None, "", (finding("python_none", variable, wanted or "(not set)", example=example),)
            )
        return _selected(best.minor if mode == "uv" else None, best, [], today, "the host has no supported Python 3")
    return _requested(wanted, known, threes, today, mode, requires, example)


def _requested(
    wanted: str,
    known: list[Python] | None,
    threes: list[Python] | None,
    today: datetime.date,
    mode: str,
    requires: str,
    example: str,
) -> Selection:
    """C3: a version that was asked for by number."""
    variable = "CC_PYTHON_VERSION"
    numbers = tuple(int(part) for part in wanted.split("."))
    series = (numbers[0], numbers[1])
    findings: list[Finding] = []
    if mode == "uv" and requires:
        fits = satisfies(numbers, requires) if len(numbers) == 3 else _series_fits(series, requires)
        if fits is False:
            findings.append(finding("python_requires_conflict", variable, wanted, wanted=wanted, requires=requires))
    ended = is_ended(series, today)
    if known is None or threes is None:
        if ended and series[0] == 3:
            used, end = "the newest of the host", _end_text(series)
            findings.append(
                finding("python_version_ended", variable, wanted, wanted=wanted, used=used, end=end, next=example)
            )
        elif is_ending(series, today):
            how = "set CC_PYTHON_VERSION to a newer version and add that version to python_versions"
            findings.append(_ending(wanted, series, how))
        return Selection(wanted if mode == "uv" else None, None, "", tuple(findings))

    pool = known if mode == "uv" else [one for one in known if not one.installable]
    matches = [one for one in pool if one.release[: len(numbers)] == numbers]
    # What uv brings itself is sideloading: allowed past the end of support, with a warning (C5). 2.7 has to be asked for (C2).
    kept = [
        one for one in matches if not ended or series[0] == 2 or (mode == "uv" and (one.managed or one.installable))
    ]
    if kept:
        why = f"{variable} asks for it"
        return _selected(wanted if mode == "uv" else None, kept[0], findings, today, why)

    if series[0] == 2:
        # C2: never Python 3 instead; another patch release of 2.7 will do.
        twos = [one for one in pool if one.series == series == (2, 7)]
        if not twos:
            return Selection(None, None, "", (finding("python_2_missing", variable, wanted, example=example),))
        return _selected(None, twos[0], findings, today, f"{variable} asks for it")
    same_series = [one for one in threes if one.series == series] if not ended and len(numbers) == 3 else []
    best = same_series[0] if same_series else _newest(threes, today, requires if mode == "uv" else "")
    if best is None:
        findings.append(finding("python_none", variable, wanted, example=example))
        return Selection(None, None, "", tuple(findings))
    if ended and best.series == series:
        # The only Python of the host: used, and the warning of _selected says what it is.
        return _selected(wanted if mode == "uv" else None, best, findings, today, "the host has no supported Python 3")
    code = "python_version_ended" if ended else "python_version_unavailable"
    findings.append(
        finding(code, variable, wanted, wanted=wanted, used=best.minor, end=_end_text(series), next=best.minor)
    )
    return _selected(best.minor if mode == "uv" else None, best, findings, today, "the host has no supported Python 3")


def _series_fits(series: tuple[int, int], requires: str) -> bool | None:
    """Whether some release of the series fits."""
    verdicts = [satisfies((*series, patch), requires) for patch in (0, 1, 5, 10, 99)]
    return None if None in verdicts else any(verdicts)


def _newest(pythons: list[Python], today: datetime.date, requires: str) -> Python | None:
    """C1: the newest supported one, or the newest of all; one that requires-python admits before one that it does not."""
    fitting = [one for one in pythons if satisfies(one.release, requires) is not False]
    for pool in (fitting, pythons) if requires else (pythons,):
        supported = [one for one in pool if not is_ended(one.series, today)]
        # What is on the host wins over what would have to be fetched.
        for group in ([one for one in supported if not one.installable], supported, pool):
            if group:
                return max(group, key=lambda one: (one.release, one.managed))
    return None


def _uv_decides(
    known: list[Python] | None, today: datetime.date, requires: str, pinned: str, example: str
) -> Selection:
    """C5 without CC_PYTHON_VERSION: .python-version, else C1 among what requires-python admits.

    uv on its own would take any managed version before one of the distribution, so that a version added to the shelf for one
    application would change the Python of another: C1's choice is asked for by name instead.
    """
    if known is None:
        return Selection(None, None, "uv", ())
    threes = [one for one in known if one.release[0] == 3]
    if not threes:
        missing = finding("python_none_uv", "CC_PYTHON_VERSION", "(not set)", example=example)
        return Selection(None, None, "uv", (missing,))
    fitting = [one for one in threes if satisfies(one.release, requires) is not False]
    if not fitting:
        names = ", ".join(dict.fromkeys(one.minor for one in threes))
        return Selection(
            None,
            None,
            "uv",
            (finding("python_requires_unmet", "requires-python", requires, requires=requires, available=names),),
        )
    if pinned:
        numbers = tuple(int(part) for part in pinned.split("."))
        best = next((one for one in fitting if one.release[: len(numbers)] == numbers), None)
        if best is None:
            return Selection(None, None, "uv", ())
        return _selected(None, best, [], today, ".python-version asks for it", ".python-version")
    newest = _newest(fitting, today, requires) or fitting[0]
    return _selected(newest.minor, newest, [], today, "the host has no supported one that fits", "requires-python")


def _selected(
    request: str | None,
    python: Python,
    findings: list[Finding],
    today: datetime.date,
    why: str,
    variable: str = "CC_PYTHON_VERSION",
) -> Selection:
    source = "managed" if python.managed or python.installable else "distribution"
    more = list(findings)
    how = (
        f"set {variable} to a supported version" if variable == "CC_PYTHON_VERSION" else f"change {variable}"
    ) + " and add that version to python_versions"
    if is_ended(python.series, today):
        more.append(
            finding(
                "python_support_ended",
                variable,
                python.version,
                used=python.minor,
                end=_end_text(python.series),
                why=why,
                how=how,
            )
        )
    elif is_ending(python.series, today):
        more.append(_ending(python.minor, python.series, how, variable))
    return Selection(request, python, source, tuple(more))


def _ending(used: str, series: tuple[int, int], how: str, variable: str = "CC_PYTHON_VERSION") -> Finding:
    return finding("python_support_ending", variable, used, used=used, end=_end_text(series), how=how)
