#!/usr/bin/python
# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: app_info
short_description: Tells what a host offers and what an application's releases on it do
version_added: "0.1.0"
description:
  - Gathers in one round trip all that a deployment plan needs to know of a host, namely Python versions, uv, listeners, the ports of
    other applications, and the state of this application's releases, units and redirect.
  - Reads only, and returns no value of any environment variable.
author:
  - pyfleet contributors (@pyfleet)
options:
  name:
    description: Name of the application. Without it, only facts of the host and the list of applications are returned.
    type: str
  root:
    description: Folder that holds the applications.
    type: path
    default: /srv/pyfleet
  config:
    description: Folder that holds the applications' environments and run scripts.
    type: path
    default: /etc/pyfleet
  python_dir:
    description: Folder that holds the Python versions managed by uv.
    type: path
    default: /opt/pyfleet/python
  uv_executable:
    description: Path of uv.
    type: path
    default: /usr/local/bin/uv
  health:
    description: Also ask the running release for its health, once.
    type: bool
    default: false
  tolerant:
    description: Return RV(lost) instead of ending the play for a host that cannot be reached. Read by the action plugin.
    type: bool
    default: false
attributes:
  check_mode:
    description: Reads only.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: none
"""

EXAMPLES = r"""
- name: Look at the application shop
  pyfleet.runtime.app_info:
    name: shop
  register: shop
"""

RETURN = r"""
host:
  description:
    - Facts of the host, as the plan takes them.
    - C(keyring) says whether that program is on the usual C(PATH), C(indexes) has the named indexes of C(/etc/uv/uv.toml).
    - C(accelerators) has one entry per vendor of GPUs, with C(vendor), C(devices), C(driver) (for NVIDIA its version) and C(ready).
  returned: always
  type: dict
  sample: {"distribution": "debian", "release": "12", "systemd": 252, "uv_version": "0.13.8"}
app:
  description:
    - State of the application, or an empty dictionary without O(name).
    - C(lease) is the lease of the run that acts on it, or that broke off, with C(expired); null when there is none.
    - C(shipped) are the keys of the bundles of uv's cache that the host holds (C(app_build=once)).
    - C(instance_number) is the host's number in the fleet; null when it has none.
  returned: always
  type: dict
  sample: {"current": "0123456789ab", "previous": null, "running": ["0123456789ab"], "port": 18080, "lease": null, "instance_number": 0}
lost:
  description: The host cannot be reached.
  returned: with O(tolerant), when it cannot
  type: bool
files:
  description: The application's unit files as they are, for the option O(pyfleet.runtime.managed_files#module:known).
  returned: always
  type: dict
  sample: {"/etc/systemd/system/app-shop.target": {"sha256": "…", "mode": 420, "uid": 0, "gid": 0}}
"""

import glob
import os
import platform
import re
import shutil
import subprocess
import sys
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils import (
    flow,
    front,
    hardware,
    process,
    set_state,
    sockets,
    uv_config,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.lease import LeaseError, Leases
from ansible_collections.pyfleet.runtime.plugins.module_utils.lock import read_packages
from ansible_collections.pyfleet.runtime.plugins.module_utils.redirect import Redirect, RedirectError
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import Description, Layout, State
from ansible_collections.pyfleet.runtime.plugins.module_utils.shipping import held
from ansible_collections.pyfleet.runtime.plugins.module_utils.systemd import Systemd, is_booted


def pythons(python_dir: str) -> list[dict[str, Any]]:
    """Lists interpreters: the distribution's by asking them, the managed ones by the name uv gives their folder."""
    found = []
    for path in sorted(glob.glob("/usr/bin/python[0-9].[0-9]*") + glob.glob("/usr/local/bin/python[0-9].[0-9]*")):
        if not re.search(r"/python\d\.\d+\Z", path):
            continue
        if os.path.realpath(path) == os.path.realpath(sys.executable):
            answer = platform.python_version()  # it is the one that runs this
        else:
            answer = _output([path, "-c", "import platform; print(platform.python_version())"])
        if answer:
            found.append({"version": answer, "path": path, "managed": False})
    for folder in sorted(glob.glob(os.path.join(python_dir, "cpython-[0-9]*"))):
        name = re.match(r"cpython-(\d+\.\d+\.\d+[^-+]*)-", os.path.basename(folder))
        executable = os.path.join(folder, "bin", "python3")
        if name and os.access(executable, os.X_OK) and not os.path.islink(folder):
            found.append({"version": name.group(1), "path": executable, "managed": True})
    return found


