# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module of the same name as a phase of a rollout, where there is one."""

from __future__ import annotations

from ansible_collections.pyfleet.runtime.plugins.plugin_utils.rolling import BuildAction


class ActionModule(BuildAction):
    """The task `pyfleet.runtime.uv_sync`."""
