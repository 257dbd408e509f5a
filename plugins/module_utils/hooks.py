# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks of a deployment (B6, D8): shell texts that run at fixed points of it."""

from __future__ import annotations

from collections.abc import Mapping

VARIABLES: dict[str, str] = {
    "pre_build": "CC_PRE_BUILD_HOOK",
    "post_build": "CC_POST_BUILD_HOOK",
    "pre_run": "CC_PRE_RUN_HOOK",
    "run_succeeded": "CC_RUN_SUCCEEDED_HOOK",
    "run_failed": "CC_RUN_FAILED_HOOK",
}


def read_hooks(env: Mapping[str, str]) -> dict[str, str | None]:
    """All five hooks by name; None for one that is not set or blank. The text is what bash gets, unchanged."""
    return {name: env[variable] if env.get(variable, "").strip() else None for name, variable in VARIABLES.items()}
