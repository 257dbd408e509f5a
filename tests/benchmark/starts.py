# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a test host, for `sync.py`: one way to build an application, its first and second start, and a change of its code.

    python3 starts.py SOURCE.tar.gz '{"environment": {…}, "steps": [[FLAG, …], …], "prefix": true}'

Prints one line of JSON. Everything lies below WORK, on one file system with uv's cache.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from typing import Any

WORK = "/var/tmp/pyfleet-starts"
PORT = 18999
SYNC = ["/usr/local/bin/uv", "sync", "--locked", "--no-progress", "--no-dev"]


def variables(release: str, case: dict[str, Any]) -> dict[str, str]:
    """What the build and the application see, as on a host of the collection."""
    known = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "UV_CACHE_DIR": f"{WORK}/cache",
    }
    if case.get("prefix"):
        known["PYTHONPYCACHEPREFIX"] = f"{WORK}/pyc/{release}"
    return {**known, **case.get("environment", {})}


def build(source: str, release: str, case: dict[str, Any], version: str) -> float:
    """Unpacks and syncs; seconds."""
    folder = f"{WORK}/{release}"
    began = time.monotonic()
    os.makedirs(folder)
    subprocess.run(["tar", "-xzf", source, "-C", folder], check=True)
    code = f"{folder}/app/main.py"
    with open(code) as file:
        text = file.read()
    with open(code, "w") as file:
        file.write(re.sub("^VERSION = .*", f'VERSION = "{version}"', text, flags=re.MULTILINE))
    for step in case.get("steps") or [[]]:
        done = subprocess.run(
            [*SYNC, *step],
            cwd=folder, env=variables(release, case), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(done.stderr)
        if "Failed to" in done.stderr:
            case["words"] = done.stderr.strip().splitlines()[0]
    return time.monotonic() - began


def start(release: str, case: dict[str, Any], version: str) -> float:
    """Starts the application and waits for its health; seconds. It has ended when this returns."""
    folder = f"{WORK}/{release}"
    command = [f"{folder}/.venv/bin/uvicorn", "app.main:app", "--host", "127.0.0.1", "--port", str(PORT)]
    began = time.monotonic()
    with subprocess.Popen(
        command, cwd=folder, env=variables(release, case), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5) as answer:
                        if answer.status == 200:
                            break
                except OSError:
                    if process.poll() is not None or time.monotonic() - began > 60:
                        sys.exit(f"{release} does not start: {case}")
                    time.sleep(0.01)
            seconds = time.monotonic() - began
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=5) as answer:
                assert version in answer.read().decode(), "another version answers"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    return seconds


def megabytes(*paths: str) -> float:
    """What the paths take on disk together; a file with several names counts once."""
    there = [path for path in paths if os.path.exists(path)]
    listed = subprocess.run(["du", "-skc", *there], stdout=subprocess.PIPE, text=True, check=True).stdout
    return int(listed.split()[-2]) / 1024


def carry() -> None:
    """What `bytecode.py` does where the lock has not changed."""
    old, new = (f"{WORK}/pyc/{name}" for name in ("one", "two"))
    if os.path.isdir(f"{old}{WORK}/one"):
        os.makedirs(f"{new}{WORK}/two")
        subprocess.run(["cp", "-al", f"{old}{WORK}/one/.", f"{new}{WORK}/two/"], check=True)
        subprocess.run(["cp", "-al", f"{old}/usr", f"{new}/"], check=True)


def main() -> None:
    """One case, once."""
    source, case = sys.argv[1], json.loads(sys.argv[2])
    for name in ("one", "two", "pyc", "warm"):
        shutil.rmtree(f"{WORK}/{name}", ignore_errors=True)
    # The cache is warm: what is measured is not the package index.
    build(source, "warm", {**case, "environment": {**case.get("environment", {}), "UV_COMPILE_BYTECODE": "0"}}, "0")
    shutil.rmtree(f"{WORK}/warm")
    before = megabytes(f"{WORK}/cache")
    result = {"build": build(source, "one", case, "1.0.0"), "first": start("one", case, "1.0.0")}
    result["second"] = start("one", case, "1.0.0")
    result["mb"] = megabytes(f"{WORK}/cache", f"{WORK}/one", f"{WORK}/pyc") - before
    began = time.monotonic()
    carry()
    build(source, "two", case, "2.0.0")
    result["rebuild"] = time.monotonic() - began
    result["restart"] = start("two", case, "2.0.0")
    print(json.dumps({**result, "words": case.get("words", "")}))


main()
