#!/usr/bin/python
# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: uv_python
short_description: Install and remove Python versions that uv manages
version_added: "0.1.0"
author:
  - pyfleet contributors (@pyfleet)
description:
  - Keeps Python versions in a directory that every user of the host can read, from uv's own download places, a mirror, or a list
    of one's own.
  - Only interpreters that uv manages in that directory count; those of the distribution or of a project are never touched.
  - After installing, the interpreter is run; one that does not start on this host, is not the version asked for or has no C(ssl) is
    removed again and the task fails.
requirements:
  - uv 0.9.19 or newer on the host.
attributes:
  check_mode:
    support: full
    description: Nothing is downloaded; what would be installed comes from C(uv python list).
  diff_mode:
    support: full
    description: The versions in the directory, before and after.
  platform:
    support: full
    platforms: posix
    description: Linux hosts.
options:
  versions:
    description:
      - Versions, as C(3.13) for any patch version of it or C(3.13.0) for exactly that one. The two are never confused. removing
        C(3.13.0) leaves C(3.13.5) alone.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(present) installs a version that is missing, V(latest) also when a newer patch version of the minor version is available
        (older ones stay, as environments point to them), V(absent) removes.
    type: str
    choices: [present, latest, absent]
    default: present
  install_dir:
    description: Directory of the versions.
    type: path
    default: /opt/pyfleet/python
  mirror:
    description: Address that stands in for uv's own download place (C(UV_PYTHON_INSTALL_MIRROR)).
    type: str
  downloads_json_url:
    description:
      - Address (C(file://), C(http://) or C(https://)) of a list of downloads that stands in for uv's own.
      - uv would install an entry without C(sha256) unchecked, so such an entry is refused.
    type: str
  verify_as:
    description: User to run a new interpreter as, to prove that unprivileged users can. Empty for the user of the module.
    type: str
    default: nobody
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
    description: Further variables for uv, for example credentials of the mirror. Values count as secret.
    type: dict
    default: {}
  timeout:
    description: Seconds each command may take.
    type: int
    default: 1800
"""

EXAMPLES = r"""
- name: Two versions from uv's own download place
  pyfleet.runtime.uv_python:
    versions: ["3.13", "3.12.11"]

- name: A version from a mirror inside the house
  pyfleet.runtime.uv_python:
    versions: ["3.13"]
    downloads_json_url: https://mirror.example.org/python/downloads.json

- name: Exactly this one goes
  pyfleet.runtime.uv_python:
    versions: ["3.13.0"]
    state: absent
"""

RETURN = r"""
pythons:
  description: One entry per version of the directory that was asked for, with what happened to it.
  returned: success
  type: list
  elements: dict
  contains:
    request: {description: As asked for., type: str, returned: always}
    version: {description: The full version., type: str, returned: always}
    key: {description: uv's name for it., type: str, returned: always}
    path: {description: 'The interpreter, when installed.', type: str, returned: always}
    action: {description: 'One of none, install, reinstall and remove.', type: str, returned: always}
  sample: [{request: "3.13", version: 3.13.5, key: cpython-3.13.5-linux-x86_64-gnu, action: install,
    path: /opt/pyfleet/python/cpython-3.13.5-linux-x86_64-gnu/bin/python3.13}]
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
  sample: python_does_not_run
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

from ansible_collections.pyfleet.runtime.plugins.module_utils import process, uv
from ansible_collections.pyfleet.runtime.plugins.module_utils.uv_runner import Runner

REQUEST = re.compile(r"^3\.\d+(?:\.\d+(?:(?:a|b|rc)\d+)?)?$")
FOLDER = re.compile(r"^cpython-(\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)-linux-")
SHA256 = re.compile(r"^[0-9a-fA-F]{64}$")
PROBE = "import platform, ssl, zlib; print(platform.python_version())"


class Python(NamedTuple):
    """One version as `uv python list` names it."""

    version: str
    key: str
    path: str | None = None
    url: str | None = None


class Step(NamedTuple):
    """What to do for one request."""

    request: str
    action: str
    python: Python


def parse_list(text: str) -> list[Python]:
    """Reads `uv python list --output-format json`; only plain CPython counts. Raises ValueError for anything else than a list."""
    data = json.loads(text or "[]")
    if not isinstance(data, list):
        raise ValueError("not a list")
    found = []
    for entry in data:
        if not isinstance(entry, dict) or entry.get("implementation", "cpython") != "cpython":
            continue
        if entry.get("variant", "default") not in ("default", None):
            continue
        version, key = entry.get("version"), entry.get("key")
        if isinstance(version, str) and isinstance(key, str) and uv.version_key(version):
            found.append(Python(version, key, entry.get("path"), entry.get("url")))
    return sorted(found, key=lambda item: uv.version_key(item.version) or (), reverse=True)


def matches(request: str, version: str) -> bool:
    """Whether `version` is what was asked for: exactly for three parts, any final patch version for two."""
    if request.count(".") == 2:
        return request == version
    return re.match(re.escape(request) + r"\.\d+$", version) is not None


def decide(request: str, state: str, installed: Sequence[Python], available: Sequence[Python]) -> list[Step] | None:
    """Pure: the steps for one request, or None when nothing that is available satisfies it. Both lists begin with the newest."""
    here = [python for python in installed if matches(request, python.version)]
    if state == "absent":
        return [Step(request, "remove", python) for python in here]
    offered = [python for python in available if matches(request, python.version)]
    if here:
        newer = offered and uv.is_older(here[0].version, offered[0].version)
        if state == "latest" and newer:
            return [Step(request, "install", offered[0])]
        return [Step(request, "none", here[0])]
    return [Step(request, "install", offered[0])] if offered else None


def unchecked(data: Any, pythons: Sequence[Python]) -> list[str]:
    """Pure: the keys of those `pythons` whose entry in a list of downloads has no sha256."""
    entries = data if isinstance(data, Mapping) else {}
    without = []
    for python in pythons:
        own = [
            entry
            for key, entry in entries.items()
            if isinstance(entry, Mapping) and (key == python.key or (python.url and entry.get("url") == python.url))
        ]
        if not own or not all(SHA256.match(str(entry.get("sha256") or "")) for entry in own):
            without.append(python.key)
    return without


class Shelf:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.options: dict[str, Any] = module.params
        self.folder = Path(self.options["install_dir"])
        variables = {"UV_PYTHON_INSTALL_DIR": str(self.folder)}
        if self.options["mirror"]:
            variables["UV_PYTHON_INSTALL_MIRROR"] = self.options["mirror"]
        if self.options["downloads_json_url"]:
            variables["UV_PYTHON_DOWNLOADS_JSON_URL"] = self.options["downloads_json_url"]
        self.runner = Runner(module, variables)

    def ask(self, *flags: str) -> list[Python]:
        """Asks uv for versions."""
        done = self.runner.run("python", "list", "--managed-python", *flags, "--output-format", "json", listed=False)
        self.runner.must(
            done,
            "uv could not list Python versions.",
            "C5: uv brings versions the host does not have, from a mirror when one is configured",
            "Check mirror and downloads_json_url.",
            "list_failed",
        )
        try:
            return parse_list(done.stdout)
        except ValueError as error:
            raise uv.UvError(
                "list_unreadable",
                f"uv's list of Python versions cannot be read: {error}.",
                rule="installed and available versions come from uv's own JSON",
                next_step="Pin uv_version to a version this collection was tested with, and report this.",
            )

    def installed(self) -> list[Python]:
        """What lies in the directory. An interpreter elsewhere, such as a project's .venv, does not count.

        uv leaves out what it cannot start; its folder still counts, so that it can be made anew or removed.
        """
        if not self.folder.is_dir():
            return []
        inside = str(self.folder) + "/"
        found = {
            item.key: item
            for item in self.ask("--all-versions", "--only-installed")
            if (item.path or "").startswith(inside)
        }
        for path in self.folder.iterdir():
            match = FOLDER.match(path.name)
            if match and path.is_dir() and not path.is_symlink() and path.name not in found:
                found[path.name] = Python(match.group(1), path.name, str(path / "bin" / "python3"))
        return sorted(found.values(), key=lambda item: uv.version_key(item.version) or (), reverse=True)

    def available(self) -> list[Python]:
        """What could be downloaded for this host."""
        return self.ask("--all-versions", "--only-downloads")

    def require_checksums(self, pythons: Sequence[Python]) -> None:
        """Refuses entries of one's own list that uv would install unchecked."""
        address = self.options["downloads_json_url"]
        if not address or not pythons:
            return
        try:
            if address.startswith("file://"):
                text = Path(address[len("file://") :]).read_text(encoding="utf-8")
            else:
                text = open_url(address, timeout=60).read().decode("utf-8")
            data = json.loads(text)
        except Exception as error:  # noqa: BLE001 - open_url raises a dozen kinds
            raise uv.UvError(
                "downloads_unreadable",
                f"The list of downloads cannot be read: {error}",
                facts=[("Variable", "downloads_json_url"), ("Value", address)],
                rule="C5: uv brings versions the host does not have, from a mirror when one is configured",
                next_step="Check the address from the host, and that it is JSON.",
            )
        without = unchecked(data, pythons)
        if without:
            raise uv.UvError(
                "checksum_missing",
                "The list of downloads has no sha256 for {}.".format(", ".join(without)),
                facts=[("Variable", "downloads_json_url"), ("Value", address)],
                rule="nothing is installed unchecked; uv installs an entry without sha256 without any check",
                next_step="Add the archive's sha256 to its entry in the list (sha256sum ARCHIVE).",
            )

    def verify(self, python: Python) -> str | None:
        """Runs the interpreter as an unprivileged user. Returns what is wrong with it, or None."""
        path = python.path or str(self.folder / python.key / "bin" / "python3")
        account = None
        if self.options["verify_as"]:
            try:
                account = process.find_account(self.options["verify_as"])
            except KeyError:
                account = None
        if account is not None and self.runner.account.uid != 0:
            account = None
        try:
            done = self.runner.command([path, "-I", "-B", "-c", PROBE], listed=False, account=account)
        except uv.UvError as error:
            return error.what
        if not done.ok:
            return process.tail(done.stderr or done.stdout, 8) or f"exit status {done.returncode}"
        version = done.stdout.strip()
        return None if version == python.version else f"it says that it is Python {version or '(nothing)'}"

    def plan(self) -> list[Step]:
        """Decides for every request; collects what cannot be satisfied."""
        wrong = [request for request in self.options["versions"] if not REQUEST.match(request)]
        if wrong:
            raise uv.UvError(
                "version_invalid",
                "Not a Python version: {}.".format(", ".join(wrong)),
                facts=[("Variable", "versions"), ("Value", ", ".join(wrong))],
                rule='a version is written "3.13" or "3.13.5", as text: YAML reads 3.10 without quotes as the number 3.1',
                next_step='Write versions: ["3.13"].',
            )
        state = self.options["state"]
        installed = self.installed()
        steps: list[Step] = []
        missing = []
        available: list[Python] | None = None
        for request in dict.fromkeys(self.options["versions"]):
            here = any(matches(request, python.version) for python in installed)
            if available is None and state != "absent" and (state == "latest" or not here):
                available = self.available()
            found = decide(request, state, installed, available or [])
            if found is None:
                missing.append(request)
            else:
                steps += found
        if missing:
            offered = sorted(
                {item.version.rsplit(".", 1)[0] for item in available or []},
                key=lambda text: uv.version_key(text) or (),
            )
            raise uv.UvError(
                "version_unavailable",
                "uv offers no Python {} for this host.".format(", ".join(missing)),
                facts=[("Variable", "versions"), ("Offered", ", ".join(offered) or "(nothing)")],
                rule="C5: uv brings versions the host does not have, from a mirror when one is configured",
                next_step="Ask for a version that is offered, add it to the list at downloads_json_url, or pin a newer uv_version.",
            )
        return steps

    def carry_out(self, steps: Sequence[Step]) -> list[Step]:
        """Installs and removes; returns what was really done."""
        return [self.carry_out_one(step) for step in steps]

    def carry_out_one(self, step: Step) -> Step:
        """Installs, removes or proves one version."""
        if step.action == "remove":
            self.remove(step.python)
        elif step.action == "install":
            return self.install(step)
        elif not self.module.check_mode and self.verify(step.python):
            # An interpreter that no longer runs (a changed host, a half-finished copy) is made anew.
            self.require_checksums([step.python])
            return self.install(step._replace(action="reinstall"))
        return step

    def install(self, step: Step) -> Step:
        """Installs exactly one version and proves that it runs."""
        if self.module.check_mode:
            return step
        existed = (self.folder / step.python.key).exists()
        flags = ["--reinstall"] if existed else []
        argv = ["python", "install", "--no-bin", "--managed-python", "--no-progress", *flags, step.python.key]
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.runner.must(
            self.runner.run(*argv),
            f"Python {step.python.version} could not be installed.",
            "C5: uv brings versions the host does not have, from a mirror when one is configured; a wrong checksum is refused",
            "Read uv's words above; check mirror, downloads_json_url and the archive's sha256.",
            "install_failed",
            unreachable="Set python_mirror or python_downloads_json_url to an address that this host reaches (or `mirror` and "
            "`downloads_json_url` of this module), or take a version of the distribution.",
        )
        self.runner.result["changed"] = True
        trouble = self.verify(step.python._replace(path=None))
        if trouble:
            self.remove(step.python)
            raise uv.UvError(
                "python_does_not_run",
                f"Python {step.python.version} was installed, does not run on this host and was removed again.",
                words=trouble,
                facts=[("Key", step.python.key), ("User", self.options["verify_as"] or "(the module's)")],
                rule="an interpreter counts as installed when it starts, says the version asked for and can import ssl",
                next_step="Use a build for this host's system library (an older glibc needs an older build), or the distribution's.",
            )
        now = [item for item in self.installed() if item.key == step.python.key]
        path = now[0].path if now else str(self.folder / step.python.key / "bin" / "python3")
        return step._replace(python=step.python._replace(path=path))

    def remove(self, python: Python) -> None:
        """Removes exactly one version."""
        if self.module.check_mode:
            return
        self.runner.must(
            self.runner.run("python", "uninstall", "--managed-python", python.key),
            f"Python {python.version} could not be removed.",
            "only versions that uv manages in install_dir are removed",
            "Read uv's words above.",
            "remove_failed",
        )
        self.runner.result["changed"] = True

    def execute(self) -> dict[str, Any]:
        """The whole run."""
        runner = self.runner
        state = self.options["state"]
        try:
            runner.find()
        except uv.UvError as error:
            if not (runner.check and error.reason == "uv_missing"):
                raise
            # Check mode on a virgin host: the role uv would have installed it before.
            asked = [
                {"request": item, "version": item, "key": "", "path": None, "action": "install"}
                for item in self.options["versions"]
            ]
            runner.result.update(
                changed=state != "absent", pythons=[] if state == "absent" else asked, reason=error.reason
            )
            runner.result["msg"] = "versions are known once uv is on this host"
            return runner.result
        before = self.installed()
        steps = self.plan()
        self.require_checksums([step.python for step in steps if step.action == "install"])
        steps = self.carry_out(steps)
        runner.result["changed"] = any(step.action != "none" for step in steps)
        runner.result["pythons"] = [
            {"request": step.request, **step.python._asdict(), "action": step.action} for step in steps
        ]
        for entry in runner.result["pythons"]:
            entry.pop("url")
        if self.module._diff:
            gone = {step.python.key for step in steps if step.action == "remove"}
            came = {step.python.key for step in steps if step.action in ("install", "reinstall")}
            old = sorted(python.key for python in before)
            new = sorted((set(old) - gone) | came)
            runner.result["diff"] = {
                "before": "".join(key + "\n" for key in old),
                "after": "".join(key + "\n" for key in new),
                "before_header": str(self.folder),
                "after_header": str(self.folder),
            }
        return runner.result


def main() -> None:
    """Entry point."""
    os.umask(0o022)  # a host may have a stricter one, and the users of services read what is made here
    module = AnsibleModule(
        argument_spec={
            "versions": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "latest", "absent"], "default": "present"},
            "install_dir": {"type": "path", "default": "/opt/pyfleet/python"},
            "mirror": {"type": "str"},
            "downloads_json_url": {"type": "str"},
            "verify_as": {"type": "str", "default": "nobody"},
            "executable": {"type": "str"},
            "cache_dir": {"type": "path"},
            "system_certs": {"type": "bool"},
            "environment": {"type": "dict", "default": {}, "no_log": True},
            "timeout": {"type": "int", "default": 1800},
        },
        mutually_exclusive=[("mirror", "downloads_json_url")],
        supports_check_mode=True,
    )
    shelf = Shelf(module)
    try:
        result = shelf.execute()
    except uv.UvError as error:
        shelf.runner.fail(error)
    finally:
        shelf.runner.close()
    module.exit_json(**result)


if __name__ == "__main__":
    main()
