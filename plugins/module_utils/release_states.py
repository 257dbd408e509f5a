# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of the module `release`: what each of them does with an application on this host."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import json
import os
import pwd
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils import process
from ansible_collections.pyfleet.runtime.plugins.module_utils.flow import Flow, FlowError
from ansible_collections.pyfleet.runtime.plugins.module_utils.front import Front, FrontError
from ansible_collections.pyfleet.runtime.plugins.module_utils.lease import Lease, Leases, Request
from ansible_collections.pyfleet.runtime.plugins.module_utils.redirect import Redirect
from ansible_collections.pyfleet.runtime.plugins.module_utils.release_files import ReleaseFiles
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import (
    BUILDING,
    FAILED,
    GOOD,
    Description,
    Layout,
    State,
    SwitchError,
    prunable,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.systemd import Systemd

# A fleet runs this module several times on every host, and each time Python compiles all that is imported: what only some states
# need is imported where they need it.
if TYPE_CHECKING:
    from ansible_collections.pyfleet.runtime.plugins.module_utils.switch import Report, Switch

HOOK_TIMEOUT = 900.0
#: Lines of a hook or an application that the message of a failure ends with; `journal` has more.
LAST_WORDS = 15
NOLOGIN = "/usr/sbin/nologin"
#: For how long a call waits for another one to finish, in seconds: what a run that has just ended still tidies up.
PATIENCE = 10.0
#: The same for a call that takes a release back: the switch that it undoes may still be checking its health, its connection lost.
WITHDRAWAL_PATIENCE = 180.0


class Guard:
    """The lease around one call of the module: taken, or made sure of, before it, and ended after it where that is asked."""

    #: What needs no lease of its own: the lease itself, and the end of everything.
    FREE = ("leased", "let_go", "absent", "pruned", "finished")

    def __init__(self, leases: Leases, request: Request | None, state: str) -> None:
        self.leases = leases
        self.request = request
        self.state = state
        self.lease: Lease | None = None
        self.taken_over = ""
        self.ended = False

    def warning(self) -> str:
        """For check mode: words about another run that would be in the way; empty when there is none."""
        other = self.leases.in_the_way(self.request)
        self.lease = self.leases.read() if self.request is not None else None
        if self.lease is not None and self.request is not None and self.lease.run != self.request.run:
            self.lease = None
        return (
            f"Another run holds {self.leases.layout.name} on this host: {other.words()}." if other is not None else ""
        )

    def take(self) -> None:
        """Claims the application where this call may. It may wait for another run, so the caller holds no lock.

        Raises:
            LeaseError: another run holds the application.
        """
        if self.request is not None and (
            self.state == "leased" or (self.request.claim and self.state not in self.FREE)
        ):
            self.lease, self.taken_over = self.leases.claim(self.request)

    def hold(self) -> None:
        """Makes sure that no other run holds the application; the caller holds the application's lock.

        Raises:
            LeaseError: another run holds it, or the own lease is gone.
        """
        if self.request is None or self.state in self.FREE:
            self.leases.refuse_foreign(self.request)
        else:
            self.lease = self.leases.renew(self.request)

    def leave(self) -> None:
        """Ends the lease where this call was the run's last one on this host, however it ended."""
        if self.request is not None and self.request.end:
            self.ended = self.leases.end(self.request.run) or self.ended

    def facts(self) -> dict[str, Any]:
        """The lease for the module's result."""
        if self.lease is None:
            return {}
        facts = self.lease.to_dict()
        del facts["controller"]
        return {"lease": {**facts, "taken_over": self.taken_over, "ended": self.ended}}


class Releases:
    """The states of the module; each method returns the module's result."""

    def __init__(self, module: AnsibleModule, layout: Layout, guard: Guard) -> None:
        self.module = module
        self.layout = layout
        self.guard = guard
        self.release: str = module.params["release"] or ""
        self.check = module.check_mode

    # -- leased, let go ----------------------------------------------------------------------------------------------------

    def leased(self) -> dict[str, Any]:
        """The guard has claimed the application already."""
        return {"changed": False}

    def let_go(self) -> dict[str, Any]:
        """Ends the lease and does nothing else. A lease that is gone, or another run's by now, is no error."""
        request = self.guard.request
        if request is not None and not self.check:
            self.guard.leases.end(request.run)
        return {"changed": False}

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
            self._end_builds(uid)
            self._stop_instance(self.release)
            files = ReleaseFiles(self.layout, self.release)
            files.make_folders(uid, gid)
            files.forget()
            state = State.load(self.layout.state_file)
            description = payload["description"]
            facts = {name: description[name] for name in ("commit", "mode", "switch")}
            known = state.releases.pop(self.release, {}).get("pre_run") or {}
            if known.get("ok"):  # the hook of a fleet runs once for a release, however often that is prepared
                facts["pre_run"] = known
            state.instance_number = description.get("instance_number", state.instance_number)
            state.mark(self.release, result=BUILDING, prepared_at=time.time(), **facts)
            try:
                state.save(self.layout.state_file)
                params = self.module.params
                files.unpack(uid, gid, params["archive"], params["archive_content"])
                files.write_settings(payload, gid)
            except (FrontError, FlowError) as error:
                files.forget()
                state.mark(self.release, result=FAILED, why=str(error).partition(":")[0], failed_at=time.time())
                state.save(self.layout.state_file)
                self._fail(str(error))
            except (OSError, tarfile.TarError) as error:
                files.forget()
                full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
                step = "free space on the disk of" if full else "look at the disk of"
                self._fail(
                    f"The release cannot be unpacked: {error}\nRule: a release needs room below {self.layout.root} and "
                    f"{self.layout.config}.\nNext step: {step} these folders, then deploy again."
                )
            from ansible_collections.pyfleet.runtime.plugins.module_utils import bytecode

            bytecode.carry(self.layout, Description(**description), process.find_account(str(description["user"])))
        return {"changed": True, "diff": self._diff(after={self.release: "prepared"})}

    def _end_builds(self, uid: int) -> None:
        """This run holds the lease, so a build that goes on is that of a run that broke off."""
        from ansible_collections.pyfleet.runtime.plugins.module_utils import orphans

        try:
            if orphans.end_builds(uid, self.layout.name):
                self.module.warn("A build of an earlier run, which broke off, was still going on here; it was ended.")
        except TimeoutError as error:
            self._fail(
                f"A build of an earlier run, which broke off, cannot be ended: process {error}.\nRule: two builds never run in one "
                "release at once.\nNext step: see what the process waits for (a disk, a network file system), then run again."
            )

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

    # -- active, rolled back, restarted, hooked ----------------------------------------------------------------------------

    def active(self) -> dict[str, Any]:
        """Lets the release serve, and removes what it made superfluous: a round trip of its own would cost more than the work.

        In a run over several hosts the state `finished` does the latter, when no host has to go back any more.
        """
        elsewhere, where = self.module.params["pre_run"] == "elsewhere", self.module.params["pre_run_host"]

        def act(switch: Switch) -> Report:
            if elsewhere and where:
                switch.pre_run_elsewhere(self.release, where)
            return switch.activate(self.release, first_time=not elsewhere)

        result = self._switch(act)
        request = self.guard.request
        if self.check or (request is not None and not request.end):
            return result
        return {**result, "removed": self._tidied(), **self._bounded_cache()}

    def rolled_back(self) -> dict[str, Any]:
        """Lets an earlier release serve again, with its own code, environment and command."""
        state = State.load(self.layout.state_file)
        current = self.layout.linked("current")
        lease, why = self.guard.lease, self.module.params["withdraw"]
        release = self.release or (lease.before if why and lease else self.layout.linked("previous")) or ""
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
        if release == current and self._machine().serves(release):
            return {"changed": False, "log": [f"{release} serves already."]}
        from ansible_collections.pyfleet.runtime.plugins.module_utils.switch import Withdrawal

        withdrawal = Withdrawal(why, self._goes_before(release)) if why else None
        return self._switch(lambda switch: switch.activate(release, first_time=False, withdrawal=withdrawal))

    def restarted(self) -> dict[str, Any]:
        """Starts the release that serves anew, in place."""
        self.release = self.layout.linked("current") or ""
        if self.check:
            self._machine().restartable()
        return self._switch(lambda switch: switch.restart())

    def hooked(self) -> dict[str, Any]:
        """Runs the pre-run hook of a prepared release on this host, on behalf of all hosts."""
        if self.check:
            return {"changed": True, "log": []}
        return self._switch(lambda switch: switch.pre_run(self.release))

    def _machine(self) -> Switch:
        from ansible_collections.pyfleet.runtime.plugins.module_utils.switch import Switch

        host = self.module.params["pre_run_host"] or ""
        return Switch(self.layout, Systemd(), Redirect(self.layout.config), self._hook, host)

    def _goes_before(self, release: str) -> str:
        """The release to go back to from `release`, once the one that serves now is withdrawn; "" for none."""
        before = self.guard.lease.before_previous if self.guard.lease is not None else ""
        return before if before != release and os.path.isdir(self.layout.release(before or "-")) else ""

    def _switch(self, act: Callable[[Switch], Report]) -> dict[str, Any]:
        if self.check:
            return {"changed": True, "log": [], "diff": self._diff(current=self.release)}
        # A lost connection must not end a switch halfway.
        for number in (signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        before, served = self._diff()["before"], self.layout.linked("current")
        try:
            report = act(self._machine())
        except SwitchError as error:
            raise SwitchError(with_last_words(error), error.log, error.journal) from error
        facts = report.to_dict()
        for warning in facts.pop("warnings"):
            self.module.warn(warning)
        if self.guard.request is None and self.layout.linked("current") != served:
            self.guard.leases.end_expired()
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

    # -- discarded, finished, pruned, absent -------------------------------------------------------------------------------

    def discarded(self) -> dict[str, Any]:
        """Removes what a failed build left, so that a full disk is not left full."""
        if self.layout.linked("current") == self.release:
            return {"changed": False}
        existed = os.path.isdir(self.layout.release(self.release))
        if not self.check:
            self._stop_instance(self.release)
            ReleaseFiles(self.layout, self.release).forget()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.layout.build_environment)
            from ansible_collections.pyfleet.runtime.plugins.module_utils import shipping

            shipping.forget(self.layout.folder)  # perhaps it was not all that the build needs
            state = State.load(self.layout.state_file)
            state.mark(self.release, result=FAILED, why="the build failed", failed_at=time.time())
            state.save(self.layout.state_file)
        return {"changed": existed}

    def finished(self) -> dict[str, Any]:
        """The run is over on this host: the lease ends, and what nobody can need any more goes."""
        request = self.guard.request
        if self.check or request is None:
            pruned, cache = self.pruned(), self._bounded_cache()
            return {**pruned, "changed": pruned["changed"] or bool(cache and cache["uv_cache"]["changed"]), **cache}
        self.guard.leases.end(request.run)
        removed, cache = self._tidied(request.started), self._bounded_cache()
        return {"changed": bool(removed) or bool(cache and cache["uv_cache"]["changed"]), "removed": removed, **cache}

    def _tidied(self, failed_since: float = 0.0) -> list[str]:
        """What ends every run on a host; returns the releases that went. What cannot be removed changes nothing for users."""
        self.guard.leave()
        try:
            removed: list[str] = self.pruned(failed_since)["removed"]
        except OSError as error:
            self.module.warn(f"Releases that nobody needs any more cannot be removed: {error}")
            return []
        return removed

    def _bounded_cache(self) -> dict[str, Any]:
        """Keeps uv's cache below its size; never waits for a service that uses it, and never fails a run."""
        params = self.module.params
        if not params["cache_max_mb"]:
            return {}
        from ansible_collections.pyfleet.runtime.plugins.module_utils import uv_cache

        report = uv_cache.bound(
            params["uv_executable"],
            params["cache_dir"] or "",
            params["user"] or f"app-{self.layout.name}",
            params["cache_max_mb"],
            check=self.check,
            outside=os.environ,
        )
        # That a running service uses its cache is no reason to worry before the cache is too large.
        if report.note and (report.over or report.state != "in_use"):
            self.module.warn(report.note)
        return {"uv_cache": report.to_dict()}

    def pruned(self, failed_since: float = 0.0) -> dict[str, Any]:
        """Removes releases beyond `keep`. What failed since `failed_since` (seconds since the epoch) stays, for people to look at."""
        state = State.load(self.layout.state_file)
        front = Front(self.layout)
        lease = self.guard.leases.read()
        running = [unit.partition("@")[2].rpartition(".")[0] for unit in self._instances()]
        running += [front.follows(key) for key in front.configurations()]
        protected = [self.layout.linked("current"), self.layout.linked("previous"), *running]
        if lease is not None:  # a run, be it one that broke off, may have to go back to it
            protected += [lease.before, lease.before_previous, lease.target]
        if failed_since:
            protected += [
                name
                for name, facts in state.releases.items()
                if facts.get("result") == FAILED and float(facts.get("failed_at") or 0) >= failed_since
            ]
        names = prunable(state, keep=self.module.params["keep"], protected=protected)
        if not self.check:
            for name in names:
                ReleaseFiles(self.layout, name).forget()
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
        from ansible_collections.pyfleet.runtime.plugins.module_utils import venvs

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
            if not self.check:
                self.guard.leases.remove()
            return {"changed": bool(removed), "removed": removed}
        systemd = Systemd()
        if systemd.state(layout.target).get("LoadState") == "loaded":
            systemd.disable(layout.target)
            units = [layout.target, *systemd.list_units(f"app-{layout.name}@*", f"app-{layout.name}-*")]
            systemd.stop(*units, timeout=120)
            # A server that ends with a status of its own would stay in the list of failed units for ever.
            systemd.reset_failed(*units)
        with contextlib.suppress(KeyError):  # no such user any more
            self._end_builds(pwd.getpwnam(user).pw_uid)
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
        self.guard.leases.remove()
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

    def _fail(self, message: str) -> NoReturn:
        raise SwitchError(message, [], [])


def with_last_words(error: SwitchError) -> str:
    """The message for a person, who wants to read what the hook or the application said without another command."""
    words = [f"  {line}" for line in error.journal[-LAST_WORDS:]]
    return "\n".join([str(error), *(["Last words:", *words] if words else [])])


def acting(layout: Layout) -> bool:
    """Whether a call of the module acts on the application right now."""
    try:
        with open(layout.lock_file, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextlib.contextmanager
def locked(layout: Layout, patience: float = PATIENCE) -> Iterator[None]:
    """Two calls never act on the same application of one host at once; one waits a moment for the other.

    Raises:
        SwitchError: the other call goes on.
    """
    os.makedirs(layout.run, mode=0o755, exist_ok=True)
    deadline = time.monotonic() + patience
    with open(layout.lock_file, "w", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise SwitchError(
                        f"Another run is acting on {layout.name} on this host right now.\n"
                        "Next step: wait for it to end, then run again.",
                        [],
                        [],
                    ) from None
            time.sleep(0.1)
        yield


__all__ = ["Guard", "Releases", "acting", "locked", "with_last_words"]
