# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a whole module in this process: JSON arguments in, JSON result out, as Ansible does it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any
from unittest import mock

from ansible.module_utils import basic


def run_module(
    main: Callable[[], None], *, check: bool = False, diff: bool = False, **arguments: Any
) -> dict[str, Any]:
    """Calls the module's `main` and returns its result; what it printed is under `raw`."""
    arguments.update(_ansible_check_mode=check, _ansible_diff=diff, _ansible_no_log=False)
    before = getattr(basic, "_ANSIBLE_ARGS", None), getattr(basic, "_ANSIBLE_PROFILE", None)
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    output = io.StringIO()
    said: list[str] = []
    # Where the controller's half of ansible-core was imported, too, warnings go to its display instead of the result.
    hear = mock.patch.object(basic.AnsibleModule, "warn", lambda _module, warning, **_more: said.append(str(warning)))
    try:
        with redirect_stdout(output), hear:
            main()
    except SystemExit:
        pass
    finally:
        basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = before
    lines = [line for line in output.getvalue().splitlines() if line.startswith("{")]
    result: dict[str, Any] = json.loads(lines[-1])
    result["raw"] = output.getvalue()
    result["warnings"] = [*result.get("warnings", []), *said]
    return result
