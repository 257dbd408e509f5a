# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host tests share a lane is the same in every run."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.pyfleet.runtime.tests import lanes

TESTS = Path(lanes.__file__).parent
FILES = [
    path.stem for folder in ("hosts_e2e", "browser", "terminal") for path in sorted((TESTS / folder).glob("test_*.py"))
]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_file_has_a_lane_and_no_lane_has_much_more_than_another(count: int) -> None:
    lane = lanes.assigned(FILES, count)
    assert sorted(lane) == sorted(FILES)
    load = [sum(lanes.MINUTES.get(name, 1.0) for name in FILES if lane[name] == number) for number in range(count)]
    assert max(load) - min(load) <= 1.0
    assert lane == lanes.assigned(list(FILES), count)


def test_the_longest_files_do_not_share_a_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "MINUTES", {"c": 5.0, "d": 4.0})
    assert lanes.assigned(["a", "b", "c", "d"], 2) == {"c": 0, "d": 1, "a": 1, "b": 0}


def test_what_is_known_of_files_is_of_files_that_there_are() -> None:
    assert set(lanes.MINUTES) <= set(FILES)
    assert lanes.MINUTES


def test_a_file_is_known_by_its_name() -> None:
    assert lanes.file_of("tests/hosts_e2e/test_ship.py::test_a[x::y/z.py]") == "test_ship"
