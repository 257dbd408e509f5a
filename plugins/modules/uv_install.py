#!/usr/bin/python
# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: uv_install
short_description: Install exactly one version of uv, with its configuration for the host
version_added: "0.1.0"
author:
  - pyfleet contributors (@pyfleet)
description:
  - Fetches uv once on the controller, from the wheel on the Python index, a URL or a file, checks it, and uploads it to those hosts
    that have another one. Hosts need neither pip nor the index for it.
  - A host that has it already costs one round trip, which writes C(uv.toml) too.
  - The programs are replaced by a rename, after the new uv has run on the host and has accepted the configuration; processes
    that run the old one go on.
attributes:
  check_mode:
    support: full
    description: Nothing is fetched or uploaded.
  diff_mode:
    support: full
    description: The version before and after, and the configuration file.
  platform:
    support: full
    platforms: posix
    description: Linux hosts.
  action:
    support: full
    description: Half of the work is done on the controller.
options:
  version:
    description: The exact version.
    type: str
    required: true
  source:
    description: Where the controller takes uv from.
    type: str
    choices: [wheel, url, file]
    default: wheel
  checksum:
    description:
      - The sha256 of the wheel or archive, or a mapping with one per kind of machine (C(x86_64), C(aarch64)). Required with V(url).
      - Without it a wheel is checked against the checksum that the index itself gives.
    type: raw
  url:
    description: Address of a wheel, a release archive or the binary. C({machine}) stands for the kind of machine.
    type: str
  file:
    description: File on the controller, a wheel, a release archive or the binary.
    type: str
  index_url:
    description: Python index that the controller asks. By default what its own uv or pip is configured for.
    type: str
  directory:
    description: Directory of the programs C(uv) and C(uvx).
    type: path
    default: /usr/local/bin
  config:
    description: Settings of C(uv.toml), as uv names them.
    type: dict
    default: {}
  indexes:
    description: Package indexes of C(uv.toml), in order.
    type: list
    elements: dict
    default: []
  python_mirror:
    description: Mirror of uv's Python downloads, for C(uv.toml).
    type: str
  python_downloads_json_url:
    description: List of Python downloads that stands in for uv's own, for C(uv.toml).
    type: str
  system_certs:
    description: Whether uv trusts the certificates of the host, for C(uv.toml).
    type: bool
  cache_dir:
    description: uv's cache, for C(uv.toml). By default each user has one.
    type: str
  config_path:
    description: The configuration file. Without any setting the file of this module is removed.
    type: path
    default: /etc/uv/uv.toml
  force:
    description: Replace a configuration file that this module did not write.
    type: bool
    default: false
  controller_cache:
    description: Where the controller keeps what it fetched. Default C(~/.cache/pyfleet/uv).
    type: str
  state_file:
    description: Where the host remembers which uv it was given.
    type: path
    default: /var/lib/pyfleet/uv.json
  config_text:
    description: Set by the controller's half.
    type: str
  identities:
    description: Set by the controller's half.
    type: dict
    default: {}
  archive:
    description: Set by the controller's half.
    type: path
  programs:
    description: Set by the controller's half.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: The version this collection was tested with
  pyfleet.runtime.uv_install:
    version: 0.13.8

- name: From a file on the controller, with the company's index
  pyfleet.runtime.uv_install:
    version: 0.13.8
    source: file
    file: files/uv-x86_64-unknown-linux-gnu.tar.gz
    checksum: "{{ uv_archive_sha256 }}"
    indexes:
      - {name: internal, url: "https://packages.example.org/simple", default: true}
"""

RETURN = r"""
version_before:
  description: The version that was there.
  returned: success
  type: str
  sample: 0.12.24
version:
  description: The version that is there now.
  returned: success
  type: str
machine:
  description: The host's kind of machine.
  returned: always
  type: str
  sample: x86_64
needed:
  description: Whether the programs had to be replaced.
  returned: success
  type: bool
config:
  description: What happened to the configuration file, one of none, created, changed and removed.
  returned: success
  type: str
reason:
  description: Why it failed, as a word for programs.
  returned: on failure
  type: str
"""

import hashlib
import json
import os
import platform
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils import process, uv, uv_config

PROGRAMS = ("uv", "uvx")


def sha256(path: Path) -> str:
    """The sha256 of a file; empty when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()