def _unit_of(pid: int | None) -> str:
    """The service that a process belongs to, which tells the application's own listeners from a stranger's; "" when it has none."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
            names = [line.strip().rpartition("/")[2] for line in file]
    except OSError:
        return ""
    return next((name for name in names if name.endswith(".service")), "")


def host_facts(module: AnsibleModule, layout_root: str, own: str) -> dict[str, Any]:
    """Gathers what the plan wants to know of the host."""
    release = _os_release()
    uv = _output([module.params["uv_executable"], "--version"]).split()
    booted = is_booted()
    version = re.search(r"\d+", _output(["systemctl", "--version"])) if booted else None
    return {
        "pythons": pythons(module.params["python_dir"]),
        "uv_version": uv[1] if len(uv) > 1 else "",
        "cores": os.cpu_count() or 1,
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1048576,
        "architecture": platform.machine(),
        "distribution": release.get("ID", ""),
        "release": release.get("VERSION_ID", release.get("VERSION_CODENAME", "")),
        "systemd": int(version.group()) if version else 0,
        "listeners": [{**listener.to_dict(), "unit": _unit_of(listener.pid)} for listener in sockets.listeners()],
        "apps": other_apps(layout_root, module.params["config"], own),
        "nginx": _version_of([front.NGINX, "-v"]),
        "haproxy": _version_of(["/usr/sbin/haproxy", "-v"]),
        "varnish": _version_of(["/usr/sbin/varnishd", "-V"]),
        "programs": sorted(glob.glob("/opt/pyfleet/bin/*")),
        "accelerators": hardware.accelerators(),
        "keyring": shutil.which("keyring", path=process.DEFAULT_PATH) is not None,
        "indexes": uv_config.named_indexes(),
        "provisioned": os.path.exists("/etc/systemd/system/pyfleet-redirect.service"),
    }


def _version_of(command: list[str]) -> str:
    """Version of a proxy of the distribution; empty when the host has none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"[0-9]+\.[0-9]+(\.[0-9]+)?", done.stdout + done.stderr)
    return found.group() if found else ""


def other_apps(root: str, config: str, own: str) -> dict[str, Any]:
    """Ports that the other applications' serving releases claim."""
    result = {}
    for folder in sorted(glob.glob(os.path.join(root, "*", "state.json"))):
        name = os.path.basename(os.path.dirname(folder))
        if name == own:
            continue
        layout = Layout(name, root, config)
        current = layout.linked("current")
        description = Description.load(layout, current) if current else None
        if description and not description.task:
            result[name] = {"ports": sorted(description.claims)}
    return result


