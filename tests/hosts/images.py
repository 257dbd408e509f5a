# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of test hosts: a Debian suite with systemd and sshd, made from packages and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import time

from .machine import TestBedError, as_root, cache_dir, locked, mirrors, run

REPOSITORY = "localhost/pyfleet-testbed"
SUITES = ("bullseye", "bookworm", "trixie", "forky")
PACKAGES = (
    "systemd systemd-sysv dbus python3 python3-apt ca-certificates openssh-server sudo iproute2 procps curl"
    " libpam-systemd dbus-user-session mount passwd login"
).split()
SOURCE_DATE_EPOCH = "1790000000"
SCRATCH_BYTES = 2 * 1024**3

# Users to test become with; their keys come with the run. sshd reads one file for all of them.
CUSTOMIZE = (
    """chroot "$1" useradd --create-home --shell /bin/bash deploy""",
    """chroot "$1" useradd --create-home --shell /bin/bash nosudo""",
    """echo 'deploy ALL=(ALL:ALL) NOPASSWD: ALL' > "$1"/etc/sudoers.d/deploy; chmod 0440 "$1"/etc/sudoers.d/deploy""",
    """echo 'AuthorizedKeysFile /etc/ssh/testbed/authorized_keys' > "$1"/etc/ssh/sshd_config.d/testbed.conf""",
    """mkdir -p "$1"/etc/ssh/testbed""",
    """rm -f "$1"/etc/ssh/ssh_host_* "$1"/var/log/apt/* "$1"/var/log/dpkg.log "$1"/var/log/alternatives.log"""
    """ "$1"/var/cache/ldconfig/aux-cache "$1"/var/cache/apt/archives/*.deb""",
    """: > "$1"/etc/machine-id; rm -f "$1"/var/lib/dbus/machine-id""",
)
OPTIONS = (
    "--quiet",
    "--mode=root",
    "--variant=apt",
    f"--include={','.join(PACKAGES)}",
    '--aptopt=Acquire::Languages "none"',
    '--aptopt=Acquire::Check-Valid-Until "false"',
    '--aptopt=APT::Install-Recommends "false"',
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--skip=essential/unlink",
)
IMPORT = (
    '--change=CMD ["/bin/sh","-c","mount --make-rshared / && exec /lib/systemd/systemd"]',
    "--change=STOPSIGNAL SIGRTMIN+3",
)


def sources(suite: str) -> str:
    """The sources.list of a suite's hosts, on the archives this machine uses itself."""
    if suite not in SUITES:
        raise TestBedError(f"No recipe for the suite {suite!r}. There are: {', '.join(SUITES)}")
    main, security = mirrors()
    lines = [f"deb {main} {suite} main"]
    if suite in ("bookworm", "trixie"):
        lines.append(f"deb {main} {suite}-updates main")
    if suite != "forky" and security:
        lines.append(f"deb {security} {suite}-security main")
    return "\n".join(lines) + "\n"


def tag(suite: str) -> str:
    """The image's name: it changes with the recipe, so a changed recipe builds a new image."""
    recipe = json.dumps([2, suite, sources(suite), OPTIONS, CUSTOMIZE, IMPORT, SOURCE_DATE_EPOCH])
    return f"{REPOSITORY}:{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def ensure(suite: str, conf: pathlib.Path, *, rebuild: bool = False) -> str:
    """Make the image of a suite unless it is there already, and return its name."""
    name = tag(suite)
    podman = {"CONTAINERS_CONF": str(conf)}
    with locked(f"image-{suite}"):
        exists = as_root(["podman", "image", "exists", name], podman)
        if not rebuild and run(exists, check=False).returncode == 0:
            return name
        tar = cache_dir() / "images" / f"{name.rpartition(':')[2]}.tar"
        if rebuild or not tar.exists():
            _build(suite, tar)
        run(as_root(["podman", "import", "--quiet", *IMPORT, str(tar), name], podman))
    return name


def _scratch() -> str:
    """Memory to unpack into where there is enough of it: twice as fast as most disks."""
    shared = pathlib.Path("/dev/shm")
    if os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > SCRATCH_BYTES:
        return str(shared)
    return tempfile.gettempdir()


def _build(suite: str, tar: pathlib.Path) -> None:
    packages = cache_dir() / "packages" / suite
    packages.mkdir(parents=True, exist_ok=True)
    tar.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch()
    partial = tar.with_suffix(".partial.tar")
    started = time.monotonic()
    print(f"{suite}: building the image from packages …", flush=True)
    command = ["mmdebstrap", *OPTIONS]
    command += ['--setup-hook=mkdir -p "$1"/var/cache/apt/archives/']
    command += [f"--setup-hook=sync-in {packages} /var/cache/apt/archives/"]
    command += [f"--customize-hook=sync-out /var/cache/apt/archives {packages}"]
    command += [f"--customize-hook={hook}" for hook in CUSTOMIZE]
    command += [suite, str(partial), "-"]  # the sources come by standard input, or a built-in mirror would win
    environment = {"SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH, "TMPDIR": scratch}
    run(as_root(command, environment), stdin=sources(suite))
    partial.replace(tar)
    print(f"{suite}: built in {time.monotonic() - started:.0f} s", flush=True)


def ids(conf: pathlib.Path) -> set[str]:
    """Every image there is, nameless ones included."""
    listed = run(as_root(["podman", "images", "--all", "--quiet", "--no-trunc"], {"CONTAINERS_CONF": str(conf)}))
    return set(listed.stdout.split())


def remove(conf: pathlib.Path, unwanted: set[str]) -> None:
    """Removes images, the layers of a build included: they hang together, so what is left is tried once more."""
    for _ in range(2):
        left = sorted(unwanted & ids(conf))
        if left:
            run(as_root(["podman", "rmi", "--force", *left], {"CONTAINERS_CONF": str(conf)}), check=False)
