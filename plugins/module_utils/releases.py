# Copyright: pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an application's releases lie on a host, and what is known of them.

The links `current` and `previous` say which release serves and which one to go back to; `state.json` says what became of
each release. Nothing is ever derived from modification times.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass, field
from typing import Any

#: A release is `building` until its build succeeded and it was checked, then `good`; `failed` never serves again by itself.
BUILDING, GOOD, FAILED = "building", "good", "failed"
#: The kind of the innermost layer; the others are `flow` and `nginx`.
APPLICATION = "application"
RELEASE_ID = re.compile(r"[0-9a-f]{12}\Z")


class SwitchError(Exception):
    """The new release does not serve; the message is complete, `log` holds the health lines, `journal` the unit's words."""

    def __init__(self, message: str, log: list[str], journal: list[str]) -> None:
        super().__init__(message)
        self.log = log
        self.journal = journal


@dataclass(frozen=True)
class Layout:
    """Paths of one application; all absolute."""

    name: str
    root: str = "/srv/pyfleet"
    config: str = "/etc/pyfleet"
    run: str = "/run/pyfleet"
    lib: str = "/var/lib/pyfleet"

    @property
    def lease_file(self) -> str:
        """Which run may act on the application; it survives a reboot of the host."""
        return os.path.join(self.lib, "leases", f"{self.name}.json")

    @property
    def lock_file(self) -> str:
        """Keeps two calls of a module from acting on the application at once."""
        return os.path.join(self.run, f"{self.name}.lock")

    @property
    def folder(self) -> str:
        """Folder of the application."""
        return os.path.join(self.root, self.name)

    @property
    def home(self) -> str:
        """Home of the application's user; the uv cache lies below, on the releases' file system (hard links)."""
        return os.path.join(self.folder, "home")

    @property
    def state_file(self) -> str:
        """What became of each release."""
        return os.path.join(self.folder, "state.json")

    @property
    def settings(self) -> str:
        """Folder of the releases' environments and run scripts."""
        return os.path.join(self.config, self.name)

    @property
    def build_environment(self) -> str:
        """The build's environment: on a memory file system, removed by the build (contract B8)."""
        return os.path.join(self.run, f"{self.name}.build")

    def release(self, release: str) -> str:
        """Folder of a release's source and virtual environment."""
        return os.path.join(self.folder, "releases", release)

    def release_settings(self, release: str) -> str:
        """Folder of a release's environment, run script and description."""
        return os.path.join(self.settings, release)

    def link(self, which: str) -> str:
        """Path of the link `current` or `previous`."""
        return os.path.join(self.folder, which)

    def linked(self, which: str) -> str | None:
        """Id of the release that `current` or `previous` names, or None."""
        try:
            return os.path.basename(os.readlink(self.link(which)))
        except OSError:
            return None

    def set_link(self, which: str, release: str | None) -> None:
        """Lets the link name a release (None removes it), atomically."""
        path = self.link(which)
        if release is None:
            if os.path.lexists(path):
                os.unlink(path)
            return
        scratch = f"{path}.new"
        if os.path.lexists(scratch):
            os.unlink(scratch)
        os.symlink(os.path.join("releases", release), scratch)
        os.replace(scratch, path)

    def unit(self, release: str) -> str:
        """The application's unit for a release."""
        return f"app-{self.name}@{release}.service"

    def worker_unit(self, release: str, index: int) -> str:
        """The unit of one worker of a release."""
        return f"app-{self.name}-worker@{release}:{index}.service"

    def socket_unit(self, release: str) -> str:
        """The socket that systemd holds for a release's backend server (legacy mode)."""
        return f"app-{self.name}@{release}.socket"

    def socket(self, release: str) -> str:
        """Path of that socket; the units' template has it too."""
        return os.path.join(self.run, self.name, f"{release}.sock")

    def front(self, key: str) -> str:
        """Folder of one Nginx configuration, which releases with the same settings share (legacy mode)."""
        return os.path.join(self.settings, f"nginx-{key}")

    def front_unit(self, key: str) -> str:
        """The Nginx that runs this configuration."""
        return f"app-{self.name}-nginx@{key}.service"

    def flow(self, key: str) -> str:
        """Folder of one chain's files, which releases with the same settings share."""
        return os.path.join(self.settings, f"flow-{key}")

    def flow_slot(self, slot: int) -> str:
        """Link to the files that the chain's units of a slot read."""
        return os.path.join(self.settings, f"flow@{slot}")

    def flow_units(self, services: list[str], slot: int) -> list[str]:
        """The chain's units on a slot, from the public side inwards."""
        return [f"app-{self.name}-flow-{index}-{service}@{slot}.service" for index, service in enumerate(services)]

    @property
    def venvs(self) -> str:
        """Folder of the virtual environments that releases in legacy mode share."""
        return os.path.join(self.folder, "venvs")

    def main_units(self, description: Description) -> list[str]:
        """The units without which a release does not serve, in the order of their start."""
        units = [self.socket_unit(description.release)] if description.socket else []
        units += [] if description.backend == "none" else [self.unit(description.release)]
        units += [self.front_unit(description.front)] if description.front else []
        if description.flow:
            units += reversed(self.flow_units(description.flow["services"], description.ports.get("flow", 0)))
        return units

    def is_shared(self, unit: str) -> bool:
        """Whether releases with the same settings have this unit in common: Nginx and the chain."""
        return unit.startswith((f"app-{self.name}-nginx@", f"app-{self.name}-flow-"))

    @property
    def target(self) -> str:
        """One handle for everything the application runs."""
        return f"app-{self.name}.target"


