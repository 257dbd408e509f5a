#!/usr/bin/python
# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Prepares, switches, rolls back, prunes and removes the releases of an application
version_added: "0.1.0"
description:
  - A release carries all it needs, that is source, virtual environment, run script and variables, and one generic systemd unit per
    application runs any release of it. The links C(current) and C(previous) say which one serves and which one to go back to.
  - V(prepared) and the upload of the source are driven by the action plugin of the same name, which knows the plan.
  - V(active) starts the release beside the running one, checks its health, leads the public port to it and lets the old one
    drain, all in one call, so that the host finishes or reverts by itself when the controller goes away. It ends with what
    V(pruned) does.
author:
  - pyfleet contributors (@pyfleet)
options:
  name:
    description: Name of the application.
    type: str
    required: true
  state:
    description:
      - V(prepared) unpacks the source and writes the release's environment and scripts; nothing serves differently yet.
      - V(active) lets the release serve.
      - V(rolled_back) lets O(release), or the previous release, serve again.
      - V(discarded) removes a release that could not be built, and marks it failed.
      - V(pruned) removes releases beyond O(keep).
      - V(absent) stops the application and removes it from the host.
    type: str
    choices: [prepared, active, rolled_back, discarded, pruned, absent]
    default: active
  release:
    description: Id of the release, 12 hexadecimal digits. V(rolled_back) takes the previous one when it is not given.
    type: str
  user:
    description: User that builds and runs the application. Created when it is missing.
    type: str
  payload:
    description: What V(prepared) writes, as JSON text. Made by the action plugin.
    type: str
  archive:
    description: Path of the uploaded source on the host. Made by the action plugin.
    type: path
  archive_content:
    description: A small source as base64 text, instead of O(archive). Made by the action plugin.
    type: str
  keep:
    description: How many good releases stay besides the current, the previous, running and pinned ones.
    type: int
    default: 3
  force:
    description: Let V(rolled_back) take a release that failed.
    type: bool
    default: false
  remove_home:
    description: Let V(absent) also remove the user and its home, with whatever the application wrote there.
    type: bool
    default: false
  root:
    description: Folder that holds the applications.
    type: path
    default: /srv/pyfleet
  config:
    description: Folder that holds the applications' environments and run scripts.
    type: path
    default: /etc/pyfleet
attributes:
  check_mode:
    description: Tells what would change.
    support: full
  diff_mode:
    description: Shows the current release, and the releases that exist, before and after.
    support: full
"""

EXAMPLES = r"""
- name: Go back to the previous release
  pyfleet.runtime.release:
    name: shop
    state: rolled_back

- name: Keep five good releases besides the current and the previous one
  pyfleet.runtime.release:
    name: shop
    state: pruned
    keep: 5
"""

RETURN = r"""
release:
  description: Id of the release that was acted upon.
  returned: always
  type: str
  sample: 0123456789ab
log:
  description: Health lines in the contract's words, and the output of hooks.
  returned: O(state=active) or O(state=rolled_back)
  type: list
  elements: str
  sample: ["Response from GET /health is 200"]
journal:
  description: Last words of a release that does not serve.
  returned: failure
  type: list
  elements: str
port:
  description: Port on which the release listens.
  returned: O(state=active) or O(state=rolled_back)
  type: int
gap_seconds:
  description: For how long nobody served, when the switch was in place.
  returned: O(state=active) or O(state=rolled_back)
  type: float
drained:
  description: Releases that still have clients and stop when those are gone, or after the drain's time.
  returned: O(state=active) or O(state=rolled_back)
  type: str
removed:
  description: Releases, or folders, that were removed.
  returned: O(state=active), O(state=pruned) or O(state=absent)
  type: list
  elements: str
