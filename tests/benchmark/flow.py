#!/usr/bin/env python3
# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the services of Request Flow cost: one application directly, behind each of them alone, and behind three.

    flow.py                     three repetitions
    flow.py --quick             one, short
    flow.py --repeat 5 --keep

Makes its own host (the run `benchmark`), deploys the application once for each chain, asks all of them in turns, and removes the
host at the end, unless --keep. docs/benchmark.md tells what is measured. HAProxy and Varnish are the distribution's; the programs
of others (oauth2-proxy, the agent of redirection.io) are not measured: no stand-in has their speed.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence

if not __package__:  # started as a script
    _ROOT = pathlib.Path(__file__).resolve().parents[2]
    sys.path[0] = str(_ROOT / ".work" / "collections")
    __package__ = "ansible_collections.pyfleet.runtime.tests.benchmark"

from ansible_collections.pyfleet.runtime.plugins.module_utils.challenge import HEADER, token
from ansible_collections.pyfleet.runtime.tests.benchmark import loading
from ansible_collections.pyfleet.runtime.tests.hosts.hosts import Run
from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.testbed import Bed, BedHost
from ansible_collections.pyfleet.runtime.tests.tools.prepare_app import prepare

WORK = CHECKOUT / ".work" / "benchmark"
FIXTURE = CHECKOUT / "tests" / "fixtures" / "apps" / "fastapi"
HOST, SUITE = "flow01", "bookworm"
SECRET = "secret-of-the-benchmark-which-is-long-enough-for-anybody"
#: Connections at the same time; `calm` is what one client sees that nobody else disturbs.
BUSY, CALM = 12, 1
CACHED, PASSED = "/?cached", "/"

CHALLENGE = {"OTOROSHI_CHALLENGE_SECRET": SECRET}
VARNISH = {"CC_VARNISH_FILE": "/bench.vcl", "CC_VARNISH_STORAGE_SIZE": "64M"}
VCL = """sub vcl_recv {
    if (req.url ~ "[?]cached") {
        return (hash);
    }
    return (pass);
}

sub vcl_backend_response {
    set beresp.ttl = 1h;
}
"""
#: A proxy of the host's own, which only forwards.
PROXY = """defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen proxy
    bind ":${LISTEN}"
    server next "127.0.0.1:${FORWARD}"
"""
PROXY_FILE = "/etc/bench-proxy.cfg"
CUSTOM = {
    "CC_REQUEST_FLOW_CUSTOM": "/usr/bin/env LISTEN=@@LISTEN_PORT@@ FORWARD=@@FORWARD_PORT@@ /usr/sbin/haproxy -db -f "
    + PROXY_FILE
}


@dataclasses.dataclass(frozen=True)
class Deployment:
    """The application behind one chain. `number` tells its ports from the others'."""

    name: str
    number: int
    environment: Mapping[str, str]
    hops: Sequence[str] = ()

    @property
    def port(self) -> int:
        """The public port."""
        return 8100 + 100 * self.number

    def variables(self, source: pathlib.Path) -> dict[str, object]:
        """What it is deployed with."""
        return {
            "app_name": f"bench-{self.name}",
            "app_source": {"path": str(source)},
            "app_public_port": self.port,
            "app_port": self.port + 1000,
            "app_env": {
                "CC_PYTHON_UV_RUN_COMMAND": "uv run uvicorn app.main:app --host 0.0.0.0 --port $PORT --no-access-log",
                "CC_HEALTH_CHECK_PATH": "/health",
                "CC_REQUEST_FLOW": ",".join(self.hops) or "disable",
                **self.environment,
            },
        }


DIRECT = Deployment("direct", 0, {})
SIGNED = Deployment("challenge", 1, CHALLENGE, ["otoroshi-challenge"])
CACHE = Deployment("varnish", 2, VARNISH, ["varnish"])
BLOCK = Deployment("block", 3, {}, ["block"])
OWN = Deployment("custom", 4, CUSTOM, ["custom"])
THREE = Deployment("three", 5, {**CHALLENGE, **VARNISH, **CUSTOM}, ["otoroshi-challenge", "varnish", "custom"])
DEPLOYMENTS = (DIRECT, SIGNED, CACHE, BLOCK, OWN, THREE)
#: Every way that is measured: its title, what it goes to, and the path.
WAYS = (
    ("direct", DIRECT, PASSED),
    ("otoroshi-challenge, signed requests", SIGNED, PASSED),
    ("varnish, passes everything", CACHE, PASSED),
    ("varnish, hits", CACHE, CACHED),
    ("custom, HAProxy that only forwards", OWN, PASSED),
    ("block", BLOCK, PASSED),
    ("three: otoroshi-challenge, varnish (passes), custom", THREE, PASSED),
    ("the same, hits", THREE, CACHED),
)


class FlowBenchmarkError(Exception):
    """A chain does not do what is to be measured."""


def deploy(bed: Bed, deployments: Sequence[Deployment], scratch: pathlib.Path, say: Callable[[str], None]) -> None:
    """Deploys the application once for each chain."""
    source = prepare(FIXTURE, scratch / "source", str(CHECKOUT / ".venv" / "bin" / "uv"))
    (source / "bench.vcl").write_text(VCL)
    bed.host(HOST).write(PROXY_FILE, PROXY)
    for deployment in deployments:
        played = bed.play("playbooks/deploy.yml", deployment.variables(source), limit=HOST).succeeded()
        say(f"deployed: {deployment.name:9} {played.seconds:6.1f} s")


