#!/usr/bin/python3
# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test hosts: real systemd machines in podman containers, reached over SSH like anybody's hosts.

    hosts.py images bookworm trixie          make the images of these suites
    hosts.py up --run NAME web1=trixie …     hosts of a run; those there already are kept
    hosts.py up --run NAME web[01:50]=trixie fifty of them, numbered as Ansible's inventories do it
    hosts.py ssh --run NAME web1 [COMMAND…]
    hosts.py reset --run NAME web1 …         a virgin host again, same address
    hosts.py cut / uncut --run NAME web1 …   without / with a way to anything outside its own network
    hosts.py list
    hosts.py down --run NAME                 and the runs that are named after it, NAME-…

A run lives in .work/hosts/NAME/ of this checkout: inventory/hosts.yml, ansible.cfg, keys. Runs of several checkouts
stand side by side on one machine, because container names, network and addresses carry a key of checkout and run.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import ipaddress
import json
import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

if not __package__:  # started as a script, before anything is set up
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "hosts"

from . import images
from .machine import (
    CHECKOUT,
    TestBedError,
    as_root,
    containers_conf,
    custom_certificates,
    host_options,
    locked,
    proxies,
    run,
)

CAPABILITIES = "SYS_ADMIN,NET_ADMIN,SYS_NICE,SYS_PTRACE"  # without SYS_ADMIN tests of unit hardening are vacuous
TABLE = "inet pyfleet_testbed"
FIRST_ADDRESS = 11
INOTIFY_INSTANCES = 4096
STANDARD_HOSTS = {f"{suite}1": suite for suite in images.SUITES}


@dataclasses.dataclass
class Host:
    """One host of a run: its suite and its number in the run's subnet."""

    name: str
    suite: str
    number: int


