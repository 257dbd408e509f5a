# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch: one script with inline metadata over many inputs on many hosts (contract H7), as far as it is pure.

What is wrong with the settings, how inputs become shards, who takes which shard, what a shard's unit looks like, and what systemd's
account of its end means. The controller keeps the state in a file (plugin_utils/batch_queue), hosts run units (module batch_shard).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import VALUE_LIMIT, validate
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding

NAME = re.compile(r"[a-z][a-z0-9-]{0,27}\Z")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
#: As systemd.resource-control(5) writes them.
MEMORY = re.compile(r"[1-9][0-9]*[KMGT]?\Z")
QUOTA = re.compile(r"[1-9][0-9]*%\Z")
UNIT_LINE = re.compile(r"[A-Z][A-Za-z]+=[^\n]*\Z")
#: Settings with which a shard's end or output would be lost.
OURS = frozenset(
    "Type User ExecStart ExecStopPost StandardInput StandardOutput StandardError WorkingDirectory EnvironmentFile "
    "RemainAfterExit Restart".split()
)
_OPENING = re.compile(r"# /// ([A-Za-z0-9-]+)\Z")
#: Arguments and environment share what execve takes; this is what arguments may have of it.
ARGUMENTS_LIMIT = 1024 * 1024
#: The state is written at every step.
SHARDS_LIMIT = 20000
ARGUMENTS, STDIN = "arguments", "stdin"
TODO, CLAIMED, DONE, FAILED = "todo", "claimed", "done", "failed"
#: Seconds for which a shard of a run that broke off is kept for its host, where it may be running still.
KEPT_FOR_ITS_HOST = 15.0


# -- settings --------------------------------------------------------------------------------------------------------------------


def has_metadata(text: str) -> bool:
    """Whether the text of a script has an inline `script` block; what stands in it is uv's to judge."""
    inside = False
    for line in text.splitlines():
        opening = _OPENING.match(line)
        if inside and line == "# ///":
            return True
        if opening is not None and not inside:
            inside = opening.group(1) == "script"
        elif not line.startswith("#"):
            inside = False
    return False


def inputs_of(value: object) -> list[str] | None:
    """The inputs as texts: those of a list, or the lines of a text; None for anything else."""
    if isinstance(value, str):
        return [line.strip() for line in value.splitlines() if line.strip()]
    if not isinstance(value, (list, tuple)):
        return None
    if any(isinstance(item, bool) or not isinstance(item, (str, int, float)) for item in value):
        return None
    return [str(item) for item in value]


def share_out(inputs: Sequence[str], size: int) -> list[list[str]]:
    """The inputs in shards of `size`, in their order."""
    return [list(inputs[start : start + size]) for start in range(0, len(inputs), size)]


def check(settings: Mapping[str, Any], env: Mapping[str, object], script: str | None) -> list[Finding]:
    """Everything that is wrong with the settings. `script` is the script's text, None where it could not be read."""
    found: list[Finding] = []

    def wrong(name: str, expected: str, example: str) -> None:
        shown = settings.get(name)
        found.append(
            finding(
                "option_invalid", f"batch_{name}", "" if shown is None else shown, expected=expected, example=example
            )
        )

    def text(name: str, pattern: re.Pattern[str], expected: str, example: str, empty: bool = True) -> None:
        value = settings.get(name)
        if not isinstance(value, str) or not (pattern.match(value) or (empty and not value)):
            wrong(name, expected, example)

    def number(name: str, least: int, expected: str, example: str) -> None:
        value = settings.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            wrong(name, expected, example)

    text(
        "name", NAME, "a lower-case letter, then up to 27 lower-case letters, digits or hyphens", "resize", empty=False
    )
    text("user", USER, "a user's name", "pyfleet-batch", empty=False)
    text("memory_max", MEMORY, "a number of bytes with K, M, G or T", "512M")
    text("cpu_quota", QUOTA, "a percentage of one processor", "150%")
    number("shard_size", 1, "how many inputs one shard has, 1 or more", "10")
    number("slots", 1, "how many shards a host runs at once, 1 or more", "2")
    number("attempts", 1, "how often a shard is tried, 1 or more", "3")
    number("timeout", 0, "a number of seconds, or 0 for no limit", "3600")
    number("max_failed", -1, "how many shards may fail before no other is begun, or -1", "10")
    lines = settings.get("unit_lines")
    if not isinstance(lines, list) or not all(isinstance(line, str) and UNIT_LINE.match(line) for line in lines):
        wrong("unit_lines", "a list of settings of a service, Name=value", "[IPAddressDeny=any]")
    elif any(line.partition("=")[0] in OURS for line in lines):
        expected = f"a list of settings other than those of the batch itself ({', '.join(sorted(OURS))})"
        wrong("unit_lines", expected, "[IPAddressDeny=any]")
    given = settings.get("arguments")
    if not isinstance(given, list) or inputs_of(given) is None:
        wrong("arguments", "a list of texts", "[--width, '800']")
    if settings.get("input_mode") not in (ARGUMENTS, STDIN):
        wrong("input_mode", "arguments or stdin", "stdin")
    if script is not None and not has_metadata(script):
        found.append(finding("batch_no_metadata", "batch_script", settings.get("script")))
    found += validate(env)[1]
    return found + _inputs(settings)


