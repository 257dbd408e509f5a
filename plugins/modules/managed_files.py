#!/usr/bin/python
# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: managed_files
short_description: Writes a set of files as one transaction
version_added: "0.1.0"
description:
  - Renders all templates of a set on the controller, hands them over together, validates the staged set, swaps it in and removes what
    the previous set had and this one has not. Either everything lands or nothing does.
  - Replaces one C(template) task per file by one round trip, and leaves no orphan unit or virtual host.
  - A file that was there before, or that somebody edited since it was written, is never overwritten silently.
author:
  - pyfleet contributors (@pyfleet)
options:
  set:
    description: Name of the set. What it wrote is remembered under this name in O(state_dir).
    type: str
    required: true
  state:
    description:
      - With V(present) the set consists of exactly O(files) and O(directories).
      - With V(absent) everything the set wrote is removed, except files that were edited since; these are reported.
    type: str
    choices: [present, absent]
    default: present
  files:
    description: The files of the set.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path on the host. Directories above it are made (mode 0755) when they are missing.
        type: str
        required: true
      src:
        description:
          - Template on the controller, searched for as M(ansible.builtin.template) does, and rendered with the variables of the task.
          - Exactly one of O(files[].src), O(files[].content) and O(files[].encoded) is needed.
        type: str
      content:
        description: Content as text.
        type: str
      encoded:
        description: Content in base64. This is how contents travel to the host, so that no output shows them.
        type: str
      vars:
        description: More variables for the template of this file. They are in its reach only.
        type: dict
        default: {}
      mode:
        description: Octal mode, as in V("0644"). The default is V("0644"), or V("0600") with O(files[].secret).
        type: raw
      owner:
        description: Owner, by name or number. The default is the user that runs the module.
        type: str
      group:
        description: Group, by name or number. The default is the group that runs the module.
        type: str
      diff:
        description: Whether a diff shows the content.
        type: bool
        default: true
      secret:
        description: The content is secret. No diff and no message shows any of it.
        type: bool
        default: false
  directories:
    description: Directories of the set. One is removed with the set when the set made it and it is empty.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path on the host.
        type: str
        required: true
      mode:
        description: Octal mode. The default is V("0755").
        type: raw
      owner:
        description: Owner, by name or number. The default is the user that runs the module.
        type: str
      group:
        description: Group, by name or number. The default is the group that runs the module.
        type: str
  validate:
    description:
      - Commands that must accept the staged set before anything changes. They run when something would change, in check mode too.
    type: list
    elements: dict
    default: []
    suboptions:
      command:
        description: Command, as text or list, run without a shell. C({staged}) is the directory that mirrors the absolute paths.
        type: raw
        required: true
      optional:
        description: Skip the command when its program is not installed. In check mode this is always so.
        type: bool
        default: false
  verify:
    description: Commands that must succeed after the set has landed. When one fails, everything is put back.
    type: list
    elements: dict
    default: []
    suboptions:
      command:
        description: Command, as text or list, run without a shell.
        type: raw
        required: true
      optional:
        description: Skip the command when its program is not installed.
        type: bool
        default: false
  daemon_reload:
    description: Run C(systemctl daemon-reload) when a unit file or a drop-in changed.
    type: bool
    default: false
  force:
    description: Overwrite, or remove, files that are not of this set or were edited.
    type: bool
    default: false
  backup:
    description: With O(force), keep a copy of each such file as C(<file>.<time>~).
    type: bool
    default: false
  state_dir:
    description: Where sets remember what they wrote.
    type: path
    default: /var/lib/pyfleet/sets
  known:
    description:
      - What C(app_info) saw of the set's files (its return value C(files)) earlier in the same play. Where that shows that nothing
        is to do, the action plugin says so without a round trip to the host. For runs as root.
    type: dict
attributes:
  check_mode:
    description: Reports what would change and validates the staged set, without writing to any managed place.
    support: full
  diff_mode:
    description: One entry per file. Contents of secret files and of those with C(diff=false) are not shown.
    support: full
"""

EXAMPLES = r"""
- name: Units of the application
  pyfleet.runtime.managed_files:
    set: app-shop
    daemon_reload: true
    files:
      - path: /etc/systemd/system/app-shop.target
        src: app.target.j2
      - path: /etc/systemd/system/app-shop@.service
        src: app@.service.j2
    validate:
      - command: systemd-analyze verify {staged}/etc/systemd/system/app-shop.target
        optional: true

