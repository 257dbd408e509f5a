# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a rollout: one HTML file that needs nothing else, and the same data as JSON beside it.

`render` and `render_json` are pure; `write` stores what they return. The data is the journal's (`journal.py`). None of it is trusted:
names of hosts come from an inventory, and last words from an application. Nor is it complete: a lost host has hardly any facts, and
a report of a failed run must not fail for want of them.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import jinja2

from ansible_collections.pyfleet.runtime.plugins.module_utils import rollout

Item = TypeVar("Item")

#: Name of a phase, the two letters that fit into a narrow bar, and what happens in it. The template has a colour and a pattern for each.
PHASES: dict[str, tuple[str, str]] = {
    "look": ("Lo", "reads the host's state"),
    "lease": ("Le", "claims the application on the host"),
    "prepare": ("Pr", "transfers the release and writes its units"),
    "build": ("Bu", "installs dependencies, runs build hooks"),
    "ship": ("Sh", "hands the built dependencies to other hosts"),
    "hook": ("Ho", "CC_PRE_RUN_HOOK on one host"),
    "drain": ("Dr", "before the switch: out of the load balancer"),
    "switch": ("Sw", "starts and checks the release, moves the traffic"),
    "undrain": ("Un", "after the switch: back into the load balancer"),
    "revert": ("Re", "goes back to what served before"),
    "finish": ("Fi", "ends the lease, removes old releases"),
}

#: Outcomes as the journal names them: words, a sign that needs no colour, and the tone. In the order in which they are counted.
OUTCOMES: dict[str, tuple[str, str, str]] = {
    "switched": ("switched", "✓", "good"),
    "unchanged": ("unchanged", "=", "calm"),
    "prepared": ("prepared", "◦", "calm"),
    "failed": ("failed", "✕", "bad"),
    "lost": ("lost", "?", "bad"),
    "rollback_failed": ("rollback failed", "‼", "bad"),
    "rolled_back": ("rolled back", "↩", "warn"),
    "stopped": ("not switched", "■", "warn"),
    "": ("not finished", "…", "warn"),
}

_WHAT = {"deploy": "Deployment", "rollback": "Rollback", "restart": "Restart", "maintenance": "Maintenance"}
#: What the controller says of the run (rollout.report).
_VERDICTS = {
    "succeeded": ("succeeded", "good", "✓"),
    "unchanged": ("nothing to do", "calm", "="),
    "partial": ("succeeded in part", "warn", "◐"),
    "rolled_back": ("failed, rolled back", "bad", "↩"),
    "failed": ("failed", "bad", "✕"),
}
#: Outcomes after which a host serves what it served before.
_AS_BEFORE = ("unchanged", "prepared", "failed", "rolled_back", "stopped")
#: What a batch does; everything else is done by all hosts at once.
_SERIAL_PHASES = ("drain", "switch", "undrain")
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_MAX_TICKS = 8
_TERMINAL_CODES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
# Control characters, lone surrogates, and those that reorder the text around them.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_HEALTH_LINE = re.compile(r"Response from GET (\S+) is (.+)\Z")
_PLACEHOLDER = re.compile(r"\{(app|release|time)\}")


def render(run: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]) -> str:
    """The report as HTML text. `run` and `entries` are the journal's; whatever is missing is left out. Times are in UTC."""
    return _template().render(_view(run, entries))


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["csp_hash"] = _csp_hash
    return environment.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))


def render_json(run: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]) -> str:
    """The same data as JSON text, for programs: `{"run": {...}, "hosts": {name: entry}}` as the journal has it."""
    return (
        json.dumps(
            {"run": dict(run), "hosts": {name: dict(entry) for name, entry in entries.items()}}, indent=1, default=str
        )
        + "\n"
    )


def destination(path: str, run: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]) -> Path:
    """Where `write` writes: `path` with `{app}`, `{release}` and `{time}` (start of the run in UTC) replaced, and `~` expanded."""
    started = _number(run.get("started"))
    values = {
        "app": _text(run.get("app")),
        "release": ", ".join(_releases(run, entries)),
        "time": f"{_moment(started):%Y%m%dT%H%M%SZ}" if started is not None else "",
    }

    def value(match: re.Match[str]) -> str:
        # One component of a path, whatever the value is.
        return re.sub(r"[^A-Za-z0-9._-]+", "_", values[match.group(1)]).lstrip(".") or "unknown"

    return Path(os.path.expanduser(_PLACEHOLDER.sub(value, path)))


