# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nftables table `inet pyfleet`: public ports lead to the running releases (D2), inner ports stay private (F12).

The frame (/etc/pyfleet/nftables.nft) declares the table and includes one file per application from
/etc/pyfleet/redirects, so that loading the frame restores everything at boot in one transaction. A switch writes the
application's file and changes the live map in one transaction; established connections keep the release they have.
Other tables are never touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Callable, NamedTuple

TABLE = "inet pyfleet"
CONFIG = "/etc/pyfleet"
# "pflt": packets with this mark are not redirected, so that a health check reaches the very port it names.
PROBE_MARK = 0x70666C74
TIMEOUT = 20.0

_APP_NAME = re.compile(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_ELEMENT = re.compile(r"^add element inet pyfleet (public|internal) \{([^}]*)\}$", re.MULTILINE)

Run = Callable[[Sequence[str], str], "tuple[int, str, str]"]


class RedirectError(Exception):
    """nft refused, is missing or did not answer; the message holds its words and the next step."""


class Elements(NamedTuple):
    """What one application, or the whole table, puts into the map `public` and the set `internal`."""

    public: dict[int, int]
    internal: frozenset[int]


NOTHING = Elements({}, frozenset())


def elements(ports: Mapping[int, int], internal: Iterable[int] = ()) -> Elements:
    """The elements for `Redirect.flip`."""
    return Elements({outer: inner for outer, inner in ports.items() if outer != inner}, frozenset(internal))


def _map_text(public: Mapping[int, int]) -> str:
    return ", ".join(f"{outer} : {inner}" for outer, inner in sorted(public.items()))


def _set_text(ports: Iterable[int]) -> str:
    return ", ".join(str(port) for port in sorted(ports))


def render_elements(elements: Elements) -> str:
    """nft commands that add elements; also the content of an application's file. Empty when there is nothing to add."""
    lines = []
    if elements.public:
        lines.append(f"add element inet pyfleet public {{ {_map_text(elements.public)} }}\n")
    if elements.internal:
        lines.append(f"add element inet pyfleet internal {{ {_set_text(elements.internal)} }}\n")
    return "".join(lines)


def parse_elements(text: str) -> Elements:
    """Inverse of `render_elements`."""
    public: dict[int, int] = {}
    internal: set[int] = set()
    for kind, body in _ELEMENT.findall(text):
        for entry in (part.strip() for part in body.split(",")):
            if kind == "public":
                outer, _colon, inner = entry.partition(":")
                public[int(outer)] = int(inner)
            elif entry:
                internal.add(int(entry))
    return Elements(public, frozenset(internal))


def render_table(elements: Mapping[int, int] | None = None, internal: Iterable[int] = (), config: str = CONFIG) -> str:
    """The frame file, with elements where given. Loading it replaces the whole table in one transaction."""
    public_line = f"    elements = {{ {_map_text(elements)} }}\n" if elements else ""
    ports = _set_text(internal)
    internal_line = f"    elements = {{ {ports} }}\n" if ports else ""
    return (
        f"# Written by pyfleet.runtime. One file per application is included from {config}/redirects.\n"
        "table inet pyfleet\n"
        "delete table inet pyfleet\n"
        "table inet pyfleet {\n"
        "  # public port : port of the running release\n"
        "  map public {\n"
        f"    type inet_service : inet_service\n{public_line}"
        "  }\n"
        "  # ports that answer on this host itself or through the redirect only\n"
        "  set internal {\n"
        f"    type inet_service\n{internal_line}"
        "  }\n"
        "  chain prerouting {\n"
        "    type nat hook prerouting priority -100; policy accept;\n"
        "    # an inner port is called on this host only, also where it leads on\n"
        "    tcp dport @internal accept\n"
        "    meta l4proto tcp fib daddr type local redirect to :tcp dport map @public\n"
        "  }\n"
        "  chain output {\n"
        "    type nat hook output priority -100; policy accept;\n"
        "    # health checks reach the port they name\n"
        f"    meta mark 0x{PROBE_MARK:x} accept\n"
        "    meta l4proto tcp fib daddr type local redirect to :tcp dport map @public\n"
        "  }\n"
        "  chain input {\n"
        "    type filter hook input priority 0; policy accept;\n"
        '    iif "lo" accept\n'
        "    tcp dport @internal ct status dnat accept\n"
        "    tcp dport @internal drop\n"
        "  }\n"
        "}\n"
        f'include "{config}/redirects/*.nft"\n'
    )


def parse_listing(text: str) -> Elements:
    """Parse `nft -j list table inet pyfleet`."""
    public: dict[int, int] = {}
    internal: set[int] = set()
    for entry in json.loads(text).get("nftables", []):
        found = entry.get("map") or {}
        if found.get("name") == "public":
            public = {int(outer): int(inner) for outer, inner in found.get("elem", [])}
        found = entry.get("set") or {}
        if found.get("name") == "internal":
            internal = {int(port) for port in found.get("elem", [])}
    return Elements(public, frozenset(internal))


def transition(live: Elements, old: Elements, new: Elements, others: Elements = NOTHING) -> str:
    """The nft transaction that leads from the live table to `new` for one application.

    `old` is what the application's file held so far, `others` what the files of the other applications hold: a port of
    theirs is never taken away. Empty when the table already is as wanted.
    """
    lines = []
    for port in sorted(live.public):
        stale = port in old.public and port not in new.public and port not in others.public
        if stale or (port in new.public and live.public[port] != new.public[port]):
            lines.append(f"delete element inet pyfleet public {{ {port} }}\n")
    gone = (old.internal - new.internal - others.internal) & live.internal
    if gone:
        lines.append(f"delete element inet pyfleet internal {{ {_set_text(gone)} }}\n")
    added = {outer: inner for outer, inner in new.public.items() if live.public.get(outer) != inner}
    lines.append(render_elements(Elements(added, new.internal - live.internal)))
    return "".join(lines)


def run_nft(argv: Sequence[str], stdin: str) -> tuple[int, str, str]:
    """Run nft; raises RedirectError when it is missing or does not answer."""
    environment = dict(os.environ, LC_ALL="C.UTF-8")
    environment["PATH"] = environment.get("PATH", "") + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            list(argv),
            input=stdin.encode(),
            capture_output=True,
            timeout=TIMEOUT,
            env=environment,
            check=False,
        )
    except FileNotFoundError:
        raise RedirectError(
            "nft is not installed on this host, and releases cannot switch side by side without it. "
            "Next step: run the playbook provision.yml (role host), which installs nftables."
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RedirectError("{} failed: {}".format(" ".join(argv), error)) from error
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


class Redirect:
    """The redirects of this host. All methods are idempotent; those that change something return whether they did."""

    def __init__(self, config: str = CONFIG, run: Run = run_nft) -> None:
        self.frame = os.path.join(config, "nftables.nft")
        self.folder = os.path.join(config, "redirects")
        self._run = run

    def _apply(self, argv: Sequence[str], commands: str = "") -> None:
        code, _output, error = self._run(argv, commands)
        if code != 0:
            raise RedirectError(f"nft refused the change of the table inet pyfleet: {error.strip()}")

    def _live(self) -> Elements | None:
        code, output, error = self._run(["nft", "-j", "list", "table", "inet", "pyfleet"], "")
        if code == 0:
            return parse_listing(output)
        if "No such file" in error:
            return None
        raise RedirectError(f"nft cannot list the table inet pyfleet: {error.strip()}")

    def _file(self, app: str) -> str:
        if not _APP_NAME.match(app):
            raise RedirectError(f"{app!r} is not an application name that a file can have")
        return os.path.join(self.folder, app + ".nft")

    def _text(self, app: str) -> str | None:
        try:
            with open(self._file(app), encoding="utf-8") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def _apps(self) -> dict[str, Elements]:
        try:
            names = sorted(os.listdir(self.folder))
        except FileNotFoundError:
            return {}
        apps = [name[:-4] for name in names if name.endswith(".nft") and not name.startswith(".")]
        return {app: parse_elements(self._text(app) or "") for app in apps}

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Two applications may switch at the same time."""
        os.makedirs(self.folder, mode=0o755, exist_ok=True)
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, app: str, text: str | None) -> None:
        path = self._file(app)
        if text is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        else:
            # The name must not match the frame's *.nft while half written.
            descriptor, staged = tempfile.mkstemp(dir=self.folder, prefix=f".{app}.", suffix=".new")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                    stream.write(text)
                    stream.flush()
                    os.fchmod(stream.fileno(), 0o644)
                    os.fsync(stream.fileno())
                os.rename(staged, path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(staged)
                raise
        folder = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _restore(self) -> None:
        if not os.path.exists(self.frame):
            raise RedirectError(
                f"{self.frame} is missing, so this host has no redirect table. "
                "Next step: run the playbook provision.yml (role host)."
            )
        self._apply(["nft", "-f", self.frame])

    def _change(self, app: str, new: Elements, text: str | None) -> bool:
        with self._locked():
            apps = self._apps()
            old = apps.pop(app, NOTHING)
            others = Elements(
                {outer: inner for each in apps.values() for outer, inner in each.public.items()},
                frozenset().union(*(each.internal for each in apps.values())),
            )
            for port in sorted(set(new.public) & set(others.public)):
                owner = next(name for name, each in apps.items() if port in each.public)
                raise RedirectError(
                    f"public port {port} belongs to the application {owner} on this host. "
                    f"Next step: give {app} another app_public_port, or remove {owner}."
                )
            before = self._text(app)
            live = self._live()
            if live is None and text is None and before is None:
                return False
            if before != text:
                self._write(app, text)
            try:
                if live is None:
                    self._restore()
                    return True
                commands = transition(live, old, new, others)
                if commands:
                    self._apply(["nft", "-f", "-"], commands)
            except RedirectError:
                if before != text:
                    self._write(app, before)
                raise
            return bool(commands) or before != text

    def flip(self, app: str, ports: Mapping[int, int], internal: Iterable[int] = ()) -> bool:
        """Lead an application's ports to a release's ports, at once, in one transaction, and after a reboot (D2).

        `ports` maps the port that is called (the public one; the application's 9000 behind a proxy) to the one that
        answers; where both are the same there is no redirect. `internal` are the ports that other hosts must not reach
        (F12). Raises RedirectError, and then neither the file nor the table has changed.
        """
        new = elements(ports, internal)
        return self._change(app, new, render_elements(new))

    def clear(self, app: str) -> bool:
        """Forget an application's redirect and internal ports."""
        return self._change(app, NOTHING, None)

    def current(self) -> dict[int, int]:
        """The live map of public ports; empty when there is no table."""
        return (self._live() or NOTHING).public

    def internal(self) -> frozenset[int]:
        """The live set of ports that other hosts cannot reach."""
        return (self._live() or NOTHING).internal

    def ensure_table(self) -> bool:
        """Load the frame when the table or an element of a file is not live, as after `nft flush ruleset`."""
        with self._locked():
            live = self._live()
            wanted = self._apps().values()
            if live is not None and all(
                each.internal <= live.internal
                and all(live.public.get(outer) == inner for outer, inner in each.public.items())
                for each in wanted
            ):
                return False
            self._restore()
            return True