"""

import base64
import contextlib
import errno
import fcntl
import glob
import io
import json
import os
import pwd
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils import bytecode, process, venvs
from ansible_collections.pyfleet.runtime.plugins.module_utils.flow import Flow, FlowError
from ansible_collections.pyfleet.runtime.plugins.module_utils.front import Front, FrontError, write_release
from ansible_collections.pyfleet.runtime.plugins.module_utils.redirect import Redirect, RedirectError
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import (
    BUILDING,
    FAILED,
    GOOD,
    RELEASE_ID,
    Description,
    Layout,
    State,
    prunable,
    write_file,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.switch import Switch, SwitchError
from ansible_collections.pyfleet.runtime.plugins.module_utils.systemd import Systemd, SystemdError

HOOK_TIMEOUT = 900.0
#: Lines of a hook or an application that the message of a failure ends with; `journal` has more.
LAST_WORDS = 15
NOLOGIN = "/usr/sbin/nologin"


class Releases:
    """The states of the module; each method returns the module's result."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.layout = Layout(module.params["name"], module.params["root"], module.params["config"])
        self.release: str = module.params["release"] or ""
        self.check = module.check_mode

    # -- prepared ----------------------------------------------------------------------------------------------------------

    def prepared(self) -> dict[str, Any]:
        """Unpacks the source at its final path (contract B9) and writes what the release's units read."""
        if not self.check:
            if self.layout.linked("current") == self.release:
                self._fail(
                    f"{self.release} serves: it is not prepared anew.\nNext step: deploy a changed release, or roll back."
                )
            payload = json.loads(self.module.params["payload"])
            uid, gid = self._user(str(payload["description"]["user"]))
            self._stop_instance(self.release)
            self._folders(uid, gid)
            self._forget(self.release)
            state = State.load(self.layout.state_file)
            description = payload["description"]
            facts = {name: description[name] for name in ("commit", "mode", "switch")}
            state.releases.pop(self.release, None)
            state.mark(self.release, result=BUILDING, prepared_at=time.time(), **facts)
            try:
                state.save(self.layout.state_file)
                self._unpack(uid, gid)
                self._write_settings(payload, gid)
            except (FrontError, FlowError) as error:
                self._forget(self.release)
                state.mark(self.release, result=FAILED, why=str(error).partition(":")[0], failed_at=time.time())
                state.save(self.layout.state_file)
                self._fail(str(error))
            except (OSError, tarfile.TarError) as error:
                self._forget(self.release)
                full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
                step = "free space on the disk of" if full else "look at the disk of"
                self._fail(
                    f"The release cannot be unpacked: {error}\nRule: a release needs room below {self.layout.root} and "
                    f"{self.layout.config}.\nNext step: {step} these folders, then deploy again."
                )
            bytecode.carry(self.layout, Description(**description), process.find_account(str(description["user"])))
        return {"changed": True, "diff": self._diff(after={self.release: "prepared"})}

    def _user(self, name: str) -> tuple[int, int]:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", self.layout.home]
        done = subprocess.run([*command, "--shell", NOLOGIN, name], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self._fail(
                f"The user {name} cannot be created: {done.stderr.strip()}\nNext step: create it, or set app_user."
            )
        entry = pwd.getpwnam(name)
        return entry.pw_uid, entry.pw_gid

    def _folders(self, uid: int, gid: int) -> None:
        releases = os.path.dirname(self.layout.release("x"))
        for folder in (self.layout.folder, releases, self.layout.settings, self.layout.run):
            os.makedirs(folder, mode=0o755, exist_ok=True)
        os.makedirs(self.layout.home, mode=0o700, exist_ok=True)
        os.chown(self.layout.home, uid, gid)

    def _unpack(self, uid: int, gid: int) -> None:
        """Unpacks as root where nobody else can reach: a link planted meanwhile would let the archive write elsewhere."""
        target = self.layout.release(self.release)
        os.mkdir(target, 0o700)
        content = self.module.params["archive_content"]
        with contextlib.ExitStack() as stack:
            if content:
                archive = stack.enter_context(tarfile.open(fileobj=io.BytesIO(base64.b64decode(content)), mode="r:gz"))
            else:
                archive = stack.enter_context(tarfile.open(self.module.params["archive"], "r:gz"))
            # Newer Pythons warn where none is chosen. The archive was made by our own action plugin, without escapes.
            archive.extraction_filter = getattr(tarfile, "tar_filter", None)
            for member in archive:
                archive.extract(member, target)
        # What an extraction makes of owners differs between Pythons; all belongs to the application's user.
        for folder, folders, files in os.walk(target):
            for name in (*folders, *files):
                os.chown(os.path.join(folder, name), uid, gid, follow_symlinks=False)
        os.chmod(target, 0o750)  # noqa: S103 - the group is the user's own
        os.chown(target, uid, gid)

    def _write_settings(self, payload: dict[str, Any], gid: int) -> None:
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

    def _write_proxies(self, payload: dict[str, Any], gid: int) -> None:
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

    # -- active, rolled back -----------------------------------------------------------------------------------------------

    def active(self) -> dict[str, Any]:
        """Lets the release serve, and removes what it made superfluous: a round trip of its own would cost more than the work."""
        result = self._switch(self.release, first_time=True)
        if self.check:
            return result
        try:
            return {**result, "removed": self.pruned()["removed"]}
        except OSError as error:  # the release serves all the same
            self.module.warn(f"Releases that nobody needs any more cannot be removed: {error}")
            return result

    def rolled_back(self) -> dict[str, Any]:
        """Lets an earlier release serve again, with its own code, environment and command."""
        state = State.load(self.layout.state_file)
        current = self.layout.linked("current")
        release = self.release or self.layout.linked("previous") or ""
        known = ", ".join(f"{name} ({facts.get('result')})" for name, facts in state.releases.items()) or "none"
        if not release:
            self._fail(
                f"{self.layout.name} has no previous release on this host.\nValue: releases: {known}\nRule: a rollback goes to the "
                "previous release unless app_release names one.\nNext step: name a release with -e app_release=ID, or deploy."
            )
        facts = state.releases.get(release)
        if facts is None:
            self._fail(
                f"There is no release {release} of {self.layout.name} on this host.\nVariable: app_release\nValue: {release}\n"
                f"Rule: a rollback goes to a release that the host still has: {known}.\nNext step: name one of those."
            )
        elif facts.get("result") != GOOD and not self.module.params["force"]:
            self._fail(
                f"The release {release} is not a good one: {facts.get('result')} {facts.get('why') or ''}".rstrip()
                + f"\nVariable: app_release\nValue: {release}\nRule: nothing rolls back onto a release that failed.\n"
                "Next step: name a good release, or set app_rollback_force: true."
            )
        self.release = release
        if release == current and Systemd().state(self.layout.unit(release)).get("ActiveState") == "active":
            return {"changed": False, "log": [f"{release} serves already."]}
        return self._switch(release, first_time=False)

    def _switch(self, release: str, *, first_time: bool) -> dict[str, Any]:
        if self.check:
            return {"changed": True, "log": [], "diff": self._diff(current=release)}
        # A lost connection must not end a switch halfway.
        for number in (signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        before = self._diff()["before"]
        try:
            report = Switch(self.layout, Systemd(), Redirect(self.layout.config), self._hook).activate(
                release, first_time=first_time
            )
        except SwitchError as error:
            self._fail(with_last_words(error), log=error.log, journal=error.journal)
        facts = report.to_dict()
        for warning in facts.pop("warnings"):
            self.module.warn(warning)
        return {**facts, "diff": {**self._diff(), "before": before}}

    def _hook(self, text: str, description: Description, environment: dict[str, str]) -> tuple[int, str]:
        """Runs a hook as the application's user, in the project root, with the release's environment."""
        account = process.find_account(description.user)
        given = {**environment, "PORT": str(description.own_port or description.public_port)}
        clean, _dropped = process.clean_environment(account, given, os.environ)
        folder = os.path.join(self.layout.release(description.release), description.project_root)
        done = process.run(
            ["bash", "-c", text], cwd=folder, environment=clean, account=account, timeout=HOOK_TIMEOUT, merge=True
        )
        if done.timed_out:
            return 124, f"{done.stdout}\n(no end within {HOOK_TIMEOUT:g} s)"
        return done.returncode, done.stdout

    # -- discarded, pruned, absent -----------------------------------------------------------------------------------------

    def discarded(self) -> dict[str, Any]:
        """Removes what a failed build left, so that a full disk is not left full."""
        if self.layout.linked("current") == self.release:
            return {"changed": False}
        existed = os.path.isdir(self.layout.release(self.release))
        if not self.check:
            self._stop_instance(self.release)
            self._forget(self.release)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.layout.build_environment)
            state = State.load(self.layout.state_file)
            state.mark(self.release, result=FAILED, why="the build failed", failed_at=time.time())
            state.save(self.layout.state_file)
        return {"changed": existed}

    def pruned(self) -> dict[str, Any]:
        """Removes releases beyond `keep`."""
        state = State.load(self.layout.state_file)
        front = Front(self.layout)
        running = [unit.partition("@")[2].rpartition(".")[0] for unit in self._instances()]
        running += [front.follows(key) for key in front.configurations()]
        protected = [self.layout.linked("current"), self.layout.linked("previous"), *running]
        names = prunable(state, keep=self.module.params["keep"], protected=protected)
        if not self.check:
            for name in names:
                self._forget(name)
                del state.releases[name]
            if names:
                state.save(self.layout.state_file)
            self._prune_shared(front, state)
        return {"changed": bool(names), "removed": names, "diff": self._diff(after=dict.fromkeys(names))}

    def _prune_shared(self, front: Front, state: State) -> None:
        """Removes what only releases in legacy mode share and none of those that are left needs."""
        left = [Description.load(self.layout, name) for name in state.releases]
        front.prune({description.front for description in left if description is not None})
        Flow(self.layout).prune({str(each.flow["key"]) for each in left if each is not None and each.flow})
        venvs.remove_unused(self.layout.folder)

    def absent(self) -> dict[str, Any]:
        """Stops the application and removes it; the home stays unless asked, because the application may have written there."""
        layout = self.layout
        removed = [path for path in (layout.folder, layout.settings) if os.path.isdir(path)]
        user = self.module.params["user"] or f"app-{layout.name}"
        home_stays = not self.module.params["remove_home"] and os.path.isdir(layout.home)
        names = os.listdir(layout.folder) if os.path.isdir(layout.folder) else []
        if home_stays and names == [os.path.basename(layout.home)]:
            removed.remove(layout.folder)
        if self.check or not removed:
            return {"changed": bool(removed), "removed": removed}
        systemd = Systemd()
        if systemd.state(layout.target).get("LoadState") == "loaded":
            systemd.disable(layout.target)
            units = [layout.target, *systemd.list_units(f"app-{layout.name}@*", f"app-{layout.name}-*")]
            systemd.stop(*units, timeout=120)
            # A server that ends with a status of its own would stay in the list of failed units for ever.
            systemd.reset_failed(*units)
        Front(layout, systemd).remove_units()
        Flow(layout, systemd).remove_units()
        Redirect(layout.config).clear(layout.name)
        shutil.rmtree(layout.settings, ignore_errors=True)
        for name in names:
            path = os.path.join(layout.folder, name)
            if path == layout.home and home_stays:
                continue
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
        for folder in (f"/var/cache/app-{layout.name}", f"/var/cache/app-{layout.name}-nginx"):
            shutil.rmtree(folder, ignore_errors=True)
        hops = f"/var/cache/pyfleet-flow-{layout.name}-*"
        for folder in (*glob.glob(hops), *glob.glob(hops.replace("/cache/", "/cache/private/"))):
            os.unlink(folder) if os.path.islink(folder) else shutil.rmtree(folder, ignore_errors=True)
        run = f"/run/app-{layout.name}"
        for folder in (os.path.join(layout.run, layout.name), run, f"{run}-nginx"):
            shutil.rmtree(folder, ignore_errors=True)
        if not home_stays:
            shutil.rmtree(layout.folder, ignore_errors=True)
            with contextlib.suppress(KeyError):
                if pwd.getpwnam(user).pw_dir == layout.home:  # a user of ours, not one that app_user named
                    subprocess.run(["userdel", user], capture_output=True, check=False)
        return {"changed": True, "removed": removed}

    # -- helpers -----------------------------------------------------------------------------------------------------------

    def _instances(self) -> list[str]:
        return Systemd().list_units(f"app-{self.layout.name}@*.service")

    def _stop_instance(self, release: str) -> None:
        """A release that is prepared anew may still run from an earlier, failed attempt."""
        systemd = Systemd()
        units = systemd.list_units(self.layout.unit(release), self.layout.socket_unit(release))
        for unit in sorted(units, key=lambda unit: not unit.endswith(".socket")):  # which would start the service again
            systemd.stop(unit, timeout=120)

    def _forget(self, release: str) -> None:
        shutil.rmtree(self.layout.release(release), ignore_errors=True)
        # workers have folders of their own, named after the release, a colon and their number
        for folder in (self.layout.release_settings(release), f"/var/cache/app-{self.layout.name}/{release}"):
            for each in glob.glob(f"{folder}*"):
                shutil.rmtree(each, ignore_errors=True)

    def _diff(self, *, after: dict[str, Any] | None = None, current: str | None = None) -> dict[str, str]:
        """Releases and the current one, before and after."""
        state = State.load(self.layout.state_file)
        results = {name: str(facts.get("result")) for name, facts in state.releases.items()}
        changed = {name: value for name, value in {**results, **(after or {})}.items() if value is not None}

        def render(serving: str | None, releases: dict[str, str]) -> str:
            lines = [
                f"current: {serving or 'none'}",
                *(f"{name}: {result}" for name, result in sorted(releases.items())),
            ]
            return "\n".join(lines) + "\n"

        linked = self.layout.linked("current")
        return {
            "before_header": self.layout.name,
            "after_header": self.layout.name,
            "before": render(linked, results),
            "after": render(current or linked, changed),
        }

    def _fail(self, message: str, **facts: Any) -> NoReturn:
        self.module.fail_json(msg=message, release=self.release, **facts)
        raise AssertionError("fail_json returned")


def with_last_words(error: SwitchError) -> str:
    """The message for a person, who wants to read what the hook or the application said without another command."""
    words = [f"  {line}" for line in error.journal[-LAST_WORDS:]]
    return "\n".join([str(error), *(["Last words:", *words] if words else [])])


@contextlib.contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Two runs never act on the same application of one host at once."""
    os.makedirs(layout.run, mode=0o755, exist_ok=True)
    with open(os.path.join(layout.run, f"{layout.name}.lock"), "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SwitchError(
                f"Another run is acting on {layout.name} on this host right now.\nNext step: wait for it to end, then run again.",
                [],
                [],
            ) from None
        yield


def main() -> None:
    """Entry point."""
    states = ["prepared", "active", "rolled_back", "discarded", "pruned", "absent"]
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": states, "default": "active"},
            "release": {"type": "str"},
            "user": {"type": "str"},
            "payload": {"type": "str", "no_log": True},
            "archive": {"type": "path"},
            "archive_content": {"type": "str", "no_log": True},
            "keep": {"type": "int", "default": 3},
            "force": {"type": "bool", "default": False},
            "remove_home": {"type": "bool", "default": False},
            "root": {"type": "path", "default": "/srv/pyfleet"},
            "config": {"type": "path", "default": "/etc/pyfleet"},
        },
        required_if=[
            ("state", "prepared", ("release",)),
            ("state", "active", ("release",)),
            ("state", "discarded", ("release",)),
        ],
        supports_check_mode=True,
    )
    release = module.params["release"]
    if release and not RELEASE_ID.match(release):
        module.fail_json(
            msg=f"{release!r} is not the id of a release.\nVariable: app_release\nValue: {release}\nRule: an id is 12 hexadecimal "
            "digits.\nNext step: the playbook status.yml lists the releases."
        )
    releases = Releases(module)
    try:
        with contextlib.nullcontext() if module.check_mode else locked(releases.layout):
            result = getattr(releases, module.params["state"])()
    except SwitchError as error:
        module.fail_json(msg=str(error), log=error.log, journal=error.journal)
    except (SystemdError, RedirectError, OSError, ValueError) as error:
        module.fail_json(msg=f"{module.params['name']}: {error}")
    module.exit_json(release=releases.release, **result)


if __name__ == "__main__":
    main()
