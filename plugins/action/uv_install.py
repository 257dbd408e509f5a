# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the host first, and only fetches and uploads uv when the host has another one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.pyfleet.runtime.plugins.module_utils import uv, uv_config
from ansible_collections.pyfleet.runtime.plugins.plugin_utils import uv_fetch

MODULE = "pyfleet.runtime.uv_install"


class ActionModule(ActionBase):
    """The controller's half of the module of the same name."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = {name: value for name, value in self._task.args.items() if value is not None}
        version = str(arguments.get("version") or "")
        try:
            checksums = self._checksums(arguments)
            source = self._source(arguments, version)
            digest = uv_fetch.file_checksum(Path(source.file)) if source.kind == "file" else ""
        except uv_fetch.FetchError as error:
            raise AnsibleActionFail(str(error)) from error
        text = self._config(arguments, version)
        sent = {
            name: arguments[name]
            for name in ("version", "directory", "config_path", "force", "state_file")
            if name in arguments
        }
        sent.update(
            config_text=text,
            # The host knows its own kind of machine; the controller does not, before it asks.
            identities={
                machine: uv_fetch.Source(
                    source.kind, version, checksums.get(machine) or checksums.get("", "")
                ).identity(digest)
                for machine in (*uv_fetch.MACHINES, "")
            },
        )
        answer = self._ask(sent, task_vars)
        if answer.get("needed") and not answer.get("failed") and not self._task.check_mode:
            fetched = self._fetch(arguments, source, checksums, str(answer.get("machine")))
            folder = self._make_tmp_path()
            remote = self._connection._shell.join_path(folder, "uv.tar.gz")
            self._transfer_file(str(fetched.archive), remote)
            self._fixup_perms2((folder, remote))
            answer = self._ask({**sent, "archive": remote, "programs": dict(fetched.programs)}, task_vars)
        result.update(answer)
        return result

    def _fetch(
        self, arguments: Mapping[str, Any], source: uv_fetch.Source, checksums: Mapping[str, str], machine: str
    ) -> uv_fetch.Fetched:
        """Brings uv for one kind of machine to the controller."""
        chosen = uv_fetch.Source(
            source.kind, source.version, checksums.get(machine) or checksums.get("", ""),
            source.url.replace("{machine}", machine), source.file, source.index_url,
        )  # fmt: skip
        if chosen.kind == "url" and not chosen.checksum:
            raise AnsibleActionFail(
                f"There is no checksum for {machine}.\n"
                "Rule:      uv from a URL is checked against uv_checksum\n"
                f"Next step: Set uv_checksum to the archive's sha256, or to a mapping with the key {machine}."
            )
        cache = Path(str(arguments.get("controller_cache") or uv_fetch.default_cache())).expanduser()
        try:
            return uv_fetch.fetch(chosen, machine, cache)
        except (uv_fetch.FetchError, OSError) as error:
            raise AnsibleActionFail(str(error)) from error

    def _ask(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=task_vars)
        return answer

    def _checksums(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        """The checksums by machine; one for all stands under the empty name."""
        given = arguments.get("checksum") or {}
        entries = given if isinstance(given, Mapping) else {"": given}
        return {str(machine): uv_fetch.normal_checksum(str(value)) for machine, value in entries.items() if value}

    def _source(self, arguments: Mapping[str, Any], version: str) -> uv_fetch.Source:
        """Where uv comes from, checked as far as the controller can."""
        problems = []
        kind = str(arguments.get("source") or "wheel")
        if uv.version_key(version) is None:
            problems.append(
                f"uv_version is not a version: {version or '(not set)'}. Write the exact one, for example 0.13.8."
            )
        elif uv.is_older(version, uv.MINIMUM_VERSION):
            problems.append(
                f"uv_version {version} is older than {uv.MINIMUM_VERSION}, the first that uv_sync can drive."
            )
        if kind not in ("wheel", "url", "file"):
            problems.append(f"uv_source is {kind}. It is wheel, url or file.")
        if kind == "url" and not arguments.get("url"):
            problems.append("uv_source is url, and uv_url is not set.")
        file = ""
        if kind == "file":
            if not arguments.get("file"):
                problems.append("uv_source is file, and uv_file is not set.")
            else:
                file = str(self._loader.path_dwim(str(arguments["file"])))
                if not Path(file).is_file():
                    problems.append(f"uv_file is not a file on the controller: {file}.")
        if problems:
            raise AnsibleActionFail(
                "\n".join(["uv cannot be installed, nothing was changed:", *("- " + item for item in problems)])
            )
        return uv_fetch.Source(
            kind,
            version,
            url=str(arguments.get("url") or ""),
            file=file,
            index_url=str(arguments.get("index_url") or ""),
        )

    def _config(self, arguments: Mapping[str, Any], version: str) -> str:
        """The text of uv.toml."""
        settings = uv_config.effective(
            version,
            arguments.get("config") or {},
            arguments.get("indexes") or [],
            str(arguments.get("python_mirror") or ""),
            str(arguments.get("python_downloads_json_url") or ""),
            arguments.get("system_certs"),
            str(arguments.get("cache_dir") or ""),
        )
        problems = uv_config.problems(settings)
        if problems:
            raise AnsibleActionFail(
                "\n".join(["uv.toml cannot be written, nothing was changed:", *("- " + item for item in problems)])
            )
        return uv_config.render(settings)
