# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans the application, makes the build context, and sends it only to a place that has no such image yet."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.pyfleet.runtime.plugins.action import uv_install
from ansible_collections.pyfleet.runtime.plugins.action.plan import make
from ansible_collections.pyfleet.runtime.plugins.module_utils import containerfile
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import secret_values
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding, from_dict
from ansible_collections.pyfleet.runtime.plugins.plugin_utils import image_context, uv_fetch
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.deployment import Deployment, DeploymentError

MODULE = "pyfleet.runtime.image"


class ActionModule(uv_install.ActionModule):
    """The task `pyfleet.runtime.image`."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Asks the place of the build first; builds there when it has another image, or none."""
        result = super(uv_install.ActionModule, self).run(tmp, task_vars)
        given: dict[str, Any] = dict(self._task.args)
        wanted: dict[str, Any] = given.get("image") or {}
        of_uv: dict[str, Any] = given.get("uv") or {}
        settings = _settings(wanted, given["settings"]["name"])
        bundle = str(wanted.get("ca_bundle") or "")
        try:
            local = self._connection.transport == "local"
            early = containerfile.check(settings) + containerfile.check_place(wanted, local=local)
            if early:
                raise DeploymentError(early)
            made = make({**given, "info": {}}, check_mode=self._task.check_mode, builds=True)
            image = _image(made, settings, bool(bundle))
        except DeploymentError as error:
            return {**result, "failed": True, "msg": str(error), "codes": [item.code for item in error.findings]}
        try:
            certificates = Path(os.getcwd(), bundle).read_text(encoding="utf-8") if bundle else ""
            checksums, source = self._checksums(of_uv), self._source(of_uv, str(of_uv.get("version") or ""))
            digest = uv_fetch.file_checksum(Path(source.file)) if source.kind == "file" else ""
        except (uv_fetch.FetchError, OSError) as error:
            raise AnsibleActionFail(str(error)) from error
        health = image_context.health_program(image.health) if image.health else None
        toml = self._config(of_uv, source.version)
        # Of the source the digest, because a checkout has other times each time and the same content; of uv the origin and its checksums.
        # Both themselves are only read for a build.
        made_of = [
            image.text,
            sorted(image.scripts.items()),
            hashlib.sha256(health or b"").hexdigest(),
            toml,
            made.source.digest,
            wanted.get("build_arguments") or [],
            source.identity(digest),
            sorted(checksums.items()),
            certificates,
        ]
        secrets = {containerfile.BUILD_ENV: image.build_env}
        if certificates:
            secrets[containerfile.CA_BUNDLE] = certificates
        sent: dict[str, Any] = {
            "engine": wanted.get("engine") or "podman",
            "build_arguments": wanted.get("build_arguments") or [],
            "timeout": wanted.get("timeout") or 1800,
            "tag": f"{settings.repository}:{wanted.get('tag') or made.release}",
            "inputs": hashlib.sha256(json.dumps(made_of).encode()).hexdigest(),
            "bases": {"image_base": settings.base, "image_build_base": settings.builder},
            "hidden": secret_values({**made.plan["build"]["environment"], **made.plan["environment"]}),
            "env_file": os.path.join(os.getcwd(), wanted["env_file"]) if wanted.get("env_file") else None,
            "env_text": image.env_file,
        }
        answer = self._module(sent, task_vars)
        if answer.get("needed") and not answer.get("failed") and not self._task.check_mode:
            fetched = self._fetch(of_uv, source, checksums, str(answer.get("machine")))
            folder = self._make_tmp_path()
            remote = {name: self._connection._shell.join_path(folder, f"{name}.tar.gz") for name in ("context", "uv")}
            with tempfile.NamedTemporaryFile() as local:
                local.write(image_context.pack(image.text, image.scripts, health, toml, Path(made.source.archive)))
                local.flush()
                self._transfer_file(local.name, remote["context"])
            self._transfer_file(str(fetched.archive), remote["uv"])
            self._fixup_perms2((folder, *remote.values()))
            try:
                more = {"context": remote["context"], "uv_archive": remote["uv"], "secrets": secrets}
                answer = self._module({**sent, **more}, task_vars)
            finally:
                self._remove_tmp_path(folder, force=True)
        if answer.get("failed"):
            return {**result, **answer}
        if answer.get("needed") and self._task.diff:
            header = str(sent["tag"])
            result["diff"] = {
                "before": "",
                "after": image.text,
                "before_header": "no such image",
                "after_header": header,
            }
        return {
            **result,
            **answer,
            "release": made.release,
            "containerfile": image.text,
            "environment": sorted(image.environment),
            "port": image.port,
            "warnings": _warnings(made, image, bool(wanted.get("env_file"))),
        }

    def _module(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=task_vars)
        return answer


def _settings(wanted: dict[str, Any], name: str) -> containerfile.Settings:
    return containerfile.Settings(
        base=str(wanted.get("base") or ""),
        build_base=str(wanted.get("build_base") or ""),
        repository=str(wanted.get("repository") or f"localhost/{name}"),
        user=str(wanted.get("user") or "10001:10001"),
        python=str(wanted.get("python") or "auto"),
        source=bool(wanted.get("source", True)),
        public_variables=tuple(str(name) for name in wanted.get("public_variables") or []),
    )


def _image(made: Deployment, settings: containerfile.Settings, certificates: bool) -> containerfile.Image:
    """The image of a deployment. Raises DeploymentError with every error at once."""
    pyproject = made.source.texts.get(posixpath.join(made.plan["project_root"] or "", "pyproject.toml"))
    image = containerfile.make_image(
        made.plan,
        settings,
        root=os.path.join(made.settings["root"], made.settings["name"]),
        release=made.release,
        accept_2xx=bool(made.settings.get("health_accept_2xx")),
        is_package=image_context.is_package(pyproject),
        certificates=certificates,
    )
    errors = [item for item in image.findings if item.severity == "error"]
    if errors:
        raise DeploymentError(errors)
    return image


def _warnings(made: Deployment, image: containerfile.Image, env_file: bool) -> list[str]:
    """What the plan and the image warn of, without what is about hosts."""
    found: list[Finding] = [from_dict(item) for item in made.plan["warnings"]]
    found = [item for item in found if item.code not in containerfile.ABOUT_HOSTS]
    found += [item for item in image.findings if item.severity != "error"]
    if env_file and image.several_lines:
        found.append(finding("image_several_lines", "image_env_file", ", ".join(image.several_lines)))
    return [item.render() for item in found]
