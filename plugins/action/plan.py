# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the deployment plan on the controller; no host is touched."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import yaml
from ansible import constants
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import SECRET, finding, from_dict
from ansible_collections.pyfleet.runtime.plugins.module_utils.rollout import LOST, deployment_of, instance_numbers
from ansible_collections.pyfleet.runtime.plugins.plugin_utils import ship
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.deployment import Deployment, DeploymentError, deployment
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.indexes import TokenError, token
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.journal import Journal

#: The value of app_instance_number that lets the collection number the hosts; ansible-core 2.18 makes texts of numbers in templates.
AUTOMATIC = "-1"


def make(arguments: dict[str, Any], *, check_mode: bool, number: int | None = None, builds: bool = False) -> Deployment:
    """Makes the deployment that `arguments` describe; the source's archive is shared by all hosts of the run.

    `number` is the host's INSTANCE_NUMBER where the settings leave it to us. With `builds` the deployment is meant: tokens of indexes
    are fetched where the host has something to build.
    """
    settings = dict(arguments["settings"])
    if str(settings.get("instance_number")) == AUTOMATIC:
        settings["instance_number"] = number or 0
    env = _mapping(arguments.get("env"), "app_env", "{NAME: value}")
    # In maintenance a blocking service answers on the public port, and the application stays as it is behind it (F6).
    if boolean(settings.pop("maintenance", False), strict=False):
        env["CC_REQUEST_FLOW"] = "block"
    source = arguments.get("source")
    cache = os.path.join(constants.DEFAULT_LOCAL_TMP, "pyfleet-sources")
    made = deployment(
        settings,
        env,
        _mapping(source, "app_source", "{path: ./shop}") if isinstance(source, str) else source,
        arguments.get("info") or {},
        cache=cache,
        check_mode=check_mode,
    )
    return with_tokens(made, cache) if builds and not check_mode and made.action == "build" else made


def with_tokens(made: Deployment, cache: str) -> Deployment:
    """The deployment with the tokens that its build needs (H2). Raises DeploymentError with all that could not be fetched."""
    tokens: dict[str, str] = {}
    findings = []
    for variable, (index, command) in made.plan["build"]["tokens"].items():
        try:
            tokens[variable] = token("app_indexes", index, command, cache)
        except TokenError as error:  # noqa: PERF203 - all that is wrong at once
            findings.append(error.finding)
    if findings:
        raise DeploymentError(findings)
    build = {**made.plan["build"], "environment": {**made.plan["build"]["environment"], **tokens}}
    return dataclasses.replace(made, plan={**made.plan, "build": build})


def _mapping(value: Any, variable: str, example: str) -> dict[str, Any]:
    """A mapping, which a survey of AWX can only give as the text of one."""
    given = value
    if isinstance(value, str):
        try:
            given = yaml.safe_load(value)
        except yaml.YAMLError:
            given = value
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        expected = "a mapping, or one as YAML text"
        raise DeploymentError([finding("option_invalid", variable, SECRET, expected=expected, example=example)])
    return dict(given)


class ActionModule(ActionBase):
    """The task `pyfleet.runtime.plan`."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(("settings", "env", "source", "info", "show"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns the public part of the plan, or fails with every finding at once."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        host = str(variables.get("inventory_hostname", ""))
        info = self._task.args.get("info") or {}
        if info.get("lost"):
            shown = bool(self._task.args.get("show"))
            return {**result, "failed": shown, "action": LOST, "plan": {}, "msg": str(info.get("msg", ""))}
        journal = Journal.of(str(self._task.args["settings"]["name"]))
        try:
            number = self._number(journal, host, variables)
            shown = bool(self._task.args.get("show"))
            made = make(self._task.args, check_mode=self._task.check_mode, number=number, builds=not shown)
        except DeploymentError as error:
            codes = [finding.code for finding in error.findings]
            return {**result, "failed": True, "msg": str(error), "codes": codes}
        warnings = [from_dict(item).render() for item in made.plan["warnings"]]
        shipping = self._task.args["settings"].get("shipping") or {}
        facts = ship.facts(made, str(shipping.get("cache_dir") or "")) if shipping.get("once") else {}
        journal.note(host, **_facts(made), ship=facts, instance_number=number, warnings=warnings)
        if self._task.args.get("show"):
            self._display.display(made.text(host))
        return {**result, **made.public(), "changed": False, "text": made.text(host), "warnings": warnings}

    def _number(self, journal: Journal, host: str, variables: dict[str, Any]) -> int:
        """INSTANCE_NUMBER (contract D5): as given, or the one that the host has, or a free one."""
        given = self._task.args["settings"].get("instance_number")
        if str(given) != AUTOMATIC:
            return int(given) if str(given).isdecimal() else 0
        recorded = {name: entry.get("recorded_number") for name, entry in journal.entries().items()}
        groups = variables.get("groups") or {}
        order = [*(groups.get("python_hosts") or []), *variables.get("ansible_play_hosts_all", [])]
        return instance_numbers(recorded, list(dict.fromkeys([*order, host])))[host]


def _facts(made: Deployment) -> dict[str, Any]:
    """What the journal wants to know of a plan; no secret."""
    host, plan, releases = made.host, made.plan, made.state.get("releases") or {}
    current = made.state.get("current")
    version = (plan.get("python") or {}).get("version") or ""
    kind = f"{host.get('architecture')} {host.get('distribution')} {host.get('release')} python {version}".strip()
    accelerator = plan["build"]["accelerator"]["name"]
    # What ran once ran for a deployment: a release that new hardware makes of the same inputs does not migrate again.
    same = [each for name, each in releases.items() if deployment_of(name) == deployment_of(made.release)]
    ran = [each["pre_run"] for each in same if (each.get("pre_run") or {}).get("ok")]
    return {
        "action": made.action,
        "release": made.release,
        "before": current,
        "before_previous": made.state.get("previous"),
        "commit": made.source.commit,
        "before_commit": (releases.get(current) or {}).get("commit", ""),
        "mode": plan["mode"],
        "kind": f"{kind} {accelerator}".strip(),
        "pre_run": (releases.get(made.release) or {}).get("pre_run") or (ran[0] if ran else {}),
    }
