# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan's fixture."""

from __future__ import annotations

import pytest

from .support import Plan, ask


@pytest.fixture
def plan() -> Plan:
    """`plan(env, app=…, host=…, files=…, texts=…, today=…)`."""
    return ask
