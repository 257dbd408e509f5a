#!/usr/bin/python
# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image
short_description: Builds a container image of an application from the plan of its deployment
version_added: "0.1.0"
description:
  - Makes the same plan as a deployment does, a Containerfile out of it, and has podman or docker build the image. The role C(image) and
    the playbook C(image.yml) collect the variables.
  - The image is built in stages. Dependencies are a layer of their own, so that a change of code builds the code alone. The application
    runs as an unprivileged user, without uv, unless a command calls it, and with the health check of the contract.
  - What the build needs of the application's environment is a mount, and in no layer. Nothing secret is in the image.
  - An image that was made of the same release, the same images below it and the same settings is not built again.
author:
  - pyfleet contributors (@pyfleet)
options:
  settings:
    description: Settings of the application, as the role C(app) collects them.
    type: dict
    default: {}
  env:
    description: Environment of the application. No value is shown.
    type: dict
    default: {}
  source:
    description: One of C({path, exclude}), C({git, version, exclude}) or C({archive, checksum, exclude}).
    type: dict
    default: {}
  image:
    description: The variables of the role C(image), without their prefix.
    type: dict
    default: {}
  uv:
    description: Version, origin and configuration of uv, as M(pyfleet.runtime.uv_install) takes them.
    type: dict
    default: {}
  engine:
    description: What builds.
    type: str
    choices: [podman, docker]
    default: podman
  build_arguments:
    description: Further arguments of C(build).
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds that the build may take.
    type: int
    default: 1800
  tag:
    description: Set by the controller's half.
    type: str
  inputs:
    description: Set by the controller's half.
    type: str
  bases:
    description: Set by the controller's half.
    type: dict
    default: {}
  context:
    description: Set by the controller's half.
    type: path
  uv_archive:
    description: Set by the controller's half.
    type: path
  secrets:
    description: Set by the controller's half.
    type: dict
    default: {}
  hidden:
    description: Set by the controller's half.
    type: list
    elements: str
    default: []
  env_file:
    description: Set by the controller's half.
    type: path
  env_text:
    description: Set by the controller's half.
    type: str
attributes:
  check_mode:
    description: Says whether an image would be built. Nothing is built or pulled.
    support: full
  diff_mode:
    description: Shows the Containerfile of an image that is built.
    support: full
"""

EXAMPLES = r"""
- name: Build the image
  pyfleet.runtime.image:
    settings: "{{ app__settings }}"
    env: "{{ app_env }}"
    source: "{{ app_source }}"
    image: {base: localhost/python:trixie}
    uv: {version: 0.13.8}
