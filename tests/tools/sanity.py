#!/usr/bin/env python3
# Copyright: pyfleet contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run ``ansible-test sanity`` on a copy of the collection, without Docker and with nothing but a Python index.

Three things stand between ansible-test and an ordinary checkout, and are arranged here:

* it wants the collection at a real path ``ansible_collections/pyfleet/runtime``, and asks git what belongs to it:
  ``stage_tree.py`` makes the copy, which gets a git folder of its own (the checkout's git ignores ``build/``);
* it downloads a pip for its virtual environments from a place that not everybody reaches, unless a script lies in its
  cache: ours lets uv install that very pip from whatever index is configured;
* it passes none of the environment on to pip: pip's settings are written to the configuration of a home folder below
  ``build/``, which also keeps the user's own ``~/.ansible`` out of it.

Usage: ``sanity.py [arguments for ansible-test sanity]``
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible_collections.pyfleet.runtime.tests.tools import stage_tree

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "build/sanity/ansible_collections/pyfleet/runtime"
HOME = ROOT / "build/sanity/home"

#: What users install is checked. Tests are held to ruff and mypy instead, and need not compile for a host's Python 3.9.
NOT_SHIPPED = ["tests", "molecule"]
KEPT = ["tests/sanity", "tests/config.yml"]

#: The project's own yamllint configuration holds; ansible-test would bring another one.
SKIPPED = ["yamllint"]

BOOTSTRAP = """\
import os, subprocess, sys
os.environ.update({environment!r})
version = {version!r}
sys.exit(subprocess.call([{uv!r}, "pip", "install", "--quiet", "--python", sys.executable, "pip==" + version]))
"""

#: Lines that say nothing when all is well.
NOISE = re.compile(
    r"Running sanity test|No tests applicable|Installing requirements|Created Python|Creating |Configured locale"
    r"|Read \d|Using cached pip|WARNING: (Using locale|Reviewing previous|Location|Skipping sanity test)"
    r"|See documentation|Looking in|Collecting|Processing|Successfully installed|\s+(━|Downloading|Using cached)|$"
)


def pip_configuration(environment: Mapping[str, str], stored: str) -> str:
    """Return a pip.conf that holds the user's own (``stored``) and what the environment's ``PIP_…`` variables say.

    pip reads variables before files; a later line of the same section wins in the same way.
    """
    lines = [
        f"{name[4:].lower().replace('_', '-')} = {' '.join(value.split())}"
        for name, value in sorted(environment.items())
        if name.startswith("PIP_") and name not in {"PIP_CONFIG_FILE", "PIP_CACHE_DIR"} and value.strip()
    ]
    names = {line.partition(" = ")[0] for line in lines}
    kept = [line for line in stored.splitlines() if line.partition("=")[0].strip() not in names]
    if "[global]" in kept:
        place = kept.index("[global]") + 1
        return "\n".join([*kept[:place], *lines, *kept[place:]]) + "\n"
    return "\n".join([*kept, "[global]", *lines]) + "\n"


def bootstrap_version() -> str:
    """Return the version of pip that this ansible-test puts into its virtual environments."""
    import ansible_test

    source = Path(ansible_test.__file__).parent / "_internal/python_requirements.py"
    versions = re.findall(r"^\s+pip='([0-9.]+)',", source.read_text(), re.MULTILINE)
    if not versions:
        raise SystemExit(f"sanity.py: {source} does not say any more which pip it installs; adapt bootstrap_version().")
    return str(versions[0])


def prepare_home(uv: Path, environment: Mapping[str, str]) -> None:
    """Write the home folder that ansible-test and its pip see."""
    passed = {
        name: value
        for name, value in environment.items()
        if name.startswith(("UV_", "SSL_CERT_")) or name.lower().endswith("_proxy") or name == "NETRC"
    }
    passed.setdefault("UV_CACHE_DIR", str(cache_folder(environment) / "uv"))
    version = bootstrap_version()
    script = HOME / f".ansible/test/cache/get_pip_{version.replace('.', '_')}.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    user_home = Path(environment.get("HOME", "/"))
    candidates = [
        Path(environment.get("PIP_CONFIG_FILE", os.devnull)),
        Path(environment.get("XDG_CONFIG_HOME") or user_home / ".config") / "pip/pip.conf",
        user_home / ".pip/pip.conf",
    ]
    stored = next((path.read_text() for path in candidates if path.is_file()), "")
    configuration = HOME / ".config/pip/pip.conf"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    # Both may hold an index's credentials: for the owner only.
    for path, text in (
        (script, BOOTSTRAP.format(environment=passed, version=version, uv=str(uv))),
        (configuration, pip_configuration(environment, stored)),
    ):
        path.touch(mode=0o600)
        path.write_text(text)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return the user's cache folder."""
    return Path(environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "/")) / ".cache")


def interpreters(environment: Mapping[str, str]) -> str:
    """Return PATH with the interpreters that pyenv and uv keep: compile and import run on every version found."""
    found = [environment.get("PATH", os.defpath)]
    home = Path(environment.get("HOME", "/"))
    for pattern in (".pyenv/versions/3.*/bin", ".local/share/uv/python/cpython-3.*/bin"):
        found += [str(path) for path in sorted(home.glob(pattern))]
    return os.pathsep.join(found)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return its exit status."""
    uv = Path(sys.executable).parent / "uv"
    if not uv.exists():
        print("sanity.py: there is no uv beside this Python: run 'make setup' first.", file=sys.stderr)
        return 2
    stage_tree.stage(ROOT, TREE, stage_tree.selected(stage_tree.listed(ROOT), NOT_SHIPPED, KEPT))
    if not (TREE / ".git").is_dir():
        subprocess.run(["git", "init", "--quiet", str(TREE)], check=True)
    prepare_home(uv, os.environ)
    environment = {**os.environ, "PATH": interpreters(os.environ), "HOME": str(HOME)}
    environment.pop("ANSIBLE_COLLECTIONS_PATH", None)
    command = [str(uv.with_name("ansible-test")), "sanity", "--requirements", "--color", "no", "--truncate", "0"]
    for test in SKIPPED:
        command += ["--skip-test", test]
    done = subprocess.run(
        [*command, *(arguments or ["--python", "default"])],
        cwd=TREE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    (ROOT / "build/sanity/log").write_text(done.stdout)
    for line in done.stdout.splitlines():
        if not NOISE.match(line):
            print(line)
    if done.returncode:
        print(f"The whole report is in {(ROOT / 'build/sanity/log').relative_to(ROOT)}.")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
