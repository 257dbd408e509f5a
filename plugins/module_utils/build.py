# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build phase (B1-B3 of uv mode, B8 of both modes)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import (
    DROPPED_FROM_APPLICATION,
    has_credentials,
    is_basic_auth,
    secret_values,
    show,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import SECRET, Finding, finding

_NAMES_EXTRAS = re.compile(r"--(all-extras|no-extra|extra)(=|\Z)")
DEFAULT_FLAGS = ("--locked", "--no-progress", "--no-dev")


def is_development(env: Mapping[str, str]) -> bool:
    """B2: whether development dependencies belong to the application."""
    return env.get("ENVIRONMENT", "").strip() == "development"


def sync_argv(env: Mapping[str, str], extras: Sequence[str] = ()) -> tuple[list[str], list[Finding]]:
    """B1-B3: the arguments of uv, beginning with `sync`; H3: `extras` come last."""
    findings: list[Finding] = []
    environment = env.get("ENVIRONMENT", "").strip()
    if environment not in ("", "production", "development"):
        findings.append(finding("environment_unknown", "ENVIRONMENT", environment))
    flags = [flag for flag in DEFAULT_FLAGS if not (flag == "--no-dev" and is_development(env))]
    text = env.get("CC_PYTHON_UV_SYNC_FLAGS")
    # Set but blank is a choice too: `uv sync` without any flag would update the lock; the default is what was meant.
    if text is not None and text.strip():
        variable = "CC_PYTHON_UV_SYNC_FLAGS"
        try:
            flags = shlex.split(text)
        except ValueError:
            findings.append(
                finding(
                    "sync_flags_invalid",
                    variable,
                    show(variable, text, secret_values(env)),
                    why="a quote is not closed, or it ends in a lone backslash",
                )
            )
        if has_credentials(text):
            findings.append(finding("sync_flags_credentials", variable, SECRET))
        if extras and any(_NAMES_EXTRAS.match(flag) for flag in flags):
            findings.append(finding("extras_in_flags", "app_extras or app_accelerator", ", ".join(extras)))
    return ["sync", *flags, *(part for extra in extras for part in ("--extra", extra))], findings


def build_environment(
    env: Mapping[str, str], platform: Mapping[str, str], home: str, python_request: str | None, uv_mode: bool = True
) -> dict[str, str]:
    """B8: the application's environment, credentials of indexes included, plus the platform's. uv_sync itself sees to it that
    the environment is built at the project's .venv."""
    result = {
        name: value
        for name, value in env.items()
        if name not in DROPPED_FROM_APPLICATION and (uv_mode or not is_basic_auth(name))
    }
    result.setdefault("HOME", home)
    result.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    result.update(platform)
    result["INSTANCE_TYPE"] = "build"
    if python_request:
        result["UV_PYTHON"] = python_request
    return result
