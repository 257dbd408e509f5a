#!/usr/bin/env python3
# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the options of a sync cost and save: bytecode, link mode, intermediate layer, non-editable, on a host and in an image.

    sync.py                     three repetitions
    sync.py --quick             one
    sync.py --repeat 5 --keep

Makes its own host (the run `benchmark`), builds and starts the same application there in each way in turns, then builds images with
podman on this machine, with and without a layer for the dependencies. Removes host and images at the end; --keep leaves the host.
docs/benchmark.md tells what is measured. The figures are printed as Markdown tables.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

if not __package__:  # started as a script
    _ROOT = pathlib.Path(__file__).resolve().parents[2]
    sys.path[0] = str(_ROOT / ".work" / "collections")
    __package__ = "ansible_collections.pyfleet.runtime.tests.benchmark"

from ansible_collections.pyfleet.runtime.tests.hosts import images
from ansible_collections.pyfleet.runtime.tests.hosts.hosts import Run
from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.testbed import Bed
from ansible_collections.pyfleet.runtime.tests.tools.prepare_app import prepare

WORK = CHECKOUT / ".work" / "benchmark"
FIXTURE = CHECKOUT / "tests" / "fixtures" / "apps" / "fastapi"
HOST, SUITE = "sync01", "trixie"
PLACE = "/var/tmp/pyfleet-starts"

COMPILED = {"UV_COMPILE_BYTECODE": "1"}
#: Each way: its title, and what `starts.py` is told. The first is what the role does by default.
WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("default of the role: hard links, compiled by the first start", {"prefix": True}),
    ("compiled while building", {"prefix": True, "environment": COMPILED}),
    ("compiled while building, into `.venv` (as in an image)", {"environment": COMPILED}),
    ("link mode copy", {"prefix": True, "environment": {"UV_LINK_MODE": "copy"}}),
    ("link mode clone", {"prefix": True, "environment": {"UV_LINK_MODE": "clone"}}),
    ("link mode symlink", {"prefix": True, "environment": {"UV_LINK_MODE": "symlink"}}),
    ("dependencies first (`--no-install-project`)", {"prefix": True, "steps": [["--no-install-project"], []]}),
    ("`--no-editable`", {"prefix": True, "steps": [["--no-editable"]]}),
)
COLUMNS = ("build", "first", "second", "mb", "rebuild", "restart")
IMAGE_WAYS: tuple[tuple[str, dict[str, str]], ...] = (
    ("one layer for all (forced by a CC_PRE_BUILD_HOOK)", {"CC_PRE_BUILD_HOOK": ":"}),
    ("dependencies in a layer of their own", {}),
)

Measured = Mapping[str, float]


def make_source(folder: pathlib.Path) -> pathlib.Path:
    """The FastAPI fixture as a package of its own, so that there is something to install besides its dependencies."""
    raw = folder / "raw"
    subprocess.run(["cp", "-r", str(FIXTURE), str(raw)], check=True)
    project = raw / "pyproject.toml"
    text = project.read_text(encoding="utf-8").replace("[tool.uv]\npackage = false\n", "")
    text += '[build-system]\nrequires = ["uv_build"]\nbuild-backend = "uv_build"\n\n'
    text += '[tool.uv.build-backend]\nmodule-name = "app"\nmodule-root = ""\n'
    project.write_text(text, encoding="utf-8")
    code = raw / "app" / "main.py"
    code.write_text(re.sub(r"^VERSION = .*", 'VERSION = "1.0.0"', code.read_text(), flags=re.MULTILINE))
    return prepare(raw, folder / "source", str(CHECKOUT / ".venv" / "bin" / "uv"))


def on_host(bed: Bed, source: pathlib.Path, repeat: int, say: Callable[[str], None]) -> dict[str, list[dict[str, Any]]]:
    """Measures all ways in turns, so that what else the machine does is fair to all."""
    host = bed.host(HOST)
    with tempfile.NamedTemporaryFile(suffix=".tar.gz") as packed:
        with tarfile.open(packed.name, "w:gz") as tar:
            tar.add(source, ".")
        run = Run(bed.name)
        host("mkdir -p " + PLACE)
        for local, name in (
            (packed.name, "source.tar.gz"),
            (str(pathlib.Path(__file__).with_name("starts.py")), "starts.py"),
        ):
            command = run.ssh_command(run.hosts[HOST], f"cat > {PLACE}/{name}")
            with open(local, "rb") as file:
                subprocess.run(command, stdin=file, check=True)
    taken: dict[str, list[dict[str, Any]]] = {title: [] for title, _ in WAYS}
    for turn in range(repeat):
        for title, case in WAYS:
            line = f"python3 {PLACE}/starts.py {PLACE}/source.tar.gz {shlex.quote(json.dumps(case))}"
            measured = json.loads(host(line, timeout=300))
            taken[title].append(measured)
            figures = "  ".join(f"{name} {measured[name]:.2f}" for name in COLUMNS)
            say(f"{turn + 1}  {title:66} {figures}  load {os.getloadavg()[0]:.1f}  {measured['words']}")
    return taken


