#!/usr/bin/python
# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: legacy_build
short_description: Builds an application from its requirements file
version_added: "0.1.0"
author:
  - pyfleet contributors (@pyfleet)
description:
  - Builds an application without an active C(uv.lock), in one call and in this order - C(CC_PRE_BUILD_HOOK), virtual environment of the
    given Python, requirements file, backend server, one goal of C(setup.py), tasks of C(manage.py), C(CC_POST_BUILD_HOOK). The first
    error ends the build.
  - Everything runs as the application's user, in the project and in an environment built from nothing but O(environment_file).
  - uv makes the environment and installs, with the semantics of pip. What C(PIP_*) variables say is said to uv.
  - With O(shared) an environment is built once for all releases with the same requirements and the same Python, so that a change of
    code installs nothing.
  - An application that asks for Python 2.7 gets an environment made by virtualenv, and that environment's own pip installs.
requirements:
  - uv 0.9.19 or newer on the host.
attributes:
  check_mode:
    support: full
    description:
      - Predicts packages by a dry run into a scratch environment, or from the shared environment; no hook and no task runs.
      - Where the project, its user, its Python or uv are not there yet, a change without details is predicted.
  diff_mode:
    support: full
    description: The packages of the environment as C(name==version), before and after.
  platform:
    support: full
    platforms: posix
    description: Linux hosts.
options:
  project:
    description: Root of the project in the release.
    type: path
    required: true
  environment_file:
    description:
      - File with the variables of the build, in the format of systemd's C(EnvironmentFile=). It is removed once read.
      - C(CC_PRE_BUILD_HOOK) and C(CC_POST_BUILD_HOOK) of it are the hooks. All values count as secret.
    type: path
  run_as:
    description: User to build as. The user needs to own the project. Default the user the module runs as.
    type: str
  indexes:
    description:
      - The indexes of the build, as the plan lists them (C(build.indexes)), for the message when one of them refuses the build.
      - Each with C(name), C(url), and C(way) and C(origin) of its credentials. Holds no secret.
    type: list
    elements: dict
    default: []
  executable:
    description: The uv to use. Default C(/usr/local/bin/uv), then the first one on C(PATH).
    type: str
  cache_dir:
    description: uv's cache. Default C(~/.cache/uv) of the user, or what C(/etc/uv/uv.toml) says.
    type: path
  link_mode:
    description: How packages get from the cache into the environment.
    type: str
    choices: [clone, copy, hardlink, symlink]
  compile_bytecode:
    description: Whether to compile installed modules to bytecode. By default uv's configuration decides.
    type: bool
  timeout:
    description: Seconds each command may take.
    type: int
    default: 1800
  hook_directory:
    description: Directory the hooks run in. Default the project.
    type: path
  python:
    description: Path of the interpreter.
    type: path
    required: true
  python_version:
    description: Its version, as far as known. The interpreter itself is asked.
    type: str
  requirements:
    description: The requirements file, relative to the project. Empty for none.
    type: str
    default: ''
  install:
    description: What the application needs besides its requirements, the backend server for example.
    type: list
    elements: dict
    default: []
    suboptions:
      requirement:
        description: What to install.
        type: str
        required: true
      provides:
        description: Names of distributions. Where the requirements brought one of them, nothing is installed.
        type: list
        elements: str
        required: true
  setup_goal:
    description: One goal of C(setup.py), with its options. Empty for none.
    type: str
    default: ''
  manage_tasks:
    description: Tasks of C(manage.py), each a list of arguments.
    type: list
    elements: list
    default: []
  shared:
    description:
      - Whether releases with the same requirements and the same Python use one environment, below O(venvs). The project's C(.venv) is
        a link to it then.
      - Not heeded where an environment is good for one release only, that is where the requirements name something inside of the
        release, C(setup.py) has a goal, the pre-build hook made the environment, or a hook or command installs packages by name.
        RV(venv.shared_reason) says why. What a script of the project does cannot be seen here.
    type: bool
    default: false
  venvs:
    description: Folder of the shared environments. Required with O(shared).
    type: path
  static:
    description: Folder of static files, relative to the project. A warning says when it is missing after the build.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Build a Django application
  pyfleet.runtime.legacy_build:
    project: /srv/pyfleet/shop/releases/0123456789ab
    environment_file: /run/pyfleet/shop.build
    run_as: app-shop
    python: /usr/bin/python3.11
    requirements: requirements.txt
    install:
      - requirement: gunicorn==23.0.0
        provides: [gunicorn]
    manage_tasks:
      - [migrate, --noinput]
      - [collectstatic, --noinput]
    shared: true
    venvs: /srv/pyfleet/shop/venvs
    static: static
