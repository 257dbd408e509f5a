# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An index that asks for credentials."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ansible_collections.pyfleet.runtime.tests.stand_ins import index as stand_in


@pytest.fixture
def index() -> Iterator[Callable[[Path], str]]:
    """Serves a folder with a folder of wheels for each package; returns the address, without the credentials `deploy:s3cret`."""
    with ExitStack() as stack:

        def serve(folder: Path) -> str:
            return stack.enter_context(stand_in.serving(folder, "127.0.0.1", "deploy", "s3cret")).url

        yield serve
