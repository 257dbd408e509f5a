# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Request Flow chain on a host: reverse proxies between the public port and the application (section F).

A chain belongs to its settings, not to a release: a change of code leaves it running, and Varnish keeps what it cached. It runs
on a slot, one of the application's release ports: the first hop listens there, the next ones on the ports above, and the last
one forwards to the slot's inner port, which the redirect leads to the release. So another chain can run beside it, be checked
from end to end, and take over.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence

from ansible_collections.pyfleet.runtime.plugins.module_utils import varnish
from ansible_collections.pyfleet.runtime.plugins.module_utils.front import UNITS
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import Description, Layout, write_file
from ansible_collections.pyfleet.runtime.plugins.module_utils.systemd import Systemd

#: Hops that listen for other hosts; the inner ones do not.
ANY, LOOPBACK = "0.0.0.0", "127.0.0.1"  # noqa: S104


class FlowError(Exception):
    """A hop refuses what it was given; the message is complete."""


RUNNING = ("active", "activating", "deactivating", "reloading")


class Flow:
    """The chains of one application."""

    def __init__(self, layout: Layout, systemd: Systemd | None = None, units: str = UNITS) -> None:
        self.layout = layout
        self.systemd = systemd or Systemd()
        self.units = units

    # -- which chain runs where --------------------------------------------------------------------------------------------

    def used(self) -> bool:
        """Whether the host has a chain of this application at all; most have none, and need not be asked more."""
        return bool(glob.glob(os.path.join(glob.escape(self.layout.settings), "flow@*")))

    def slot_of(self, description: Description) -> int:
        """The slot on which a chain with the settings of this release runs completely; 0 when none does."""
        for slot in description.candidates:
            if self.key_on(slot) == description.flow["key"]:
                units = self.layout.flow_units(description.flow["services"], slot)
                if all(self.systemd.state(unit).get("ActiveState") == "active" for unit in units):
                    return slot
        return 0

    def key_on(self, slot: int) -> str:
        """Key of the chain whose files the units of a slot read, or an empty text."""
        try:
            return os.path.basename(os.path.dirname(os.readlink(self.layout.flow_slot(slot)))).partition("-")[2]
        except OSError:
            return ""

    def serves(self, key: str) -> str:
        """The release that a chain belongs to, or an empty text."""
        try:
            return os.path.basename(os.readlink(os.path.join(self.layout.flow(key), "serving")))
        except OSError:
            return ""

    def belongs_to(self, description: Description) -> bool:
        """Whether the chain in front of this release serves no other release."""
        return bool(description.flow) and self.serves(description.flow["key"]) == description.release

    def lead(self, key: str, release: str) -> None:
        """Says which release a chain belongs to; a `custom` hop starts in that one's project."""
        path = os.path.join(self.layout.flow(key), "serving")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}.new")
        os.symlink(os.path.join("..", release), f"{path}.new")
        os.replace(f"{path}.new", path)

    # -- files -------------------------------------------------------------------------------------------------------------

    def write(self, key: str, files: Mapping[str, str]) -> None:
        """Writes the hops' files, still without ports; those of the same key are the same."""
        folder = self.layout.flow(key)
        os.makedirs(folder, mode=0o755, exist_ok=True)
        for name, text in files.items():
            path = os.path.join(folder, "files", name)
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            write_file(path, text, 0o600)

    def place(self, description: Description, slot: int, gid: int) -> None:
        """Writes the hops' files with the ports of a slot, and lets the slot's units read them."""
        key, services = description.flow["key"], description.flow["services"]
        source, target = (os.path.join(self.layout.flow(key), name) for name in ("files", str(slot)))
        shutil.rmtree(target, ignore_errors=True)
        last = len(services) - 1
        inner = description.flow["inner_ports"][description.candidates.index(slot)]
        for index, service in enumerate(services):
            ipv6 = index == 0 and os.path.exists("/proc/net/if_inet6")
            values = {
                "@IPV4@": "# " if ipv6 else "",
                "@IPV6@": "" if ipv6 else "# ",
                "@LISTEN_ADDRESS@": ANY if index == 0 else LOOPBACK,
                "@LISTEN_PORT@": str(slot + index),
                "@FORWARD_PORT@": str(inner if index == last else slot + index + 1),
            }
            folder = f"{index}-{service}"
            os.makedirs(os.path.join(target, folder), mode=0o755)
            for name in sorted(os.listdir(os.path.join(source, folder))):
                with open(os.path.join(source, folder, name), encoding="utf-8") as file:
                    text = file.read()
                for placeholder, value in values.items():
                    text = text.replace(placeholder, value)
                # A script is run by the hop's user; all else may hold secrets, and is read by systemd alone.
                path = os.path.join(target, folder, name)
                write_file(path, text, 0o600)
                if name == "run":
                    os.chown(path, 0, gid)
                    os.chmod(path, 0o750 if service == "custom" else 0o755)
            if service == "custom":
                os.symlink(os.path.join(self.layout.flow(key), "serving", "root"), os.path.join(target, folder, "root"))
            if service == "varnish":
                text = self.vcl(description, slot) or ""
                write_file(os.path.join(target, folder, "default.vcl"), text, 0o644)
        link = self.layout.flow_slot(slot)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{link}.new")
        os.symlink(os.path.join(f"flow-{key}", str(slot)), f"{link}.new")
        os.replace(f"{link}.new", link)

    # -- Varnish -----------------------------------------------------------------------------------------------------------

    def vcl(self, description: Description, slot: int) -> str:
        """The VCL of a release with the ports of a slot; empty when the chain has no Varnish."""
        services = list(description.flow["services"])
        if "varnish" not in services:
            return ""
        index = services.index("varnish")
        inner = description.flow["inner_ports"][description.candidates.index(slot)]
        forward = inner if index == len(services) - 1 else slot + index + 1
        path = os.path.join(self.layout.release_settings(description.release), "default.vcl")
        with open(path, encoding="utf-8") as file:
            return varnish.with_port(file.read(), int(forward))

    def _varnish(self, description: Description, slot: int) -> tuple[str, str]:
        """Working directory of the Varnish on a slot, and the path of the VCL that it starts with."""
        index = list(description.flow["services"]).index("varnish")
        instance = f"/var/cache/pyfleet-flow-{self.layout.name}-{slot}-varnish"
        return instance, os.path.join(self.layout.flow_slot(slot), f"{index}-varnish", "default.vcl")

    def check_vcl(self, release: str) -> None:
        """Lets Varnish compile the VCL of a release that is being prepared, unless the release that serves has the same.

        Raises:
            FlowError: with Varnish's words.
        """
        texts = [self._stored_vcl(each) for each in (release, self.layout.linked("current") or "")]
        if not texts[0] or texts[0] == texts[1] or not os.path.exists(varnish.VARNISHD):
            return
        why = varnish.compile_check(varnish.with_port(texts[0], 1))
        if why:
            raise FlowError(_refused(why))

    def _stored_vcl(self, release: str) -> str:
        try:
            with open(os.path.join(self.layout.release_settings(release), "default.vcl"), encoding="utf-8") as file:
                return file.read()
        except OSError:
            return ""

    def load_vcl(self, description: Description, slot: int) -> bool:
        """Lets a running Varnish compile the release's VCL beside the one that serves; returns whether it is another one.

        Raises:
            FlowError: Varnish refuses it; what serves goes on.
        """
        text = self.vcl(description, slot)
        if not text:
            return False
        instance, path = self._varnish(description, slot)
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return False
        staged = os.path.join(os.path.dirname(path), f"{description.release}.vcl")
        write_file(staged, text, 0o644)
        name = f"r_{description.release}"
        why = None if name in varnish.loaded(instance) else varnish.load(instance, name, staged)
        if why:
            raise FlowError(_refused(why))
        return True

    def use_vcl(self, description: Description, slot: int) -> None:
        """Lets the VCL that was loaded serve, now and after a restart; the cache stays.

        Raises:
            FlowError: Varnish refuses, and serves as before.
        """
        instance, path = self._varnish(description, slot)
        name = f"r_{description.release}"
        why = varnish.use(instance, name)
        if why:
            raise FlowError(f"Varnish does not use the VCL of the release: {why}\nNext step: deploy again.")
        os.replace(os.path.join(os.path.dirname(path), f"{description.release}.vcl"), path)
        varnish.discard_cold(instance, [name])

    # -- units -------------------------------------------------------------------------------------------------------------

    def install_units(self, description: Description) -> bool:
        """Puts the release's copies of the hops' units in place; returns whether that changed any."""
        changed = False
        folder = os.path.join(self.layout.release_settings(description.release), "units")
        for index, service in enumerate(description.flow["services"]):
            name = f"app-{self.layout.name}-flow-{index}-{service}@.service"
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                text = file.read()
            path = os.path.join(self.units, name)
            try:
                with open(path, encoding="utf-8") as file:
                    same = file.read() == text
            except FileNotFoundError:
                same = False
            if not same:
                write_file(path, text, 0o644)
                changed = True
        if changed:
            self.systemd.daemon_reload()
        return changed

    def remove_units(self, keep: Sequence[str] = ()) -> bool:
        """Takes away the units of services that no slot runs, save those of a chain of the services in `keep`."""
        prefix = f"app-{self.layout.name}-flow-"
        if not glob.glob(os.path.join(glob.escape(self.units), f"{prefix}*")):
            return False
        kept = {f"{prefix}{index}-{service}@.service" for index, service in enumerate(keep)}
        for unit in self.systemd.list_units(f"{prefix}*.service"):
            if self.systemd.state(unit).get("ActiveState") in RUNNING:
                kept.add(unit.partition("@")[0] + "@.service")
        try:
            names = os.listdir(self.units)
        except FileNotFoundError:
            names = []
        gone = [name for name in names if name.startswith(prefix) and name.endswith("@.service") and name not in kept]
        for name in gone:
            os.unlink(os.path.join(self.units, name))
        if gone:
            self.systemd.daemon_reload()
        return bool(gone)

    def stop_text(self, description: Description) -> str:
        """Shell text that stops a chain later, unless it serves another release by then."""
        units = self.layout.flow_units(description.flow["services"], description.ports.get("flow", 0))
        link = shlex.quote(os.path.join(self.layout.flow(description.flow["key"]), "serving"))
        stop = "; ".join(f"systemctl stop {shlex.quote(unit)}" for unit in units)
        return f'[ "$(readlink {link})" != ../{description.release} ] || {{ {stop}; }}'

    def removal(self) -> str:
        """Shell text that takes away, later, the units of services that no slot runs by then."""
        pattern = shlex.quote(os.path.join(self.units, f"app-{self.layout.name}-flow-")) + "*@.service"
        return (
            f'for file in {pattern}; do [ -e "$file" ] || continue; name=${{file##*/}}; '
            'systemctl --quiet is-active "${name%.service}*" || rm -f -- "$file"; done; systemctl daemon-reload'
        )

    def prune(self, needed: set[str]) -> None:
        """Removes the files of chains that no release needs and no slot runs, and what hops cached on slots that run no more."""
        caches = f"/var/cache/pyfleet-flow-{self.layout.name}-"
        for path in [*glob.glob(f"{caches}*"), *glob.glob(f"{caches}*".replace("/cache/", "/cache/private/"))]:
            slot = os.path.basename(path)[len(os.path.basename(caches)) :].partition("-")[0]
            if not self._runs_on(slot):
                os.unlink(path) if os.path.islink(path) else shutil.rmtree(path, ignore_errors=True)
        prefix = "flow-"
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.layout.settings):
                path = os.path.join(self.layout.settings, name)
                if name.startswith("flow@") and os.path.islink(path) and not self._runs_on(name[5:]):
                    os.unlink(path)
                elif name.startswith(prefix) and name[len(prefix) :] not in needed and not self._in_use(path):
                    shutil.rmtree(path, ignore_errors=True)

    def _runs_on(self, slot: str) -> bool:
        units = self.systemd.list_units(f"app-{self.layout.name}-flow-*@{slot}.service")
        return any(self.systemd.state(unit).get("ActiveState") in RUNNING for unit in units)

    def _in_use(self, path: str) -> bool:
        return any(slot.isdigit() and self._runs_on(slot) for slot in os.listdir(path))


def _refused(why: str) -> str:
    return (
        f"Varnish refuses the VCL of the release:\n{why}\nVariable: CC_VARNISH_FILE\n"
        "Rule: F8: the VCL is compiled before anything switches; lines are those of the file that CC_VARNISH_FILE names, or of "
        "clevercloud/varnish.vcl.\nNext step: correct it and deploy again; the running release is untouched."
    )


__all__ = ["Flow", "FlowError"]