def app_state(module: AnsibleModule, layout: Layout) -> dict[str, Any]:
    """Describes the application: links, releases, running units, the port that serves."""
    state = State.load(layout.state_file)
    current, previous = layout.linked("current"), layout.linked("previous")
    result: dict[str, Any] = {**state.to_dict(), "current": current, "previous": previous, "running": [], "units": {}}
    result["lease"] = Leases(layout).describe()
    result["shipped"] = held(layout.folder)
    if not is_booted() or not state.releases:
        return result
    systemd = Systemd()
    names = [f"app-{layout.name}{part}@*.service" for part in ("", "-worker", "-nginx", "-flow-*")]
    patterns = [*names, f"app-{layout.name}@*.socket"]
    shown = systemd.show([layout.target, *systemd.list_units(*patterns)])
    for unit, facts in shown.items():
        result["units"][unit] = {
            "active": facts.get("ActiveState", ""),
            "sub": facts.get("SubState", ""),
            "since": facts.get("ActiveEnterTimestamp", ""),
            "restarts": int(facts.get("NRestarts") or 0),
        }
    description = Description.load(layout, current) if current else None
    known = {release: Description.load(layout, release) for release in state.releases}
    nginx, chain = front.Front(layout, systemd), flow.Flow(layout, systemd)

    def runs(each: Description) -> bool:
        active = all(result["units"].get(unit, {}).get("active") == "active" for unit in layout.main_units(each))
        # Celery alone has no server of its own: the Nginx that its predecessor left running must be its own by now.
        return active and (each.backend != "none" or nginx.belongs_to(each))

    result["running"] = sorted(name for name, each in known.items() if each is not None and runs(each))
    if current and description:
        result["port"] = description.port
        result["public_port"] = description.public_port
        result["switch"] = description.switch
        result["mode"] = description.mode
        result["backend"] = description.backend
        result["accelerator"] = description.accelerator
        result["packages"] = read_packages(os.path.join(layout.release(current), description.project_root, "uv.lock"))
        result["environment_names"] = description.environment_names
        leads_to = Redirect(module.params["config"]).current().get(description.public_port, description.public_port)
        result["task"] = description.task
        # A task that ended well has done all it is for (D9).
        led = leads_to == description.port and (not description.front or nginx.belongs_to(description))
        led = led and (not description.flow or chain.belongs_to(description))
        result["hops"] = [
            {"service": service, "unit": unit, "active": result["units"].get(unit, {}).get("active") == "active"}
            for service, unit in zip(
                description.flow.get("services", []),
                layout.flow_units(description.flow.get("services", []), description.port),
            )
        ]
        result["serving"] = description.task or (current in result["running"] and led)
        if module.params["health"] and current in result["running"]:
            result["health"] = _health(layout, description)
    return result


def _health(layout: Layout, description: Description) -> dict[str, Any]:
    """Asks the release itself and, where there is a chain, through it."""
    from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import parse_environment_file
    from ansible_collections.pyfleet.runtime.plugins.module_utils.switch import probe_chain, probe_release

    checks = [] if description.flow.get("block") else [probe_release(layout, description, attempts=[0.0])]
    if description.flow:
        path = os.path.join(layout.release_settings(description.release), "environment")
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            environment = parse_environment_file(file.read())
        checks.append(probe_chain(layout, description, environment, requests=True, attempts=[0.0]))
    log = [line for check in checks for line in check.log + check.failure]
    return {"ok": all(check.ok for check in checks), "log": list(dict.fromkeys(log))}


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _os_release() -> dict[str, str]:
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            pairs = [line.rstrip("\n").partition("=") for line in file]
    except OSError:
        return {}
    return {name: value.strip('"') for name, separator, value in pairs if separator}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "root": {"type": "path", "default": "/srv/pyfleet"},
            "config": {"type": "path", "default": "/etc/pyfleet"},
            "python_dir": {"type": "path", "default": "/opt/pyfleet/python"},
            "uv_executable": {"type": "path", "default": "/usr/local/bin/uv"},
            "health": {"type": "bool", "default": False},
            "tolerant": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    name = module.params["name"] or ""
    root = module.params["root"]
    if os.geteuid() != 0:
        module.fail_json(
            msg="The host must be entered as root or with a working `become`: this run came in as an ordinary user.\n"
            "Next step: set `ansible_become: true` (and let the user use sudo without a password, or give "
            "`ansible_become_password`)."
        )
    try:
        host = host_facts(module, root, name)
        app = app_state(module, Layout(name, root, module.params["config"])) if name else {}
    except LeaseError as error:
        module.fail_json(msg=str(error))
    except (ValueError, RedirectError) as error:
        module.fail_json(
            msg=f"The state of the application {name} cannot be read: {error}\nNext step: restore or remove the file."
        )
    module.exit_json(changed=False, host=host, app=app, files=set_state.look(f"app-{name}") if name else {})


if __name__ == "__main__":
    main()
