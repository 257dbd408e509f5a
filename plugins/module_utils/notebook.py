# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A notebook server of a host (H4): what may be asked for, and which applications can give it a kernel.

`problems` and `port_problems` are pure; `look` reads what a deployment left and tries the interpreter of the release that serves.
"""

from __future__ import annotations

import glob
import grp
import ipaddress
import json
import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable

from ansible_collections.pyfleet.runtime.plugins.module_utils import process
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import SECRET, Finding, finding
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import Description, Layout
from ansible_collections.pyfleet.runtime.plugins.module_utils.sockets import Listener

SETTINGS = "/etc/pyfleet-notebooks"
HOMES = "/var/lib/pyfleet-notebooks"
TOOLS = "/opt/pyfleet/notebooks"
CACHES = "/var/cache/pyfleet-notebooks"
#: Work does not lie where the unit's sandbox hides it, where a reboot loses it, or where another part of this collection cleans up.
NO_WORK = ("/dev", "/etc", "/home", "/opt", "/proc", "/root", "/run", "/sys", "/tmp", "/usr", "/var/tmp", HOMES)
NOBODY = 65534

#: Runs a command as an account, with exactly this environment.
Run = Callable[[Sequence[str], Mapping[str, str], process.Account], process.Completed]


@dataclass(frozen=True)
class Wanted:
    """A notebook server as the role's variables describe it."""

    name: str
    kind: str
    address: str
    port: int
    base_url: str
    directory: str
    token: str
    arguments: tuple[str, ...]
    kernels: tuple[str, ...]
    app_root: str

    @property
    def user(self) -> str:
        """The account that runs it, and the name of its unit without `.service`."""
        return f"notebook-{self.name}"

    @property
    def settings(self) -> str:
        """Folder of what the server reads."""
        return posixpath.join(SETTINGS, self.name)

    @property
    def token_file(self) -> str:
        """Where the host keeps the token."""
        return posixpath.join(self.settings, "token")

    def kernel_files(self, kernels: Iterable[Kernel]) -> list[dict[str, str]]:
        """The kernel specifications, as `managed_files` takes them."""
        script = posixpath.join(self.settings, "kernel")
        return [
            {
                "path": posixpath.join(self.settings, "jupyter", "kernels", kernel.app, "kernel.json"),
                "content": json.dumps(kernel.spec(script), indent=1) + "\n",
            }
            for kernel in kernels
        ]


@dataclass(frozen=True)
class Kernel:
    """An application whose environment can run a kernel. `project_root` is relative to the release, `group` may read that."""

    app: str
    folder: str
    project_root: str
    group: str

    def spec(self, script: str) -> dict[str, object]:
        """What Jupyter reads; `script` starts the kernel in the release that serves (roles/notebook/templates/kernel.j2)."""
        return {
            "argv": [script, self.folder, self.project_root, "-f", "{connection_file}"],
            "display_name": self.app,
            "language": "python",
            "metadata": {"debugger": True},
        }


def problems(wanted: Wanted) -> list[Finding]:
    """Everything that is wrong with the variables."""
    found = []
    # With its prefix it is the name of an account, which has 32 characters.
    if not re.match(r"[a-z][a-z0-9-]{0,21}\Z", wanted.name):
        found.append(finding("notebook_name", "notebook_name", wanted.name or "(empty)"))
    try:
        ipaddress.ip_address(wanted.address)
    except ValueError:
        found.append(finding("notebook_address", "notebook_address", wanted.address or "(empty)"))
    if not 1024 <= wanted.port <= 65535:
        found.append(finding("notebook_port", "notebook_port", wanted.port))
    if not re.match(r"/([A-Za-z0-9._~-]+/)*([A-Za-z0-9._~-]+)?\Z", wanted.base_url):
        found.append(finding("notebook_base_url", "notebook_base_url", wanted.base_url or "(empty)"))
    why = directory_problem(wanted.directory, wanted.app_root)
    if why:
        found.append(finding("notebook_directory", "notebook_directory", wanted.directory or "(empty)", why=why))
    if wanted.token and not re.match(r"[A-Za-z0-9._~-]{16,}\Z", wanted.token):
        found.append(finding("notebook_token", "notebook_token", SECRET))
    found += [
        finding("notebook_argument", "notebook_arguments", argument.partition("=")[0])
        for argument in wanted.arguments
        if re.search(r"token|password", argument, re.IGNORECASE)
    ]
    if wanted.kernels and wanted.kind != "jupyter":
        found.append(finding("notebook_kernels", "notebook_kernels", ", ".join(wanted.kernels)))
    return found