def check(host: BedHost, headers: Mapping[str, str]) -> None:
    """See that every chain does what is to be measured: a signed request passes, an unsigned one does not, hits are hits."""

    def ask(deployment: Deployment, path: str, sent: Mapping[str, str]) -> tuple[int, str]:
        request = urllib.request.Request(host.url(deployment.port, path), headers=dict(sent))
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.status), answer.headers.get("X-Varnish", "")
        except urllib.error.HTTPError as error:
            return error.code, ""

    for title, deployment, path in WAYS:
        signed = "otoroshi-challenge" in deployment.hops
        if signed and ask(deployment, path, {})[0] != 401:
            raise FlowBenchmarkError(f"{title}: an unsigned request passes.")
        got = [ask(deployment, path, headers) for _ in range(2)]
        if [status for status, _ in got] != [200, 200]:
            raise FlowBenchmarkError(f"{title}: it answers {got}.")
        # Two numbers: of this request, and of the one that filled the cache.
        if (len(got[1][1].split()) == 2) is not (path == CACHED):
            raise FlowBenchmarkError(f"{title}: the cache does not do what is measured: {got}.")


def load(url: str, script: pathlib.Path, connections: int, seconds: int) -> loading.Load:
    """One run of wrk."""
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s", "--latency"]
    done = subprocess.run(
        [*command, "--script", str(script), url], capture_output=True, text=True, timeout=seconds + 60, check=True
    )
    return loading.parse(done.stdout)


def memory(host: BedHost, deployment: Deployment) -> dict[str, float]:
    """What each hop's processes hold, in MB: memory that they share with others counts in proportion (PSS)."""
    lines = []
    for index, service in enumerate(deployment.hops):
        unit = f"app-bench-{deployment.name}-flow-{index}-{service}@[0-9]*[.]service"
        lines.append(
            f'for file in $(grep -ls "/{unit}$" /proc/[0-9]*/cgroup); do '
            f"awk '/^Pss:/ {{ print \"{service}\", $2 }}' ${{file%cgroup}}smaps_rollup; done"
        )
    found = loading.memory(host("\n".join(lines))) if lines else {}
    if set(found) != set(deployment.hops):
        raise FlowBenchmarkError(f"{deployment.name}: there are no processes of some hop: {found}.")
    return found


def series(
    host: BedHost, script: pathlib.Path, repeat: int, seconds: int, say: Callable[[str], None]
) -> list[loading.Row]:
    """Asks all ways in turns, so that what else the machine does is fair to all."""
    taken: dict[str, tuple[list[loading.Load], list[loading.Load]]] = {title: ([], []) for title, _, _ in WAYS}
    for turn in range(repeat):
        for title, deployment, path in WAYS:
            url = host.url(deployment.port, path)
            if not turn:
                load(url, script, BUSY, 1)
            busy, calm = load(url, script, BUSY, seconds), load(url, script, CALM, max(1, seconds // 2))
            taken[title][0].append(busy)
            taken[title][1].append(calm)
            say(
                f"{turn + 1}  {title:52} {busy.rate:8.0f}/s  p99 {busy.p99:7.2f} ms  alone {calm.median:6.2f} ms, "
                f"p99 {calm.p99:6.2f} ms  load {os.getloadavg()[0]:.1f}"
            )
    return [loading.Row(title, *taken[title], memory(host, deployment)) for title, deployment, _ in WAYS]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="flow.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=6, metavar="N", help="of load at a time (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one repetition, two seconds")
    parser.add_argument("--keep", action="store_true", help="leave the host, with everything deployed")
    parser.add_argument("--run", default="benchmark", help="name of the run of hosts (default: %(default)s)")
    options = parser.parse_args(argv)
    if options.repeat < 1 or options.seconds < 1:
        parser.error("--repeat and --seconds are positive numbers")
    if options.quick:
        options.repeat, options.seconds = 1, 2
    return options


def _save(rows: Sequence[loading.Row], options: argparse.Namespace, began: Sequence[float]) -> pathlib.Path:
    now = datetime.datetime.now(datetime.timezone.utc)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    result = {
        "date": now.isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "cores": os.cpu_count(),
        "load_before": round(began[0], 2),
        "repeat": options.repeat,
        "seconds": options.seconds,
        "connections": BUSY,
        "rows": [{**dataclasses.asdict(row), "share": round(row.share(rows[0]), 3)} for row in rows],
    }
    path = WORK / f"flow-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = _arguments(argv)
    WORK.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        print(text, flush=True)

    bed, began = Bed(options.run), os.getloadavg()
    # outside of the checkout, whose ignore files leave such things out
    with tempfile.TemporaryDirectory(prefix="pyfleet-benchmark-") as scratch:
        try:
            bed.up(**{HOST: SUITE})
            host = bed.host(HOST)
            bed.play("playbooks/provision.yml", limit=HOST).succeeded()
            deploy(bed, DEPLOYMENTS, pathlib.Path(scratch), say)
            signature = token(SECRET.encode(), "state-of-the-benchmark", time.time(), 24 * 3600)
            script = pathlib.Path(scratch, "signed.lua")
            script.write_text(f'wrk.headers["{HEADER}"] = "{signature}"\n')
            check(host, {HEADER: signature})
            rows = series(host, script, options.repeat, options.seconds, say)
        finally:
            if not options.keep:
                Run(options.run).down()
    say("")
    for line in loading.table(rows):
        say(line)
    say(f"\nFigures are this machine's ({os.cpu_count()} cores for host, applications and wrk together).")
    say(f"{_save(rows, options, began).relative_to(CHECKOUT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
