#!/usr/bin/python3
# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mirror of Python versions for uv, made from Debian's own packages.

    mirror.py build bookworm trixie     the Python of these suites, as archives that `uv python install` takes
    mirror.py serve --run NAME          serve all that are built to the hosts of a run, until interrupted

uv's own download places need not be reachable for that. An archive runs on its suite and later ones: it brings its
libraries, except the C library. It has neither header files nor ensurepip: uv fills its environments, with wheels.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import http.server
import ipaddress
import json
import pathlib
import platform
import re
import sys
import threading
from collections.abc import Iterator, Sequence

if not __package__:  # started as a script, before anything is set up
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    __package__ = "hosts"

from . import images
from .hosts import Run
from .machine import CHECKOUT, TestBedError, as_root, cache_dir, containers_conf, locked, run

# Runs in a throw-away container of the suite. The interpreter finds its library by its own place, so nothing but the
# paths of shared libraries and the recorded prefix (uv replaces /install) has to change.
RECIPE = r"""
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
apt-get -qq update
apt-get -qqy install --no-install-recommends patchelf "python$version" "libpython$version-stdlib" \
  libsqlite3-0 >/dev/null 2>&1
root=/build/python
lib=$root/lib/python$version
mkdir -p $root/bin $root/lib
cp "/usr/bin/python$version" $root/bin/
ln -s "python$version" $root/bin/python3
ln -s "python$version" $root/bin/python
cp -rL "/usr/lib/python$version" $root/lib/
rm -rf $lib/test $lib/idlelib $lib/turtledemo $lib/config-* $lib/EXTERNALLY-MANAGED $lib/sitecustomize.py \
  $lib/lib-dynload/_test* $lib/lib-dynload/xx* $lib/lib-dynload/_xxtest*
find $root -name __pycache__ -prune -exec rm -rf {} +
sed -i 's#/usr\b#/install#g' $lib/_sysconfigdata_*.py
ldd $root/bin/python$version $lib/lib-dynload/*.so | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | sort -u |
  grep -vE '/(ld-linux|libc|libm|libdl|libpthread|librt|libutil|libresolv|libnsl)[-.]' |
  while read -r library; do
    cp -L "$library" $root/lib/
    patchelf --set-rpath '$ORIGIN' $root/lib/"${library##*/}"
  done
patchelf --set-rpath '$ORIGIN/../lib' $root/bin/python$version
for extension in $lib/lib-dynload/*.so; do patchelf --set-rpath '$ORIGIN/../..' "$extension"; done
full=$($root/bin/python$version -I -c 'import platform; print(platform.python_version())')
cd /build
tar --sort=name --mtime=@EPOCH --owner=0 --group=0 --numeric-owner -c python | gzip -n9 > /out/archive.tar.gz
echo "$full"
"""


@dataclasses.dataclass(frozen=True)
class Archive:
    """One built Python: its full version, its file and the file's checksum."""

    suite: str
    version: str
    path: pathlib.Path
    sha256: str

    @property
    def key(self) -> str:
        """How uv names it."""
        return f"cpython-{self.version}-linux-{platform.machine()}-gnu"


def build(suite: str) -> Archive:
    """Make the archive of a suite's Python unless it is there already."""
    conf = CHECKOUT / ".work" / "containers.conf"
    conf.parent.mkdir(exist_ok=True)
    conf.write_text(containers_conf(), encoding="utf-8")
    image = images.ensure(suite, conf)
    recipe = RECIPE.replace("EPOCH", images.SOURCE_DATE_EPOCH)
    key = hashlib.sha256(f"{image} {recipe}".encode()).hexdigest()[:12]
    directory = cache_dir() / "pythons" / f"{suite}-{key}"
    with locked(f"python-{suite}"):
        if not (directory / "archive.json").exists():
            directory.mkdir(parents=True, exist_ok=True)
            command = ["podman", "run", "--rm", "--interactive", "--network=host", f"--volume={directory}:/out:rw"]
            podman = {"CONTAINERS_CONF": str(conf)}
            done = run(as_root([*command, image, "/bin/sh", "-s"], podman), stdin=recipe)
            version = done.stdout.strip().splitlines()[-1]
            if not re.fullmatch(r"3\.\d+\.\d+", version):
                raise TestBedError(f"The Python of {suite} calls itself {version!r}.")
            digest = hashlib.sha256((directory / "archive.tar.gz").read_bytes()).hexdigest()
            described = {"version": version, "sha256": digest}
            (directory / "archive.json").write_text(json.dumps(described) + "\n", encoding="utf-8")
    described = json.loads((directory / "archive.json").read_text(encoding="utf-8"))
    return Archive(suite, described["version"], directory / "archive.tar.gz", described["sha256"])


