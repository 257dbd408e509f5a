# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in front of a release in legacy mode: an Nginx of the application's own, and the link that it follows (G).

Releases with the same settings share one Nginx: it reaches the backend through the link `serving`, and a new release takes
over by a rename, so that no connection of a client notices. The link `probed` leads a health check to a release that does
not serve yet; only a request that carries the configuration's token gets there. A release with other settings gets an Nginx
of its own on another port, and the redirect leads there once it is healthy.

The units are the release's own copies: the switch puts them in place, and takes them away when nothing in legacy mode is
left, so that an application in uv mode has none (D3) and a rollback brings them back.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils import process
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import Description, Layout, write_file
from ansible_collections.pyfleet.runtime.plugins.module_utils.systemd import Systemd

PROBE_HEADER = "X-Pyfleet-Probe"
NGINX = "/usr/sbin/nginx"
UNITS = "/etc/systemd/system"
TIMEOUT = 60.0
BACKLOG = 4096


class FrontError(Exception):
    """Nginx refuses the configuration, or a password cannot be hashed; the message is complete."""


class Front:
    """The Nginx instances of one application."""

    def __init__(self, layout: Layout, systemd: Systemd | None = None, units: str = UNITS) -> None:
        self.layout = layout
        self.systemd = systemd or Systemd()
        self.units = units

    # -- links -------------------------------------------------------------------------------------------------------------

    def lead(self, key: str, which: str, release: str) -> bool:
        """Lets the link `serving` or `probed` of a configuration name a release, atomically; returns whether it moved."""
        path = os.path.join(self.layout.front(key), which)
        if self.follows(key, which) == release:
            return False
        scratch = f"{path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
        os.symlink(os.path.join("..", release), scratch)
        os.replace(scratch, path)
        return True

    def follows(self, key: str, which: str = "serving") -> str:
        """The release that a link names, or an empty text."""
        try:
            return os.path.basename(os.readlink(os.path.join(self.layout.front(key), which)))
        except OSError:
            return ""

    def token(self, key: str) -> str:
        """What a health check sends to reach `probed`."""
        with open(os.path.join(self.layout.front(key), "token"), encoding="utf-8") as file:
            return file.read().strip()

    def belongs_to(self, description: Description) -> bool:
        """Whether the Nginx in front of this release serves no other release."""
        return bool(description.front) and self.follows(description.front) == description.release

    def configurations(self) -> list[str]:
        """Every configuration of the application that the host has."""
        with contextlib.suppress(FileNotFoundError):
            prefix = "nginx-"
            return sorted(n[len(prefix) :] for n in os.listdir(self.layout.settings) if n.startswith(prefix))
        return []

    # -- units -------------------------------------------------------------------------------------------------------------

    def _unit_files(self) -> dict[str, str]:
        """The release's copies by name → path in systemd's folder."""
        names = (f"app-{self.layout.name}@.socket", f"app-{self.layout.name}-nginx@.service")
        return {name: os.path.join(self.units, name) for name in names}

    def install_units(self, description: Description) -> bool:
        """Puts the release's units in place; returns whether that changed any."""
        changed = False
        folder = os.path.join(self.layout.release_settings(description.release), "units")
        for name, path in self._unit_files().items():
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                text = file.read()
            if _read(path) != text:
                write_file(path, text, 0o644)
                changed = True
        if changed:
            self.systemd.daemon_reload()
        return changed

    def remove_units(self) -> bool:
        """Takes the units away; returns whether there were any."""
        there = [path for path in self._unit_files().values() if os.path.lexists(path)]
        for path in there:
            os.unlink(path)
        if there:
            self.systemd.daemon_reload()
        return bool(there)

    def removal(self) -> str:
        """Shell text that does the same later, unless the release that serves by then needs them."""
        current = shlex.quote(self.layout.link("current"))
        settings = shlex.quote(self.layout.settings)
        files = " ".join(shlex.quote(path) for path in self._unit_files().values())
        return (
            f'[ -e {settings}/"$(basename "$(readlink {current})")"/front ] '
            f"|| {{ rm -f -- {files}; systemctl daemon-reload; }}"
        )

    def stop_text(self, description: Description) -> str:
        """Shell text that stops the Nginx of a release later, unless it serves another release by then."""
        unit = shlex.quote(self.layout.front_unit(description.front))
        link = shlex.quote(os.path.join(self.layout.front(description.front), "serving"))
        return f'[ "$(readlink {link})" != ../{description.release} ] || systemctl stop {unit}'

    # -- configuration -----------------------------------------------------------------------------------------------------

    def write(self, key: str, text: str, users: Sequence[Sequence[str]], port: int, user: str) -> None:
        """Writes a configuration that the host does not have yet, and lets Nginx judge it as a whole.

        `users` are pairs of login and password; only a salted hash of the password reaches the disk. `user` is the one that
        Nginx will run as, `port` one that it may listen on: `listen` says which when it starts.

        Raises:
            FrontError: Nginx refuses it, or is not there. Nothing is left behind.
        """
        folder = self.layout.front(key)
        if os.path.isfile(os.path.join(folder, "token")):  # written last: what is there is complete, and checked
            return
        account = process.find_account(user)
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder, 0o750)
        os.chown(folder, 0, account.gid)
        token = secrets.token_hex(16)
        files = {"nginx.conf": text, "listen.conf": listen_lines(port), "probe.conf": self._maps(key, token)}
        if users:
            files["htpasswd"] = "".join(f"{login}:{hashed(password)}\n" for login, password in users)
        for name, content in files.items():
            path = os.path.join(folder, name)
            write_file(path, content, 0o640)
            os.chown(path, 0, account.gid)
        try:
            self._check(folder, account)
        except FrontError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        write_file(os.path.join(folder, "token"), token + "\n", 0o600)

    def _check(self, folder: str, account: process.Account) -> None:
        """`nginx -t` on the whole configuration, as the user that it will run as."""
        if not os.path.exists(NGINX):
            raise FrontError(
                f"{NGINX} is not on this host.\nRule: G: Nginx takes the public port in legacy mode.\n"
                "Next step: let the role legacy install it, or install the package nginx-light."
            )
        with tempfile.TemporaryDirectory(prefix="pyfleet-nginx-") as scratch:
            os.chown(scratch, account.uid, account.gid)
            done = process.run(
                [
                    NGINX,
                    "-t",
                    "-q",
                    "-p",
                    scratch,
                    "-c",
                    os.path.join(folder, "nginx.conf"),
                    "-g",
                    f"pid {scratch}/pid;",
                ],
                cwd="/",
                environment={"PATH": "/usr/sbin:/usr/bin:/bin"},
                account=account,
                timeout=TIMEOUT,
                merge=True,
            )
        if not done.ok:
            words = "\n".join(f"  {line}" for line in done.stdout.splitlines()[-10:])
            raise FrontError(
                f"Nginx refuses the configuration of {self.layout.name}:\n{words}\n"
                "Rule: G: a configuration that `nginx -t` refuses never replaces the running one.\n"
                "Next step: correct the setting that it names (section G, or clevercloud/http.json) and deploy again."
            )

    def listen(self, key: str, port: int) -> None:
        """Lets the Nginx that is about to start listen on `port`."""
        path = os.path.join(self.layout.front(key), "listen.conf")
        group = os.stat(self.layout.front(key)).st_gid
        write_file(path, listen_lines(port), 0o640)
        os.chown(path, 0, group)

    def prune(self, needed: set[str]) -> list[str]:
        """Removes configurations that no release needs and no Nginx runs."""
        gone = []
        for key in self.configurations():
            state = "" if key in needed else self.systemd.state(self.layout.front_unit(key)).get("ActiveState", "")
            if key not in needed and state not in ("active", "activating", "deactivating", "reloading"):
                shutil.rmtree(self.layout.front(key), ignore_errors=True)
                shutil.rmtree(f"/var/cache/app-{self.layout.name}-nginx/{key}", ignore_errors=True)
                gone.append(key)
        return gone

    def _maps(self, key: str, token: str) -> str:
        folder = self.layout.front(key)
        values = {
            "upstream": ("serving", "probed"),
            "release": (f"{folder}/serving", f"{folder}/probed"),
            "realm": (f'"{self.layout.name}"', '"off"'),
            "probe": ('""', '"1"'),
        }
        return "".join(
            f'map $http_x_pyfleet_probe $pyfleet_{name} {{ default {usual}; "{token}" {probed}; }}\n'
            for name, (usual, probed) in values.items()
        )