"""

RETURN = r"""
image:
  description: The image.
  returned: success, but not where check mode would build it
  type: dict
  contains:
    tag: {description: Name and tag; the tag is the release's id unless image_tag says otherwise., type: str, returned: always}
    id: {description: Its id., type: str, returned: always}
    digest: {description: The digest of its manifest. Docker gives none before the image is pushed., type: str, returned: always}
    size: {description: Bytes of all its layers., type: int, returned: always}
  sample: {tag: "localhost/shop:0123456789ab", id: sha256:…, digest: sha256:…, size: 231276544}
release:
  description: Id of the release, the same as on hosts.
  returned: success
  type: str
  sample: 0123456789ab
containerfile:
  description: The Containerfile.
  returned: success
  type: str
environment:
  description: Names of the variables that stand in the image.
  returned: success
  type: list
  elements: str
port:
  description: Where the application listens in the container.
  returned: success
  type: int
commands:
  description: The engine's commands, without secrets.
  returned: always
  type: list
  elements: str
seconds:
  description: What the build took.
  returned: when it was built
  type: float
reason:
  description: Why it failed, as a word for programs.
  returned: on failure
  type: str
  sample: lock_stale
"""

import hashlib
import json
import os
import platform
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils import containerfile, environment, process, uv
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding
from ansible_collections.pyfleet.runtime.plugins.module_utils.hidden import keep_hidden

#: Tells an image that was made of the same things.
LABEL = "pyfleet.inputs"
SPEC: dict[str, dict[str, Any]] = {
    "settings": {"type": "dict", "default": {}},
    "env": {"type": "dict", "default": {}, "no_log": True},
    "source": {"type": "dict", "default": {}},
    "image": {"type": "dict", "default": {}},
    "uv": {"type": "dict", "default": {}},
    "engine": {"type": "str", "choices": list(containerfile.ENGINES), "default": "podman"},
    "build_arguments": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": 1800},
    "tag": {"type": "str"},
    "inputs": {"type": "str"},
    "bases": {"type": "dict", "default": {}},
    "context": {"type": "path"},
    "uv_archive": {"type": "path"},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "hidden": {"type": "list", "elements": "str", "default": [], "no_log": True},
    "env_file": {"type": "path"},
    "env_text": {"type": "str", "no_log": True},
}


class Build:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.options: dict[str, Any] = dict(module.params)
        self.secrets: list[str] = self.options["hidden"]
        keep_hidden(module, ("env", "secrets", "hidden", "env_text"), self.secrets)
        self.result: dict[str, Any] = {"changed": False, "needed": False, "machine": platform.machine(), "commands": []}
        self.program = shutil.which(self.options["engine"]) or ""

    def run(self) -> NoReturn:
        """Looks whether the image is there, and builds it when it is not."""
        options, check = self.options, bool(self.module.check_mode)
        if not self.program:
            self.fail(finding("image_engine", "image_engine", options["engine"]))
        ids = [self.base(variable, name, check) for variable, name in sorted(options["bases"].items())]
        inputs = hashlib.sha256(json.dumps([options["inputs"], ids]).encode()).hexdigest()
        there = self.inspect(options["tag"])
        if there.get("labels", {}).get(LABEL) != inputs:
            self.result["needed"] = True
            if options["context"] and not check:
                self.build(inputs)
                there = self.inspect(options["tag"])
            elif not check:
                self.module.exit_json(**self.result)
            self.result["changed"] = True
        if there and not (check and self.result["needed"]):
            self.result["image"] = {"tag": options["tag"], **{key: there[key] for key in ("id", "digest", "size")}}
        self.write_environment(check)
        self.module.exit_json(**self.result)
        raise SystemExit(0)  # exit_json never returns; this tells the type checker

    def engine(self, *argv: str, listed: bool = True, timeout: float = 120) -> process.Completed:
        """Runs the engine in the module's own environment: its storage, login and proxies are this user's."""
        command = [self.program, *argv]
        if listed:
            self.result["commands"].append(process.command_line(command, self.secrets))
        return process.run(
            command,
            cwd="/",
            environment={**os.environ, "DOCKER_BUILDKIT": "1"},
            timeout=timeout,
            merge="build" in argv[:1],
            secrets=self.secrets,
        )

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine knows of an image; nothing when it is not there."""
        done = self.engine("image", "inspect", name, listed=False)
        if not done.ok:
            return {}
        (known,) = json.loads(done.stdout)
        labels = (known.get("Config") or {}).get("Labels") or known.get("Labels") or {}
        return {
            "id": known["Id"],
            "digest": known.get("Digest") or "",
            "size": int(known.get("Size") or 0),
            "labels": labels,
        }

    def base(self, variable: str, name: str, check: bool) -> str:
        """The id of an image to build on, which is pulled when it is not there."""
        known = self.inspect(name)
        if not known and not check:
            done = self.engine("pull", name, timeout=self.options["timeout"])
            if not done.ok:
                problem = finding("image_base_unavailable", variable, name, engine=self.options["engine"])
                self.fail(problem, process.tail(done.stderr or done.stdout))
            known = self.inspect(name)
        return str(known.get("id", ""))

    def build(self, inputs: str) -> None:
        """Unpacks the context, and lets the engine build. Secrets lie in memory, where there is some, and go away with the build."""
        options = self.options
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with (
            tempfile.TemporaryDirectory(prefix="pyfleet-image-") as folder,
            tempfile.TemporaryDirectory(prefix="pyfleet-image-", dir=memory) as private,
        ):
            for archive, wanted in ((options["context"], None), (options["uv_archive"], "uv")):
                with tarfile.open(archive) as tar:
                    for member in tar.getmembers():
                        if wanted in (None, member.name):
                            tar.extract(member, folder, set_attrs=False)
                            os.chmod(Path(folder, member.name), 0o755 if member.mode & 0o100 else 0o644)
                            # An engine that looks at times must not take what is the same for something new.
                            os.utime(Path(folder, member.name), (0, 0))
            argv = ["build", "--file", f"{folder}/Containerfile", "--tag", options["tag"]]
            argv += ["--label", f"{LABEL}={inputs}"]
            if options["engine"] == "podman":
                argv += ["--format", "docker", "--layers"]  # OCI's own format has no health check
            else:
                # podman hands proxies to the build by itself; neither leaves them in the image.
                argv += [part for name in _proxies() for part in ("--build-arg", name)]
            for name, text in sorted(options["secrets"].items()):
                file = Path(private, name)
                file.touch(mode=0o600)
                file.write_text(text, encoding="utf-8")
                argv += ["--secret", f"id={name},src={file}"]
            done = self.engine(*argv, *options["build_arguments"], folder, timeout=options["timeout"])
        self.result["seconds"] = round(done.seconds, 1)
        if not done.ok:
            self.failed(done)

    def failed(self, done: process.Completed) -> NoReturn:
        """Tells why, as precisely as the build's words allow."""
        told, words = containerfile.read_failure(done.stdout)
        bases = self.options["bases"]
        if told in ("bash", "python"):
            self.fail(finding(f"image_no_{told}", "image_base", bases["image_base"]))
        if told:
            self.fail(finding("image_hook", told, "(secret)"), words)
        verdict = uv.classify_failure(words)
        if verdict.reason in _UV_REASONS:
            what = "uv could not install what uv.lock says."
            self.end(uv.UvError(verdict.reason, what, words=words, rule=verdict.rule, next_step=verdict.next_step))
        what = "it took too long (image_timeout)" if done.timed_out else f"{self.options['engine']} build"
        self.fail(finding("image_build_failed", "image_engine", what), words)

    def write_environment(self, check: bool) -> None:
        """The file for --env-file, which only its owner reads."""
        path, text = self.options["env_file"], self.options["env_text"]
        if not path or text is None:
            return
        file = Path(path)
        wanted = text.encode("utf-8", "surrogateescape")
        if file.is_file() and file.read_bytes() == wanted and file.stat().st_mode & 0o777 == 0o600:
            return
        self.result["changed"] = True
        if check:
            return
        descriptor, scratch = tempfile.mkstemp(dir=str(file.parent), prefix=f".{file.name}.")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(wanted)
        os.replace(scratch, path)

    def fail(self, problem: Finding, words: str = "") -> NoReturn:
        """Ends the module with a finding."""
        facts = [("Variable", problem.variable), ("Value", problem.value)]
        self.end(
            uv.UvError(
                problem.code, problem.message, words=words, facts=facts, rule=problem.rule, next_step=problem.next_step
            )
        )

    def end(self, error: uv.UvError) -> NoReturn:
        """Ends the module with what went wrong."""
        self.module.fail_json(msg=environment.scrub(error.render(), self.secrets), reason=error.reason, **self.result)
        raise SystemExit(1)  # fail_json never returns; this tells the type checker


#: What uv says of a lock, an index or a Python reads the same wherever it builds.
_UV_REASONS = frozenset({"lock_stale", "index_unreachable", "index_unauthorized", "hash_mismatch", "disk_full"})


def _proxies() -> list[str]:
    return [name for name in process.KEPT_FROM_OUTSIDE if name.lower().endswith("_proxy") and os.environ.get(name)]


def main() -> None:
    """Entry point."""
    os.umask(0o022)  # a host may have a stricter one, and the users of services read what is made here
    module = AnsibleModule(SPEC, supports_check_mode=True)
    try:
        Build(module).run()
    except (OSError, process.ProcessError, tarfile.TarError, ValueError) as error:
        module.fail_json(msg=f"The image cannot be built: {error}")


if __name__ == "__main__":
    main()
