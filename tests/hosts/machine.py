# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kind of machine the test bed runs on: detected, never assumed.

Standard library only, and no import of the collection: this must run before anything is set up.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
CAP_SYS_RESOURCE = 24
PROXY_NAMES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


class TestBedError(Exception):
    """Something the person at the terminal has to know; its text says what to do next."""


def cache_dir() -> pathlib.Path:
    """Where images and downloaded packages stay between runs, outside the checkout."""
    named = os.environ.get("PYFLEET_TESTBED_CACHE")
    path = pathlib.Path(named) if named else pathlib.Path.home() / ".cache" / "pyfleet-testbed"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process on this machine at a time do `name` (build an image, choose a subnet)."""
    with (cache_dir() / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def as_root(command: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """The command line that runs `command` as root, through sudo for an ordinary user."""
    settings = [f"{name}={value}" for name, value in (environment or {}).items()]
    prefix = ["env", *settings] if settings else []
    if os.geteuid() == 0:
        return [*prefix, *command]
    if not shutil.which("sudo"):
        raise TestBedError("The test bed needs root for podman, and there is no sudo. Run it as root.")
    return ["sudo", *prefix, *command]


def run(
    command: Sequence[str],
    *,
    check: bool = True,
    stdin: str | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command and keep its output; a failure names the command and what it said."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
    )
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise TestBedError(f"{' '.join(command[:6])} … ended with {done.returncode}:\n{said}")
    return done


def _filesystem(path: str) -> str:
    for line in pathlib.Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        fields = line.split()
        if fields[1] == path:
            return fields[2]
    return ""


def cgroups() -> str:
    """`v2`, or `hybrid` (version 1 controllers with a version 2 tree beside them).

    Raises:
        TestBedError: the machine has version 1 only, on which current systemd does not boot.
    """
    if _filesystem("/sys/fs/cgroup") == "cgroup2":
        return "v2"
    if _filesystem("/sys/fs/cgroup/unified") == "cgroup2":
        return "hybrid"
    raise TestBedError(
        "This machine mounts no cgroup v2 tree, and systemd 258 and later refuse version 1.\n"
        "Next step: boot with systemd.unified_cgroup_hierarchy=1, or mount one at /sys/fs/cgroup/unified."
    )


def has_capability(bit: int) -> bool:
    """Whether root on this machine has the capability, or could have it by way of sudo."""
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"^CapBnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(found and int(found.group(1), 16) >> bit & 1)


def containers_conf() -> str:
    """The settings podman needs on this machine; used through CONTAINERS_CONF, /etc stays as it is."""
    containers = ['log_driver = "k8s-file"']
    engine = ['events_logger = "file"']
    if not has_capability(CAP_SYS_RESOURCE):
        # podman's own defaults raise the limits, which is not allowed here
        containers.append('default_ulimits = ["nofile=8192:8192", "nproc=8192:8192"]')
    hybrid = cgroups() == "hybrid"
    if hybrid:
        # only ever the v2 tree: with the v1 tree the container's systemd remounts the machine's own
        containers.append('volumes = ["/sys/fs/cgroup/unified:/sys/fs/cgroup:rw"]')
    if not pathlib.Path("/run/systemd/system").is_dir():
        engine.append('cgroup_manager = "cgroupfs"')
    runtimes = [name for name in ("crun", "runc") if shutil.which(name) or pathlib.Path("/usr/sbin", name).exists()]
    if not runtimes:
        raise TestBedError("Neither crun nor runc is installed. Next step: make setup")
    if hybrid:
        if "runc" not in runtimes:
            raise TestBedError("crun refuses hybrid cgroups and runc is not installed. Next step: make setup")
        engine.append('runtime = "runc"')
    elif len(runtimes) == 1:
        engine.append(f'runtime = "{runtimes[0]}"')
    return "\n".join(
        ["[containers]", *containers, "[engine]", *engine, "[network]", 'network_backend = "netavark"', ""]
    )


def host_options() -> list[str]:
    """Options of `podman run` that depend on the machine."""
    options = ["--cgroupns=host"] if cgroups() == "hybrid" else []
    apparmor = pathlib.Path("/sys/module/apparmor/parameters/enabled")
    if apparmor.exists() and apparmor.read_text(encoding="utf-8").strip() == "Y":
        options.append("--security-opt=apparmor=unconfined")  # podman's profile forbids the mounts of hardened units
    if pathlib.Path("/sys/fs/selinux/enforce").exists():
        options.append("--security-opt=label=disable")
    return options


def _certificates(text: str) -> dict[bytes, str]:
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----\s(.*?)-----END CERTIFICATE-----", text, re.DOTALL)
    return {
        base64.b64decode("".join(block.split())): f"-----BEGIN CERTIFICATE-----\n{block}-----END CERTIFICATE-----\n"
        for block in blocks
    }


def custom_certificates(
    bundle: pathlib.Path = pathlib.Path("/etc/ssl/certs/ca-certificates.crt"),
    shipped: pathlib.Path = pathlib.Path("/usr/share/ca-certificates"),
) -> str:
    """The certificates this machine trusts beyond those of the distribution, as PEM; empty when there are none."""
    if not bundle.is_file() or not shipped.is_dir():
        return ""
    known: dict[bytes, str] = {}
    for path in shipped.rglob("*.crt"):
        known.update(_certificates(path.read_text(encoding="utf-8", errors="replace")))
    trusted = _certificates(bundle.read_text(encoding="utf-8", errors="replace"))
    return "".join(text for der, text in trusted.items() if der not in known)


def proxies() -> dict[str, str]:
    """The proxy variables of this machine's environment."""
    return {name: os.environ[name] for name in PROXY_NAMES if os.environ.get(name)}


def mirrors() -> tuple[str, str]:
    """The Debian archive and its security archive, as this machine's own apt knows them.

    PYFLEET_TESTBED_MIRROR and PYFLEET_TESTBED_SECURITY_MIRROR win, for a machine that is not Debian.
    """
    main = os.environ.get("PYFLEET_TESTBED_MIRROR", "")
    security = os.environ.get("PYFLEET_TESTBED_SECURITY_MIRROR", "")
    if (not main or not security) and shutil.which("apt-get"):
        listed = run(["apt-get", "indextargets", "--format", "$(ORIGIN)|$(RELEASE)|$(REPO_URI)"], check=False)
        for line in listed.stdout.splitlines():
            origin, release, uri = line.split("|", 2)
            if origin != "Debian" or not uri.startswith(("http://", "https://")):
                continue
            if release.endswith("-security"):
                security = security or uri.rstrip("/")
            elif "-" not in release:
                main = main or uri.rstrip("/")
    if not main:
        raise TestBedError(
            "The images are made from Debian's packages, and this machine's apt names no Debian archive.\n"
            "Next step: apt-get update, or set PYFLEET_TESTBED_MIRROR to the URL of one"
            " (and PYFLEET_TESTBED_SECURITY_MIRROR)."
        )
    return main, security
