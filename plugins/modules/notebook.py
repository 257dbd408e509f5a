#!/usr/bin/python
# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: notebook
short_description: Prepares a host for a notebook server
version_added: "0.1.0"
author:
  - pyfleet contributors (@pyfleet)
description:
  - What the role C(notebook) needs of a host, in one round trip. It checks the role's variables against the host, makes the account, the
    directory of the work and the token, and says which applications can give the server a kernel.
  - Everything that is wrong is told at once, before anything changes.
attributes:
  check_mode:
    support: full
    description: Checks everything and says what would change.
  diff_mode:
    support: full
    description: Account, directory and token that come or go. The token itself is never shown.
  platform:
    support: full
    platforms: posix
    description: Linux hosts with systemd.
options:
  name:
    description: Name of the server. Its account and unit are called C(notebook-NAME).
    type: str
    required: true
  state:
    description:
      - V(present) makes what is missing.
      - V(absent) stops the server and removes its token, its settings and its programs. The account and O(directory) stay.
    type: str
    choices: [present, absent]
    default: present
  kind:
    description: Which server it is.
    type: str
    choices: [jupyter, marimo]
    default: jupyter
  address:
    description: Address that it listens on.
    type: str
    default: 127.0.0.1
  port:
    description: Port that it listens on.
    type: int
    default: 8888
  base_url:
    description: Path below which it answers.
    type: str
    default: /
  directory:
    description: Directory of the work. It is made when it is missing, and never removed.
    type: str
    required: true
  token:
    description: The token. Without one, the token that the host has stays, or one is made.
    type: str
    default: ""
  arguments:
    description: Further arguments of the server, which are looked through for secrets.
    type: list
    elements: str
    default: []
  kernels:
    description: Applications on this host whose environment gets a kernel.
    type: list
    elements: str
    default: []
  app_root:
    description: Folder that holds the applications.
    type: path
    default: /srv/pyfleet
"""

EXAMPLES = r"""
- name: Account, directory and token
  pyfleet.runtime.notebook:
    name: research
    directory: /srv/notebooks/research
    kernels: [shop]
"""

RETURN = r"""
changes:
  description: What was made or removed, in words.
  returned: success
  type: list
  elements: str
  sample: [account notebook-research, directory /srv/notebooks/research, token]
files:
  description: The kernels' specifications, as M(pyfleet.runtime.managed_files) takes them.
  returned: success
  type: list
  elements: dict
  contains:
    path: {description: Path on the host., type: str, returned: always}
    content: {description: The specification., type: str, returned: always}
groups:
  description: Groups that may read the releases of O(kernels).
  returned: success
  type: list
  elements: str
  sample: [app-shop]
stale:
  description: The server runs with what was there before an earlier run, which never came to restart it.
  returned: success
  type: bool
token_file:
  description: Where root finds the token on the host.
  returned: success
  type: str
  sample: /etc/pyfleet-notebooks/research/token
findings:
  description: What is wrong.
  returned: on failure
  type: list
  elements: dict
"""

import os
import pwd
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils import notebook, process, sockets
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding, render_findings
from ansible_collections.pyfleet.runtime.plugins.module_utils.hidden import keep_hidden
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import write_file
from ansible_collections.pyfleet.runtime.plugins.module_utils.systemd import Systemd, SystemdError

NOLOGIN = "/usr/sbin/nologin"
UNITS = "/etc/systemd/system"

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "kind": {"type": "str", "choices": ["jupyter", "marimo"], "default": "jupyter"},
    "address": {"type": "str", "default": "127.0.0.1"},
    "port": {"type": "int", "default": 8888},
    "base_url": {"type": "str", "default": "/"},
    "directory": {"type": "str", "required": True},
    "token": {"type": "str", "default": "", "no_log": True},
    "arguments": {"type": "list", "elements": "str", "default": []},
    "kernels": {"type": "list", "elements": "str", "default": []},
    "app_root": {"type": "path", "default": "/srv/pyfleet"},
}


def owner(path: str) -> str | None:
    """Who owns a path, by name; None when there is none."""
    try:
        uid = os.stat(path).st_uid
    except FileNotFoundError:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def text_of(path: str) -> str:
    """The text of a file; an empty one when there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