@dataclass
class State:
    """What became of each release of an application on this host."""

    releases: dict[str, dict[str, Any]] = field(default_factory=dict)
    last_gap_seconds: float | None = None
    #: The host's number in the fleet, once it has one; a release that is built later keeps it.
    instance_number: int | None = None

    @classmethod
    def load(cls, path: str) -> State:
        """Reads the state; a missing file is a host without releases.

        Raises:
            ValueError: the file is there and is not a state file of ours.
        """
        try:
            with open(path, encoding="utf-8") as file:
                stored = json.load(file)
        except FileNotFoundError:
            return cls()
        if not isinstance(stored, dict) or not isinstance(stored.get("releases"), dict):
            raise ValueError(f"{path} is not a state file of pyfleet")
        return cls(stored["releases"], stored.get("last_gap_seconds"), stored.get("instance_number"))

    def save(self, path: str) -> None:
        """Writes the state atomically, readable for everyone: it holds no secret."""
        write_file(path, json.dumps(self.to_dict(), indent=1, sort_keys=True) + "\n", 0o644)

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON-able form."""
        return {
            "releases": self.releases,
            "last_gap_seconds": self.last_gap_seconds,
            "instance_number": self.instance_number,
        }

    def mark(self, release: str, **facts: Any) -> None:
        """Adds facts about a release."""
        self.releases.setdefault(release, {}).update(facts)


def prunable(state: State, *, keep: int, protected: list[str | None]) -> list[str]:
    """Returns the releases to remove, oldest first.

    `keep` good releases stay besides `protected` (current, previous, running ones) and pinned ones; failed and unfinished
    releases go as soon as nothing protects them. Age is the order of preparation that the state records.
    """

    def prepared(release: str) -> float:
        return float(state.releases[release].get("prepared_at") or 0)

    order = sorted(state.releases, key=prepared)
    free = [name for name in order if name not in protected and not state.releases[name].get("pinned")]
    good = [name for name in free if state.releases[name].get("result") == GOOD]
    staying = set(good[-keep:] if keep > 0 else [])
    return [name for name in free if name not in staying]


def write_file(path: str, text: str, mode: int) -> None:
    """Writes a file atomically; it never exists with a wider mode than `mode`."""
    descriptor, scratch = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise


@dataclass(frozen=True)
class Layer:
    """One station between users and the application: `call` is the port that leads to it, `candidates` those it may listen on."""

    kind: str
    call: int
    candidates: tuple[int, ...]


@dataclass
class Description:
    """What a release needs in order to run: written when it is prepared, read by every switch, rollback and check."""

    release: str
    app: str
    mode: str
    commit: str
    user: str
    public_port: int
    candidates: list[int]
    switch: str
    project_root: str = ""
    health: dict[str, Any] = field(default_factory=dict)
    hooks: dict[str, Any] = field(default_factory=dict)
    workers: list[dict[str, Any]] = field(default_factory=list)
    environment_names: list[str] = field(default_factory=list)
    task: bool = False
    drain_seconds: float = 30.0
    stop_seconds: float = 30.0
    #: The host's number in the fleet (INSTANCE_NUMBER).
    instance_number: int = 0
    #: Legacy mode: the backend server, `command` for CC_RUN_COMMAND, `none` for Celery alone.
    backend: str = ""
    #: Whether systemd holds the backend's socket.
    socket: bool = False
    #: Key of the Nginx configuration in front of the backend.
    front: str = ""
    #: The Request Flow chain: `key`, `services` from the public side inwards, `inner_ports` by slot, and `block`.
    flow: dict[str, Any] = field(default_factory=dict)
    #: The extra, or backend of the pip interface, that the release was built with for the host's hardware (H3).
    accelerator: str = ""
    #: The layers behind the outermost one, whose ports are `public_port` and `candidates`: kind, call and candidates of each.
    inner: list[dict[str, Any]] = field(default_factory=list)
    #: Port of each layer at the last activation, by kind, from the file `ports.json`; empty when the release never ran.
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def layers(self) -> list[Layer]:
        """The way from the public port to the application, outermost first."""
        kind = "flow" if self.flow else "nginx" if self.front else APPLICATION
        outer = Layer(kind, self.public_port, tuple(self.candidates))
        return [outer, *(Layer(each["kind"], each["call"], tuple(each["candidates"])) for each in self.inner)]

    @property
    def claims(self) -> set[int]:
        """Every port that a release may use or be called by, the chain's included; other applications keep off them (F12)."""
        ports = {port for layer in self.layers for port in (layer.call, *layer.candidates)}
        for index in range(1, len(self.flow.get("services", ()))):
            ports |= {port + index for port in (*self.candidates, self.public_port)}
        return ports | set(self.flow.get("inner_ports", ()))

    @property
    def port(self) -> int:
        """Where the public port leads to; 0 when the release never ran."""
        return self.ports.get(self.layers[0].kind, 0)

    @property
    def entry_port(self) -> int:
        """Where the release itself answers, Nginx included and the chain not; 0 when it never ran."""
        return self.ports.get("nginx" if self.front else APPLICATION, 0)

    @property
    def own_port(self) -> int:
        """Where the application itself listens; 0 when that is a socket, or when it never ran."""
        return self.ports.get(APPLICATION, 0)

    @classmethod
    def load(cls, layout: Layout, release: str | None) -> Description | None:
        """Reads the description of a release; None when there is none."""
        if not release:
            return None
        folder = layout.release_settings(release)
        try:
            with open(os.path.join(folder, "release.json"), encoding="utf-8") as file:
                stored = json.load(file)
        except FileNotFoundError:
            return None
        known = {name: value for name, value in stored.items() if name in cls.__dataclass_fields__}
        made = cls(**known)
        try:
            with open(os.path.join(folder, "ports.json"), encoding="utf-8") as file:
                made.ports = {str(kind): int(port) for kind, port in json.load(file).items()}
        except FileNotFoundError:
            port = _read_port(os.path.join(folder, "port"))
            made.ports = {APPLICATION: port} if port else {}
        return made

    def save_ports(self, layout: Layout, ports: dict[str, int]) -> None:
        """Writes the ports of this activation; units read PORT after the environment (contract D2).

        A backend server has a socket instead of a port: PORT is then what users call.
        """
        self.ports = dict(ports)
        folder = layout.release_settings(self.release)
        write_file(os.path.join(folder, "ports.json"), json.dumps(self.ports) + "\n", 0o644)
        write_file(os.path.join(folder, "port"), f"PORT={self.own_port or self.public_port}\n", 0o644)


def _read_port(path: str) -> int:
    try:
        with open(path, encoding="utf-8") as file:
            return int(file.read().strip().partition("=")[2] or 0)
    except (FileNotFoundError, ValueError):
        return 0
