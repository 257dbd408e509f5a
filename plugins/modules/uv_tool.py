#!/usr/bin/python
# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: uv_tool
short_description: Install and remove command-line tools with uv
version_added: "0.1.0"
author:
  - pyfleet contributors (@pyfleet)
description:
  - Keeps tools, each in an environment of its own, in a directory that every user of the host can read, and their commands in a
    directory on everybody's C(PATH).
  - All tools of a call are handled in one round trip.
requirements:
  - uv 0.9.19 or newer on the host.
attributes:
  check_mode:
    support: full
    description: Compares what is installed with what is wanted; nothing is written.
  diff_mode:
    support: full
    description: The tools, before and after.
  platform:
    support: full
    platforms: posix
    description: Linux hosts.
options:
  tools:
    description: The tools.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the package that brings the tool.
        type: str
        required: true
      version:
        description: Exact version. Without it, any version that is installed is left alone.
        type: str
      extras:
        description: Extras of the package.
        type: list
        elements: str
        default: []
      with:
        description: Further requirements in the tool's environment, for example a plugin of C(keyring).
        type: list
        elements: str
        default: []
      python:
        description: Python of the tool's environment, as C(3.13) or C(3.13.5).
        type: str
      state:
        description: Whether the tool is there.
        type: str
        choices: [present, absent]
        default: present
  tool_dir:
    description: Directory of the tools' environments.
    type: path
    default: /opt/pyfleet/tools
  bin_dir:
    description: Directory of the tools' commands.
    type: path
    default: /usr/local/bin
  force:
    description: Replace commands in O(bin_dir) that uv did not put there.
    type: bool
    default: false
  python_install_dir:
    description: Where Pythons managed by uv lie. Used when the directory exists.
    type: path
    default: /opt/pyfleet/python
  index_credentials:
    description: Credentials by index name, each with C(username) and C(password).
    type: dict
    default: {}
  executable:
    description: The uv to use. Default C(/usr/local/bin/uv), then the first one on C(PATH).
    type: str
  cache_dir:
    description: uv's cache.
    type: path
  system_certs:
    description: Whether to trust the certificates of the host. By default uv's configuration decides.
    type: bool
  environment:
    description: Further variables for uv. Values count as secret.
    type: dict
    default: {}
  timeout:
    description: Seconds each command may take.
    type: int
    default: 1800
"""

EXAMPLES = r"""
- name: keyring with the plugin that an index wants
  pyfleet.runtime.uv_tool:
    tools:
      - name: keyring
        version: 25.6.0
        with: [keyrings.google-artifactregistry-auth==1.1.2]

- name: A tool goes
  pyfleet.runtime.uv_tool:
    tools:
      - {name: marimo, state: absent}
"""

RETURN = r"""
tools:
  description: One entry per tool, with what happened to it.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: The tool., type: str, returned: always}
    action: {description: 'One of none, install, upgrade, downgrade, reinstall and remove.', type: str, returned: always}
    from: {description: The version before., type: str, returned: always}
    to: {description: 'The version after, when known.', type: str, returned: always}
    why: {description: What differed., type: str, returned: always}
  sample: [{name: keyring, action: upgrade, from: 25.5.0, to: 25.6.0, why: version}]
commands:
  description: The exact commands, without secrets.
  returned: always
  type: list
  elements: str
dropped:
  description: Variables of the module's surroundings that would steer uv and were left out.
  returned: always
  type: list
  elements: str
uv_version:
  description: Version of uv.
  returned: when uv was found
  type: str
reason:
  description: Why it failed, as a word for programs.
  returned: on failure
  type: str
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils import uv
from ansible_collections.pyfleet.runtime.plugins.module_utils.hidden import keep_hidden
from ansible_collections.pyfleet.runtime.plugins.module_utils.uv_runner import Runner

RULE = "a tool has the version, extras, additional requirements and Python that were asked for, in tool_dir"
HEAD = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*) v(?P<version>\S+)(?P<rest>.*)$")
# uv writes some parts with a label and, last, the Python without one.
PART = re.compile(r"\[(?:(?P<label>required|extras|with): )?(?P<value>[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]")


class Tool(NamedTuple):
    """An installed tool, as `uv tool list` shows it."""

    version: str
    extras: frozenset[str]
    requirements: frozenset[str]
    python: str


