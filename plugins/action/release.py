# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands the release module what only the controller has: the plan's payload and the source's archive."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.action.plan import make
from ansible_collections.pyfleet.runtime.plugins.module_utils.shipping import RECEIVER
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.deployment import (
    Deployment,
    DeploymentError,
    FlowFiles,
    ServerFiles,
    flow_key,
    nginx_key,
)
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.journal import run_id
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.rendering import RenderingAction
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.rolling import ALONE, Rolling, is_dead
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.ship import for_receiver

#: A source up to this size, in bytes, travels inside the module's arguments: one round trip instead of four.
INLINE_LIMIT = 384 * 1024
#: The files of each hop, and the templates of role request_flow that they come from. A VCL belongs to the release instead.
HOP_FILES: dict[str, dict[str, str]] = {
    "otoroshi-challenge": {"haproxy.cfg": "otoroshi-challenge.cfg.j2"},
    "block": {"haproxy.cfg": "block.cfg.j2"},
    "varnish": {"environment": "varnish.environment.j2"},
    "custom": {"run": "custom.run.j2", "environment": "custom.environment.j2"},
    "oauth2-proxy": {"run": "oauth2-proxy.run.j2", "environment": "oauth2-proxy.environment.j2"},
    "redirectionio": {"run": "redirectionio.run.j2", "agent.yml": "redirectionio.agent.yml.j2"},
}


def _refused(rolling: Rolling) -> str:
    """What this host says when another run holds it, or another host of this run."""
    refusals = rolling.refusals()
    if rolling.host in refusals:
        return refusals[rolling.host]
    host, words = next(iter(refusals.items()))
    return f"Nothing has changed, because another run holds {host}.\n{words}"


class ActionModule(RenderingAction):
    """The task `pyfleet.runtime.release`."""

    #: A temporary folder is made only for a large source: each of its commands is a round trip.
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Runs the module, as a part of the rollout where there is one; the journal knows what the playbook does not say."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        state = str(arguments.get("state") or "active")
        rolling = Rolling(
            str(arguments.get("name")), str(variables.get("inventory_hostname")), check_mode=self._task.check_mode
        )
        why = rolling.skips(state)
        if why:
            return {**result, "changed": False, "skipped": True, "skip_reason": why}
        if rolling.active:
            arguments["lease"] = rolling.lease(state)
            arguments.setdefault("release", rolling.entry.get("release"))
            if state == "hooked" or arguments.get("pre_run") == "elsewhere":
                arguments["pre_run_host"] = rolling.hook_host()

        def execute() -> dict[str, Any]:
            if state == "prepared":
                return self._prepare(arguments, variables, rolling)
            answer: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=variables)
            return answer

        answer = rolling.run_module(state, execute, withdraw=bool(arguments.get("withdraw")))
        held = answer.get("held_by") or {}
        # No rollout, so nobody has looked who holds the host; what a dead run holds is not in the way here, either.
        named = bool(held) and held.get("run") == str(variables.get("app_lease_takeover") or "")
        if state in ALONE and held and (named or is_dead(held.get("controller") or {})):
            arguments["lease"] = {"run": run_id(), "takeover": held["run"]}
            answer = execute()
        if state == "let_go" and not answer.get("failed"):
            answer = {**answer, "failed": True, "msg": _refused(rolling)}
        return {**result, **answer}

    def _prepare(self, arguments: dict[str, Any], variables: dict[str, Any], rolling: Rolling) -> dict[str, Any]:
        """Uploads the source first when it is large."""
        described = arguments.pop("deployment", None)
        templates = arguments.pop("server", None)
        try:
            number = rolling.entry.get("instance_number")
            made = make(described, check_mode=self._task.check_mode, number=number, builds=True)
        except DeploymentError as error:
            return {"failed": True, "msg": str(error)}
        if (rolling.entry.get("ship") or {}).get("role") == RECEIVER:
            made = for_receiver(made)
        files = self._server_files(made, templates, variables) if templates and made.plan["server"] else None
        flow = self._flow_files(made, variables) if made.plan["chain"]["active"] else None
        arguments.update(release=made.release, payload=made.payload(files, flow), user=made.settings["user"])
        if self._task.check_mode:
            pass
        elif made.source.size <= INLINE_LIMIT:
            arguments["archive_content"] = base64.b64encode(Path(made.source.archive).read_bytes()).decode()
        else:
            folder = self._make_tmp_path()
            arguments["archive"] = self._connection._shell.join_path(folder, "source.tar.gz")
            self._transfer_file(made.source.archive, arguments["archive"])
            self._fixup_perms2([folder, arguments["archive"]])
        try:
            answer: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=variables)
            return answer
        finally:
            if "archive" in arguments:
                self._remove_tmp_path(os.path.dirname(arguments["archive"]), force=True)

    def _flow_files(self, made: Deployment, variables: dict[str, Any]) -> FlowFiles:
        """Renders the hops of the chain, still without ports, and their units."""
        name = made.settings["name"]
        folder = Path(__file__).parent.parent.parent / "roles" / "request_flow" / "templates"
        files: dict[str, str] = {}
        units: dict[str, str] = {}
        for index, hop in enumerate(made.plan["chain"]["hops"]):
            service = hop["service"]
            place = f"{index}-{service}"
            more = {
                "plan": made.plan,
                "flow": made.plan["chain"]["settings"].get(service, {}),
                "hop": {"index": index, **hop},
                "flow_dir": f"/etc/pyfleet/{name}/flow@%i/{place}",
            }
            for file, template in HOP_FILES[service].items():
                files[f"{place}/{file}"] = self.render(str(folder / template), "", variables, more)
            unit = self.render(str(folder / f"{service}.service.j2"), "", variables, more)
            units[f"app-{name}-flow-{place}@.service"] = unit
        return FlowFiles(flow_key(made.settings, files, units), files, units)

    def _server_files(
        self, made: Deployment, templates: Mapping[str, Any], variables: dict[str, Any]
    ) -> ServerFiles | None:
        """Renders what legacy mode needs besides: the backend's settings, Nginx's, and the units of both."""
        server = made.plan["server"]
        name = made.settings["name"]
        folder = f"/etc/pyfleet/{name}"
        more = {
            "plan": made.plan,
            "server": server,
            "nginx": server["nginx"],
            "release": made.release,
            "app_dir": os.path.join(made.settings["root"], name),
            "settings_dir": f"{folder}/{made.release}",
        }

        def text(template: str, nginx_dir: str = "") -> str:
            return self.render(template, "", variables, {**more, "nginx_dir": nginx_dir})

        key = nginx_key(made.settings, server, text(templates["nginx"], "@NGINX_DIR@"))
        files = {
            f"units/app-{name}@.socket": text(templates["units"]["socket"]),
            f"units/app-{name}-nginx@.service": text(templates["units"]["nginx"]),
        }
        if server["backend"] == "uwsgi":
            files["server.ini"] = text(templates["uwsgi"])
        elif server["backend"] == "gunicorn":
            files["server.py"] = text(templates["gunicorn"])
        return ServerFiles(key, text(templates["nginx"], f"{folder}/nginx-{key}"), files)
