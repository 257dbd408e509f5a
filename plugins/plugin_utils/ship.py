# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build once, ship many, as the controller sees it: what a host's bundle is made for, and a deployment for a host that receives."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import posixpath
import re
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils import shipping
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.deployment import Deployment

#: Files that say which packages are installed, or built, wherever they lie.
_NAMES = frozenset({"uv.lock", "uv.toml", "pyproject.toml", "setup.py", "setup.cfg", "pylock.toml"})
_LIKELY = re.compile(r"(require|constraint)[^/]*\.(txt|in|lock)\Z")
_INCLUDES = re.compile(rb"^[ \t]*(?:-r|-c|--requirements?|--constraints?)[= \t]+(\S+)", re.MULTILINE)
#: Parts of the plan's build that decide which packages are looked for.
_BUILD = ("argv", "requirements", "install", "setup_goal")
LARGEST = 16 * 1024 * 1024


def facts(made: Deployment, cache_dir: str = "") -> dict[str, Any]:
    """What the journal needs to know of a host to choose who builds: `kind`, `key`, `held`; no secret.

    The kind is empty where shipping cannot help: pip builds environments of Python 2, and uv's cache means nothing to it.
    """
    host, plan = made.host, made.plan
    python = str((plan.get("python") or {}).get("version") or "")
    uv_version = str(host.get("uv_version") or "")
    if not uv_version or python.startswith("2."):
        return {"kind": "", "key": "", "held": []}
    system = f"{host.get('architecture')} {host.get('distribution')} {host.get('release')}"
    build = plan["build"]
    # Packages of another accelerator are of no use to a host that has to build offline (H3).
    kind = " ".join([f"{system} python {python} uv {uv_version}", *build.get("variant", ())])
    described = {
        "mode": plan["mode"],
        "root": plan["project_root"],
        "cache_dir": cache_dir,
        "steering": shipping.steering(build["environment"]),
        **{name: build.get(name) for name in _BUILD},
    }
    named = [str(build.get("requirements") or ""), *_named(build["environment"])]
    digest = _digest_of_texts(made.source.archive, [posixpath.join(plan["project_root"] or "", name) for name in named])
    key = shipping.bundle_key(kind, [("texts", digest.encode())], described)
    return {"kind": kind, "key": key, "held": list(made.state.get("shipped") or [])}


def for_receiver(made: Deployment) -> Deployment:
    """Returns the deployment of a host that receives: its build is offline and knows no credentials of an index."""
    build = {**made.plan["build"], "environment": shipping.for_receiver(made.plan["build"]["environment"])}
    return dataclasses.replace(made, plan={**made.plan, "build": build})


def _named(environment: Mapping[str, str]) -> list[str]:
    """Returns the files that the environment names: constraints, overrides, a configuration."""
    names = ("CONSTRAINT", "BUILD_CONSTRAINT", "OVERRIDE", "CONFIG_FILE")
    values = (environment.get(f"{tool}_{name}", "") for tool in ("UV", "PIP") for name in names)
    return [part for value in values for part in value.split() if "://" not in part]


def _digest_of_texts(archive: str, named: Iterable[str]) -> str:
    """Returns the digest of all files that say which packages are installed; read once per run and archive."""
    wanted = {posixpath.normpath(name) for name in named if name}
    mark = hashlib.sha256("\0".join(sorted(wanted)).encode()).hexdigest()[:12]
    remembered = f"{archive}.{mark}.packages"
    with contextlib.suppress(OSError), open(remembered, encoding="ascii") as file:
        return file.read()
    digest = shipping.bundle_key("texts", _texts(archive, wanted), {})
    descriptor, scratch = tempfile.mkstemp(dir=os.path.dirname(archive), prefix=".packages-")
    with os.fdopen(descriptor, "w", encoding="ascii") as written:
        written.write(digest)
    os.replace(scratch, remembered)
    return digest


def _texts(archive: str, wanted: set[str]) -> list[tuple[str, bytes]]:
    """Returns those files of a source by name, with the requirements files that they include."""
    found: dict[str, bytes] = {}
    texts: dict[str, bytes] = {}
    with tarfile.open(archive) as source:
        for member in source:
            name = posixpath.normpath(member.name)
            base = posixpath.basename(name)
            is_text = base.endswith((".txt", ".in", ".lock")) or base in _NAMES or name in wanted
            if not member.isfile() or member.size > LARGEST or not is_text:
                continue
            content = source.extractfile(member)
            texts[name] = content.read() if content is not None else b""
    waiting = [name for name in texts if posixpath.basename(name) in _NAMES or _LIKELY.search(name) or name in wanted]
    while waiting:
        name = waiting.pop()
        if name in found or name not in texts:
            continue
        found[name] = texts[name]
        folder = posixpath.dirname(name)
        included = [each.decode("utf-8", "replace") for each in _INCLUDES.findall(texts[name])]
        waiting += [posixpath.normpath(posixpath.join(folder, each)) for each in included]
    return sorted(found.items())


__all__ = ["facts", "for_receiver"]
