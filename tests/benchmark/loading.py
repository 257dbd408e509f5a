# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic of `flow.py`: what wrk and a host say, medians, shares, the table. No I/O."""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Mapping, Sequence

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60000.0}
_PERCENTILE = re.compile(r"^\s+(50|99)%\s+([0-9.]+)(us|ms|s|m) *$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Load:
    """What wrk measured once: requests per second, and the time of an answer in milliseconds."""

    rate: float
    median: float
    p99: float


def parse(report: str) -> Load:
    """Reads a report of `wrk --latency`.

    Raises:
        ValueError: requests failed, or it is no such report.
    """
    rate = re.search(r"^Requests/sec:\s+([0-9.]+)$", report, re.MULTILINE)
    times = {share: float(value) * _UNITS[unit] for share, value, unit in _PERCENTILE.findall(report)}
    if rate is None or set(times) != {"50", "99"}:
        raise ValueError(f"wrk did not report:\n{report}")
    if re.search(r"Socket errors|Non-2xx", report):
        raise ValueError(f"requests failed, so there is nothing to measure:\n{report}")
    return Load(float(rate[1]), times["50"], times["99"])


def memory(listing: str) -> dict[str, float]:
    """MB by service, from lines of the service and the kB that one of its processes holds."""
    found: dict[str, int] = {}
    for line in listing.splitlines():
        service, size = line.split()
        found[service] = found.get(service, 0) + int(size)
    return {service: size / 1024 for service, size in found.items()}


@dataclasses.dataclass(frozen=True)
class Row:
    """One way to the application, in the order of the repetitions: `busy` with many connections, `calm` with one.

    `hops` are the services of the chain with the memory of each in MB.
    """

    title: str
    busy: Sequence[Load]
    calm: Sequence[Load]
    hops: Mapping[str, float]

    def share(self, direct: Row) -> float:
        """Our requests per second over those without a chain: the median of the repetitions' ratios, which ran side by side."""
        pairs = zip(self.busy, direct.busy, strict=True)
        return statistics.median(mine.rate / theirs.rate for mine, theirs in pairs)

    def median(self, kind: str, figure: str) -> float:
        """The median over the repetitions of one figure, of the `busy` or the `calm` ones."""
        return float(statistics.median(getattr(load, figure) for load in getattr(self, kind)))


def table(rows: Sequence[Row]) -> list[str]:
    """The table for a terminal (it is Markdown, too). The first row is the application without a chain."""
    head = ["way", "requests/s", "of direct", "p99 ms", "alone: median ms", "alone: p99 ms", "memory of the hops, MB"]
    lines = [head, ["---", *["---:"] * 5, "---"]]
    for row in rows:
        hops = ", ".join(f"{service} {size:.0f}" for service, size in row.hops.items())
        lines.append(
            [
                row.title,
                f"{row.median('busy', 'rate'):.0f}",
                f"{row.share(rows[0]):.2f}",
                f"{row.median('busy', 'p99'):.1f}",
                f"{row.median('calm', 'median'):.2f}",
                f"{row.median('calm', 'p99'):.2f}",
                hops or "–",
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
