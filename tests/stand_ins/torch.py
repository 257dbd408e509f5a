# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for PyTorch: wheels of its name and version, one per accelerator, in the layout of its indexes.

The real builds have gigabytes, and lie on an index of their own. These know which build they are and multiply matrices; no
accelerator takes part.
"""

from __future__ import annotations

from pathlib import Path

from ansible_collections.pyfleet.runtime.tests.unit.uv.toys import make_wheel

VERSION = "2.9.1"
CODE = """

class tensor:
    def __init__(self, rows):
        self.rows = rows

    def tolist(self):
        return self.rows


def matmul(left, right):
    columns = list(zip(*right.rows))
    return tensor([[sum(a * b for a, b in zip(row, column)) for column in columns] for row in left.rows])


class cuda:
    @staticmethod
    def is_available():
        return False
"""


def make_indexes(folder: Path, *builds: str) -> Path:
    """Writes `whl/BUILD/torch/` with one wheel and the page that lists it (PEP 503), for a web server that serves files."""
    for build in builds:
        place = folder / "whl" / build / "torch"
        wheel = make_wheel(place, "torch", f"{VERSION}+{build}", code=CODE)
        link = f'<a href="{wheel.name.replace("+", "%2B")}">{wheel.name}</a>'
        (place / "index.html").write_text(f"<!DOCTYPE html><html><body>{link}</body></html>\n", encoding="utf-8")
    return folder
