# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment as the controller sees it: the source, the plan, the release's id, and what is left to do on the host."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import hmac
import json
import os
import secrets
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.pyfleet.runtime.plugins.module_utils import accelerator, indexes, lock
from ansible_collections.pyfleet.runtime.plugins.module_utils.activation import activate, project_root
from ansible_collections.pyfleet.runtime.plugins.module_utils.bytecode import CACHE
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import (
    is_build_only,
    to_environment_file,
    validate,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import (
    Finding,
    finding,
    from_dict,
    render_findings,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.plan import make_plan, public_view
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import GOOD, Description
from ansible_collections.pyfleet.runtime.plugins.module_utils.rollout import DEPLOYMENT_DIGITS
from ansible_collections.pyfleet.runtime.plugins.module_utils.settings import relative_path
from ansible_collections.pyfleet.runtime.plugins.module_utils.shipping import without_credentials
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.indexes import declared
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.pyproject import extras_of
from ansible_collections.pyfleet.runtime.plugins.plugin_utils.source import (
    Source,
    SourceError,
    check,
    exclusively,
    resolve,
)

#: Raised whenever run scripts or units read a release differently, so that a new collection makes new releases.
RELEASE_FORMAT = 1
#: Settings of the application that end up inside a release; others act on the host as a whole, or differ between hosts, which
#: all give a release the same id so that a rollback can name it for a fleet.
RELEASE_SETTINGS = (
    "name", "public_port", "port", "release_ports", "switch", "health_deadline", "health_accept_2xx", "drain_seconds",
    "stop_seconds", "user", "root", "build", "max_body_mb", "backend_requirements",
    "challenge_previous_secret", "challenge_previous_until", "oauth2_proxy", "redirectionio_agent", "redirectionio_generation",
    "redirectionio_configuration",
)  # fmt: skip
#: Of this run of ansible-playbook: its forks have it from their parent, which loads every action before it forks. As it is never
#: written, the names of remembered digests tell nothing about the secrets that they stand for.
_RUN_KEY = secrets.token_bytes(32)


class DeploymentError(Exception):
    """The deployment cannot happen; the message lists every finding."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__(render_findings(findings))
        self.findings = findings


@dataclasses.dataclass(frozen=True)
class ServerFiles:
    """What legacy mode writes besides: `files` by name below the release's settings, Nginx's configuration and its key."""

    key: str
    nginx: str
    files: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class FlowFiles:
    """A chain: its key, its hops' files by `INDEX-SERVICE/NAME`, and their units by name."""

    key: str
    files: Mapping[str, str]
    units: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Deployment:
    """Everything the controller knows; `plan` holds secrets, `public()` does not."""

    settings: Mapping[str, Any]
    source: Source
    plan: Mapping[str, Any]
    host: Mapping[str, Any]
    state: Mapping[str, Any]
    release: str
    action: str

    def public(self) -> dict[str, Any]:
        """The result that Ansible may show."""
        return {
            "release": self.release,
            "action": self.action,
            "commit": self.source.commit,
            "plan": public_view(self.plan),
            "packages": self.package_changes(),
            "environment_changes": self.environment_changes(),
            "source": {"origin": self.source.origin, "digest": self.source.digest, "bytes": self.source.size},
        }

    def package_changes(self) -> list[str]:
        """What uv.lock changes against the release that serves, one line per package."""
        name = os.path.join(self.plan["project_root"] or "", "uv.lock")
        return lock.changes(self.state.get("packages") or {}, self.source.locks.get(name, {}))

    def environment_changes(self) -> list[str]:
        """Names that the environment gains or loses against the release that serves; values are never compared in the open."""
        before, after = set(self.state.get("environment_names") or []), set(self.plan["environment"])
        if not before:
            return []
        return [f"+ {name}" for name in sorted(after - before)] + [f"- {name}" for name in sorted(before - after)]

    def text(self, host_name: str) -> str:
        """The plan for a person."""
        lines = [f"{self.settings['name']} on {host_name}: {ACTIONS[self.action]}", ""]
        current = self.state.get("current")
        lines += [f"  release   {self.release}" + (f" (serving now: {current})" if current else " (the first one)")]
        lines += [f"  source    {self.source.origin}, commit {self.source.commit}, {self.source.size} bytes to upload"]
        lines += [f"  {line}" for line in self.plan["summary"]]
        differences = {"environment": self.environment_changes()}
        if self.plan["mode"] == "uv":
            differences = {"packages in uv.lock": self.package_changes(), **differences}
        for title, changes in differences.items():
            lines += ["", f"  {title} against the serving release:" if current else f"  {title}:"]
            lines += [f"    {change}" for change in changes] or ["    no change"]
        return "\n".join(lines)

    def payload(self, files: ServerFiles | None = None, flow: FlowFiles | None = None) -> str:
        """What the module `release` writes on the host, as JSON text. Holds secrets.

        `files` belong to legacy mode, `flow` to a chain.
        """
        plan = self.plan
        server = plan.get("server") if files is not None else None
        folder = os.path.join(
            self.settings["root"], self.settings["name"], "releases", self.release, plan["project_root"] or ""
        )
        command = plan["run"]["variable"]
        description = Description(
            release=self.release,
            app=self.settings["name"],
            mode=plan["mode"],
            commit=self.source.commit,
            user=self.settings["user"],
            public_port=plan["ports"]["public"],
            candidates=list(plan["ports"]["candidates"]),
            switch=plan["switch"],
            project_root=plan["project_root"] or "",
            health=plan["health"],
            hooks=plan["hooks"],
            workers=[{name: worker[name] for name in ("index", "restart", "delay")} for worker in plan["workers"]],
            environment_names=sorted(plan["environment"]),
            task=bool(plan["run"].get("task")),
            drain_seconds=self.settings["drain_seconds"],
            stop_seconds=self.settings["stop_seconds"],
            instance_number=int(self.settings.get("instance_number") or 0),
            accelerator=plan["build"]["accelerator"]["name"],
        )
        front: dict[str, Any] = {}
        chain: dict[str, Any] = {}
        if files is not None and server:
            description.backend = server["backend"]
            description.socket = server["socket"]
            description.front = files.key
            front = {"nginx": files.nginx, "files": files.files, "users": server["nginx"]["users"]}
        if flow is not None:
            description.flow = {
                "key": _chain_key(flow.key, plan["ports"]["inner"]),
                "services": [hop["service"] for hop in plan["chain"]["hops"]],
                "inner_ports": list(plan["ports"]["inner"]),
                "block": bool(plan["chain"]["block"]),
            }
            vcl = (plan["chain"]["settings"].get("varnish") or {}).get("vcl", "")
            chain = {"files": flow.files, "units": flow.units, "vcl": vcl}
        description.inner = [dict(layer) for layer in plan["ports"]["behind"]]
        build_environment = dict(plan["build"]["environment"])
        if boolean((self.settings.get("build") or {}).get("compile_bytecode") or False, strict=False):
            # Where the units look for compiled code, which they look for nowhere else.
            place = os.path.join(CACHE, f"app-{self.settings['name']}", self.release)
            build_environment.setdefault("PYTHONPYCACHEPREFIX", place)
        return json.dumps(
            {
                "environment": to_environment_file(plan["environment"]),
                "build_environment": to_environment_file(build_environment),
                "run": run_script(folder, plan["run"]["script"], command),
                "workers": {
                    str(worker["index"]): run_script(folder, worker["script"], f"worker {worker['index']}")
                    for worker in plan["workers"]
                },
                "description": dataclasses.asdict(description),
                "front": front,
                "flow": chain,
            }
        )


ACTIONS = {
    "none": "nothing to do, this release serves already",
    "restart": "this release is in place, but does not serve or an earlier run never ended: it would be started and checked",
    "switch": "this release is built already: it would be started, checked and switched to",
    "build": "a new release would be built, started, checked and switched to",
}


def run_script(folder: str, script: str, what: str) -> str:
    """The script that a unit starts; the unit's environment does the rest."""
    return f"#!/bin/bash\n# Starts {what}.\ncd {shlex.quote(folder)} || exit 1\n{script}\n"


def deployment(
    settings: Mapping[str, Any],
    env: Mapping[str, Any],
    source: Any,
    info: Mapping[str, Any],
    *,
    cache: str,
    today: datetime.date | None = None,
    check_mode: bool = False,
) -> Deployment:
    """Resolves the source and makes the plan.

    `info` is the result of the module `app_info`, and empty where no host is looked at; `cache` a folder on the controller for the
    source's archive. In check mode a host that is not provisioned is a warning: the dry run of provisioning, which comes before, has
    prepared nothing.

    Raises:
        DeploymentError: with every error of the source and the plan at once.
    """
    findings: list[Finding] = []
    resolved: Source | None = None
    try:
        if not check(source):
            resolved = resolve(source, base=os.getcwd(), cache=cache, requirements=_named_texts(env))
        findings += check(source)
    except SourceError as error:
        findings += error.findings
    host, state = dict(info.get("host") or {}), dict(info.get("app") or {})
    host["current"] = _current(state)
    # Without a source the files' rules cannot be judged, but all others can: a person wants to see everything at once.
    known = resolved or Source("", "", "0" * 64, "", "", 0, ("uv.lock", "pyproject.toml"), {}, {})
    root, _found = project_root(validate(env)[0], set(known.files))
    project, named = extras_of(known.texts.get(os.path.join(root, "pyproject.toml"))), declared(known.texts, root)
    if named is None:
        findings += [
            finding("project_unreadable", f"app_{name}", f"app_{name}")
            for name in ("indexes", "extras", "accelerator")
            if settings.get(name)
        ]
    seen = host if info else None
    release = release_id(settings, env, known, cache=cache, variant=_variant(settings, env, known, project, seen))
    plan = make_plan(
        {
            "app": {**settings, "root": os.path.join(str(settings.get("root")), str(settings.get("name")))},
            "env": dict(env),
            "source": {
                "files": list(known.files),
                "texts": dict(known.texts),
                "commit": known.commit,
                "digest": known.digest,
                "known": resolved is not None,
                "project": project,
                "addresses": dict(known.addresses),
                "indexes": named,
            },
            "host": seen,
            "today": (today or datetime.date.today()).isoformat(),
            "release_id": release,
        }
    )
    unprepared = not_provisioned(host)
    unprepared += [from_dict(item) for item in plan["errors"] if item["code"] == "index_keyring_missing"]
    if check_mode:
        plan["warnings"] += [item.to_dict() for item in unprepared]
    else:
        findings += unprepared
    findings += [from_dict(item) for item in plan["errors"] if item["code"] != "index_keyring_missing"]
    if findings or resolved is None:
        raise DeploymentError(findings)
    return Deployment(settings, resolved, plan, host, state, release, decide(state, release))


def not_provisioned(host: Mapping[str, Any]) -> list[Finding]:
    """What the playbook provision.yml has yet to install, as one finding; nothing when the host was not looked at."""
    if "provisioned" not in host:
        return []
    missing = [] if host["provisioned"] else ["the redirect table (pyfleet-redirect.service)"]
    missing += [] if host.get("uv_version") else ["uv (app_uv_executable)"]
    return [finding("host_not_provisioned", missing=" and ".join(missing))] if missing else []


def _named_texts(env: Mapping[str, Any]) -> list[str]:
    """The requirements file and the VCL that the application names, which may be called anything."""
    named = [relative_path(str(env.get(name) or "")) for name in ("CC_PIP_REQUIREMENTS_FILE", "CC_VARNISH_FILE")]
    return [path for path in named if path]


def _variant(
    settings: Mapping[str, Any],
    env: Mapping[str, Any],
    source: Source,
    project: Mapping[str, Any] | None,
    host: Mapping[str, Any] | None,
) -> tuple[str, ...]:
    """What makes the release of this host differ from that of others in the same deployment (H3)."""
    valid, files = validate(env)[0], set(source.files)
    mode = activate(valid, files, project_root(valid, files)[0]).mode
    return accelerator.choose(settings, valid, uv_mode=mode == "uv", project=project, host=host).variant


def _current(state: Mapping[str, Any]) -> dict[str, Any] | None:
    if not state.get("current"):
        return None
    return {
        "id": state["current"],
        "port": state.get("port"),
        "switch": state.get("switch"),
        "gap_seconds": state.get("last_gap_seconds"),
    }


def decide(state: Mapping[str, Any], release: str) -> str:
    """What is left to do on a host for `release` to serve: a key of `ACTIONS`."""
    result = ((state.get("releases") or {}).get(release) or {}).get("result")
    if state.get("current") == release:  # never built anew under its clients, whatever the state file says
        # A run that never ended its lease may have left the host out of service, or in the middle of something.
        return "none" if result == GOOD and state.get("serving") and not state.get("lease") else "restart"
    return "switch" if result == GOOD else "build"


def release_id(
    settings: Mapping[str, Any],
    env: Mapping[str, Any],
    source: Source,
    *,
    cache: str = "",
    variant: Sequence[str] = (),
) -> str:
    """Names a release after all that makes it: the same inputs give the same id on every host, in every run.

    What may differ between the hosts of a deployment is its `variant`, and changes the last digits alone: the first eight name the
    deployment on all hosts. Without a variant all digits do.

    Credentials of indexes are not part of it: a token that is another one every hour would make a release every hour (H2).

    The digest is slow on purpose: the environment holds secrets, and a weak one must not be guessable from the id. Twelve
    digits are 48 bits, enough to tell the releases of a host apart. `cache` is a folder in which the run remembers it: the hosts
    of a fleet ask for the same one.
    """
    relevant = {name: settings.get(name) for name in RELEASE_SETTINGS}
    if settings.get("indexes"):
        relevant["indexes"] = indexes.whereabouts(settings["indexes"])
    made_of = [RELEASE_FORMAT, relevant, _without_index_credentials(env), source.digest, source.commit]
    common = _name_of(made_of, settings, cache)
    if not variant:
        return common
    own = hashlib.sha256(json.dumps([common, *variant]).encode()).hexdigest()
    return common[:DEPLOYMENT_DIGITS] + own[: len(common) - DEPLOYMENT_DIGITS]


def _without_index_credentials(env: Mapping[str, Any]) -> dict[str, Any]:
    """The environment without the credentials that the build alone sees; what the application sees stays as it is."""
    building = {name: value for name, value in env.items() if is_build_only(str(name))}
    kept = without_credentials({name: str(value) for name, value in building.items()})
    return {**{name: value for name, value in env.items() if name not in building}, **kept}


def flow_key(
    settings: Mapping[str, Any], files: Mapping[str, str], units: Mapping[str, str], *, cache: str = ""
) -> str:
    """Names a chain after all that makes it; slow on purpose, because secrets are part of it."""
    relevant = {name: settings.get(name) for name in ("user", "public_port", "port", "release_ports")}
    return _name_of([RELEASE_FORMAT, relevant, dict(files), dict(units)], settings, cache)


def _chain_key(key: str, inner: Sequence[int]) -> str:
    """A chain's key with the ports that it forwards to, which depend on what stands behind it."""
    return hashlib.sha256(json.dumps([key, list(inner)]).encode()).hexdigest()[:12]


def nginx_key(settings: Mapping[str, Any], server: Mapping[str, Any], text: str, *, cache: str = "") -> str:
    """Names an Nginx configuration after all that makes it, so that releases with the same settings share one.

    Slow on purpose, as `release_id`: the passwords of basic authentication are part of it.
    """
    relevant = {name: settings.get(name) for name in ("user", "public_port", "release_ports", "stop_seconds")}
    made_of = [RELEASE_FORMAT, relevant, server["nginx"]["users"], server["nginx"].get("ports"), text]
    return _name_of(made_of, settings, cache)


def _name_of(made_of: list[Any], settings: Mapping[str, Any], cache: str) -> str:
    """Twelve digits for what something is made of, secrets included; computed slowly, and once per run where there is a `cache`."""
    text = json.dumps(made_of, sort_keys=True, default=str).encode(errors="surrogatepass")
    salt = str(settings.get("name")).encode()

    def slow() -> str:
        return hashlib.pbkdf2_hmac("sha256", text, salt, 100_000).hex()[:12]

    if not cache:
        return slow()
    os.makedirs(cache, mode=0o700, exist_ok=True)
    memo = os.path.join(cache, hmac.new(_RUN_KEY, salt + b"\0" + text, "sha256").hexdigest()[:24])
    with exclusively(f"{memo}.lock"):
        with contextlib.suppress(FileNotFoundError), open(memo, encoding="ascii") as file:
            return file.read()
        made = slow()
        descriptor, scratch = tempfile.mkstemp(dir=cache)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(made)
        os.replace(scratch, memo)
    return made


__all__ = [
    "ACTIONS",
    "Deployment",
    "DeploymentError",
    "FlowFiles",
    "ServerFiles",
    "decide",
    "deployment",
    "flow_key",
    "nginx_key",
    "release_id",
    "run_script",
]