"""

RETURN = r"""
packages:
  description: What changes in the project's environment, one entry per package.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: The package., type: str, returned: always}
    action: {description: 'One of install, remove, upgrade and downgrade.', type: str, returned: always}
    from: {description: The version before., type: str, returned: always}
    to: {description: The version after., type: str, returned: always}
  sample: [{name: flask, action: install, from: null, to: 3.1.0}]
installed:
  description: Every distribution in the environment after the build, by its normalized name.
  returned: success
  type: dict
  sample: {flask: 3.1.0, gunicorn: 23.0.0}
cached:
  description: Whether a shared environment was there already, so that nothing was installed.
  returned: always
  type: bool
shared:
  description: Whether the environment is a shared one.
  returned: always
  type: bool
venv:
  description: The environment.
  returned: success
  type: dict
  contains:
    path: {description: The project's C(.venv)., type: str, returned: always}
    target: {description: Where it lies., type: str, returned: always}
    action: {description: 'One of create, replace, keep, link and check.', type: str, returned: always}
    shared: {description: Whether other releases may use it., type: bool, returned: always}
    shared_reason: {description: Why it is shared or not., type: str, returned: always}
    key: {description: Digest of everything it was made from., type: str, returned: always}
    python: {description: The interpreter., type: str, returned: always}
    python_version: {description: Its version., type: str, returned: always}
    made_by_hook: {description: Whether the pre-build hook made it., type: bool, returned: always}
steps:
  description: The steps of the build besides the hooks, whether they ran, and how many seconds they took.
  returned: always
  type: list
  elements: dict
  sample: [{name: requirements, ran: true, seconds: 0.4, status: 0}]
hooks:
  description: The hooks of the build and whether they ran.
  returned: always
  type: list
  elements: dict
  sample: [{name: CC_PRE_BUILD_HOOK, ran: true, seconds: 0.2}]
translated:
  description: Variables of pip that were said to uv (to pip, for Python 2.7), by name.
  returned: always
  type: list
  elements: str
  sample: ["PIP_INDEX_URL -> UV_DEFAULT_INDEX"]
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
  description: Why it failed (or why check mode could not say more), as a word for programs.
  returned: on failure
  type: str
  sample: package_missing
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils import uv
from ansible_collections.pyfleet.runtime.plugins.module_utils.legacy_builder import LegacyBuild

ARGUMENTS: dict[str, dict[str, Any]] = {
    "project": {"type": "path", "required": True},
    "environment_file": {"type": "path"},
    "run_as": {"type": "str"},
    "executable": {"type": "str"},
    "indexes": {"type": "list", "elements": "dict", "default": []},
    "cache_dir": {"type": "path"},
    "link_mode": {"type": "str", "choices": ["clone", "copy", "hardlink", "symlink"]},
    "compile_bytecode": {"type": "bool"},
    "timeout": {"type": "int", "default": 1800},
    "hook_directory": {"type": "path"},
    "python": {"type": "path", "required": True},
    "python_version": {"type": "str"},
    "requirements": {"type": "str", "default": ""},
    "install": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "requirement": {"type": "str", "required": True},
            "provides": {"type": "list", "elements": "str", "required": True},
        },
    },
    "setup_goal": {"type": "str", "default": ""},
    "manage_tasks": {"type": "list", "elements": "list", "default": []},
    "shared": {"type": "bool", "default": False},
    "venvs": {"type": "path"},
    "static": {"type": "str", "default": ""},
}


def main() -> None:
    """Entry point."""
    os.umask(0o022)  # a host may have a stricter one, and the users of services read what is made here
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, required_if=[("shared", True, ["venvs"])])
    build = LegacyBuild(module)
    try:
        build.execute()
    except uv.UvError as error:
        build.fail(error)
    finally:
        build.close()
    module.exit_json(**build.result)


if __name__ == "__main__":
    main()