- name: Virtual host, put back when the server refuses it
  pyfleet.runtime.managed_files:
    set: vhost-shop
    files:
      - path: /etc/nginx/conf.d/shop.conf
        src: vhost.conf.j2
    verify:
      - command: nginx -t

- name: Remove them again
  pyfleet.runtime.managed_files:
    set: vhost-shop
    state: absent
"""

RETURN = r"""
changes:
  description: What happened, or in check mode would happen, to each path that was not as it should be.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: Path on the host.
      type: str
    action:
      description: One of C(created), C(changed), C(attributes), C(removed), and C(kept) for an edited file that left the set.
      type: str
  sample: [{"path": "/etc/systemd/system/app-shop.target", "action": "created"}]
commands:
  description: Commands that validated or verified the set.
  returned: always
  type: list
  elements: str
commands_skipped:
  description: Commands that were not run because their program is not installed.
  returned: always
  type: list
  elements: str
backups:
  description: Copies of files that were overwritten or removed by force.
  returned: always
  type: list
  elements: str
daemon_reloaded:
  description: Whether systemd read its units again.
  returned: always
  type: bool
"""

import base64
import binascii
import os
import shlex
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils.file_set import (
    Command,
    FileSet,
    FileSetError,
    WantedDirectory,
    WantedFile,
    diff_entry,
    group_id,
    parse_mode,
    path_problem,
    user_id,
)

COMMAND_SPEC: dict[str, Any] = {
    "command": {"type": "raw", "required": True},
    "optional": {"type": "bool", "default": False},
}

ARGUMENT_SPEC: dict[str, Any] = {
    "set": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "str", "required": True},
            "src": {"type": "str"},
            "content": {"type": "str", "no_log": False},
            "encoded": {"type": "str", "no_log": True},
            "vars": {"type": "dict", "default": {}},
            "mode": {"type": "raw"},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "diff": {"type": "bool", "default": True},
            "secret": {"type": "bool", "default": False, "no_log": False},
        },
    },
    "directories": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "str", "required": True},
            "mode": {"type": "raw"},
            "owner": {"type": "str"},
            "group": {"type": "str"},
        },
    },
    "validate": {"type": "list", "elements": "dict", "default": [], "options": COMMAND_SPEC},
    "verify": {"type": "list", "elements": "dict", "default": [], "options": COMMAND_SPEC},
    "daemon_reload": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "backup": {"type": "bool", "default": False},
    "state_dir": {"type": "path", "default": "/var/lib/pyfleet/sets"},
    "known": {"type": "dict"},
}


class Input:
    """Turns options into what the engine takes, and collects every problem on the way."""

    def __init__(self, check_mode: bool) -> None:
        self.check_mode = check_mode
        self.problems: list[str] = []
        self._seen: set[str] = set()

    def _path(self, entry: dict[str, Any], where: str) -> str:
        path: str = entry["path"]
        problem = path_problem(path)
        if problem:
            self.problems.append(f"{where}: {path!r} {problem}. Next step: give an absolute path such as /etc/name.")
        elif path in self._seen:
            self.problems.append(f"{where}: {path} is there twice. Next step: remove one of the two.")
        self._seen.add(path)
        return path

    def _owners(self, entry: dict[str, Any], where: str) -> tuple[int | None, int | None]:
        ids: list[int | None] = []
        for option, own, find in (("owner", os.geteuid(), user_id), ("group", os.getegid(), group_id)):
            name = entry[option]
            if name is None:
                ids.append(own)
                continue
            try:
                ids.append(find(name))
            except KeyError:
                ids.append(None)
                if not self.check_mode:  # in check mode an earlier task may only have announced it
                    self.problems.append(
                        f"{where}: {entry['path']}: {option} {name!r} does not exist. Next step: create it first."
                    )
        return ids[0], ids[1]

    def _mode(self, entry: dict[str, Any], where: str, default: int) -> int:
        if entry["mode"] is None:
            return default
        try:
            return parse_mode(entry["mode"])
        except ValueError as error:
            self.problems.append(f"{where}: {entry['path']}: mode {entry['mode']!r} is {error}. Next step: quote it.")
            return default

    def _content(self, entry: dict[str, Any], where: str) -> bytes:
        given = [option for option in ("src", "content", "encoded") if entry[option] is not None]
        if len(given) != 1:
            self.problems.append(
                f"{where}: {entry['path']} has {', '.join(given) or 'no content'}. Rule: exactly one of src and content. "
                "Next step: give one of them."
            )
        elif given == ["src"]:
            self.problems.append(
                f"{where}: {entry['path']}: src is rendered on the controller by the action plugin of the same name. "
                "Next step: call the module by its full name, pyfleet.runtime.managed_files."
            )
        elif given == ["encoded"]:
            try:
                return base64.b64decode(entry["encoded"], validate=True)
            except (binascii.Error, ValueError):
                self.problems.append(f"{where}: {entry['path']}: encoded is not base64. Next step: use content.")
        else:
            text: str = entry["content"]
            return text.encode("utf-8", "surrogateescape")
        return b""

    def files(self, entries: list[dict[str, Any]]) -> list[WantedFile]:
        wanted = []
        for position, entry in enumerate(entries):
            where = f"files[{position}]"
            path = self._path(entry, where)
            uid, gid = self._owners(entry, where)
            mode = self._mode(entry, where, 0o600 if entry["secret"] else 0o644)
            content = self._content(entry, where)
            wanted.append(WantedFile(path, content, mode, uid, gid, entry["diff"] and not entry["secret"]))
        return wanted

    def directories(self, entries: list[dict[str, Any]]) -> list[WantedDirectory]:
        wanted = []
        for position, entry in enumerate(entries):
            where = f"directories[{position}]"
            path = self._path(entry, where)
            uid, gid = self._owners(entry, where)
            wanted.append(WantedDirectory(path, self._mode(entry, where, 0o755), uid, gid))
        return wanted

    def commands(self, entries: list[dict[str, Any]], where: str) -> list[Command]:
        commands = []
        for position, entry in enumerate(entries):
            given = entry["command"]
            try:
                argv = [str(each) for each in given] if isinstance(given, list) else shlex.split(str(given))
            except ValueError as error:
                self.problems.append(f"{where}[{position}]: {given!r}: {error}. Next step: correct the quotes.")
                continue
            if not argv:
                self.problems.append(f"{where}[{position}]: the command is empty. Next step: remove the entry.")
                continue
            commands.append(Command(tuple(argv), entry["optional"]))
        return commands


def run_module() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    options = module.params
    given = Input(module.check_mode)
    present = options["state"] == "present"
    files = given.files(options["files"] if present else [])
    directories = given.directories(options["directories"] if present else [])
    validate = given.commands(options["validate"], "validate")
    verify = given.commands(options["verify"], "verify")
    if given.problems:
        count = "1 problem" if len(given.problems) == 1 else f"{len(given.problems)} problems"
        module.fail_json(msg="\n".join([f"Set {options['set']}: {count}, nothing was changed:", *given.problems]))
    try:
        outcome = FileSet(options["set"], options["state_dir"]).apply(
            files,
            directories,
            validate=validate if present else [],
            verify=verify,
            daemon_reload=options["daemon_reload"],
            force=options["force"],
            backup=options["backup"],
            check_mode=module.check_mode,
        )
    except FileSetError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"Set {options['set']}: {error.filename or 'a file'} cannot be read: {error.strerror or error}\n"
            "Next step: run with become: true, or correct the path."
        )
    for warning in outcome.warnings:
        module.warn(warning)
    result: dict[str, Any] = {
        "changed": outcome.changed,
        "changes": [{"path": change.path, "action": change.action} for change in outcome.changes],
        "commands": outcome.commands,
        "commands_skipped": outcome.skipped,
        "backups": outcome.backups,
        "daemon_reloaded": outcome.daemon_reloaded,
    }
    if module._diff:
        result["diff"] = [diff_entry(change) for change in outcome.changes if change.action != "kept"]
    module.exit_json(**result)


def main() -> None:
    """Entry point."""
    os.umask(0o022)  # a host may have a stricter one, and the users of services read what is made here
    run_module()


if __name__ == "__main__":
    main()
