# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A journal as a rollout leaves it, for tests of the report: the third of four batches fails, and what had switched goes back.

`python -m ansible_collections.pyfleet.runtime.tests.unit.fleet.report_sample FILE [HOSTS]` writes a report to look at.
"""

from __future__ import annotations

import random
import sys
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.plugin_utils import report

STARTED = 1_795_195_800.0  # 2026-11-20 17:30:00 UTC
RELEASE, BEFORE = "7f3a91c0d2e4", "b81e5570aa19"
COMMIT, BEFORE_COMMIT = "4be1d7c09fa6b1e2a3d4c5f60718293a4b5c6d7e", "90c2f6e1b7d8a9f0c1b2d3e4f5061728394a5b6c"
UNHEALTHY = """\
Health check failed:
- GET /health/database returned 503.
If the deployment fails after this message, please update your configuration and redeploy.
Last words of app-shop@7f3a91c0d2e4.service:
  File "/srv/pyfleet/shop/releases/7f3a91c0d2e4/shop/database.py", line 41, in connect
    raise PoolTimeout(f"no connection within {seconds} s")
shop.database.PoolTimeout: no connection within 5 s"""
LOST = "The connection to the host was lost: Connection timed out during banner exchange. What it serves is not known."
OLD_PYTHON = (
    "CC_PYTHON_VERSION=3.11: support for Python 3.11 ends on 2027-10-31. Next step: set CC_PYTHON_VERSION=3.13."
)

Entry = dict[str, Any]


def rollout(hosts: int = 12, seed: int = 5) -> tuple[Entry, dict[str, Entry]]:
    """`run` and `entries` of a failed rollout: a canary, then batches of a third; the third batch fails. The same for the same seed."""
    rng = random.Random(seed)
    names = [f"web-{number:02d}.{'fra' if number % 2 else 'ams'}.example.com" for number in range(1, hosts + 1)]
    run: Entry = {
        "app": "shop", "what": "deploy", "run": "5c0ffee15bad", "holder": "ada@deploy-1", "started": STARTED, "hosts": names,
        "budget": 0, "serial": ["1", "34%"], "release": RELEASE, "commit": COMMIT, "before_commit": BEFORE_COMMIT, "outcome": "failed",
    }  # fmt: skip
    entries: dict[str, Entry] = {}
    for number, name in enumerate(names):
        entries[name] = {
            "host": name, "kind": "debian-12-x86_64", "action": "switch", "release": RELEASE, "before": BEFORE,
            "before_previous": "2d90aa7741fe", "commit": COMMIT, "before_commit": BEFORE_COMMIT, "version": "2.14.0",
            "before_version": "2.13.2", "mode": "uv", "phases": [],
            "warnings": [OLD_PYTHON] if number % 5 == 1 else [], "instance_number": number, "leased": False,
        }  # fmt: skip

    def spend(group: list[str], phase: str, at: float, low: float, high: float) -> float:
        """A phase of some hosts, which start together; when the last one is done."""
        ends = [at]
        for name in group:
            took = rng.uniform(low, high)
            begun = at + rng.uniform(0, 0.3)
            entries[name]["phases"].append(
                {"name": phase, "started": begun, "ended": begun + took, "ok": True, "words": ""}
            )
            ends.append(begun + took)
        return max(ends)

    def fail(name: str, outcome: str, words: str) -> None:
        entries[name].update(outcome=outcome, message=words)
        entries[name]["phases"][-1].update(ok=False, words=words)

    at = STARTED + 1.1
    for phase, low, high in (("look", 0.8, 1.6), ("lease", 0.3, 0.7), ("prepare", 1.5, 3.5), ("build", 6, 14)):
        at = spend(names, phase, at, low, high) + 0.2
    at = spend(names[:1], "hook", at, 2, 3) + 0.2
    switched: list[str] = []
    for number, batch in enumerate(report.batches(names, run["serial"])):
        if number > 2:
            break
        for name in batch:
            entries[name]["batch"] = batch[0]
        for phase, low, high in (("drain", 1, 2), ("switch", 3, 6)):
            at = spend(batch, phase, at, low, high) + 0.1
        good = batch
        if number == 2:
            for name in batch[:2]:
                fail(name, "failed", UNHEALTHY)
                entries[name]["log"] = ["Response from GET /health is 200", "Response from GET /health/database is 503"]
            for name in batch[2:3]:
                fail(name, "lost", LOST)
            good = batch[3:]
        at = spend(good, "undrain", at, 0.5, 1) + 0.2
        for name in good:
            entries[name].update(outcome="switched", serves=RELEASE, gap_seconds=0.0)
            entries[name]["log"] = ["Response from GET /health is 200", "Response from GET /health/database is 200"]
            switched.append(name)
    at = spend(switched, "revert", at, 1.5, 3) + 0.2
    for name in switched:
        entries[name].update(outcome="rolled_back", serves=BEFORE)
    entries[switched[0]]["gap_seconds"] = 1.37
    fail(
        switched[-1],
        "rollback_failed",
        "Release b81e5570aa19 does not start any more: Failed to bind to port 18080: Address already in use.",
    )
    at = spend([name for name in names if entries[name].get("outcome") != "lost"], "finish", at, 0.5, 1.2)
    bad = [name for name, entry in entries.items() if entry.get("outcome") in {"failed", "lost"}]
    run["stopped"] = f"{len(bad)} of {hosts} hosts failed ({', '.join(bad)}), and 0 may."
    run["ended"] = at + 0.5
    return run, entries


def bare() -> tuple[Entry, dict[str, Entry]]:
    """A run of which the journal hardly knows anything: a host that was lost at once, and one that left no entry."""
    run = {"app": "shop", "what": "deploy", "started": STARTED, "hosts": ["gone", "silent"], "serial": [1, "50%"]}
    return run, {"gone": {"host": "gone", "outcome": "lost", "message": LOST}}


if __name__ == "__main__":
    print(report.write(sys.argv[1], *rollout(*map(int, sys.argv[2:3]))) or "written")
