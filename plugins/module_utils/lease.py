# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease: which run may act on an application of this host, from its first change until it lets go.

A run touches several hosts in several calls. The lock of one call keeps two calls apart; the lease keeps two runs apart. It ends
with its run, at its time, or when a person or the controller knows that its run is dead.

Of two runs that claim the same hosts at once, each with a different host first, the older one waits a moment where the younger
one was faster, and the younger one gives up at once where the older one holds: so exactly one of them gets all hosts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Callable

from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import Layout, write_file

#: Pause between two looks at a lease that another run holds, in seconds.
POLL_SECONDS = 0.25


class LeaseError(Exception):
    """The application is not ours, or its lease cannot be read; the message is complete.

    `held` describes the lease in the way, and is empty when there is none.
    """

    def __init__(self, message: str, held: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.held = dict(held or {})


@dataclass(frozen=True)
class Lease:
    """One run's lease. `started` and `expires` are seconds since the epoch; `started` by the controller's clock, which only
    the order of runs depends on, `expires` by the host's."""

    run: str
    holder: str
    what: str
    started: float
    expires: float
    controller: dict[str, Any] = field(default_factory=dict)
    #: What the links `current` and `previous` named before this run, or before a run that never ended its lease.
    before: str = ""
    before_previous: str = ""
    target: str = ""

    @classmethod
    def parse(cls, text: str) -> Lease:
        """Reads a lease's JSON.

        Raises:
            ValueError: it is none, with the reason.
        """
        stored = json.loads(text)
        if not isinstance(stored, dict):
            raise ValueError("it is not a JSON object")
        facts: dict[str, Any] = {name: value for name, value in stored.items() if name in cls.__dataclass_fields__}
        for name in ("run", "holder", "what", "before", "before_previous", "target"):
            facts[name] = facts.get(name) or ""
            if not isinstance(facts[name], str) or (name == "run" and not facts[name]):
                raise ValueError(f"{name} is not a text")
        for name in ("started", "expires"):
            if isinstance(facts.get(name), bool) or not isinstance(facts.get(name), (int, float)):
                raise ValueError(f"{name} is not a number of seconds")
        if not isinstance(facts.setdefault("controller", {}), dict):
            raise ValueError("controller is not an object")
        return cls(**facts)

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form, as in the file; what there is none of is null."""
        facts = {**vars(self), "controller": dict(self.controller)}
        return {**facts, "before": self.before or None, "before_previous": self.before_previous or None}

    def words(self) -> str:
        """Who, what, since when, for a sentence."""
        what = f" ({self.what})" if self.what else ""
        return f"{self.holder or 'somebody'}{what}, run {self.run}, since {moment(self.started)}"

    def expired(self, now: float) -> bool:
        """Whether its time is over."""
        return now >= self.expires

    def older_than(self, run: str, started: float) -> bool:
        """Whether this lease's run began before another; two that began at once are told apart by their ids."""
        return (self.started, self.run) < (started, run)


@dataclass(frozen=True)
class Request:
    """What a run wants: the option `lease` of the module `release`. Times are in seconds, `started` since the epoch."""

    run: str
    holder: str = ""
    what: str = ""
    started: float = 0.0
    seconds: int = 3600
    controller: Mapping[str, Any] = field(default_factory=dict)
    #: A run that a person knows to be dead, and those that the controller knows to be.
    takeover: str = ""
    dead: Sequence[str] = ()
    wait: float = 30.0
    #: The release that served when the plan was made, "" for none; None when it does not matter.
    expect_current: str | None = None
    target: str = ""
    #: Whether a call that is not `leased` may claim, too, and whether it ends the lease when it is done.
    claim: bool = False
    end: bool = False

    @classmethod
    def of(cls, option: Mapping[str, Any] | None) -> Request | None:
        """Reads the module's option; None when it is not given."""
        if not option:
            return None
        return cls(
            **{name: value for name, value in option.items() if name in cls.__dataclass_fields__ and value is not None}
        )


class Leases:
    """The lease of one application on this host.

    `busy` tells whether a call acts on the application right now: nothing is taken from a dead run whose last call still works
    here. `now` and `sleep` are injected by tests.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        busy: Callable[[], bool] = lambda: False,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.layout = layout
        self.path = layout.lease_file
        self.busy = busy
        self.now = now
        self.sleep = sleep

    # -- looking -----------------------------------------------------------------------------------------------------------

    def read(self) -> Lease | None:
        """The lease as it is, ended by time or not; None when nobody has one.

        Raises:
            LeaseError: the file is damaged.
        """
        try:
            with open(self.path, encoding="utf-8") as file:
                return Lease.parse(file.read())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise LeaseError(
                f"The lease of {self.layout.name} cannot be read: {error}\nValue: {self.path}\n"
                "Rule: a lease is a JSON object with run, holder, what, started and expires.\n"
                f"Next step: see that no run acts on {self.layout.name}, remove the file, then run again."
            ) from None

    def describe(self) -> dict[str, Any] | None:
        """The lease for `app_info`, with `expired`; None when nobody has one."""
        lease = self.read()
        return None if lease is None else {**lease.to_dict(), "expired": lease.expired(self.now())}

    def in_the_way(self, request: Request | None) -> Lease | None:
        """The lease of another run that this one has to respect; None when there is none."""
        lease = self.read()
        if lease is None or lease.expired(self.now()):
            return None
        if request is not None and lease.run in (request.run, request.takeover, *request.dead):
            return None
        return lease

    def refuse_foreign(self, request: Request | None) -> None:
        """For calls that need no lease of their own.

        Raises:
            LeaseError: another run holds the application.
        """
        lease = self.in_the_way(request)
        if lease is not None:
            raise self._held(lease, request)

    # -- claiming ----------------------------------------------------------------------------------------------------------

    def claim(self, request: Request) -> tuple[Lease, str]:
        """Makes the application ours, or renews what is ours; returns the lease and the words of the run it was taken from.

        Waits up to `request.wait` seconds for a run that began later than ours, and for a dead run's last call.

        Raises:
            LeaseError: another run holds it, or another release serves than the plan was made for.
        """
        request = replace(request, started=request.started or self.now())
        deadline = self.now() + request.wait
        met: Lease | None = None
        while True:
            with self._locked():
                lease = self.read()
                foreign = lease if lease is not None and lease.run != request.run else None
                blocked = self.in_the_way(request)
                working = foreign is not None and blocked is None and self.busy()
                if blocked is None and not working:
                    return self._take(request, lease, met), self._taken_words(foreign, request)
            met = blocked or met
            patient = blocked is None or not blocked.older_than(request.run, request.started)
            if not patient or self.now() >= deadline:
                if blocked is not None:
                    raise self._held(blocked, request)
                raise LeaseError(
                    f"Another run is acting on {self.layout.name} on this host right now.\nValue: {foreign.words() if foreign else ''}"
                    "\nRule: a call that a dead run left behind finishes, or reverts, by itself.\n"
                    "Next step: wait for it to end, then run again.",
                    foreign.to_dict() if foreign else None,
                )
            self.sleep(POLL_SECONDS)

    def _take(self, request: Request, lease: Lease | None, met: Lease | None = None) -> Lease:
        """Writes our lease; the caller holds the lock and knows that nobody is in the way."""
        current, previous = self.layout.linked("current") or "", self.layout.linked("previous") or ""
        expected = request.expect_current
        if expected is not None and expected != current:
            faster = f"Another run held {self.layout.name} on this host meanwhile: {met.words()}.\n" if met else ""
            raise LeaseError(
                f"{faster}Another release of {self.layout.name} serves now than when the plan was made.\n"
                f"Value: {current or 'none'} instead of {expected or 'none'}\n"
                "Rule: a plan is carried out on the host that it was made for.\n"
                "Next step: run again; the plan is then made anew."
            )
        # A run that never ended its lease left the host in between: what served before it is what serves well.
        before = (lease.before, lease.before_previous) if lease is not None else (current, previous)
        own = lease if lease is not None and lease.run == request.run else None
        return self._write(
            Lease(
                run=request.run,
                holder=request.holder or (own.holder if own else ""),
                what=request.what or (own.what if own else ""),
                started=request.started or (own.started if own else self.now()),
                expires=self.now() + request.seconds,
                controller=dict(request.controller) or (own.controller if own else {}),
                before=before[0],
                before_previous=before[1],
                target=request.target or (own.target if own else ""),
            )
        )

    def renew(self, request: Request) -> Lease:
        """Makes sure that the application is still ours, and prolongs that.

        Raises:
            LeaseError: another run has it by now, or nobody has.
        """
        with self._locked():
            lease = self.read()
            if lease is None:
                raise LeaseError(
                    f"This run has no lease of {self.layout.name} on this host any more.\nValue: run {request.run}\n"
                    "Rule: a run acts on an application only while it holds the lease.\n"
                    "Next step: another run took it over and has ended; look at what serves (playbook status), then run again."
                )
            if lease.run != request.run:
                raise self._held(lease, request)
            return self._write(
                replace(lease, expires=self.now() + request.seconds, target=request.target or lease.target)
            )

    # -- ending ------------------------------------------------------------------------------------------------------------

    def end(self, run: str) -> bool:
        """Ends the lease of a run; returns whether it had one. Another run's lease stays."""
        if not os.path.exists(self.path):
            return False
        with self._locked():
            lease = self.read()
            if lease is None or lease.run != run:
                return False
            os.unlink(self.path)
            return True

    def end_expired(self) -> None:
        """Removes a lease whose time is over: what served before it has no meaning once somebody else has switched."""
        if not os.path.exists(self.path):
            return
        with self._locked():
            lease = self.read()
            if lease is not None and lease.expired(self.now()):
                os.unlink(self.path)

    def remove(self) -> None:
        """Removes whatever is left of leases, with the application itself."""
        if os.path.exists(self.path) or os.path.exists(self._lock_file):
            with self._locked():
                for path in (self.path, self._lock_file):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)

    # -- helpers -----------------------------------------------------------------------------------------------------------

    @property
    def _lock_file(self) -> str:
        return f"{self.path}.lock"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps others away between reading and writing."""
        os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
        while True:
            with open(self._lock_file, "w", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                # `remove` takes the file away under its own lock: who waited for that holds a lock that nobody else sees.
                there = os.stat(self._lock_file).st_ino if os.path.exists(self._lock_file) else 0
                if os.fstat(file.fileno()).st_ino == there:
                    yield
                    return

    def _write(self, lease: Lease) -> Lease:
        write_file(self.path, json.dumps(lease.to_dict(), indent=1, sort_keys=True) + "\n", 0o644)
        return lease

    def _taken_words(self, lease: Lease | None, request: Request) -> str:
        """From whom the lease was taken and why that was right; empty when nobody had one."""
        if lease is None:
            return ""
        if lease.run == request.takeover:
            why = "app_lease_takeover names it"
        elif lease.run in request.dead:
            why = "its process is gone"
        else:
            why = f"its lease ended at {moment(lease.expires)}"
        return f"{lease.words()}; {why}"

    def _held(self, lease: Lease, request: Request | None) -> LeaseError:
        given = request.takeover if request is not None else ""
        return LeaseError(
            f"Another run holds {self.layout.name} on this host: {lease.words()}, until {moment(lease.expires)} at the latest.\n"
            f"Variable: app_lease_takeover\nValue: {given or '(not set)'}\n"
            "Rule: one run at a time acts on an application of a host.\n"
            "Next step: wait for that run to end. If it is known to be dead, take over from it with "
            f"-e app_lease_takeover={lease.run}",
            {**lease.to_dict(), "expired": lease.expired(self.now())},
        )


def moment(seconds: float) -> str:
    """A point in time as people read it."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s after the epoch"


__all__ = ["Lease", "LeaseError", "Leases", "Request", "moment"]
