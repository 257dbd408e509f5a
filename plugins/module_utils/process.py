# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one command as another user, in an environment built from nothing, with a deadline and without leaking secrets.

Every result carries the exact command line (scrubbed) for the `commands` return value of the modules.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import NON_SECRET, scrub

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Bytes kept of one stream; what exceeds it is cut out of the middle, so that both the cause and the end stay readable.
DEFAULT_LIMIT = 4 * 1024 * 1024
# Seconds a stream is still read after its process ended: a child that a hook left behind may hold it open for ever.
STREAM_GRACE = 2.0

# How a host reaches the network is a property of the host, not of the build: these pass through a clean environment.
KEPT_FROM_OUTSIDE = (
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
# What steers uv or Python from outside and makes a build happen elsewhere, or from another index, without saying so.
STEERING_PREFIXES = ("UV_", "PIP_", "CONDA_", "VIRTUAL_ENV")
STEERING_NAMES = frozenset({"PYTHONPATH", "PYTHONHOME"})

# Places, which the messages are about, and which are no secret whoever sets them.
NOT_SECRET = NON_SECRET | {
    *("HOME", "USER", "LOGNAME", "TMPDIR", "UV_CACHE_DIR", "UV_PYTHON_INSTALL_DIR", "UV_OFFLINE", "UV_HTTP_RETRIES"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
}


class ProcessError(Exception):
    """A command that could not be started: no such program, user or directory, or no permission for it."""


@dataclass(frozen=True)
class Account:
    """A local user as a process needs it. `groups` holds the supplementary group ids."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


@dataclass(frozen=True)
class Completed:
    """One command that ran.

    `command` is the scrubbed command line; `stdout` and `stderr` are scrubbed too unless the caller asked for the raw
    text. `returncode` is negative for a signal, as in `subprocess`. `cut` counts the bytes left out of the streams.
    """

    command: str
    returncode: int
    stdout: str
    stderr: str
    seconds: float
    timed_out: bool = False
    cut: int = 0

    @property
    def ok(self) -> bool:
        """Whether the command ended by itself with status 0."""
        return self.returncode == 0 and not self.timed_out


def find_account(name: str) -> Account:
    """Returns the local user `name`; raises KeyError when there is none."""
    entry = pwd.getpwnam(name)
    groups = tuple(sorted({group.gr_gid for group in grp.getgrall() if name in group.gr_mem} | {entry.pw_gid}))
    return Account(name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)


def current_account() -> Account:
    """Returns the user this process runs as."""
    uid = os.geteuid()
    try:
        return find_account(pwd.getpwuid(uid).pw_name)
    except KeyError:  # a container may run as a number without a name
        return Account(str(uid), uid, os.getegid(), (), "/")


def clean_environment(
    account: Account, given: Mapping[str, str], outside: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Builds an environment from nothing and says what it left out.

    `given` wins over everything. Of `outside` only the proxy and certificate variables pass; names that would steer uv
    or Python and that `given` does not set are returned, sorted, for the report. Nothing else of `outside` is used.
    """
    environment = {
        "PATH": DEFAULT_PATH,
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",
    }
    environment.update({name: outside[name] for name in KEPT_FROM_OUTSIDE if outside.get(name)})
    environment.update(given)
    dropped = sorted(
        name for name in outside if (name.startswith(STEERING_PREFIXES) or name in STEERING_NAMES) and name not in given
    )
    return environment, dropped


def command_line(argv: Sequence[str], secrets: Sequence[str] = ()) -> str:
    """Returns `argv` as one would type it, without secrets."""
    return scrub(" ".join(shlex.quote(part) for part in argv), list(secrets))


def tail(text: str, lines: int = 20) -> str:
    """Returns the last `lines` non-empty-ended lines of `text`."""
    return "\n".join(text.strip("\n").splitlines()[-lines:])


class _Stream(threading.Thread):
    """Reads a stream to its end and keeps its first and last `limit / 2` bytes."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._half = max(limit // 2, 1)
        self._head = bytearray()
        self._rest = bytearray()
        self._lock = threading.Lock()
        self.cut = 0
        self.start()

    def run(self) -> None:
        """Reads until the end of the stream."""
        while True:
            try:
                chunk = os.read(self._stream.fileno(), 65536)
            except (OSError, ValueError):  # closed by the owner after the grace period
                return
            if not chunk:
                return
            with self._lock:
                room = self._half - len(self._head)
                self._head += chunk[:room] if room > 0 else b""
                self._rest += chunk[room:] if room > 0 else chunk
                excess = len(self._rest) - self._half
                if excess > 0:
                    del self._rest[:excess]
                    self.cut += excess

    def text(self) -> str:
        """Returns what was read; undecodable bytes become replacement characters."""
        with self._lock:
            middle = b"\n[... %d bytes left out ...]\n" % self.cut if self.cut else b""
            return bytes(self._head + middle + self._rest).decode("utf-8", "replace")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Ends the command's whole session: politely, then for good."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            continue


def run(
    argv: Sequence[str],
    *,
    cwd: str,
    environment: Mapping[str, str],
    account: Account | None = None,
    timeout: float = 600.0,
    merge: bool = False,
    limit: int = DEFAULT_LIMIT,
    secrets: Sequence[str] = (),
    raw_stdout: bool = False,
) -> Completed:
    """Runs `argv` in `cwd` with exactly `environment`, as `account` when given and different from the current user.

    `timeout` is in seconds; on expiry the command's whole session is ended and `timed_out` is set. With `merge` the
    error stream joins stdout in order. `raw_stdout` leaves stdout unscrubbed, for output that is parsed and not shown.
    Raises ProcessError when the command cannot be started.
    """
    line = command_line(argv, secrets)
    identity: dict[str, object] = {}
    if account is not None and account.uid != os.geteuid():
        identity = {"user": account.uid, "group": account.gid, "extra_groups": list(account.groups)}
    started = time.monotonic()
    try:
        process = subprocess.Popen(  # type: ignore[call-overload]
            list(argv),
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge else subprocess.PIPE,
            umask=0o022,
            start_new_session=True,
            **identity,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ProcessError(f"{line} could not be started in {cwd}: {error}") from error
    streams = [_Stream(stream, limit) for stream in (process.stdout, process.stderr) if stream is not None]
    timed_out = False
    try:
        process.wait(timeout=timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
        _kill_group(process)
    except BaseException:
        _kill_group(process)
        raise
    for reader in streams:
        reader.join(STREAM_GRACE)
    hidden = list(secrets)
    stdout = streams[0].text()
    stderr = streams[1].text() if len(streams) > 1 else ""
    return Completed(
        command=line,
        returncode=process.returncode if process.returncode is not None else -signal.SIGKILL,
        stdout=stdout if raw_stdout else scrub(stdout, hidden),
        stderr=scrub(stderr, hidden),
        seconds=time.monotonic() - started,
        timed_out=timed_out,
        cut=sum(reader.cut for reader in streams),
    )
