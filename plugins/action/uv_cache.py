# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build once, ship many: chooses who builds, and carries the bundle from the builder through the controller to the receivers.

Who does what stands in the journal, so that a step of a host that has no part in it costs no round trip.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.pyfleet.runtime.plugins.module_utils import shipping
from ansible_collections.pyfleet.runtime.plugins.module_utils.rollout import BROKEN, STOPPED
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.rolling import Rolling

MODULE = "pyfleet.runtime.uv_cache"


class ActionModule(ActionBase):
    """The task `pyfleet.runtime.uv_cache`."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Runs one state."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.variables = task_vars or {}
        self.given: dict[str, Any] = dict(self._task.args)
        host = str(self.variables.get("inventory_hostname"))
        self.rolling = Rolling(str(self.given.get("name")), host, check_mode=self._task.check_mode)
        self.ship: dict[str, Any] = dict(self.rolling.entry.get("ship") or {})
        states: dict[str, Callable[[], dict[str, Any]]] = {
            "elected": self._elected,
            "packed": self._packed,
            "awaited": self._awaited,
            "unpacked": self._unpacked,
        }
        step = states.get(str(self.given.get("state")), self._execute)
        return {**result, **step()}

    def _execute(self, **more: Any) -> dict[str, Any]:
        arguments = {**self.given, **more}
        answer: dict[str, Any] = self._execute_module(
            module_name=MODULE, module_args=arguments, task_vars=self.variables
        )
        return answer

    def _nothing(self, why: str) -> dict[str, Any]:
        return {"changed": False, "skipped": True, "skip_reason": why}

    # -- on the controller alone -------------------------------------------------------------------------------------------

    def _elected(self) -> dict[str, Any]:
        """What this host does: `builder`, `receiver`, `alone` or `none`."""
        rolling = self.rolling
        if not rolling.active:
            return {"changed": False, "role": shipping.ALONE, "builder": ""}
        role, builder = shipping.role_of(rolling.host, rolling.journal.entries(), rolling.run["hosts"])
        rolling.journal.note(rolling.host, ship={**self.ship, "role": role, "builder": builder})
        return {"changed": False, "role": role, "builder": builder}

    def _awaited(self) -> dict[str, Any]:
        """Whether this host is to build now, after the builders did. Without its builder a receiver does not begin."""
        role, builder = self.ship.get("role", shipping.ALONE), self.ship.get("builder", "")
        facts = {"changed": False, "role": role, "builder": builder, "go": role == shipping.ALONE}
        if role != shipping.RECEIVER or self.rolling.entry.get("outcome"):
            return facts
        entry = self.rolling.journal.entry(builder)
        ready = entry.get("outcome") not in BROKEN and (self._holds() or entry.get("bundle") or self._task.check_mode)
        if ready:
            return {**facts, "go": True}
        words = (
            f"Nothing was built here: {builder}, which builds for all hosts of its kind (app_build: once), did not deliver. "
            "The running release is untouched.\n"
            f"Next step: correct what failed on {builder}, then deploy again; or set app_build: every_host."
        )
        self.rolling.journal.note(self.rolling.host, outcome=STOPPED, message=words)
        if not self.rolling.journal.run().get("stopped"):
            why = f"{builder} could not build for the hosts of its kind ({self.ship.get('kind')})."
            self.rolling.journal.note_run(stopped=why)
        return {**facts, "msg": words}

    def _holds(self) -> bool:
        return self.ship.get("key") in (self.ship.get("held") or [])

    # -- the builder -------------------------------------------------------------------------------------------------------

    def _packed(self) -> dict[str, Any]:
        """Fetches the builder's bundle, when somebody needs it."""
        rolling = self.rolling
        if self.ship.get("role") != shipping.BUILDER or rolling.entry.get("outcome"):
            return self._nothing("Another host packs its cache.")
        if not shipping.waiting(rolling.host, rolling.journal.entries()):
            return self._nothing("All other hosts of this kind hold what they need.")
        if self._task.check_mode:
            return self._nothing("A dry run ships nothing.")
        with rolling.phase("ship") as phase:
            folder = self._make_tmp_path()
            try:
                remote = self._connection._shell.join_path(folder, "uv-cache.tar.gz")
                answer = self._execute(bundle=remote, key=self.ship["key"])
                if not answer.get("failed"):
                    answer = self._fetch(answer, remote)
            finally:
                self._remove_tmp_path(folder, force=True)
            phase["ok"] = not answer.get("failed")
            phase["words"] = _first_line(answer) if answer.get("failed") else f"{answer['bytes']} bytes packed"
        if not answer.get("failed"):
            facts = {name: answer[name] for name in ("sha256", "bytes", "path")}
            rolling.journal.note(rolling.host, bundle={**facts, "key": self.ship["key"]})
        return answer

    def _fetch(self, answer: dict[str, Any], remote: str) -> dict[str, Any]:
        """Brings the bundle to the controller, into the folder of this run, under its checksum's name."""
        place = self.rolling.journal.folder / "bundles"
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = place / f"{answer['sha256']}.tar.gz"
        arriving = place / f".{os.getpid()}-{answer['sha256']}"
        self._connection.fetch_file(remote, str(arriving))
        with arriving.open("rb") as file:
            digest = shipping.sha256_of(file)
        if digest != answer["sha256"]:
            arriving.unlink()
            return {
                "failed": True,
                "msg": f"The bundle of uv's cache changed on its way from {self.rolling.host} to the controller.\n"
                f"Value: sha256 {digest}\nRule: a bundle is sent on only if its sha256 is the builder's, {answer['sha256']}.\n"
                "Next step: deploy again; if it happens again, look at the disks and the connection.",
            }
        arriving.replace(path)
        return {**answer, "path": str(path)}

    # -- a receiver --------------------------------------------------------------------------------------------------------

    def _unpacked(self) -> dict[str, Any]:
        """Brings the bundle to a host that does not hold it yet."""
        rolling = self.rolling
        if self.ship.get("role") != shipping.RECEIVER or rolling.entry.get("outcome"):
            return self._nothing("This host receives nothing.")
        if self._holds():
            return self._nothing("This host holds what it needs.")
        if self._task.check_mode:
            return {"changed": True, "msg": "The uv cache of the builder would be received."}
        bundle = rolling.journal.entry(self.ship["builder"]).get("bundle") or {}
        with rolling.phase("ship") as phase:
            folder = self._make_tmp_path()
            try:
                remote = self._connection._shell.join_path(folder, "uv-cache.tar.gz")
                self._transfer_file(str(Path(bundle["path"])), remote)
                self._fixup_perms2([folder, remote])
                answer = self._execute(bundle=remote, sha256=bundle["sha256"], key=self.ship["key"])
            finally:
                self._remove_tmp_path(folder, force=True)
            phase["ok"] = not answer.get("failed")
            phase["words"] = _first_line(answer) if answer.get("failed") else f"{bundle['bytes']} bytes received"
        return answer


def _first_line(answer: dict[str, Any]) -> str:
    return (str(answer.get("msg") or "no message").splitlines() or [""])[0][:200]
