# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decisions of a rollout: go on or stop, who goes back and where to, who runs what runs once. Pure, without I/O.

An *entry* is what the journal knows of one host: a dictionary with `action`, `outcome`, `release`, `before` and others, each of
which may be missing, because hosts get lost. `order` is the hosts' names in the order of the inventory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding

Entry = Mapping[str, Any]
Entries = Mapping[str, Entry]

#: Outcomes of a host in which the rollout did not succeed there.
FAILED, LOST, ROLLBACK_FAILED = "failed", "lost", "rollback_failed"
BROKEN = (FAILED, LOST, ROLLBACK_FAILED)
#: Outcomes of a host that is as it was wanted, or as it was before.
UNCHANGED, SWITCHED, STOPPED, ROLLED_BACK = "unchanged", "switched", "stopped", "rolled_back"
PLANNED = "planned"
#: So many digits at the beginning of a release's id name its deployment; the others may differ between hosts of different hardware.
DEPLOYMENT_DIGITS = 8
#: Actions that leave nothing to do in the switch.
IDLE = ("", "none", LOST)


@dataclass(frozen=True)
class Verdict:
    """Whether the rollout goes on. `why` is one sentence for people, empty while it does; `failed` are the hosts that broke."""

    go: bool
    why: str = ""
    failed: tuple[str, ...] = field(default=())