def listen_lines(port: int) -> str:
    """Nginx's `listen` directives, IPv6 where the host has it."""
    # As much as systemd's socket behind it takes: a burst waits instead of being refused.
    lines = [f"listen 0.0.0.0:{port} backlog={BACKLOG};"]
    if os.path.exists("/proc/net/if_inet6"):
        lines.append(f"listen [::]:{port} ipv6only=on backlog={BACKLOG};")
    return "\n".join(lines) + "\n"


def hashed(password: str) -> str:
    """A salted SHA-512 hash by the system's own libcrypt, which is what Nginx compares with.

    Raises:
        FrontError: this host has no libcrypt that can.
    """
    alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    salt = "$6$" + "".join(secrets.choice(alphabet) for _number in range(16))
    for name in ("libcrypt.so.1", "libcrypt.so.2"):
        with contextlib.suppress(OSError):
            crypt = ctypes.CDLL(name).crypt
            crypt.restype = ctypes.c_char_p
            crypt.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
            result: bytes | None = crypt(password.encode(), salt.encode())
            if result and result.startswith(b"$6$"):
                return result.decode("ascii")
    raise FrontError(
        "The passwords of CC_HTTP_BASIC_AUTH cannot be hashed: this host has no libcrypt with SHA-512.\n"
        "Rule: G, I: passwords never lie on a host in clear text.\nNext step: install the package libcrypt1."
    )


def write_release(layout: Layout, description: Mapping[str, Any], files: Mapping[str, str], gid: int) -> None:
    """Writes what a release in legacy mode has besides: its server's settings, its units, and where Nginx finds its socket."""
    folder = layout.release_settings(str(description["release"]))
    for name, text in files.items():
        path = os.path.join(folder, name)
        write_file(path, text, 0o644 if name.startswith("units/") else 0o640)
        os.chown(path, 0, 0 if name.startswith("units/") else gid)
    if description["socket"]:
        os.symlink(layout.socket(str(description["release"])), os.path.join(folder, "app.sock"))
    write_file(os.path.join(folder, "front"), f"{description['front']}\n", 0o644)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


__all__ = ["PROBE_HEADER", "Front", "FrontError", "hashed", "listen_lines", "write_release"]
