# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark of the options of a sync prints."""

from __future__ import annotations

from ansible_collections.pyfleet.runtime.tests.benchmark import sync


def row(build: float, mb: float = 12.8) -> dict[str, float]:
    return {"build": build, "first": 1.5, "second": 0.4, "mb": mb, "rebuild": 0.1, "restart": 0.5}


def test_a_cell_is_the_median_and_how_far_the_repetitions_lie_apart() -> None:
    assert sync.cell([0.3, 0.1, 0.111], 2) == "0.11 (0.10–0.30)"
    assert sync.cell([12.8, 12.9], 0) == "13"


def test_the_table_has_a_row_per_way() -> None:
    lines = sync.table({"copy": [row(1.0), row(3.0), row(2.0)], "clone": [row(0.5)]})
    assert lines[2] == "| copy | 2.00 (1.00–3.00) | 1.50 | 0.40 | 13 | 0.10 | 0.50 |"
    assert lines[3].startswith("| clone | 0.50 | ")
    assert sync.image_table({"one": [row(9.0, 252.4)]})[2] == "| one | 9.0 | 0.1 | 252 |"


def test_one_way_is_what_the_role_does_by_default() -> None:
    first = sync.WAYS[0][1]
    assert first == {"prefix": True}