class Run:
    """The hosts of one run, and the directory that describes them."""

    def __init__(self, name: str) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,20}", name):
            raise TestBedError(f"The run's name {name!r} is not a lower-case word of at most 21 characters.")
        self.name = name
        self.directory = CHECKOUT / ".work" / "hosts" / name
        self.key = hashlib.sha256(str(self.directory).encode()).hexdigest()[:6]
        self.network = f"pyfleet-{self.key}-{name}"
        self.conf = self.directory / "containers.conf"
        # sockets must have short names, and a checkout may lie deep
        self.sockets = pathlib.Path("/tmp") / f"pyfleet-{os.geteuid()}-{self.key}"
        self.subnet = ""
        self.hosts: dict[str, Host] = {}
        with contextlib.suppress(FileNotFoundError):
            state = json.loads((self.directory / "state.json").read_text(encoding="utf-8"))
            self.subnet = state["subnet"]
            self.hosts = {host["name"]: Host(**host) for host in state["hosts"]}

    # -- small parts

    def podman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman as root with this run's settings."""
        return run(as_root(["podman", *arguments], {"CONTAINERS_CONF": str(self.conf)}), check=check)

    def container(self, host: Host) -> str:
        """The container's name, unlike that of any other run on this machine."""
        return f"pyfleet-{self.key}-{host.name}"

    def address(self, host: Host) -> str:
        """The host's IPv4 address."""
        return str(ipaddress.IPv4Network(self.subnet)[host.number])

    def chosen(self, names: Sequence[str]) -> list[Host]:
        """The hosts of these names; all of the run when there are none."""
        unknown = [name for name in names if name not in self.hosts]
        if unknown or not self.hosts:
            there = ", ".join(self.hosts) or "none"
            raise TestBedError(f"No host {', '.join(unknown)} in the run {self.name!r}. There are: {there}")
        return [self.hosts[name] for name in names] if names else list(self.hosts.values())

    def save(self) -> None:
        """Write the state file, by which a later command finds the hosts again."""
        state = {"subnet": self.subnet, "hosts": [dataclasses.asdict(host) for host in self.hosts.values()]}
        (self.directory / "state.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")

    # -- up

    def up(self, wanted: dict[str, str]) -> None:
        """Make the hosts that are not there, start those that stopped, and write the inventory."""
        self._prepare_directory()
        moved = [name for name, suite in wanted.items() if name in self.hosts and self.hosts[name].suite != suite]
        for name in moved:
            self.podman("rm", "--force", "--time=0", self.container(self.hosts[name]), check=False)
        for name, suite in wanted.items():
            taken = {host.number for host in self.hosts.values()}
            free = next(number for number in range(FIRST_ADDRESS, 250) if number not in taken)
            known = self.hosts.get(name)
            self.hosts[name] = Host(name, suite, known.number if known else free)
        suites = sorted({host.suite for host in self.hosts.values()})
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            image = dict(zip(suites, pool.map(lambda suite: images.ensure(suite, self.conf), suites), strict=True))
        self._ensure_network()
        self.save()
        self._ensure_inotify()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda host: self._start(host, image[host.suite]), self.hosts.values()))
        self._write_inventory()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(self.wait, self.hosts.values()))

    def _prepare_directory(self) -> None:
        (self.directory / "inventory").mkdir(parents=True, exist_ok=True)
        self._ensure_sockets()
        self.conf.write_text(containers_conf(), encoding="utf-8")
        for name in ("id_ed25519", "hostkey"):
            if not (self.directory / name).exists():
                run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", str(self.directory / name)])
        public = (self.directory / "hostkey.pub").read_text(encoding="utf-8")
        (self.directory / "known_hosts").write_text(f"* {public}", encoding="utf-8")
        mounts = self.directory / "mounts"
        if not mounts.exists():
            # sshd accepts keys in files of root only
            run(as_root(["install", "-d", "-m", "0755", "-o", "0", "-g", "0", str(mounts)]))
            for source, mode in (("id_ed25519.pub", "0644"), ("hostkey", "0600")):
                target = str(mounts / source)
                install = ["install", "-m", mode, "-o", "0", "-g", "0", str(self.directory / source), target]
                run(as_root(install))
        bundle = self.directory / "ca-bundle.crt"
        custom = custom_certificates()
        if custom:
            bundle.write_text(custom, encoding="utf-8")
        else:
            bundle.unlink(missing_ok=True)
        (self.directory / "ansible.cfg").write_text(self._ansible_cfg(), encoding="utf-8")
        (self.directory / "ssh_config").write_text(self._ssh_config(), encoding="utf-8")

    def _ensure_sockets(self) -> None:
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        if self.sockets.is_symlink() or self.sockets.stat().st_uid != os.geteuid():
            raise TestBedError(f"{self.sockets} belongs to somebody else. Next step: remove it.")

    def _ansible_cfg(self) -> str:
        return f"""\
[defaults]
inventory = {self.directory}/inventory/hosts.yml
collections_path = {CHECKOUT}/.work/collections
forks = 10
gathering = explicit
nocows = true
retry_files_enabled = false
[inventory]
unparsed_is_failed = true
"""

    def _ssh_options(self) -> dict[str, str]:
        return {
            "User": "root",
            "IdentityFile": str(self.directory / "id_ed25519"),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.directory / "known_hosts"),
            "StrictHostKeyChecking": "yes",
            "ControlMaster": "auto",
            "ControlPersist": "60s",
            "ControlPath": f"{self.sockets}/%h-%p-%r",
            "ConnectTimeout": "10",
            "LogLevel": "ERROR",
        }

    def _ssh_config(self) -> str:
        return "".join(f"{name} {value}\n" for name, value in self._ssh_options().items())

    def _ensure_network(self) -> None:
        with locked("network"):
            if self.subnet and self.podman("network", "exists", self.network, check=False).returncode == 0:
                return
            self.subnet = self._free_subnet()
            arguments = ["--subnet", self.subnet, "--disable-dns", self.network]
            self.podman("network", "create", *arguments)

    def _free_subnet(self) -> str:
        """A /24 that neither podman nor a route of this machine uses; the same run usually gets the same one."""
        listed = self.podman("network", "ls", "--quiet").stdout.split()
        described = json.loads(self.podman("network", "inspect", *listed).stdout) if listed else []
        used = [item["subnet"] for network in described for item in network.get("subnets") or []]
        used += [line.split()[0] for line in run(["ip", "-4", "route"]).stdout.splitlines()]
        taken = [ipaddress.IPv4Network(text, strict=False) for text in used if re.match(r"[0-9]", text)]
        start = int(self.key, 16)
        for offset in range(4096):
            number = (start + offset) % 4096
            subnet = ipaddress.IPv4Network(f"10.{208 + number // 256}.{number % 256}.0/24")
            if not any(subnet.overlaps(other) for other in taken):
                return str(subnet)
        raise TestBedError("No free subnet between 10.208.0.0 and 10.223.255.0. Next step: podman network prune")

    def _ensure_inotify(self) -> None:
        """Every systemd takes five to ten inotify instances, and the usual 128 end at 15 to 23 hosts."""
        path = pathlib.Path("/proc/sys/fs/inotify/max_user_instances")
        running = len(run(as_root(["podman", "ps", "--quiet"])).stdout.split())
        if running + len(self.hosts) > 8 and int(path.read_text(encoding="utf-8")) < INOTIFY_INSTANCES:
            run(as_root(["sysctl", "-q", "-w", f"fs.inotify.max_user_instances={INOTIFY_INSTANCES}"]))

    def _start(self, host: Host, image: str) -> None:
        name = self.container(host)
        found = self.podman("container", "inspect", "--format", "{{.State.Status}}", name, check=False)
        status = found.stdout.strip()
        if status == "running":
            return
        if status:
            self.podman("start", name)
            return
        address = self.address(host)
        # a random MAC at a known address would be unreachable until the neighbour tables forget the old one
        mac = "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))
        mounts = self.directory / "mounts"
        self.podman(
            "run",
            "--detach",
            f"--name={name}",
            f"--hostname={host.name}",
            f"--network={self.network}",
            f"--ip={address}",
            f"--mac-address={mac}",
            "--systemd=always",
            "--restart=always",
            "--http-proxy=false",
            f"--cap-add={CAPABILITIES}",
            *host_options(),
            f"--label=pyfleet.testbed={self.key}",
            f"--volume={mounts}/id_ed25519.pub:/etc/ssh/testbed/authorized_keys:ro",
            f"--volume={mounts}/hostkey:/etc/ssh/ssh_host_ed25519_key:ro",
            image,
        )
        if proxies():
            # as a company's hosts have them; read by PAM, so in every SSH session
            self.wait(host)
            lines = "".join(f"{variable}={value}\n" for variable, value in proxies().items())
            self.ssh(host, f"printf %s {shlex.quote(lines)} >> /etc/environment")
            self.hang_up(host)

    def wait(self, host: Host, timeout: float = 120) -> None:
        """Wait until the host answers by SSH and its systemd has finished booting without a failed unit."""
        deadline = time.monotonic() + timeout
        state = "no answer on port 22"
        while time.monotonic() < deadline:
            try:
                socket.create_connection((self.address(host), 22), timeout=1).close()
            except OSError:
                time.sleep(0.1)
                continue
            state = self.ssh(host, "systemctl is-system-running", timeout=15).stdout.strip() or "no bus yet"
            if state == "running":
                return
            if state == "degraded":
                failed = self.ssh(host, "systemctl --no-pager --no-legend --plain --failed").stdout
                raise TestBedError(f"{host.name} booted with failed units:\n{failed}")
            time.sleep(0.15)
        raise TestBedError(
            f"{host.name} ({host.suite}) did not boot within {timeout:.0f} s: {state}.\n"
            f"Next step: podman logs {self.container(host)}"
        )

    def _write_inventory(self) -> None:
        """YAML by way of JSON, which is a part of it; the standard library writes no other."""
        options = {name: value for name, value in self._ssh_options().items() if name not in ("User", "IdentityFile")}
        path = options.pop("ControlPath")
        shared: dict[str, object] = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.directory / "id_ed25519"),
            "ansible_ssh_common_args": "-F none " + " ".join(f"-o {name}={value}" for name, value in options.items()),
            "ansible_control_path": path.replace("%", "%%"),  # Ansible formats it once more
            "ansible_pipelining": True,
            "ansible_python_interpreter": "/usr/bin/python3",
            "testbed_run": self.name,
            "testbed_environment": proxies(),
        }
        if (self.directory / "ca-bundle.crt").exists():
            # the index of this machine is trusted through certificates of its own
            shared["host_ca_bundle"] = str(self.directory / "ca-bundle.crt")
            shared["uv_system_certs"] = True
        children = {}
        for suite in sorted({host.suite for host in self.hosts.values()}):
            mine = [host for host in self.hosts.values() if host.suite == suite]
            children[suite] = {"hosts": {host.name: {"ansible_host": self.address(host)} for host in mine}}
        inventory = {"all": {"children": {"python_hosts": {"vars": shared, "children": children}}}}
        (self.directory / "inventory" / "hosts.yml").write_text(
            "# Written by tests/hosts/hosts.py\n" + json.dumps(inventory, indent=2) + "\n", encoding="utf-8"
        )

    # -- using hosts

    def ssh_command(self, host: Host, command: str | None) -> list[str]:
        """The command line that reaches a host."""
        self._ensure_sockets()
        line = ["ssh", "-F", str(self.directory / "ssh_config"), self.address(host)]
        return [*line, command] if command is not None else line

    def ssh(self, host: Host, command: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run a shell command on a host; its failure is the caller's to judge."""
        try:
            return run(self.ssh_command(host, command), check=False, timeout=timeout)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess([], 255, "", f"no answer within {timeout} s")

    def hang_up(self, host: Host) -> None:
        """End shared SSH connections to a host, which would not notice that it is gone."""
        for path in self.sockets.glob(f"{self.address(host)}-*"):
            run(["ssh", "-F", "none", "-o", f"ControlPath={path}", "-O", "exit", "host"], check=False)
            path.unlink(missing_ok=True)

    def reset(self, names: Sequence[str]) -> None:
        """Make virgin hosts again of these, at the same addresses."""
        hosts = self.chosen(names)
        self.uncut(names)

        def again(host: Host) -> None:
            image = images.ensure(host.suite, self.conf)
            self.podman("rm", "--force", "--time=0", self.container(host), check=False)
            self.hang_up(host)
            self._start(host, image)
            self.wait(host)

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(again, hosts))

    # -- cutting hosts off

    def _nft(self, rules: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        nft = shutil.which("nft") or "/usr/sbin/nft"
        return run(as_root([nft, "-f", "-"]), stdin=rules, check=check)

    def cut(self, names: Sequence[str]) -> None:
        """Refuse everything that the hosts start towards anything but their own network.

        Done on this machine by address, so that it outlives a reboot of the host. Connections that this machine
        starts (SSH, health checks) are answered.
        """
        chain = f"run_{self.key}"
        elements = ", ".join(self.address(host) for host in self.chosen(names))
        self._nft(f"""\
add table {TABLE}
add set {TABLE} {chain} {{ type ipv4_addr; }}
add chain {TABLE} {chain}_forward {{ type filter hook forward priority filter - 5; }}
add chain {TABLE} {chain}_input {{ type filter hook input priority filter - 5; }}
flush chain {TABLE} {chain}_forward
flush chain {TABLE} {chain}_input
add rule {TABLE} {chain}_forward ip saddr @{chain} ip daddr != {self.subnet} reject
add rule {TABLE} {chain}_input ip saddr @{chain} ct state new reject
add element {TABLE} {chain} {{ {elements} }}
""")

    def uncut(self, names: Sequence[str]) -> None:
        """Give the hosts their way out back."""
        for host in self.chosen(names):
            self._nft(f"delete element {TABLE} run_{self.key} {{ {self.address(host)} }}\n", check=False)

    def kill(self, names: Sequence[str]) -> None:
        """Take the hosts' power away; `reset` makes them anew."""
        for host in self.chosen(names):
            self.podman("kill", self.container(host))

    # -- down

    def down(self) -> None:
        """Remove the run: hosts, network, rules, directory. Images and caches stay."""
        if self.conf.exists():
            label = f"--filter=label=pyfleet.testbed={self.key}"
            left = self.podman("ps", "--all", "--quiet", label).stdout.split()
            if left:
                self.podman("rm", "--force", "--time=0", *left)
            self.podman("network", "rm", "--force", self.network, check=False)
        for host in self.hosts.values():
            self.hang_up(host)
        chain = f"run_{self.key}"
        for rule in (f"chain {TABLE} {chain}_forward", f"chain {TABLE} {chain}_input", f"set {TABLE} {chain}"):
            self._nft(f"delete {rule}\n", check=False)
        shutil.rmtree(self.sockets, ignore_errors=True)
        if self.directory.exists():
            run(as_root(["rm", "-rf", str(self.directory)]))
        # podman leaves an empty one behind, which a hybrid machine would keep for ever
        if not run(as_root(["podman", "ps", "--quiet"]), check=False).stdout.strip():
            run(as_root(["rmdir", "/sys/fs/cgroup/unified/systemd"]), check=False)


def runs() -> list[Run]:
    """The runs of this checkout."""
    directory = CHECKOUT / ".work" / "hosts"
    return [Run(path.parent.name) for path in sorted(directory.glob("*/state.json"))]


def show() -> None:
    """Print every host of this checkout."""
    for one in runs():
        states = one.podman("ps", "--all", "--format", "{{.Names}} {{.State}}").stdout.splitlines()
        state = dict(line.split(" ", 1) for line in states)
        for host in one.hosts.values():
            status = state.get(one.container(host), "missing")
            print(f"{one.name:12} {host.name:16} {host.suite:10} {one.address(host):16} {status}")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hosts.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("images", help="make the images of suites")
    build.add_argument("suites", nargs="*", default=list(images.SUITES))
    build.add_argument("--rebuild", action="store_true", help="even when there is one of this recipe")
    commands.add_parser("list", help="show the hosts of this checkout")
    for name, text in (
        ("up", "make or start hosts"),
        ("down", "remove a run and those named after it"),
        ("ssh", "a shell or a command on a host"),
        ("reset", "virgin hosts again"),
        ("cut", "cut hosts off from everything outside"),
        ("uncut", "give them their way out back"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--run", default="default", help="name of the run (default: %(default)s)")
        if name == "up":
            command.add_argument("hosts", nargs="*", metavar="HOST=SUITE", help="one of each suite when none is named")
        elif name == "ssh":
            command.add_argument("host")
            command.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
        elif name != "down":
            command.add_argument("hosts", nargs="*", metavar="HOST", help="all of the run when none is named")
    return parser.parse_args(argv)


def _numbered(pair: str) -> list[str]:
    """The hosts of `web[01:50]=SUITE`, one by one; anything else is itself."""
    found = re.fullmatch(r"([^\[]*)\[([0-9]+):([0-9]+)\](.*)", pair)
    if not found:
        return [pair]
    before, first, last, after = found.groups()
    return [f"{before}{number:0{len(first)}}{after}" for number in range(int(first), int(last) + 1)]


def _wanted(pairs: Sequence[str]) -> dict[str, str]:
    wanted = {}
    for pair in (single for given in pairs for single in _numbered(given)):
        name, _, suite = pair.partition("=")
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name) or suite not in images.SUITES:
            raise TestBedError(
                f"{pair!r} is not HOST=SUITE, with a host name and one of the suites {', '.join(images.SUITES)}."
            )
        wanted[name] = suite
    return wanted


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _arguments(argv)
    if options.command == "list":
        show()
        return 0
    if options.command == "images":
        unknown = [suite for suite in options.suites if suite not in images.SUITES]
        if unknown:
            raise TestBedError(f"No recipe for {', '.join(unknown)}. There are: {', '.join(images.SUITES)}")
        conf = CHECKOUT / ".work" / "containers.conf"
        conf.parent.mkdir(exist_ok=True)
        conf.write_text(containers_conf(), encoding="utf-8")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            names = pool.map(lambda suite: images.ensure(suite, conf, rebuild=options.rebuild), options.suites)
            print("\n".join(names))
        return 0
    bed = Run(options.run)
    if options.command == "up":
        wanted = _wanted(options.hosts) or STANDARD_HOSTS
        started = time.monotonic()
        bed.up(wanted)
        print(f"{len(bed.hosts)} hosts ready after {time.monotonic() - started:.1f} s")
        print(f"inventory: {bed.directory}/inventory/hosts.yml")
    elif options.command == "ssh":
        (host,) = bed.chosen([options.host])
        words = options.words[1:] if options.words[:1] == ["--"] else options.words
        command = words[0] if len(words) == 1 else shlex.join(words) if words else None
        return subprocess.run(bed.ssh_command(host, command), check=False).returncode
    elif options.command == "down":
        for one in (bed, *(other for other in runs() if other.name.startswith(f"{bed.name}-"))):
            one.down()
    else:
        {"reset": bed.reset, "cut": bed.cut, "uncut": bed.uncut}[options.command](options.hosts)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TestBedError as error:
        print(f"hosts.py: {error}", file=sys.stderr)
        sys.exit(1)
