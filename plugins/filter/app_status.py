# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders what `app_info` knows of an application for a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

DOCUMENTATION = r"""
name: app_status
author: pyfleet contributors (@pyfleet)
version_added: "0.1.0"
short_description: Renders the state of an application for a person
description: Turns the C(app) part of the result of M(pyfleet.runtime.app_info#module) into lines of text.
positional: name
options:
  _input:
    description: The C(app) part of the result.
    type: dict
    required: true
  name:
    description: Name of the application.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Report
  ansible.builtin.debug:
    msg: "{{ shop.app | pyfleet.runtime.app_status('shop') }}"
"""

RETURN = r"""
_value:
  description: One line per fact, then one per release.
  type: list
  elements: str
"""


def _when(seconds: object) -> str:
    if not isinstance(seconds, (int, float)):
        return "never"
    return datetime.fromtimestamp(seconds, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def app_status(app: Mapping[str, Any], name: str) -> list[str]:
    """Returns release, commit, mode, health and since when, then the units and the releases that exist."""
    current = app.get("current")
    if not current:
        return [f"{name}: not deployed"]
    releases = app.get("releases") or {}
    facts = releases.get(current, {})
    units = app.get("units") or {}
    # Celery alone has no server of its own, only Nginx.
    own = f"app-{name}@{current}.service"
    unit: Mapping[str, Any] = units.get(own) or next((units[each] for each in sorted(units) if "-nginx@" in each), {})
    health = app.get("health")
    if app.get("task"):
        verdict = "a task, which ran to its end"
    elif not app.get("serving"):
        verdict = "DOWN, the unit is " + str(unit.get("active") or "not loaded")
    elif health is None:
        verdict = "not asked"
    else:
        verdict = "healthy" if health["ok"] else "UNHEALTHY"
    lines = [
        f"{name}: {verdict}",
        f"release {current}, commit {facts.get('commit') or 'unknown'}, mode {app.get('mode')}"
        + (f", backend {app['backend']}" if app.get("backend") else "")
        + (f", accelerator {app['accelerator']}" if app.get("accelerator") else ""),
        f"port {app.get('public_port')} leads to {app.get('port')}, switch {app.get('switch')}",
        f"serving since {_when(facts.get('activated_at'))}; unit {unit.get('active', 'unknown')} since "
        f"{unit.get('since') or 'unknown'}, {unit.get('restarts', 0)} restarts",
    ]
    lines += [f"  {line}" for line in (health or {}).get("log", [])]
    for hop in app.get("hops") or []:
        lines.append(f"hop {hop['service']}: {'alive' if hop['active'] else 'DOWN'} ({hop['unit']})")
    for other, state in sorted(units.items()):
        if "-worker@" in other or "-nginx@" in other:
            lines.append(f"{other}: {state['active']}, {state['restarts']} restarts")
    for release, known in sorted(releases.items(), key=lambda item: -float(item[1].get("prepared_at") or 0)):
        role = {current: " (current)", app.get("previous"): " (previous)"}.get(release, "")
        why = f": {known['why']}" if known.get("why") else ""
        lines.append(f"{release}{role} {known.get('result')}{why}, prepared {_when(known.get('prepared_at'))}")
    return lines


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Returns the filters by name."""
        return {"app_status": app_status}
