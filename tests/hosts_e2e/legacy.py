# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the servers of legacy mode say of themselves on a host: uWSGI's statistics, processes, Nginx's own view of its settings."""

from __future__ import annotations

import json
import re
import subprocess
import time
from typing import Any

from ansible_collections.pyfleet.runtime.tests.testbed import BedHost, Played

from .conftest import Application

READ_STATISTICS = (
    "python3 -c 'import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
    'sys.stdout.write(b"".join(iter(lambda: s.recv(65536), b"")).decode())\' '
)


def on(app: Application, host: str = "") -> BedHost:
    """A host of the application."""
    return app.bed.host(host) if host else app.host


def release(app: Application, host: str = "") -> str:
    """The release that serves on a host."""
    return on(app, host)(f"basename $(readlink /srv/pyfleet/{app.name}/current)")


def front(app: Application, host: str = "") -> str:
    """The key of the Nginx configuration of the release that serves."""
    return on(app, host)(f"cat /etc/pyfleet/{app.name}/{release(app, host)}/front")


def nginx_pid(app: Application, host: str = "") -> str:
    """The main process of the Nginx in front of the release that serves."""
    return on(app, host)(f"systemctl show -p MainPID --value app-{app.name}-nginx@{front(app, host)}.service")


def nginx(app: Application) -> str:
    """Nginx's own dump of the configuration that runs: comments left out, blanks made one."""
    key = front(app)
    dump = app.host(
        f"nginx -T -q -c /etc/pyfleet/{app.name}/nginx-{key}/nginx.conf -p /var/cache/app-{app.name}-nginx/{key} 2>&1"
    )
    lines = [re.sub(r"\s+", " ", line).strip() for line in dump.splitlines()]
    return "\n".join(line for line in lines if line and not line.startswith("#"))


def statistics(app: Application) -> dict[str, Any]:
    """What the running uWSGI says on its statistics socket."""
    text = app.host(f"{READ_STATISTICS} /run/app-{app.name}/{release(app)}/stats.sock")
    answer: dict[str, Any] = json.loads(text)
    return answer


def backend_pid(app: Application) -> int:
    """The main process of the backend that serves."""
    return int(app.host(f"systemctl show -p MainPID --value app-{app.name}@{release(app)}.service"))


def children(app: Application) -> list[str]:
    """The command lines of the backend's worker processes."""
    return app.host(f"ps -o args= --ppid {backend_pid(app)}").splitlines()


def journal(app: Application) -> str:
    """What the backend of the release that serves has written."""
    return app.host(f"journalctl --sync; journalctl -q -o cat -u app-{app.name}@{release(app)}.service")


def slow(app: Application, host: str) -> subprocess.Popen[str]:
    """A request that takes six seconds, begun: a deployment must not end it. `answered` tells how it went."""
    begun = app.bed.host(host).popen("curl -s -o /dev/null -w '%{http_code}' 'http://localhost:8080/slow?seconds=6'")
    time.sleep(0.5)
    return begun


def answered(begun: subprocess.Popen[str]) -> str:
    """The status of the answer."""
    return begun.communicate(timeout=30)[0].strip()


def installed(played: Played, host: str | None = None) -> list[str]:
    """The steps of the builds that installed packages: none when the environment was there already."""
    steps = [step for event in played.of("legacy_build", host) for step in event.result.get("steps", [])]
    names = {"virtual environment", "requirements", "backend", "pip"}
    return [step["name"] for step in steps if step.get("ran") and step["name"] in names]


def leftovers(host: BedHost, name: str) -> str:
    """Everything on a host that belongs to the front of an application: units, processes, files, sockets."""
    return host(
        f"systemctl list-units --all --plain --no-legend 'app-{name}-nginx@*' 'app-{name}@*.socket'; "
        f"ls -d /etc/systemd/system/app-{name}-nginx@* /etc/systemd/system/app-{name}@.socket /run/app-{name}-nginx "
        f"/var/cache/app-{name}-nginx 2>/dev/null; ls -d /etc/pyfleet/{name}/nginx-* /run/pyfleet/{name}/*.sock 2>/dev/null; "
        f"pgrep -a -u app-{name} 'nginx|uwsgi|gunicorn' || true"
    )