def directory_problem(path: str, app_root: str) -> str:
    """Why work cannot lie there, or an empty text."""
    if not re.match(r"(/[A-Za-z0-9._-]+)+\Z", path) or posixpath.normpath(path) != path:
        return "it is not an absolute path of letters, digits, dots, hyphens and underscores"
    if path.count("/") < 2:
        return "it is a directory of the system's own"
    for place in (*NO_WORK, app_root):
        if path == place or path.startswith(place + "/"):
            return f"{place} is hidden from the server, passing, or somebody else's"
    return ""


def port_problems(
    port: int, listeners: Iterable[Listener], own: Iterable[int], claims: Mapping[str, Iterable[int]]
) -> list[Finding]:
    """Who has the port already: an application, listening or not (`claims`, by name), or a program that is none of the unit's `own`."""
    for app, ports in sorted(claims.items()):
        if port in set(ports):
            return [finding("notebook_port_claimed", "notebook_port", port, app=app)]
    pids = set(own)
    for each in listeners:
        if each.port == port and each.pids and not set(each.pids) & pids:
            return [finding("notebook_port_taken", "notebook_port", port, who=f"{each.process} (pid {each.pid})")]
    return []


def serving(root: str) -> list[str]:
    """The applications that have a release."""
    links = glob.glob(os.path.join(glob.escape(root), "*", "current"))
    return sorted(os.path.basename(os.path.dirname(path)) for path in links)


def claims(root: str, settings: str = "/etc/pyfleet") -> dict[str, set[int]]:
    """The ports of every application on this host, by its name."""
    found = {}
    for app in serving(root):
        layout = Layout(app, root=root, config=settings)
        description = Description.load(layout, layout.linked("current"))
        if description is not None:
            found[app] = description.claims
    return found


def look(app: str, root: str, run: Run, settings: str = "/etc/pyfleet") -> Kernel | Finding:
    """Whether an application's release can run a kernel for somebody who is only in its group, and if not, why."""
    there = serving(root)
    layout = Layout(app, root=root, config=settings)
    release = layout.linked("current") if app in there else None
    description = Description.load(layout, release)
    if release is None or description is None:
        return finding("notebook_kernel_app", "notebook_kernels", app, there=", ".join(there) or "none")
    project = os.path.join(layout.release(release), description.project_root)
    if not glob.glob(os.path.join(glob.escape(project), ".venv", "lib", "python*", "site-packages", "ipykernel")):
        return finding("notebook_kernel_ipykernel", "notebook_kernels", app, release=release)
    gid = os.stat(layout.release(release)).st_gid
    # Nobody in that group can do no more than the server's account, which need not be there yet.
    account = process.Account("nobody", NOBODY, gid, (gid,), "/")
    environment = {"PATH": process.DEFAULT_PATH, "HOME": "/", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    done = run([os.path.join(project, ".venv", "bin", "python"), "-c", "import ipykernel"], environment, account)
    if not done.ok:
        words = process.tail(done.stderr, 1) or f"status {done.returncode}"
        return finding("notebook_kernel_refused", "notebook_kernels", app, words=words)
    return Kernel(app, layout.folder, description.project_root, grp.getgrgid(gid).gr_name)