def write(path: str, run: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Writes the report and its JSON (the same name with `.json`), each atomically; makes the folder. Placeholders: see `destination`.

    Returns an empty text, or a warning when that is not possible: a deployment does not fail because of its report. The files have mode
    0644 less the umask: they are made to be shown, and hold no value of an environment (what hosts say is scrubbed there).
    """
    try:
        target = destination(path, run, entries)
        beside = target.with_suffix(".json")
        if beside == target:
            beside = target.with_name(target.name + ".json")
        os.makedirs(target.parent, exist_ok=True)
        _replace(target, render(run, entries))
        _replace(beside, render_json(run, entries))
    except Exception as error:  # noqa: BLE001 - whatever goes wrong with a report, the deployment is more important
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        return (
            f"app_report: {path!r}: the report was not written: {reason}. The rollout itself is not affected. "
            "Next step: set app_report to a file in a folder of the controller that you may write to."
        )
    return ""


def batches(hosts: Sequence[Item], serial: object) -> list[list[Item]]:
    """The batches that Ansible makes of `hosts` for the keyword `serial`: numbers or percentages of all hosts, the last of which repeats.

    An element that is neither, or not above zero, stands for all hosts.
    """
    left = list(hosts)
    elements = list(serial) if isinstance(serial, (list, tuple)) else [serial]
    made: list[list[Item]] = []
    while left:
        element = elements[min(len(made), len(elements) - 1)] if elements else 0
        size = _batch_size(element, len(hosts)) or len(left)
        made.append(left[:size])
        left = left[size:]
    return made


def _batch_size(element: object, hosts: int) -> int:
    text = str(element).strip()
    try:
        if text.endswith("%"):
            share = float(text[:-1])
            return max(int(share / 100 * hosts), 1) if 0 < share < math.inf else 0
        return max(int(text), 0)
    except ValueError:
        return 0


def _csp_hash(script: str) -> str:
    """Names the one script that the page may run."""
    return base64.b64encode(hashlib.sha256(str(script).encode()).digest()).decode()


def _replace(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}")
    try:
        with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


# From the journal to what the template shows. All texts pass through `_text`, all numbers through `_number`.


def _text(value: object) -> str:
    """Any value as printable text."""
    if value is None:
        return ""
    return _UNPRINTABLE.sub(
        "\N{REPLACEMENT CHARACTER}", _TERMINAL_CODES.sub("", str(value).replace("\r\n", "\n"))
    ).strip()


def _number(value: object) -> float | None:
    """A time or a duration in seconds; anything else is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e11:
        return None
    return float(value)


def _list(value: object) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _texts(value: object) -> list[str]:
    return [text for text in map(_text, _list(value)) if text]


def _unique(values: Iterable[str]) -> list[str]:
    return [value for value in dict.fromkeys(values) if value]


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _duration(seconds: float | None) -> str:
    """For people: `0.4 s`, `12 s`, `2 min 05 s`, `1 h 03 min`."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _figure(seconds: float | None) -> str:
    """For a column of seconds."""
    if seconds is None:
        return ""
    return "0" if seconds == 0 else f"{seconds:.1f}" if seconds < 99.95 else f"{seconds:.0f}"


def _offset(seconds: float, step: float) -> str:
    """For the axis: `+0.5 s`, `1:30`, `1:00:00`."""
    if step < 1:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60 and step < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _releases(run: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return _unique([_text(run.get("release")), *(_text(entry.get("release")) for entry in entries.values())])


def _commits(run: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]], name: str) -> list[str]:
    return _unique([_text(run.get(name)), *(_text(entry.get(name)) for entry in entries.values())])


def _phases(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The phases of a host that have begun, in order; one without an end has none here, either."""
    found = []
    for phase in _list(entry.get("phases")):
        if isinstance(phase, Mapping) and (started := _number(phase.get("started"))) is not None:
            ended = _number(phase.get("ended"))
            found.append(
                {
                    "name": _text(phase.get("name")) or "unnamed",
                    "started": started,
                    "ended": None if ended is None else max(started, ended),
                    "ok": phase.get("ok"),
                    "words": _text(phase.get("words")),
                }
            )
    # The longer one first, so that one within it is drawn on top.
    return sorted(found, key=lambda phase: (phase["started"], -(phase["ended"] or math.inf)))


def _scale(run: Mapping[str, Any], phases: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The axis: its start (None when nothing has a time), length in seconds, and ticks."""
    known = [run.get("started"), run.get("ended")]
    for phase in phases:
        known += [phase["started"], phase["ended"]]
    times = [time for time in map(_number, known) if time is not None]
    if not times:
        return {"start": None, "end": None, "length": 1.0, "ticks": [], "step": 100.0}
    length = max(max(times) - min(times), 0.1)
    step = next((step for step in _STEPS if length / step <= _MAX_TICKS), length / _MAX_TICKS)
    ticks = [
        {"left": _percent(number * step / length), "label": _offset(number * step, step)}
        for number in range(int(length / step + 1e-9) + 1)
    ]
    return {"start": min(times), "end": max(times), "length": length, "ticks": ticks, "step": _percent(step / length)}


def _percent(share: float) -> float:
    return round(100 * share, 3)


def _bar(phase: dict[str, Any], scale: Mapping[str, Any]) -> dict[str, Any]:
    ended = phase["ended"] if phase["ended"] is not None else max(scale["end"], phase["started"])
    code, meaning = PHASES.get(phase["name"], (phase["name"][:2], ""))
    state = "failed" if phase["ok"] is False else "not ended" if phase["ended"] is None else ""
    seconds = ended - phase["started"]
    title = f"{phase['name']}{': ' + meaning if meaning else ''}\n{_clock(phase['started'])} – {_clock(ended)}, {_duration(seconds)}"
    return {
        "name": phase["name"],
        "kind": phase["name"] if phase["name"] in PHASES else "other",
        "code": code,
        "left": _percent((phase["started"] - scale["start"]) / scale["length"]),
        "width": _percent(seconds / scale["length"]),
        "state": state,
        "title": "\n".join(part for part in (title, state, _short(phase["words"], 400)) if part),
        "spoken": f"{phase['name']} {_duration(seconds)}{' ' + state if state else ''}",
    }


def _clock(seconds: float) -> str:
    return f"{_moment(seconds):%H:%M:%S}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _health(log: Iterable[str]) -> list[dict[str, Any]]:
    """The answers among the lines of the log; the last one of each path counts."""
    answers = {}
    for line in log:
        match = _HEALTH_LINE.match(line)
        if match:
            answers[match.group(1)] = match.group(2)
    return [{"path": path, "status": status, "good": status.startswith("2")} for path, status in answers.items()]


def _outcome(name: str) -> dict[str, str]:
    words, sign, tone = OUTCOMES.get(name, (name, "•", "warn"))
    return {"name": name if name in OUTCOMES else "other", "words": words, "sign": sign, "tone": tone}


def _outcome_of(run: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """The outcome that the journal notes or, once the run is over, the one that follows from it for hosts that had no turn."""
    over = bool(run.get("stopped")) or _number(run.get("ended")) is not None
    if over or entry.get("action") == "none":
        return _text(rollout.outcome(entry, run))
    return _text(entry.get("outcome"))


def _before(entry: Mapping[str, Any]) -> str:
    return _text(entry.get("before")) or _text(entry.get("current"))


def _serves(entry: Mapping[str, Any], outcome: str) -> str | None:
    """The release that serves now, as far as the journal tells; None when nobody knows."""
    if outcome == "switched":
        return _text(entry.get("serves")) or _text(entry.get("release"))
    # Somebody's own tasks may fail after the switch: then it is the new one that serves.
    return (_text(entry.get("serves")) or _before(entry)) if outcome in _AS_BEFORE else None


def _kind(entry: Mapping[str, Any]) -> str:
    return " · ".join(_unique([_text(entry.get("kind")), _text(entry.get("mode"))]))


def _host(name: str, entry: Mapping[str, Any], outcome: str, scale: Mapping[str, Any], kinds: int) -> dict[str, Any]:
    phases = _phases(entry)
    seconds: dict[str, float] = {}
    for phase in phases:
        if phase["ended"] is not None:
            seconds[phase["name"]] = seconds.get(phase["name"], 0.0) + phase["ended"] - phase["started"]
    gap = _number(entry.get("gap_seconds"))
    before, serves = _before(entry), _serves(entry, outcome)
    # Facts of the release that serves have the prefix of the one that it is.
    prefix = (
        None if not serves else "before_" if serves == before else "" if serves == _text(entry.get("release")) else None
    )
    bars = [_bar(phase, scale) for phase in phases]
    log = _texts(entry.get("log"))
    instance = _number(entry.get("instance_number"))
    details = [""] if instance is None else [f"instance {int(instance)}"]
    if kinds > 1:
        details.append(_kind(entry))
    failed_words = [phase["words"] for phase in phases if phase["ok"] is False and phase["words"]]
    return {
        "name": _text(name),
        "known": bool(phases or before or serves),
        "outcome": _outcome(outcome),
        "action": _text(entry.get("action")),
        "details": " · ".join(_unique(details)),
        "before": before,
        "after": serves,
        "before_version": _text(entry.get("before_version")),
        "version": "" if prefix is None else _text(entry.get(f"{prefix}version")),
        "before_commit": _text(entry.get("before_commit")),
        "commit": "" if prefix is None else _text(entry.get(f"{prefix}commit")),
        "seconds": seconds,
        "figures": {phase: _figure(value) for phase, value in seconds.items()},
        "total": _figure(sum(seconds.values())) if seconds else "",
        "gap": _figure(gap),
        "gap_there": bool(gap),
        "bars": bars,
        "line": _line(bars),
        "spoken": "; ".join(mark["spoken"] for mark in bars) or "no phase was recorded",
        "health": _health(log),
        "log": log,
        "warnings": _texts(entry.get("warnings")),
        "batch": _text(entry.get("batch")),
        "message": _text(entry.get("message")) or "\n".join(failed_words),
        "phases": phases,
    }


def _line(bars: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """From the first bar to the end of the last one: shows when a host waited."""
    if not bars:
        return None
    left = min(mark["left"] for mark in bars)
    return {"left": left, "width": round(max(mark["left"] + mark["width"] for mark in bars) - left, 3)}


def _groups(run: Mapping[str, Any], hosts: Sequence[dict[str, Any]], scale: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The hosts by batch, each with the time in which the batch switched."""
    made = batches(hosts, run.get("serial"))
    # Each host notes the first one of its batch: where that is another batch than the numbers say, Ansible was right.
    places = {host["name"]: number for number, members in enumerate(made) for host in members}
    ran: dict[int, list[dict[str, Any]]] = {}
    for host in hosts:
        ran.setdefault(places.get(host["batch"], places[host["name"]]), []).append(host)
    made = [ran[number] for number in sorted(ran)]
    groups = []
    for number, members in enumerate(made, 1):
        name = "All hosts" if len(made) == 1 else f"Batch {number}"
        # With batches of one size, such as one host at a time, there is a first batch, but no canary.
        canary = number == 1 and len(made) > 1 and len(members) < len(made[1])
        turns = [phase for host in members for phase in host["phases"] if phase["name"] in _SERIAL_PHASES]
        window = None
        if turns:
            begun = min(phase["started"] for phase in turns)
            done = max(phase["ended"] if phase["ended"] is not None else scale["end"] for phase in turns)
            window = {
                "left": _percent((begun - scale["start"]) / scale["length"]),
                "width": _percent((done - begun) / scale["length"]),
                "took": _duration(done - begun),
                "words": f"{_clock(begun)} – {_clock(done)}, {_duration(done - begun)}",
            }
        for host in members:
            batch = "canary" if canary else f"batch {number}" if len(made) > 1 else ""
            host["about"] = " · ".join(_unique([batch, host["details"]]))
        groups.append(
            {"name": "Canary" if canary else name, "hosts": members, "window": window, "counts": _counts(members)}
        )
    return groups


def _counts(hosts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for host in hosts:
        outcome = host["outcome"]
        found.setdefault(outcome["words"], {**outcome, "count": 0})["count"] += 1
    order = [words for words, _sign, _tone in OUTCOMES.values()]
    return sorted(found.values(), key=lambda one: order.index(one["words"]) if one["words"] in order else len(order))


def _last_words(hosts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What hosts said that did not get where they should; identical words once. Failed hosts come first, and have an entry in any case."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for host in hosts:
        outcome = host["outcome"]
        if outcome["tone"] == "bad" or (outcome["tone"] == "warn" and host["message"]):
            group = found.setdefault(
                (outcome["words"], host["message"]), {"outcome": outcome, "words": host["message"], "hosts": []}
            )
            group["hosts"].append(host["name"])
    return sorted(found.values(), key=lambda group: group["outcome"]["tone"] != "bad")


def _warnings(hosts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, list[str]] = {}
    for host in hosts:
        for words in _unique(host["warnings"]):
            found.setdefault(words, []).append(host["name"])
    return [{"words": words, "hosts": names} for words, names in found.items()]


def _verdict(run: Mapping[str, Any], hosts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the controller says of the run, or what follows from its hosts."""
    tones = {host["outcome"]["tone"] for host in hosts}
    names = {host["outcome"]["name"] for host in hosts}
    if "bad" in tones or names & {"rolled_back", "stopped"}:
        words, tone, sign = "failed", "bad", "✕"
    elif "" in names or not hosts:
        words, tone, sign = "not finished", "warn", "…"
    elif names <= {"unchanged"}:
        words, tone, sign = "nothing to do", "calm", "="
    else:
        words, tone, sign = "succeeded", "good", "✓"
    stated = _VERDICTS.get(_text(run.get("outcome")))
    if stated:
        words, tone, sign = stated
    return {
        "words": words,
        "tone": tone,
        "sign": sign,
        "message": _text(run.get("message")) or _text(run.get("stopped")),
    }


def _facts(
    run: Mapping[str, Any],
    entries: Mapping[str, Mapping[str, Any]],
    scale: Mapping[str, Any],
    hosts: int,
    kinds: Sequence[str],
) -> list[dict[str, Any]]:
    """The header's list: a name, and a text or commits."""
    before = _unique(map(_before, entries.values()))
    facts: list[dict[str, Any]] = [
        {"name": "Release", "codes": [before, _releases(run, entries)]},
        {"name": "Commit", "codes": [_commits(run, entries, "before_commit"), _commits(run, entries, "commit")]},
        {"name": "By", "text": _text(run.get("holder"))},
    ]
    if scale["start"] is not None:
        facts.append({"name": "Started", "time": f"{_moment(scale['start']):%Y-%m-%d %H:%M:%S}"})
        if scale["end"] > scale["start"]:
            facts.append({"name": "Took", "text": _duration(scale["end"] - scale["start"])})
    serial = _texts(run.get("serial"))
    budget = _text(run.get("budget"))
    facts += [
        {"name": "Hosts", "text": str(hosts)},
        {"name": "Kind", "text": kinds[0] if len(kinds) == 1 else ""},
        {"name": "In batches of", "text": ", then ".join(serial)},
        {
            "name": "May fail",
            "text": f"{budget} {'host' if budget == '1' else 'hosts'}" if budget.isdigit() else budget,
        },
        {"name": "Run", "text": _text(run.get("run"))},
    ]
    return [fact for fact in facts if fact.get("text") or fact.get("time") or (fact.get("codes") and fact["codes"][1])]


def _view(run: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Everything that the template shows."""
    run = run if isinstance(run, Mapping) else {}
    entries = {str(name): entry if isinstance(entry, Mapping) else {} for name, entry in entries.items()}
    names = _unique([*map(str, _list(run.get("hosts"))), *entries])
    scale = _scale(run, (phase for entry in entries.values() for phase in _phases(entry)))
    kinds = _unique(map(_kind, entries.values()))
    hosts = [
        _host(name, entry, _outcome_of(run, entry), scale, len(kinds))
        for name in names
        for entry in [entries.get(name, {})]
    ]
    groups = _groups(run, hosts, scale)
    used = _unique(phase["name"] for host in hosts for phase in host["phases"])
    phases = [name for name in PHASES if name in used] + [name for name in used if name not in PHASES]
    what = _text(run.get("what"))
    return {
        "app": _text(run.get("app")) or "application",
        "what": _WHAT.get(what, what or "Rollout"),
        "verdict": _verdict(run, hosts),
        "facts": _facts(run, entries, scale, len(hosts), kinds),
        "scale": scale,
        "hosts": hosts,
        "groups": groups,
        "counts": _counts(hosts),
        "last_words": _last_words(hosts),
        "warnings": _warnings(hosts),
        "phases": [
            {
                "name": name,
                "kind": name if name in PHASES else "other",
                "code": PHASES.get(name, (name[:2], ""))[0],
                "meaning": PHASES.get(name, ("", ""))[1],
            }
            for name in phases
        ],
        "has_gap": any(host["gap"] for host in hosts),
        "has_figures": any(host["seconds"] for host in hosts),
    }