def _inputs(settings: Mapping[str, Any]) -> list[Finding]:
    """What is wrong with the inputs, and how they are shared out."""
    inputs = inputs_of(settings.get("inputs"))
    if inputs is None:
        kind = type(settings.get("inputs")).__name__
        return [
            finding(
                "batch_inputs", "batch_inputs", kind, why="it is neither a list of texts nor a text with one per line"
            )
        ]
    if not inputs:
        return [finding("batch_inputs", "batch_inputs or batch_inputs_file", "(none)", why="there is none")]
    found = []
    for item in inputs:
        bad = "\0" in item or (settings.get("input_mode") == STDIN and "\n" in item)
        if bad or not item or any("\ud800" <= letter <= "\udfff" for letter in item):
            why = "one is empty, is not text, or has a line break where each stands on a line of its own"
            found.append(finding("batch_inputs", "batch_inputs", item, why=why))
    size = settings.get("shard_size")
    if found or isinstance(size, bool) or not isinstance(size, int) or size < 1:
        return found[:10]
    shards = share_out(inputs, size)
    if len(shards) > SHARDS_LIMIT:
        found.append(
            finding(
                "batch_shards",
                "batch_shard_size",
                size,
                shards=len(shards),
                limit=SHARDS_LIMIT,
                least=-(-len(inputs) // SHARDS_LIMIT),
            )
        )
    if settings.get("input_mode") == ARGUMENTS:
        fixed = inputs_of(settings.get("arguments")) or []
        for shard in shards:
            sizes = [len(item.encode()) + 9 for item in [*fixed, *shard]]
            if sum(sizes) > ARGUMENTS_LIMIT or max(sizes) > VALUE_LIMIT:
                found.append(
                    finding("batch_arguments", "batch_input_mode", ARGUMENTS, size=sum(sizes), limit=ARGUMENTS_LIMIT)
                )
                break
    return found


# -- who takes what --------------------------------------------------------------------------------------------------------------


@dataclass
class Claim:
    """One attempt at a shard. The token names it: who finds a unit with it goes on with that unit, and starts no second one."""

    number: int
    token: str
    attempt: int
    inputs: list[str] = field(default_factory=list)


class State:
    """All shards of a batch and all hosts of a run: `data` is what the state file holds. Times are seconds since the epoch."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    @classmethod
    def new(cls, identity: str, name: str, shards: Sequence[Sequence[str]], attempts: int, max_failed: int) -> State:
        """A batch of which nothing is done."""
        return cls(
            {
                "format": 1,
                "id": identity,
                "name": name,
                "attempts": attempts,
                "max_failed": max_failed,
                "hosts": {},
                "run": {},
                "shards": [
                    {"inputs": list(each), "state": TODO, "host": "", "token": "", "tries": []} for each in shards
                ],
            }
        )

    @property
    def shards(self) -> list[dict[str, Any]]:
        """The shards; a shard's number is its place."""
        shards: list[dict[str, Any]] = self.data["shards"]
        return shards

    def count(self, *states: str) -> int:
        """How many shards are in one of these states."""
        return sum(shard["state"] in states for shard in self.shards)

    def open(self, run: Mapping[str, Any], hosts: Iterable[str], attempts: int, max_failed: int, now: float) -> None:
        """A run begins. What an earlier one had claimed stays with its host for a while; what failed for good is tried again."""
        known = set(hosts)
        self.data.update(run={**run, "opened": now, "stopped": ""}, hosts={}, attempts=attempts, max_failed=max_failed)
        self.data["runs"] = self.data.get("runs", 0) + 1
        for shard in self.shards:
            if shard["state"] == FAILED or (shard["state"] == CLAIMED and shard["host"] not in known):
                shard.update(state=TODO, host="", token="")
            if shard["state"] != DONE:
                shard["earlier"] = [*shard.get("earlier", []), *shard["tries"]]
                shard["tries"] = []

    def join(self, host: str, pid: int) -> None:
        """A host takes part; `pid` is the process that works for it on the controller."""
        self.data["hosts"][host] = {"state": "present", "why": "", "pid": pid}

    def leave(self, host: str, state: str = "left", why: str = "", *, started: bool = True) -> None:
        """A host takes no part any more: `left` where all was done, `lost` or `failed`. What it had claimed is free.

        `started` is whether any of it may have begun.
        """
        self.data["hosts"][host] = {"state": state, "why": why}
        for shard in self.shards:
            if shard["state"] == CLAIMED and shard["host"] == host:
                # A host that went down under a shard may have done so because of it.
                words = "the host was lost" if state == "lost" else f"the host gave up: {why}"
                self._tried(shard, host, words, 0.0, counts=state == "lost" and started)

    def stop(self, host: str, why: str) -> None:
        """Nothing can go on. What the host has claimed stays its own: the next run finds it there, done or running."""
        self.data["hosts"][host] = {"state": "failed", "why": why}
        self.data["run"]["stopped"] = self.data["run"].get("stopped") or why

    def present(self) -> list[str]:
        """The hosts that take part right now."""
        return [host for host, entry in self.data["hosts"].items() if entry["state"] == "present"]

    def claim(self, host: str, room: int, new_token: Callable[[], str], now: float) -> list[Claim]:
        """Up to `room` shards for a host. `new_token` makes the names of attempts."""
        claims: list[Claim] = []
        present = set(self.present())
        fresh = now - float(self.data["run"].get("opened") or 0) < KEPT_FOR_ITS_HOST
        mine = self.data["run"].get("id")
        for number, shard in enumerate(self.shards):
            if len(claims) >= room:
                break
            of_dead_run = shard["state"] == CLAIMED and shard.get("run") != mine
            if of_dead_run and shard["host"] == host:
                token = shard["token"]
            elif of_dead_run and not fresh and shard["host"] not in present and not self.data["run"].get("stopped"):
                token = new_token()
            elif shard["state"] == TODO and not self.data["run"].get("stopped"):
                tried = {each["host"] for each in shard["tries"]}
                if host in tried and present - tried:
                    continue  # it failed here; another host shall try
                token = new_token()
            else:
                continue
            shard.update(state=CLAIMED, host=host, token=token, run=mine)
            claims.append(Claim(number, token, len(shard["tries"]) + 1, list(shard["inputs"])))
        return claims

    def over(self) -> bool:
        """Whether nothing can come any more for a host that has nothing to do."""
        if self.data["run"].get("stopped"):
            return True
        return not self.count(TODO, CLAIMED)

    def done(self, number: int, token: str, host: str, seconds: float) -> bool:
        """A shard succeeded; whether that counts: it does not when the shard has been given to somebody else meanwhile."""
        shard = self.shards[number]
        if shard["state"] != CLAIMED or shard["token"] != token:
            return False
        shard["tries"].append({"host": host, "how": "", "seconds": round(seconds, 2)})
        shard["state"] = DONE
        return True

    def failed(self, number: int, token: str, host: str, how: str, seconds: float) -> bool:
        """A shard failed; it is tried again, or not. Whether that counts, as in `done`."""
        shard = self.shards[number]
        if shard["state"] != CLAIMED or shard["token"] != token:
            return False
        self._tried(shard, host, how, seconds)
        return True

    def _tried(self, shard: dict[str, Any], host: str, how: str, seconds: float, counts: bool = True) -> None:
        if counts:
            shard["tries"].append({"host": host, "how": how, "seconds": round(seconds, 2)})
        again = len(shard["tries"]) < self.data["attempts"]
        shard.update(state=TODO if again else FAILED, host="", token="")
        most = self.data["max_failed"]
        if most >= 0 and self.count(FAILED) > most and not self.data["run"].get("stopped"):
            self.data["run"]["stopped"] = f"{self.count(FAILED)} shards failed, where batch_max_failed allows {most}"

    def progress(self) -> str:
        """One line: how far the batch is."""
        words = [f"{self.count(DONE)} of {len(self.shards)} shards done"]
        running = self.count(CLAIMED)
        words += [f"{running} running"] if running else []
        again = sum(len(shard["tries"]) > 1 for shard in self.shards)
        words += [f"{again} retried"] if again else []
        words += [f"{self.count(FAILED)} failed"] if self.count(FAILED) else []
        away = [host for host, entry in self.data["hosts"].items() if entry["state"] in ("lost", "failed")]
        words += ["without " + ", ".join(away)] if away else []
        return f"batch {self.data['name']}: " + ", ".join(words)

    def summary(self) -> dict[str, Any]:
        """The batch for programs and people, without its inputs."""
        shards = {
            str(number): {"state": shard["state"], "inputs": len(shard["inputs"]), "tries": shard["tries"]}
            for number, shard in enumerate(self.shards)
            if shard["state"] != DONE or len(shard["tries"]) > 1
        }
        return {
            "name": self.data["name"],
            "id": self.data["id"],
            "outcome": "succeeded" if self.count(DONE) == len(self.shards) else "failed",
            "shards": len(self.shards),
            "done": self.count(DONE),
            "failed": self.count(FAILED),
            "left": self.count(TODO, CLAIMED),
            "stopped": str(self.data["run"].get("stopped") or ""),
            "hosts": self.data["hosts"],
            "remarkable": shards,
        }


# -- a shard's unit ----------------------------------------------------------------------------------------------------------------

#: What systemd keeps a script from; batch_unit_lines come later, and win.
SANDBOX = (
    "NoNewPrivileges=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectControlGroups=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "UMask=0022",
)
START = """#!/bin/bash
# Runs one shard. Its arguments stand in a file, each ended by a NUL, so that nothing on the way takes a $ or a % for its own.
mapfile -d '' -t arguments < "$1/arguments" || exit 1
exec "${0%/*}/.venv/bin/python" "$2" "${arguments[@]}"
"""
ENDED = """#!/bin/sh
# Keeps what systemd knows of a shard's end, for whoever asks later: the unit itself is gone by then.
printf '%s\\n%s\\n%s\\n%s\\n' "$SERVICE_RESULT" "$EXIT_CODE" "$EXIT_STATUS" "$(date +%s.%N)" > "$1/ended.new"
mv "$1/ended.new" "$1/ended"
"""


def unit_name(name: str, identity: str, number: int) -> str:
    """The unit of a shard."""
    return f"batch-{name}-{identity[:8]}-{number}.service"


def unit_command(
    unit: str, folder: str, shard: str, environment_file: str, options: Mapping[str, Any], variables: Mapping[str, str]
) -> list[str]:
    """The call of systemd-run for one shard. `folder` is the batch's on the host, `shard` the shard's in it.

    `options` are `user`, `script`, `memory_max`, `cpu_quota`, `timeout`, `unit_lines` and `stdin`; `variables` hold no secret.
    """
    lines = [
        f"Description=pyfleet batch, {unit}",
        f"User={options['user']}",
        f"WorkingDirectory={shard}/files",
        f"EnvironmentFile={environment_file}",
        f"StandardInput={'file:' + shard + '/stdin' if options['stdin'] else 'null'}",
        f"StandardOutput=file:{shard}/stdout",
        f"StandardError=file:{shard}/stderr",
        f"ExecStopPost=+{folder}/ended {shard}",
        "TimeoutStopSec=10",
        *SANDBOX,
        f"ReadWritePaths={shard}/files {shard}/home",
    ]
    if options["memory_max"]:
        # Without this a shard that needs too much moves the host's memory to disk instead of ending.
        lines += [f"MemoryMax={options['memory_max']}", "MemorySwapMax=0"]
    lines += [f"CPUQuota={options['cpu_quota']}"] if options["cpu_quota"] else []
    lines += [f"RuntimeMaxSec={options['timeout']}"] if options["timeout"] else []
    call = ["systemd-run", "--quiet", "--no-block", "--collect", f"--unit={unit}"]
    call += [f"--property={line}" for line in [*lines, *options["unit_lines"]]]
    call += [f"--setenv={name}={value}" for name, value in variables.items()]
    return [*call, "--", f"{folder}/start", shard, f"{folder}/job/{options['script']}"]


def verdict(result: str, code: str, status: str, options: Mapping[str, Any]) -> str:
    """Why a shard failed, from $SERVICE_RESULT, $EXIT_CODE and $EXIT_STATUS of systemd.exec(5); empty where it succeeded."""
    if result == "success":
        return ""
    if result == "oom-kill":
        limit = f"batch_memory_max={options['memory_max']}" if options.get("memory_max") else "the host has"
        return f"was killed because it used more memory than {limit}"
    if result == "timeout":
        return f"ran longer than batch_timeout={options.get('timeout')} seconds and was ended"
    if result in ("signal", "core-dump"):
        # The kernel's own killer, where systemd is not told about it.
        hint = (
            f"; did it need more than batch_memory_max={options['memory_max']}?"
            if status == "KILL" and options.get("memory_max")
            else ""
        )
        return f"was ended by signal {status}{hint}"
    if result == "exit-code" and status.isdigit() and int(status) < 200:
        return f"ended with exit status {status}"
    if result == "output":
        return "has output that cannot be packed"
    if result == "gone":
        return "vanished without a word, as when the host restarts"
    return f"could not be run ({result}, {code} {status})"