def downloads(archives: Sequence[Archive], base_url: str, checksum: str = "right") -> dict[str, dict[str, object]]:
    """What UV_PYTHON_DOWNLOADS_JSON_URL has to answer.

    `checksum` is `right`, `wrong` or `missing`: a mirror with either of the last two must not be accepted.
    """
    found: dict[str, dict[str, object]] = {}
    for archive in archives:
        major, minor, patch = (int(part) for part in archive.version.split("."))
        name = f"cpython-{archive.version}%2B1-{platform.machine()}-unknown-linux-gnu-install_only.tar.gz"
        sha256 = {"right": archive.sha256, "wrong": "0" * 64, "missing": None}[checksum]
        found[archive.key] = {
            "name": "cpython",
            "arch": {"family": platform.machine(), "variant": None},
            "os": "linux",
            "libc": "gnu",
            "major": major,
            "minor": minor,
            "patch": patch,
            "prerelease": "",
            "variant": None,
            "build": "1",
            "url": f"{base_url}/{name}",
            "sha256": sha256,
        }
    return found


@dataclasses.dataclass(frozen=True)
class Mirror:
    """A mirror being served."""

    base_url: str
    archives: list[Archive]

    @property
    def url(self) -> str:
        """The list of downloads, for UV_PYTHON_DOWNLOADS_JSON_URL."""
        return f"{self.base_url}/downloads.json"

    @property
    def wrong_url(self) -> str:
        """The same with checksums that are wrong."""
        return f"{self.base_url}/wrong/downloads.json"

    @property
    def missing_url(self) -> str:
        """The same without checksums, which uv accepts without any check."""
        return f"{self.base_url}/missing/downloads.json"


@contextlib.contextmanager
def serving(archives: Sequence[Archive], address: str, port: int = 0) -> Iterator[Mirror]:
    """Serve archives over HTTP at an address of this machine (a run's gateway), from a thread."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

        def do_GET(self) -> None:
            """Answer with a list of downloads or an archive."""
            listed = re.fullmatch(r"/(?:(wrong|missing)/)?downloads\.json", self.path)
            named = re.match(r"/cpython-([0-9.]+)(?:%2B|\+)", self.path)
            if listed:
                body = json.dumps(downloads(archives, base_url, listed.group(1) or "right")).encode()
                kind = "application/json"
            else:
                wanted = [one for one in archives if named and one.version == named.group(1)]
                if not wanted:
                    self.send_error(404)
                    return
                body, kind = wanted[0].path.read_bytes(), "application/gzip"
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer((address, port), Handler)
    server.daemon_threads = True
    base_url = f"http://{address}:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Mirror(base_url, list(archives))
    finally:
        server.shutdown()
        server.server_close()


def gateway(one: Run) -> str:
    """This machine's address in a run's network."""
    if not one.subnet:
        raise TestBedError(f"There is no run {one.name!r} to serve. Next step: hosts.py up --run {one.name}")
    return str(ipaddress.IPv4Network(one.subnet)[1])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="mirror.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("build", help="make the archives of suites")
    serve = commands.add_parser("serve", help="serve them to the hosts of a run")
    for command in (make, serve):
        command.add_argument("suites", nargs="*", choices=[[], *images.SUITES], metavar="SUITE")
    serve.add_argument("--run", default="default", help="name of the run (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8300)
    options = parser.parse_args(argv)
    archives = [build(suite) for suite in options.suites or ("bookworm", "trixie")]
    for archive in archives:
        print(f"{archive.suite}: Python {archive.version}  sha256 {archive.sha256}  {archive.path}", flush=True)
    if options.command == "serve":
        with serving(archives, gateway(Run(options.run)), options.port) as mirror:
            print(f"UV_PYTHON_DOWNLOADS_JSON_URL={mirror.url}", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TestBedError as error:
        print(f"mirror.py: {error}", file=sys.stderr)
        sys.exit(1)