class Server:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.check = bool(module.check_mode)
        options: dict[str, Any] = {name: module.params[name] for name in notebook.Wanted.__dataclass_fields__}
        lists: dict[str, Any] = {name: tuple(options[name]) for name in ("arguments", "kernels")}
        self.wanted = notebook.Wanted(**{**options, **lists})
        # One that is too short to be a token is scrubbed from nothing: the message that says so would lose half of its letters.
        keep_hidden(module, ("token",), [self.wanted.token] if len(self.wanted.token) >= 8 else [])
        self.unit = f"{self.wanted.user}.service"
        self.home = os.path.join(notebook.HOMES, self.wanted.name)
        self.kernels: list[notebook.Kernel] = []

    def execute(self) -> dict[str, Any]:
        """The whole run."""
        wanted, present = self.wanted, self.module.params["state"] == "present"
        found = notebook.problems(wanted)
        if not present:
            found = [each for each in found if each.code == "notebook_name"]
        elif not found:
            found = self._against_the_host()
        if found:
            self.module.fail_json(msg=render_findings(found), findings=[each.to_dict() for each in found])
        stale = present and self._stale()
        changes = self._present() if present else self._absent()
        if stale:
            changes.append("restart, which an earlier run did not come to")
        result = {
            "changed": bool(changes),
            "changes": changes,
            "stale": stale,
            "files": wanted.kernel_files(self.kernels),
            "groups": sorted({kernel.group for kernel in self.kernels}),
            "token_file": wanted.token_file,
        }
        if self.module._diff:
            lines = "".join(f"{each}\n" for each in changes)
            result["diff"] = {"before": "", "after": lines} if present else {"before": lines, "after": ""}
        return result

    def _against_the_host(self) -> list[Finding]:
        wanted = self.wanted
        listeners = sockets.listeners(ports=[wanted.port])
        own = Systemd().processes(self.unit)
        found = notebook.port_problems(wanted.port, listeners, own, notebook.claims(wanted.app_root))
        has = owner(wanted.directory)
        if has not in (None, wanted.user) and not (has == "root" and not os.listdir(wanted.directory)):
            value = {"owner": has, "user": wanted.user}
            found.append(finding("notebook_directory_foreign", "notebook_directory", wanted.directory, **value))
        for app in dict.fromkeys(wanted.kernels):
            seen = notebook.look(app, wanted.app_root, self._run)
            if isinstance(seen, Finding):
                found.append(seen)
            else:
                self.kernels.append(seen)
        return found

    @staticmethod
    def _run(argv: Sequence[str], environment: Mapping[str, str], account: process.Account) -> process.Completed:
        try:
            return process.run(argv, cwd="/", environment=environment, account=account, timeout=60)
        except process.ProcessError as error:
            return process.Completed("", 1, "", str(error), 0.0)

    def _present(self) -> list[str]:
        wanted = self.wanted
        changes = []
        try:
            account = pwd.getpwnam(wanted.user)
        except KeyError:
            changes.append(f"account {wanted.user}")
        if owner(wanted.directory) != wanted.user:
            changes.append(f"directory {wanted.directory}")
        has = text_of(wanted.token_file)
        if not has or wanted.token not in ("", has):
            changes.append("token")
        if self.check or not changes:
            return changes
        if f"account {wanted.user}" in changes:
            argv = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", self.home]
            done = subprocess.run([*argv, "--shell", NOLOGIN, wanted.user], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                self.module.fail_json(msg=f"The account {wanted.user} cannot be made: {done.stderr.strip()}")
            account = pwd.getpwnam(wanted.user)
        if f"directory {wanted.directory}" in changes:
            os.makedirs(wanted.directory, mode=0o755, exist_ok=True)
            os.chmod(wanted.directory, 0o750)  # noqa: S103 - the group is the account's own
            os.chown(wanted.directory, account.pw_uid, account.pw_gid)
        if "token" in changes:
            os.makedirs(os.path.dirname(wanted.token_file), mode=0o755, exist_ok=True)
            # No line break: Jupyter takes the file as it is.
            write_file(wanted.token_file, wanted.token or secrets.token_urlsafe(32), 0o600)
        return changes

    def _stale(self) -> bool:
        """Whether the running server is older than its token, its unit or its packages, as after a run that failed before the restart."""
        properties = ("ActiveState", "ExecMainStartTimestampMonotonic")
        state = Systemd().show([self.unit], properties)[self.unit]
        if state.get("ActiveState") != "active":
            return False
        age = time.monotonic() - int(state.get("ExecMainStartTimestampMonotonic") or 0) / 1e6
        tools = Path(notebook.TOOLS, self.wanted.name, "tools")
        places = [Path(self.wanted.token_file), Path(UNITS, self.unit), *tools.glob("*/uv-receipt.toml")]
        return any(path.is_file() and path.stat().st_mtime > time.time() - age for path in places)

    def _absent(self) -> list[str]:
        places = (notebook.SETTINGS, notebook.TOOLS, notebook.HOMES, notebook.CACHES)
        folders = [os.path.join(place, self.wanted.name) for place in places]
        there = [folder for folder in folders if os.path.isdir(folder)]
        systemd = Systemd()
        state = systemd.state(self.unit)
        runs = state.get("LoadState") == "loaded" and state.get("ActiveState") != "inactive"
        if not self.check:
            if state.get("LoadState") == "loaded":
                systemd.disable(self.unit)
                systemd.stop(self.unit, timeout=120)
                systemd.reset_failed(self.unit)
            for folder in there:
                shutil.rmtree(folder)
        return [*([f"running {self.unit}"] if runs else []), *there]


def main() -> None:
    """Entry point."""
    os.umask(0o022)  # a host may have a stricter one, and the server's own account reads what is made here
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    server = Server(module)
    try:
        result = server.execute()
    except SystemdError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