def in_image(
    bed: Bed, source: pathlib.Path, repeat: int, say: Callable[[str], None]
) -> dict[str, list[dict[str, Any]]]:
    """Builds images of two releases, each time from nothing but the images below it and uv's cache."""
    run = Run(bed.name)
    environment = {"CONTAINERS_CONF": str(run.conf)}
    base = images.ensure(SUITE, run.conf)
    before = images.ids(run.conf)
    taken: dict[str, list[dict[str, Any]]] = {title: [] for title, _ in IMAGE_WAYS}
    code = source / "app" / "main.py"
    original = code.read_text()
    for turn in range(repeat + 1):  # the first fills uv's cache, and does not count
        for title, hooks in IMAGE_WAYS:
            measured = {}
            for part, version in (("build", f"1.{turn}"), ("rebuild", f"2.{turn}")):
                code.write_text(re.sub(r"^VERSION = .*", f'VERSION = "{version}"', original, flags=re.MULTILINE))
                variables = {
                    "app_name": "bench-image",
                    "app_source": {"path": str(source)},
                    "app_env": {
                        "CC_PYTHON_UV_RUN_COMMAND": "uv run uvicorn app.main:app --host 0.0.0.0 --port $PORT",
                        "CC_HEALTH_CHECK_PATH": "/health",
                        **hooks,
                    },
                    "image_base": base,
                }
                played = bed.play("playbooks/image.yml", variables, limit=HOST, environment=environment).succeeded()
                (event,) = played.of("image")
                measured[part] = event.result["seconds"]
                measured["mb"] = event.result["image"]["size"] / 1e6
            images.remove(run.conf, images.ids(run.conf) - before)
            if turn:
                taken[title].append(measured)
                say(
                    f"{turn}  image, {title:59} " + "  ".join(f"{name} {value:.1f}" for name, value in measured.items())
                )
    code.write_text(original)
    return taken


def cell(values: Sequence[float], digits: int) -> str:
    """The median, and how far the repetitions lie apart."""
    middle, least, most = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return middle if least == most else f"{middle} ({least}–{most})"


def table(taken: Mapping[str, Sequence[Measured]]) -> list[str]:
    """The ways on a host as a Markdown table: median, smallest and largest."""
    lines = [
        "| way | build s | first start s | second start s | disk MB | code change: build s | start s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for title, rows in taken.items():
        cells = [cell([row[name] for row in rows], 0 if name == "mb" else 2) for name in COLUMNS]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def image_table(taken: Mapping[str, Sequence[Measured]]) -> list[str]:
    """The ways of an image."""
    lines = ["| image | build s | code change: build s | MB |", "|---|---:|---:|---:|"]
    for title, rows in taken.items():
        cells = [cell([row[name] for row in rows], 0 if name == "mb" else 1) for name in ("build", "rebuild", "mb")]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sync.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one repetition")
    parser.add_argument("--part", choices=("hosts", "images"), help="one half of it")
    parser.add_argument("--keep", action="store_true", help="leave the host")
    parser.add_argument("--run", default="benchmark", help="name of the run of hosts (default: %(default)s)")
    options = parser.parse_args(argv)
    if options.repeat < 1:
        parser.error("--repeat is a positive number")
    options.repeat = 1 if options.quick else options.repeat
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = _arguments(argv)
    WORK.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        print(text, flush=True)

    bed, began = Bed(options.run), datetime.datetime.now(datetime.timezone.utc)
    with tempfile.TemporaryDirectory(prefix="pyfleet-benchmark-") as scratch:
        try:
            bed.up(**{HOST: SUITE})
            bed.play("playbooks/provision.yml", limit=HOST).succeeded()
            source = make_source(pathlib.Path(scratch))
            hosts = on_host(bed, source, options.repeat, say) if options.part != "images" else {}
            built = in_image(bed, source, options.repeat, say) if options.part != "hosts" else {}
        finally:
            if not options.keep:
                Run(options.run).down()
    say("")
    for line in [*(table(hosts) if hosts else []), "", *(image_table(built) if built else [])]:
        say(line)
    seconds = (datetime.datetime.now(datetime.timezone.utc) - began).total_seconds()
    path = WORK / f"sync-{began:%Y%m%d-%H%M%S}.json"
    path.write_text(
        json.dumps({"date": began.isoformat(), "hosts": hosts, "images": built}, indent=1) + "\n", encoding="utf-8"
    )
    say(
        f"\n{options.repeat} repetitions in {seconds:.0f} s on {os.cpu_count()} cores, load now {os.getloadavg()[0]:.1f}."
    )
    say(f"{path.relative_to(CHECKOUT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
