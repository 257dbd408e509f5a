# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds that outlive the run that started them: when a controller dies, its hook or uv goes on on the host.

The next run would build in the same directory at the same time. Nobody has to write down what runs: a process of a build says so in
its environment (D5), and whoever holds the application's lease knows that no other run is alive.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

#: Seconds that a build has to end by itself once it is told to.
PATIENCE = 5.0
#: Seconds after which a process that was killed counts as one that cannot be, as with a file system that hangs.
DYING = 20.0


def of_builds(uid: int, app: str, proc: str = "/proc") -> list[int]:
    """Returns the processes of user `uid` that build `app`, by INSTANCE_TYPE and CC_APP_NAME in their environment (D5)."""
    marks = {b"INSTANCE_TYPE=build", b"CC_APP_NAME=" + app.encode()}
    found = []
    for name in os.listdir(proc):
        if name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                if os.stat(os.path.join(proc, name)).st_uid == uid:
                    with open(os.path.join(proc, name, "environ"), "rb") as file:
                        if marks <= set(file.read().split(b"\0")):
                            found.append(int(name))
    return sorted(found)


def end_builds(uid: int, app: str, *, patience: float = PATIENCE) -> bool:
    """Ends what builds `app` as user `uid`, politely and after `patience` seconds for good; returns whether there was any.

    The module that started it sees a command that failed, and ends as well.

    Raises:
        TimeoutError: a process is still there long after; it names the process ids.
    """
    found = of_builds(uid, app)
    if not found:
        return False
    deadline = time.monotonic() + patience
    number = signal.SIGTERM
    while found:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        time.sleep(0.1)
        if time.monotonic() > deadline:
            number = signal.SIGKILL
        if time.monotonic() > deadline + DYING:
            raise TimeoutError(", ".join(map(str, found)))
        found = of_builds(uid, app)
    return True