class Step(NamedTuple):
    """What to do for one tool, and why."""

    name: str
    action: str
    before: str | None
    after: str | None
    why: str

    def to_dict(self) -> dict[str, str | None]:
        """The step as the module returns it."""
        return {"name": self.name, "action": self.action, "from": self.before, "to": self.after, "why": self.why}


def requirement(text: str) -> str:
    """A requirement in one spelling, to compare two."""
    match = re.match(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*([^;]*)(.*)$", text)
    if match is None:
        return text.strip()
    name, extras, specifiers, marker = match.groups()
    parts = sorted(re.sub(r"\s+", "", part) for part in specifiers.strip().strip("()").split(",") if part.strip())
    return uv.normal_name(name) + re.sub(r"\s+", "", extras or "") + ",".join(parts) + marker.strip()


def split_requirements(text: str) -> list[str]:
    """Splits a list of requirements, of which one may hold commas itself (`[a,b]`, `>=1, <2`)."""
    found: list[str] = []
    for part in re.split(r",(?![^\[]*\])", text):
        if found and re.match(r"\s*[<>=!~]", part):
            found[-1] += "," + part
        elif part.strip():
            found.append(part)
    return [requirement(part) for part in found]


def parse_list(text: str) -> dict[str, Tool]:
    """Reads `uv tool list` with everything shown. What is not a tool's head line is skipped."""
    tools = {}
    for line in text.splitlines():
        match = HEAD.match(line)
        if match is None:
            continue
        parts = {part["label"] or "python": part["value"] for part in PART.finditer(match["rest"])}
        words = {label: frozenset(split_requirements(parts.get(label, ""))) for label in ("extras", "with")}
        python = re.sub(r"^[A-Za-z]+\s+", "", parts.get("python", ""))
        tools[uv.normal_name(match["name"])] = Tool(match["version"], words["extras"], words["with"], python)
    return tools


def decide(wanted: Mapping[str, Any], installed: Tool | None) -> Step:
    """Pure: what to do for one tool."""
    name = wanted["name"]
    if wanted["state"] == "absent":
        return Step(name, "remove" if installed else "none", installed.version if installed else None, None, "")
    version = wanted["version"]
    if installed is None:
        return Step(name, "install", None, version, "not installed")
    if version and uv.version_key(version) != uv.version_key(installed.version):
        action = "upgrade" if uv.is_older(installed.version, version) else "downgrade"
        return Step(name, action, installed.version, version, "version")
    differs = []
    if {requirement(item) for item in wanted["extras"]} != installed.extras:
        differs.append("extras")
    if {requirement(item) for item in wanted["with"]} != installed.requirements:
        differs.append("with")
    if wanted["python"] and not (installed.python + ".").startswith(wanted["python"] + "."):
        differs.append("python")
    action = "reinstall" if differs else "none"
    return Step(name, action, installed.version, version or installed.version, ", ".join(differs))


class Box:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.options: dict[str, Any] = dict(module.params)
        self.trouble: uv.UvError | None = None
        credentials: dict[str, str] = {}
        try:
            credentials = uv.credential_variables(self.options["index_credentials"] or {})
        except uv.UvError as error:
            self.trouble = error
        variables = {"UV_TOOL_DIR": self.options["tool_dir"], "UV_TOOL_BIN_DIR": self.options["bin_dir"]}
        # Also where it does not exist yet: below root's home, uv's own choice, nobody else could start a tool.
        variables["UV_PYTHON_INSTALL_DIR"] = self.options["python_install_dir"]
        self.runner = Runner(module, variables, credentials)
        keep_hidden(module, ("index_credentials",), self.runner.secrets)

    def installed(self) -> dict[str, Tool]:
        """What lies in tool_dir."""
        if not Path(self.options["tool_dir"]).is_dir():
            return {}
        flags = ("--show-version-specifiers", "--show-with", "--show-extras", "--show-python")
        done = self.runner.run("tool", "list", *flags, listed=False)
        self.runner.must(done, "uv could not list its tools.", RULE, "Read uv's words above.", "list_failed")
        return parse_list(done.stdout)

    def install(self, wanted: Mapping[str, Any]) -> None:
        """Installs one tool as it is wanted."""
        extras = "[{}]".format(",".join(wanted["extras"])) if wanted["extras"] else ""
        version = "==" + wanted["version"] if wanted["version"] else ""
        argv = ["tool", "install", wanted["name"] + extras + version]
        for item in wanted["with"]:
            argv += ["--with", item]
        argv += ["--python", wanted["python"]] if wanted["python"] else []
        argv += ["--force"] if self.options["force"] else []
        for option in ("tool_dir", "bin_dir"):
            Path(self.options[option]).mkdir(mode=0o755, parents=True, exist_ok=True)
        self.runner.must(
            self.runner.run(*argv),
            "The tool {} could not be installed.".format(wanted["name"]),
            RULE,
            "Read uv's words above; `force: true` replaces a command of the same name that uv did not put there.",
            "install_failed",
        )

    def execute(self) -> dict[str, Any]:
        """The whole run."""
        runner = self.runner
        if self.trouble is not None:
            raise self.trouble
        wanted = self.options["tools"]
        installed: dict[str, Tool] = {}
        try:
            runner.find()
            installed = self.installed()
        except uv.UvError as error:
            if not (runner.check and error.reason == "uv_missing"):
                raise
            runner.result.update(reason=error.reason, msg="versions are known once uv is on this host")
        steps = []
        for entry in wanted:
            step = decide(entry, installed.get(uv.normal_name(entry["name"])))
            if step.action == "remove" and not runner.check:
                done = runner.run("tool", "uninstall", entry["name"])
                runner.must(
                    done, f"The tool {step.name} could not be removed.", RULE, "Read uv's words above.", "remove_failed"
                )
            elif step.action != "none" and not runner.check:
                self.install(entry)
            runner.result["changed"] = runner.result["changed"] or step.action != "none"
            steps.append(step)
        after = dict(installed)
        if runner.check:
            for entry, step in zip(wanted, steps):
                name = uv.normal_name(step.name)
                if step.action == "remove":
                    after.pop(name, None)
                elif step.action != "none":
                    words = [frozenset(requirement(item) for item in entry[key]) for key in ("extras", "with")]
                    before = installed.get(name)
                    python = entry["python"] or (before.python if before else "")
                    after[name] = Tool(step.after or "(newest)", words[0], words[1], python)
        elif runner.result["changed"]:
            after = self.installed()
        runner.result["tools"] = [
            step._replace(
                after=after[uv.normal_name(step.name)].version if uv.normal_name(step.name) in after else None
            ).to_dict()
            for step in steps
        ]
        if self.module._diff:
            names = {uv.normal_name(step.name) for step in steps}
            header = self.options["tool_dir"]
            runner.result["diff"] = {
                "before": lines(installed, names),
                "after": lines(after, names),
                "before_header": header,
                "after_header": header,
            }
        return runner.result


def lines(tools: Mapping[str, Tool], names: set[str]) -> str:
    """The tools as lines of a diff."""
    rows = []
    for name in sorted(names & set(tools)):
        tool = tools[name]
        extras = "[{}]".format(",".join(sorted(tool.extras))) if tool.extras else ""
        added = "".join(" + " + item for item in sorted(tool.requirements))
        rows.append(f"{name}{extras}=={tool.version}{added}\n")
    return "".join(rows)


def main() -> None:
    """Entry point."""
    os.umask(0o022)  # a host may have a stricter one, and others start these tools
    module = AnsibleModule(
        argument_spec={
            "tools": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "version": {"type": "str"},
                    "extras": {"type": "list", "elements": "str", "default": []},
                    "with": {"type": "list", "elements": "str", "default": []},
                    "python": {"type": "str"},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "tool_dir": {"type": "path", "default": "/opt/pyfleet/tools"},
            "bin_dir": {"type": "path", "default": "/usr/local/bin"},
            "force": {"type": "bool", "default": False},
            "python_install_dir": {"type": "path", "default": "/opt/pyfleet/python"},
            "index_credentials": {"type": "dict", "default": {}, "no_log": True},
            "executable": {"type": "str"},
            "cache_dir": {"type": "path"},
            "system_certs": {"type": "bool"},
            "environment": {"type": "dict", "default": {}, "no_log": True},
            "timeout": {"type": "int", "default": 1800},
        },
        supports_check_mode=True,
    )
    box = Box(module)
    try:
        result = box.execute()
    except uv.UvError as error:
        box.runner.fail(error)
    finally:
        box.runner.close()
    module.exit_json(**result)


if __name__ == "__main__":
    main()
