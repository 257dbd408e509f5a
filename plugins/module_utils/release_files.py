# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of one release: its source, its environment and scripts, and what stands in front of it."""

from __future__ import annotations

import base64
import contextlib
import glob
import io
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils.flow import Flow
from ansible_collections.pyfleet.runtime.plugins.module_utils.front import Front, write_release
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import Layout, write_file


class ReleaseFiles:
    """What a release owns on the host, besides its units."""

    def __init__(self, layout: Layout, release: str) -> None:
        self.layout = layout
        self.release = release

    def make_folders(self, uid: int, gid: int) -> None:
        """Makes the application's folders; its home belongs to its user, and the cache, into which a build may compile before systemd
        makes it for the first start."""
        releases = os.path.dirname(self.layout.release("x"))
        for folder in (self.layout.folder, releases, self.layout.settings, self.layout.run):
            os.makedirs(folder, mode=0o755, exist_ok=True)
        os.makedirs(self.layout.home, mode=0o700, exist_ok=True)
        os.makedirs(f"/var/cache/app-{self.layout.name}", mode=0o755, exist_ok=True)
        for folder in (self.layout.home, f"/var/cache/app-{self.layout.name}"):
            os.chown(folder, uid, gid)

    def unpack(self, uid: int, gid: int, archive: str, content: str) -> None:
        """Unpacks as root where nobody else can reach: a link planted meanwhile would let the archive write elsewhere."""
        target = self.layout.release(self.release)
        os.mkdir(target, 0o700)
        with contextlib.ExitStack() as stack:
            if content:
                source = stack.enter_context(tarfile.open(fileobj=io.BytesIO(base64.b64decode(content)), mode="r:gz"))
            else:
                source = stack.enter_context(tarfile.open(archive, "r:gz"))
            # Newer Pythons warn where none is chosen. The archive was made by our own action plugin, without escapes.
            source.extraction_filter = getattr(tarfile, "tar_filter", None)
            for member in source:
                source.extract(member, target)
        # What an extraction makes of owners differs between Pythons; all belongs to the application's user.
        for folder, folders, files in os.walk(target):
            for name in (*folders, *files):
                os.chown(os.path.join(folder, name), uid, gid, follow_symlinks=False)
        os.chmod(target, 0o750)  # noqa: S103 - the group is the user's own
        os.chown(target, uid, gid)

    def write_settings(self, payload: Mapping[str, Any], gid: int) -> None:
        """Writes what the release's units read, from the payload that the action plugin made."""
        folder = self.layout.release_settings(self.release)
        os.mkdir(folder, 0o755)
        environment = os.path.join(folder, "environment")
        write_file(environment, payload["environment"], 0o600)
        self._write_script(os.path.join(folder, "run"), payload["run"], gid)
        write_file(os.path.join(folder, "release.json"), json.dumps(payload["description"], indent=1) + "\n", 0o600)
        for index, script in payload["workers"].items():
            worker = f"{folder}:{index}"
            os.mkdir(worker, 0o755)
            for name in ("environment", "port"):
                os.symlink(os.path.join("..", self.release, name), os.path.join(worker, name))
            self._write_script(os.path.join(worker, "run"), script, gid)
        write_file(self.layout.build_environment, payload["build_environment"], 0o600)
        self._write_proxies(payload, gid)

    def _write_proxies(self, payload: Mapping[str, Any], gid: int) -> None:
        """What stands in front of the release: the chain's files, and Nginx's in legacy mode."""
        description, flow, front = payload["description"], payload.get("flow"), payload.get("front")
        folder = self.layout.release_settings(self.release)
        if flow or front:
            os.mkdir(os.path.join(folder, "units"), 0o755)
        if flow:
            Flow(self.layout).write(description["flow"]["key"], flow["files"])
            for name, text in flow["units"].items():
                write_file(os.path.join(folder, "units", name), text, 0o644)
            write_file(os.path.join(folder, "flow"), f"{description['flow']['key']}\n", 0o644)
            if flow["vcl"]:
                write_file(os.path.join(folder, "default.vcl"), flow["vcl"], 0o644)
                Flow(self.layout).check_vcl(self.release)
        project = os.path.join(self.layout.release(self.release), description["project_root"] or "")
        os.symlink(project.rstrip("/"), os.path.join(folder, "root"))
        if front:
            write_release(self.layout, description, front["files"], gid)
            outer = description["inner"][0] if flow else description
            Front(self.layout).write(
                description["front"], front["nginx"], front["users"], outer["candidates"][0], description["user"]
            )

    @staticmethod
    def _write_script(path: str, script: str, gid: int) -> None:
        """Commands may hold what is nobody else's business: root writes, the application's group runs."""
        write_file(path, script, 0o750)
        os.chown(path, 0, gid)

    def forget(self) -> None:
        """Removes the release's files; one that is not there is no error."""
        release = self.release
        shutil.rmtree(self.layout.release(release), ignore_errors=True)
        # workers have folders of their own, named after the release, a colon and their number
        for folder in (self.layout.release_settings(release), f"/var/cache/app-{self.layout.name}/{release}"):
            for each in glob.glob(f"{folder}*"):
                shutil.rmtree(each, ignore_errors=True)


__all__ = ["ReleaseFiles"]