class Install:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.options: dict[str, Any] = module.params
        self.check = bool(module.check_mode)
        self.directory = Path(self.options["directory"])
        self.config = Path(self.options["config_path"])
        self.state = Path(self.options["state_file"])
        self.machine = platform.machine()
        identities = self.options["identities"]
        self.identity = identities.get(self.machine) or identities.get("") or "unknown:" + self.options["version"]
        self.environment, _dropped = process.clean_environment(process.current_account(), {}, os.environ)
        self.result: dict[str, Any] = {"changed": False, "machine": self.machine, "needed": False, "config": "none"}
        self.diffs: list[dict[str, str]] = []

    def run_uv(self, program: Path, *argv: str) -> process.Completed:
        """Runs a uv; a failure to start is a failure like others."""
        try:
            return process.run([str(program), *argv], cwd="/", environment=self.environment, timeout=60)
        except process.ProcessError as error:
            return process.Completed(str(program), 127, "", str(error), 0.0)

    def installed(self) -> tuple[str | None, bool]:
        """The version that is there, and whether it is exactly what is wanted: same source, same bytes as were brought."""
        program = self.directory / "uv"
        if not program.exists():
            return None, False
        version = uv.parse_version_output(self.run_uv(program, "--version").stdout)
        try:
            state = json.loads(self.state.read_text(encoding="utf-8"))
            known = (
                state["identity"] == self.identity
                and state["directory"] == str(self.directory)
                and bool(state["programs"])
            )
            same = known and all(sha256(self.directory / name) == digest for name, digest in state["programs"].items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            same = False
        return version, same and version == self.options["version"]

    def stage(self, folder: Path) -> dict[str, Path]:
        """Unpacks what the controller sent, and proves that it is what was sent and runs here."""
        staged: dict[str, Path] = {}
        with tarfile.open(self.options["archive"]) as tar:
            for item in tar:
                stream = tar.extractfile(item) if item.isfile() and item.name in PROGRAMS else None
                if stream is None:
                    continue
                path = folder / item.name
                with path.open("wb") as target:
                    shutil.copyfileobj(stream, target, 1 << 20)
                path.chmod(0o755)
                staged[item.name] = path
        for name, digest in self.options["programs"].items():
            if name not in staged or sha256(staged[name]) != digest:
                raise uv.UvError(
                    "upload_damaged",
                    f"{name} did not arrive as it was sent.",
                    rule="programs are checked before they replace others",
                    next_step="Check the free space of the host (df -h) and run again.",
                )
        done = self.run_uv(staged["uv"], "--version")
        version = uv.parse_version_output(done.stdout)
        if not done.ok or version != self.options["version"]:
            raise uv.UvError(
                "uv_broken",
                f"The new uv does not run here as {self.options['version']}.",
                words=done.stderr or done.stdout,
                facts=[("Machine", self.machine)],
                rule="the new uv has run on the host before it replaces the old one",
                next_step="Use a uv for this machine and system library (uv_source, uv_url, uv_file), of exactly uv_version.",
            )
        return staged

    def accept_config(self, text: str, program: Path) -> None:
        """Lets uv itself read the configuration."""
        with tempfile.NamedTemporaryFile("w", prefix="uv-", suffix=".toml", encoding="utf-8") as staged:
            staged.write(text)
            staged.flush()
            done = self.run_uv(program, "--config-file", staged.name, "cache", "dir")
            if not done.ok:
                raise uv.UvError(
                    "config_invalid",
                    "uv does not accept its configuration.",
                    words=done.stderr.replace(staged.name, str(self.config)),
                    facts=[("Variable", "uv_config, uv_indexes, uv_python_mirror, uv_system_certs, uv_cache_dir")],
                    rule="a configuration that uv refuses never replaces the one there is",
                    next_step="Correct the setting that uv names.",
                )

    def write_config(self, program: Path | None) -> None:
        """Writes uv.toml, or removes ours when there is no setting; another's is never overwritten silently."""
        text = self.options["config_text"]
        if text is None:
            return
        try:
            before: str | None = self.config.read_text(encoding="utf-8", errors="replace")
        except OSError:
            before = None
        ours = before is not None and before.startswith(uv_config.MARKER)
        if before == text or (not text and (before is None or not ours)):
            return
        if before is not None and not ours and not self.options["force"]:
            raise uv.UvError(
                "config_not_ours",
                f"{self.config} was not written by this collection.",
                facts=[("Variable", "uv_config_path"), ("Value", str(self.config))],
                rule="a file that somebody else wrote is never overwritten silently",
                next_step="Move its settings to uv_config and remove it, or set uv_force: true.",
            )
        if text and program is not None:
            self.accept_config(text, program)
        self.diffs.append(
            {"before": before or "", "after": text, "before_header": str(self.config), "after_header": str(self.config)}
        )
        self.result["config"] = "removed" if not text else "created" if before is None else "changed"
        self.result["changed"] = True
        if self.check:
            return
        if not text:
            self.config.unlink()
            return
        self.config.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.replace(self.config, text, 0o644)

    @staticmethod
    def replace(path: Path, text: str, mode: int) -> None:
        """Writes a file by a rename."""
        descriptor, name = tempfile.mkstemp(dir=str(path.parent), prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(name).chmod(mode)
        Path(name).replace(path)

    def execute(self) -> None:
        """Looks, and when the controller sent an archive, installs."""
        version, same = self.installed()
        wanted = self.options["version"]
        self.result.update(version_before=version, version=wanted, needed=not same)
        if not same:
            self.result["changed"] = True
            program = str(self.directory / "uv")
            before = f"uv {version}\n" if version else ""
            # The same version from elsewhere: the diff says why it is replaced.
            after = (
                f"uv {wanted}"
                + (" (replaced: not the one that was brought from here)" if version == wanted else "")
                + "\n"
            )
            self.diffs.append({"before": before, "after": after, "before_header": program, "after_header": program})
        current = self.directory / "uv" if version else None
        if same:
            self.write_config(current)
        elif self.options["archive"]:
            self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            # In the directory itself: a rename does not leave its file system.
            with tempfile.TemporaryDirectory(dir=str(self.directory), prefix=".uv-") as folder:
                staged = self.stage(Path(folder))
                self.write_config(staged["uv"])
                for name, path in staged.items():
                    path.replace(self.directory / name)
            self.state.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            state = {"identity": self.identity, "directory": str(self.directory), "programs": self.options["programs"]}
            self.replace(self.state, json.dumps(state, indent=2) + "\n", 0o644)
        elif self.check:
            # Another version may know other settings: only the new uv can judge, and it is not here.
            self.write_config(None)
        else:
            self.result["changed"] = False  # nothing was: the controller fetches uv and asks again
        if self.module._diff and self.diffs:
            self.result["diff"] = self.diffs
        what = "uv " + wanted
        self.result["msg"] = what + (" is there" if same else " replaces " + version if version else " is new")


def main() -> None:
    """Entry point."""
    os.umask(0o022)  # a host may have a stricter one, and the users of services read what is made here
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "source": {"type": "str", "choices": ["wheel", "url", "file"], "default": "wheel"},
            "checksum": {"type": "raw"},
            "url": {"type": "str"},
            "file": {"type": "str"},
            "index_url": {"type": "str"},
            "directory": {"type": "path", "default": "/usr/local/bin"},
            "config": {"type": "dict", "default": {}},
            "indexes": {"type": "list", "elements": "dict", "default": []},
            "python_mirror": {"type": "str"},
            "python_downloads_json_url": {"type": "str"},
            "system_certs": {"type": "bool"},
            "cache_dir": {"type": "str"},
            "config_path": {"type": "path", "default": "/etc/uv/uv.toml"},
            "force": {"type": "bool", "default": False},
            "controller_cache": {"type": "str"},
            "state_file": {"type": "path", "default": "/var/lib/pyfleet/uv.json"},
            "config_text": {"type": "str"},
            "identities": {"type": "dict", "default": {}},
            "archive": {"type": "path"},
            "programs": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    install = Install(module)
    try:
        install.execute()
    except uv.UvError as error:
        install.result.update(reason=error.reason, changed=False)
        module.fail_json(msg=error.render(), **install.result)
    module.exit_json(**install.result)


if __name__ == "__main__":
    main()