def budget(value: Any, hosts: int) -> int:
    """How many of `hosts` may fail before a rollout stops: a number, or a percentage (rounded down) such as `10%`.

    Raises:
        ValueError: it is neither.
    """
    text = str(value).strip()
    found = re.fullmatch(r"(\d+)\s*(%?)", text)
    if not found or isinstance(value, bool):
        raise ValueError(text)
    number = int(found.group(1))
    return min(hosts, hosts * number // 100 if found.group(2) else number)


def batch_sizes(value: Any) -> list[str]:
    """The sizes of the batches: a number, a percentage, a list of both, or such a list as text, as surveys of AWX give it.

    Raises:
        ValueError: it is none of these.
    """
    given = value
    if isinstance(value, str):
        given = json.loads(value) if value.strip().startswith("[") else value.split(",")
    sizes = [str(size).strip() for size in (given if isinstance(given, (list, tuple)) else [given])]
    if not sizes or not all(re.fullmatch(r"[1-9][0-9]*|[1-9][0-9]?%|100%", size) for size in sizes):
        raise ValueError(str(value))
    return sizes


def batches(entries: Entries, order: Sequence[str]) -> list[list[str]]:
    """The batches that began to switch, in order. An entry's `batch` is the name of the first host of its batch."""
    found: dict[str, list[str]] = {}
    for host in order:
        first = entries.get(host, {}).get("batch")
        if first:
            found.setdefault(str(first), []).append(host)
    return list(found.values())


def verdict(entries: Entries, order: Sequence[str], allowed: int, stop: str = "", *, closed: bool = False) -> Verdict:
    """Whether the next host may switch or, once all had their turn (`closed`), whether the rollout went well.

    `allowed` is the failure budget in hosts. A failure among the canaries, that is the first of several batches, ends the rollout
    whatever the budget: they are there to tell. So does `stop`, a reason that concerns the whole rollout.
    """

    def broken(entry: Entry) -> bool:
        return (closed and has_a_turn(entry)) or entry.get("outcome") in BROKEN

    failed = tuple(host for host in order if broken(entries.get(host, {})))
    if stop:
        return Verdict(False, stop, failed)
    begun = batches(entries, order)
    canaries = [host for host in (begun[0] if begun else []) if host in failed and entries[host].get("batch")]
    if canaries and len(begun[0]) < len(order):
        return Verdict(False, f"The canary {_names(canaries)} failed.", failed)
    if len(failed) > allowed:
        limit = "no host may fail" if not allowed else f"{allowed} may fail"
        return Verdict(False, f"{_names(failed)} failed ({limit}: app_failure_budget).", failed)
    return Verdict(True, "", failed)


def has_a_turn(entry: Entry) -> bool:
    """Whether a host has something to do in the switch, and nothing has gone wrong on it so far."""
    return entry.get("action") not in (None, *IDLE) and not entry.get("outcome")


def to_revert(entries: Entries, order: Sequence[str]) -> dict[str, str]:
    """Where hosts go back to after a failed rollout, so that one version is left everywhere: release by host.

    That is every host that serves another release than when the rollout began, or than when an earlier rollout did that never ended and
    may have been about yet another release. A host whose connection broke while it switched is asked, too: nobody knows what it serves.
    """
    found = {}
    for host in order:
        entry = entries.get(host, {})
        before, release = entry.get("before"), entry.get("release")
        serves = entry.get("serves") or entry.get("current")
        unsure = entry.get("outcome") == LOST and entry.get("batch") and before != release
        if before and release and (serves != before or unsure):
            found[host] = str(before)
    return found


def instance_numbers(recorded: Mapping[str, int | None], order: Sequence[str]) -> dict[str, int]:
    """INSTANCE_NUMBER of every host (contract D5): the one that it has already, else its place in `order`, else the first free one.

    So numbers stay when hosts come and go. Of two hosts with the same number, as after cloning a machine, the first keeps it.
    """
    names = [*order, *(host for host in recorded if host not in order)]
    given: dict[str, int] = {}
    for host in names:
        number = recorded.get(host)
        if number is not None and number not in given.values():
            given[host] = number
    for place, host in enumerate(names):
        if host in given:
            continue
        taken = set(given.values())
        free = (number for number in range(len(names) + len(taken) + 1) if number not in taken)
        given[host] = place if place not in taken else next(free)
    return given


def hook_host(entries: Entries, order: Sequence[str], release: str) -> tuple[str, str]:
    """Who runs a hook that runs once per release: the host to run it on, and the host that ran it already; either may be empty."""
    for host in order:
        if (entries.get(host, {}).get("pre_run") or {}).get("ok"):
            return "", str(entries[host]["pre_run"].get("host") or host)
    for host in order:
        entry = entries.get(host, {})
        same = deployment_of(str(entry.get("release") or "")) == deployment_of(release)
        if entry.get("action") in ("build", "switch") and same and not entry.get("outcome"):
            return host, ""
    return "", ""


def deployment_of(release: str) -> str:
    """The part of a release's id that all hosts of a deployment share."""
    return release[:DEPLOYMENT_DIGITS]


def own_release(releases: Mapping[str, str], name: str) -> str:
    """The release of a host that `name` means: the one of this id, else the latest good one of the same deployment; "" for none.

    `releases` is result by id, oldest first. The first eight digits of an id name the deployment itself.
    """
    same = [each for each in releases if deployment_of(each) == deployment_of(name)]
    good = [each for each in same if releases[each] == "good"]
    return name if name in releases else next(reversed(good or same), "")


def rollback_targets(
    entries: Entries, order: Sequence[str], release: str = "", *, force: bool = False
) -> tuple[dict[str, str], list[Finding]]:
    """To which release each host goes back: `release`, or the previous one, which must then be the same on all hosts.

    A host that serves `release` already has nothing to do and is left out. A release that failed is taken with `force` only. Hosts
    with different accelerators have different releases of one deployment, and each goes to its own.
    """
    known = {host: entries[host] for host in order if host in entries and entries[host].get("outcome") != LOST}
    if release:
        own = {host: own_release(entry.get("releases") or {}, release) for host, entry in known.items()}
        going = {host: own[host] for host, entry in known.items() if not _serves(entry, own[host] or release)}
        unknown = [host for host, name in going.items() if not name]
        if unknown:
            return {}, [finding("rollback_unknown", "app_release", release, hosts=_names(unknown))]
        bad = [host for host, name in going.items() if known[host]["releases"][name] != "good"]
        if bad and not force:
            return {}, [finding("rollback_to_failed", "app_release", release, hosts=_names(bad))]
        return going, []
    previous = {host: str(entry.get("previous") or "") for host, entry in known.items()}
    if len({deployment_of(name) for name in previous.values()}) > 1:
        groups: dict[str, list[str]] = {}
        for host, name in previous.items():
            groups.setdefault(name or "none", []).append(host)
        value = "; ".join(f"{name}: {_names(hosts)}" for name, hosts in groups.items())
        return {}, [finding("rollback_ambiguous", "app_release", value)]
    lacking = [host for host, name in previous.items() if not name]
    if lacking:
        return {}, [finding("rollback_impossible", "app_release", release, hosts=_names(lacking))]
    return previous, []


def _serves(entry: Entry, release: str) -> bool:
    # A lease that is there before ours is that of a run which never ended: something may be left to do all the same.
    return bool(entry.get("current") == release and entry.get("serving") and not entry.get("lease"))


def broke(entry: Entry, how: str) -> bool:
    """Whether the rollout failed on a host of the outcome `how`. One that went back afterwards has words about its failure."""
    return how in BROKEN or (how == ROLLED_BACK and bool(entry.get("message")))


def report(entries: Entries, run: Mapping[str, Any]) -> dict[str, Any]:
    """What a rollout did, for stats, workflows and people; holds no secret.

    `outcome` is `unchanged`, `planned` (in check mode), `succeeded`, `partial` (failures within the budget), `rolled_back` (it failed,
    and what served before serves everywhere), or `failed` (it failed, and hosts may serve different releases).
    """
    order = list(run.get("hosts") or entries)
    hosts: dict[str, dict[str, Any]] = {}
    for host in order:
        entry = entries.get(host, {})
        phases = [phase for phase in entry.get("phases") or [] if phase.get("ended")]
        hosts[host] = {
            "outcome": outcome(entry, run),
            "before": entry.get("before") or entry.get("current"),
            "after": entry.get("serves") or entry.get("current"),
            "message": entry.get("message") or "",
            "seconds": round(sum(phase["ended"] - phase["started"] for phase in phases), 2),
        }
    found = {each["outcome"] for each in hosts.values()}
    broken = [host for host, each in hosts.items() if broke(entries.get(host, {}), each["outcome"])]
    if run.get("stopped"):
        mixed = to_revert(entries, order) or found & {ROLLBACK_FAILED, SWITCHED}
        whole = "failed" if mixed else "rolled_back"
    elif broken:
        whole = "partial"
    else:
        whole = PLANNED if PLANNED in found else "succeeded" if SWITCHED in found else "unchanged"
    releases = {str(entries[host].get("release")) for host in order if entries.get(host, {}).get("release")}
    deployments = {deployment_of(release) for release in releases}
    return {
        "app": run.get("app", ""),
        "what": run.get("what", ""),
        "release": releases.pop() if len(releases) == 1 else deployments.pop() if len(deployments) == 1 else "",
        "run": run.get("run", ""),
        "outcome": whole,
        "why": run.get("stopped") or "",
        "failed": broken,
        "hosts": hosts,
    }


def outcome(entry: Entry, run: Mapping[str, Any]) -> str:
    """The outcome of one host, of one that was not come to as well; `planned` in check mode, which switches nothing."""
    if entry.get("outcome"):
        return str(entry["outcome"])
    if entry.get("action") == "none":
        return UNCHANGED
    if run.get("check"):
        return PLANNED
    return STOPPED if run.get("stopped") else LOST


def _names(hosts: Iterable[str], most: int = 5) -> str:
    names = list(hosts)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
