# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a deployment: a pure function of the application's environment, its files and a few facts of the host.

It computes everything that follows and carries out nothing. Errors are collected, never raised: any environment and any set
of files yields a result that can be printed and sent as JSON. The result holds secrets (`environment`, `build.environment`,
commands); `public_view` is what may be shown.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils import (
    accelerator,
    activation,
    build,
    celery,
    chain_settings,
    command,
    environment,
    health,
    hooks,
    indexes,
    legacy,
    nginx_settings,
    python_version,
    request_flow,
    run,
    workers,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import SECRET, Finding, finding, visible
from ansible_collections.pyfleet.runtime.plugins.module_utils.requirements import Requirements
from ansible_collections.pyfleet.runtime.plugins.module_utils.settings import Settings

# Stands for the release id in paths as long as the id is not known. Ask again with `release_id` instead of replacing it:
# a value of the application may hold the same text.
RELEASE_PLACEHOLDER = "{release}"

# `app-<name>` is also the user's name, of which Linux tools allow 32 characters.
_APP_NAME = re.compile(r"[a-z]([a-z0-9-]{0,26}[a-z0-9])?\Z")


@dataclass(frozen=True)
class _App:
    """The settings of one application, checked. Ports are 0 where they cannot be used."""

    name: str
    public: int
    inner: int
    release_ports: tuple[int, ...]
    switch: str
    instance_number: int
    deadline: float
    accept_2xx: bool
    drain: float
    stop: float
    user: str
    root: str
    host_name: str
    max_body_mb: int
    backend_requirements: Mapping[str, str]
    given: Mapping[Any, Any]


def make_plan(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a deployment will do, with every error and warning at once. See the collection's design for both forms.

    `inputs` holds `app`, `env`, `source` (with `known: False` where it could not be resolved), `host` (None: no host is looked at),
    `today` (ISO date), `release_id`.
    """
    errors: list[Finding] = []
    app, found = _read_app(_mapping(inputs.get("app")))
    errors += found
    env, found = environment.validate(_mapping(inputs.get("env")))
    errors += found
    source = _mapping(inputs.get("source"))
    files = _texts(source.get("files"))
    texts = _mapping(source.get("texts"))
    host = inputs.get("host")
    facts = _mapping(host) if isinstance(host, Mapping) else None
    today = _today(inputs.get("today"))
    if today is None:
        errors.append(
            finding("option_invalid", "today", inputs.get("today"), expected="an ISO date", example="2026-11-20")
        )
    known = source.get("known") is not False
    return _Planner(app, env, files, texts, str(source.get("commit") or ""), facts, inputs, errors, known).plan()


def public_view(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan without anything that may be secret: names instead of values, commands and hooks scrubbed."""
    secrets = environment.secret_values(_mapping(plan.get("environment")))
    secrets += environment.secret_values(_mapping(_mapping(plan.get("build")).get("environment")))
    server = _mapping(plan.get("server"))
    secrets += [password for _login, password in _mapping(server.get("nginx")).get("users") or []]
    shown: dict[str, Any] = {}
    for key, value in plan.items():
        if key == "environment":
            shown[key] = sorted(value)
        elif key == "build":
            shown[key] = _scrubbed(
                {name: item for name, item in value.items() if name not in ("environment", "tokens")}, secrets
            )
            shown[key]["environment"] = sorted(value.get("environment", {}))
        elif key == "server" and server:
            shown[key] = _public_server(server)
        elif key == "chain":
            shown[key] = {**value, "settings": chain_settings.public(_mapping(value.get("settings")), secrets)}
        elif key in ("run", "hooks", "workers", "summary"):
            shown[key] = _scrubbed(value, secrets)
        else:
            shown[key] = value
    return shown


def _public_server(server: Mapping[str, Any]) -> dict[str, Any]:
    """The server without passwords and without the values of further directives."""
    own = dict(server["settings"])
    if own.get("extra"):
        own["extra"] = [[key, SECRET] for key, _value in own["extra"]]
    nginx = dict(server["nginx"])
    nginx["users"] = [login for login, _password in nginx["users"]]
    return {**server, "settings": own, "nginx": nginx}


def _scrubbed(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        return environment.scrub(value, secrets)
    if isinstance(value, Mapping):
        return {name: _scrubbed(item, secrets) for name, item in value.items()}
    if isinstance(value, list):
        return [_scrubbed(item, secrets) for item in value]
    return value


def _mapping(value: object) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: object) -> set[str]:
    items = value if isinstance(value, (list, tuple, set, frozenset)) else ()
    return {item for item in items if isinstance(item, str)}


def _number(value: object) -> float | None:
    """A finite number of at least 0, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and not re.match(r"[0-9]{1,9}(\.[0-9]{1,6})?\Z", value, re.ASCII):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if 0 <= number < 1e9 else None


def _plain(number: float) -> int | float:
    return int(number) if number == int(number) else number


def _read_app(given: Mapping[Any, Any]) -> tuple[_App, list[Finding]]:
    """The application's settings; what is wrong falls back to its default, and is an error."""
    errors: list[Finding] = []
    name = given.get("name")
    if not isinstance(name, str) or not _APP_NAME.match(name):
        text = str(name) if name is not None else "(not set)"
        suggestion = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-0123456789")[:28].strip("-") if name else ""
        errors.append(finding("app_name_invalid", "app_name", text, suggestion=suggestion or "shop"))
        name = suggestion or "app"

    def port(key: str, variable: str, default: int) -> int:
        value = given.get(key, default)
        parsed = run.parse_port(value)
        if parsed is None:
            errors.append(finding("port_out_of_range", variable, value, example=default))
        return parsed or 0

    public = port("public_port", "app_public_port", 8080)
    inner = port("port", "app_port", 9000)
    given_ports = given.get("release_ports") or []
    release_ports: list[int] = []
    if not isinstance(given_ports, (list, tuple)) or len(given_ports) not in (0, 2):
        expected = "a list of two ports, or empty"
        errors.append(
            finding("option_invalid", "app_release_ports", given_ports, expected=expected, example="[18080, 28080]")
        )
    elif given_ports:
        for value in given_ports:
            parsed = run.parse_port(value)
            if parsed is None:
                errors.append(finding("port_out_of_range", "app_release_ports", value, example="18080"))
            release_ports.append(parsed or 0)
    elif public:
        for offset in (10000, 20000):
            if public + offset > 65535:
                errors.append(
                    finding("port_out_of_range", "app_release_ports", public + offset, example="[18080, 28080]")
                )
            release_ports.append(public + offset if public + offset <= 65535 else 0)

    def number(key: str, default: float, least: float = 0) -> float:
        value = given.get(key, default)
        parsed = _number(value)
        if parsed is None or parsed < least:
            expected = f"a number of seconds, {least:g} or more"
            errors.append(finding("option_invalid", f"app_{key}", value, expected=expected, example=f"{default:g}"))
            return default
        return parsed

    switch = given.get("switch", "auto")
    if switch not in run.SWITCHES:
        errors.append(
            finding("option_invalid", "app_switch", switch, expected=" or ".join(run.SWITCHES), example="auto")
        )
        switch = "auto"
    instance = _number(given.get("instance_number", 0))
    if instance is None or instance != int(instance):
        value = given.get("instance_number")
        expected = "a whole number, 0 or more"
        errors.append(finding("option_invalid", "app_instance_number", value, expected=expected, example="0"))
        instance = 0
    most_mb = 1024 * 1024
    body = _number(given.get("max_body_mb", 512))
    if body is None or body != int(body) or body > most_mb:
        expected = f"a whole number of megabytes from 0 (no limit) to {most_mb}"
        errors.append(
            finding("option_invalid", "app_max_body_mb", given.get("max_body_mb"), expected=expected, example="512")
        )
        body = 512
    overrides, found = legacy.read_overrides(given.get("backend_requirements"))
    errors += found
    app = _App(
        name=name,
        public=public,
        inner=inner,
        release_ports=tuple(release_ports),
        switch=str(switch),
        instance_number=int(instance),
        deadline=number("health_deadline", 60, 1),
        accept_2xx=bool(given.get("health_accept_2xx")),
        drain=number("drain_seconds", 30),
        stop=number("stop_seconds", 30),
        user=str(given.get("user") or f"app-{name}"),
        root=str(given.get("root") or f"/srv/pyfleet/{name}"),
        host_name=str(given.get("host_name") or ""),
        max_body_mb=int(body),
        backend_requirements=overrides,
        given=given,
    )
    return app, errors


_NO_BUILD: Mapping[str, Any] = {
    "requirements": "",
    "python": None,
    "install": [],
    "setup_goal": "",
    "manage_tasks": [],
    "static": "",
    "shared": False,
    "shared_reason": "",
}


@dataclass
class _Server:
    """Legacy mode: the backend, Nginx in front of it, and the build of both."""

    backend: legacy.Backend
    nginx: dict[str, Any]
    build: dict[str, Any]
    ignored: list[tuple[str, str]]
    project: legacy.Project
    required: Requirements

    def to_dict(self) -> dict[str, Any]:
        """The plan's `server`."""
        upstream = "socket" if self.backend.socket else self.nginx["upstream"]
        return {**self.backend.to_dict(), "nginx": {**self.nginx, "upstream": upstream}}


class _Planner:
    """One run of the pure function: holds the inputs and collects findings."""

    def __init__(
        self,
        app: _App,
        env: dict[str, str],
        files: set[str],
        texts: Mapping[Any, Any],
        commit: str,
        host: Mapping[Any, Any] | None,
        inputs: Mapping[str, Any],
        errors: list[Finding],
        known: bool = True,
    ) -> None:
        self.known = known
        self.app = app
        self.env = env
        self.files = files
        self.texts = texts
        self.commit = commit
        self.host = host
        self.inputs = inputs
        self.secrets = environment.secret_values(env)
        self.findings = list(errors)

    def plan(self) -> dict[str, Any]:
        """Section by section; every value of the result is JSON-able."""
        app, env = self.app, self.env
        root, found = activation.project_root(env, self.files)
        self.findings += found
        active = activation.activate(env, self.files, root)
        self.findings += active.findings
        override, found = activation.run_command(env)
        self.findings += found
        task = environment.is_true(env.get("CC_TASK"))
        if task and not override and not env.get("CC_RUN_COMMAND", "").strip():
            self.findings.append(finding("task_without_command", "CC_TASK", env["CC_TASK"]))
        run_command, variable = self._command(active.mode, override)

        uv_mode = active.mode == "uv"
        chain = request_flow.read_chain(env, self.files, root)
        self.findings += chain.findings
        if task and chain.active:
            chain = request_flow.Chain((), False, "a task runs once and listens on no port", ())
        fixed, found = run.read_port(env)
        self.findings += found
        python = self._python(active.mode, root)
        self.findings += python.findings
        named_hooks = hooks.read_hooks(env)
        release = str(self.inputs.get("release_id") or RELEASE_PLACEHOLDER)
        server = None if uv_mode else self._legacy(root, release, run_command, task, python, named_hooks)
        if server is None:
            ports = run.decide_ports(
                switch=app.switch,
                command=run_command,
                variable=variable,
                public=app.public,
                inner=app.inner,
                release_ports=run.own_ports(app.inner) if chain.active else app.release_ports,
                chain=chain.active,
                task=task,
                fixed=fixed,
                last_gap=self._last_gap(),
                secrets=self.secrets,
            )
        else:
            ports = run.decide_legacy_ports(
                backend=server.backend.name,
                switch=app.switch,
                command=run_command,
                public=app.public,
                inner=app.inner,
                release_ports=app.release_ports,
                chain=chain.active,
                task=task,
                fixed=fixed,
                last_gap=self._last_gap(),
                secrets=self.secrets,
            )
        # A command that cannot run has an error of its own; how it would switch is beside the point.
        ours = ("port_fixed_side_by_side", "command_port_public")
        self.findings += [item for item in ports.findings if run_command or item.code in ours]
        if not task:
            ports = run.with_layers(
                ports,
                backend=server.backend.name if server else "",
                public=app.public,
                inner=app.inner,
                slots=app.release_ports,
                hops=len(chain.services),
            )
        hops = chain.hops(app.public, ports.behind[0].call if chain.active else ports.application)
        if not task:
            self._check_ports(ports, hops, server is not None)
        if server is not None:
            server.nginx["ports"] = list(
                next((layer.candidates for layer in ports.behind if layer.kind == "nginx"), ports.candidates)
            )

        choice = accelerator.choose(
            app.given, env, uv_mode=uv_mode, project=_mapping(self.inputs.get("source")).get("project"), host=self.host
        )
        self.findings += choice.findings
        known = self._indexes()
        argv, found = build.sync_argv(env, choice.extras) if uv_mode else ([], [])
        self.findings += found
        if uv_mode and run_command:
            self._check_network(variable, run_command)
        paths, found = health.read_paths(env)
        self.findings += found
        beside, found = workers.read_workers(env, uv_mode)
        self.findings += found
        if server is not None:
            beside += self._celery(server, len(beside))

        home, _project, venv = run.release_paths(app.root, release, root)
        platform = environment.platform_variables(
            app.name, home, self.commit, release, app.host_name, app.instance_number
        )
        port = self._port(ports, server, fixed, task)
        runtime, found = run.runtime_environment(
            env, platform, root=app.root, venv=venv, port=port, python_request=python.request, uv_mode=uv_mode
        )
        self.findings += found
        if chain.active and run_command:
            self._check_literal_port(variable, run_command, [hop.listen for hop in hops])
        settings = self._chain_settings(chain, hops, root, paths, runtime, uv_mode)

        if server is not None and not run_command and not task:
            run_command, variable = server.backend.command, legacy.MODULE if server.backend.command else celery.MODULE
            start = command.Start("exec " + server.backend.script if run_command else "", False)
        else:
            start = command.start(run_command, uv_mode) if run_command else command.Start("", False)
        ignored = [*active.ignored, *choice.ignored, *(server.ignored if server else ())]
        # F6: only the blocking service is asked.
        checked = [] if task else (["/"] if chain.block else paths or ["/"])
        errors = [item for item in self.findings if item.severity == "error"]
        warnings = [item for item in self.findings if item.severity != "error"]
        result: dict[str, Any] = {
            "errors": _dicts(errors),
            "warnings": _dicts(warnings),
            "mode": active.mode,
            "reasons": [visible(reason) for reason in active.reasons],
            "ignored": [{"name": visible(name), "why": visible(why)} for name, why in dict(ignored).items()],
            "project_root": root,
            "python": {
                "request": python.request,
                "selected": python.selected.to_dict() if python.selected else None,
                "source": python.source or ("uv" if active.mode == "uv" else "distribution"),
            },
            "build": {
                "argv": argv,
                "pre_hook": named_hooks["pre_build"],
                "post_hook": named_hooks["post_build"],
                "environment": {
                    **build.build_environment(env, platform, f"{app.root}/home", python.request, uv_mode),
                    **choice.backend,
                    **known.variables,
                },
                "tokens": {name: [index, list(argv)] for name, (index, argv) in known.tokens.items()},
                "indexes": list(known.shown),
                "extras": list(choice.extras),
                "variant": list(choice.variant),
                "accelerator": choice.to_dict(),
                **(server.build if server else _NO_BUILD),
            },
            "server": None if server is None or task else server.to_dict(),
            "run": {
                "command": run_command,
                "variable": variable,
                "script": start.script,
                "direct": start.direct,
                "honours_port": bool(run_command) and variable != legacy.MODULE and command.honours_port(run_command),
                "task": task,
            },
            "switch": ports.switch,
            "switch_reason": ports.reason,
            "ports": {
                "public": app.public,
                "candidates": [] if task else list(ports.candidates),
                "application_candidates": [] if task else list(ports.application_candidates),
                "application": ports.application,
                "hops": [hop.listen for hop in hops],
                "inner": list(ports.inner),
                "behind": [layer.to_dict() for layer in ports.behind],
            },
            "chain": {
                "active": chain.active,
                "block": chain.block,
                "hops": [hop.to_dict() for hop in hops],
                "reason": visible(chain.reason),
                "settings": settings,
            },
            "health": {
                "paths": checked,
                "accept": "200" if chain.block else health.accept_rule(paths, app.accept_2xx),
                "deadline": _plain(app.deadline),
                "schedule": health.schedule(app.deadline),
            },
            "hooks": {name: named_hooks[name] for name in ("pre_run", "run_succeeded", "run_failed")},
            "workers": [worker.to_dict() for worker in beside],
            "environment": runtime,
        }
        result["summary"] = _Summary(result, app, self.secrets, start, python, self.host is not None).lines()
        encodable: dict[str, Any] = _without_surrogates(result)
        return encodable

    def _command(self, mode: str, override: str) -> tuple[str, str]:
        """D1: the command that runs, and the variable it comes from."""
        if override or mode == "legacy":
            return override, "CC_RUN_COMMAND"
        if self.env.get("CC_RUN_COMMAND", "").strip():
            return "", "CC_RUN_COMMAND"
        return self.env.get("CC_PYTHON_UV_RUN_COMMAND", ""), "CC_PYTHON_UV_RUN_COMMAND"

    def _indexes(self) -> indexes.Indexes:
        """H2: what the build needs for its indexes; and I: no file of the source holds a password of one."""
        source = _mapping(self.inputs.get("source"))
        addresses = _mapping(source.get("addresses"))
        found = indexes.read(
            self.app.given.get("indexes"),
            self.app.given.get("netrc"),
            self.env,
            declared=source.get("indexes", ()),
            host=_mapping(self.host) if self.host is not None else None,
            registries=[each for registries, _leaking in addresses.values() for each in registries],
            anywhere=bool(_mapping(self.app.given.get("shipping")).get("once")),
        )
        self.findings += found.findings
        for path, (_registries, leaking) in sorted(addresses.items()):
            if leaking:
                names = "package " + ", ".join(leaking[:10]) + (" and more" if len(leaking) > 10 else "")
                how = "name the index in pyproject.toml, lock again with uv lock"
                self.findings.append(finding("source_credentials", path, names, how=how))
        for path, text in sorted(self.texts.items()):
            lines = indexes.with_password(text) if isinstance(text, str) and indexes.is_about_packages(path) else []
            if lines:
                where = "line " + ", ".join(str(number) for number in lines[:10])
                self.findings.append(finding("source_credentials", path, where, how="leave the address without them"))
        return found

    def _last_gap(self) -> float | None:
        current = _mapping(_mapping(self.host).get("current"))
        return _number(current.get("gap_seconds"))

    def _python(self, mode: str, root: str) -> python_version.Selection:
        prefix = root + "/" if root else ""
        pyproject = self.texts.get(prefix + "pyproject.toml")
        pinned = self.texts.get(prefix + ".python-version")
        entries = _mapping(self.host).get("pythons") if self.host is not None else None
        available: Iterable[object] | None = None
        if self.host is not None:
            available = entries if isinstance(entries, (list, tuple)) else []
        selection = python_version.select(
            self.env.get("CC_PYTHON_VERSION"),
            available,
            _today(self.inputs.get("today")) or datetime.date(1970, 1, 1),
            mode=mode,
            requires=python_version.requires_python(pyproject) if isinstance(pyproject, str) else "",
            pinned=python_version.pinned_version(pinned) if isinstance(pinned, str) else "",
        )
        # What the project or its environment asks uv for itself stays uv's to read (C5).
        own = "UV_PYTHON" in self.env or any(
            "/".join([*folders, ".python-version"]) in self.texts
            for folders in (root.split("/")[:depth] if root else [] for depth in range(root.count("/") + 2))
        )
        if own and not self.env.get("CC_PYTHON_VERSION") and mode == "uv":
            return dataclasses.replace(selection, request=None)
        return selection

    def _legacy(
        self,
        root: str,
        release: str,
        run_command: str,
        task: bool,
        python: python_version.Selection,
        named_hooks: Mapping[str, str | None],
    ) -> _Server:
        """Legacy mode's server, its packages and its build; a task has the build only."""
        env = self.env
        settings = Settings(env)
        texts = {path: text for path, text in self.texts.items() if isinstance(path, str) and isinstance(text, str)}
        project = legacy.Project(root, self.files, texts, self.known)
        series = python.selected.series if python.selected else None
        facts = _mapping(self.host)
        commands = [
            env[name] for name in sorted(env) if name == "CC_RUN_COMMAND" or name.startswith("CC_WORKER_COMMAND")
        ]
        hooks_text = [named_hooks["pre_build"] or "", named_hooks["post_build"] or ""]
        required = legacy.read_requirements(
            settings,
            project,
            named_hooks["pre_build"],
            needs_none=bool(run_command) and any(legacy.installs(text) for text in [*commands, *hooks_text]),
        )
        goal = legacy.setup_goal(settings, project)
        project = dataclasses.replace(project, installed=bool(goal or required.local))
        backend = legacy.read_backend(
            settings,
            project,
            required,
            series,
            _whole(facts.get("cores")),
            _whole(facts.get("memory_mb")),
            run_command or ("task" if task else ""),
            f"{legacy.SETTINGS_ROOT}/{self.app.name}/{release}",
            self.app.backend_requirements,
        )
        tasks = legacy.manage_tasks(settings, project)
        makers = [
            name
            for name in ("CC_PYTHON_MANAGE_TASKS", "CC_PRE_BUILD_HOOK", "CC_POST_BUILD_HOOK")
            if env.get(name, "").strip()
        ]
        nginx = nginx_settings.read_nginx(
            settings,
            project=project,
            buffer_size=(backend.settings or {}).get("buffer_size", 0),
            max_body_mb=self.app.max_body_mb,
            makers=makers,
        )
        install = legacy.packages(settings, backend, required, series, self.app.backend_requirements)
        shared, reason = legacy.shared_environment(env, required, goal, named_hooks["post_build"], commands)
        server = _Server(
            backend=backend,
            nginx={"upstream": "", "protocol": backend.protocol, **nginx, "websocket": backend.protocol == "http"},
            build={
                "requirements": required.path,
                "python": {"path": python.selected.path, "version": python.selected.version}
                if python.selected
                else None,
                "install": install,
                "setup_goal": goal,
                "manage_tasks": tasks,
                "static": nginx["static"]["path"] if nginx["static"] else "",
                "shared": shared,
                "shared_reason": reason,
            },
            ignored=legacy.ignored(settings, backend),
            project=project,
            required=required,
        )
        self.findings += settings.findings
        return server

    def _celery(self, server: _Server, first: int) -> list[workers.Worker]:
        """The Celery worker and beat, and whether the requirements have Celery."""
        settings = Settings(self.env)
        restart, delay, _found = workers.read_policy(self.env)
        beside = celery.read_celery(settings, home=f"{self.app.root}/home", first=first, restart=restart, delay=delay)
        if beside:
            celery.check(settings, server.project, server.required)
        self.findings += settings.findings
        return beside

    def _port(self, ports: run.Ports, server: _Server | None, fixed: int | None, task: bool) -> int | None:
        """D2: PORT of the runtime environment; None where it has none, or the release module adds it."""
        if server is not None and not task:
            if server.backend.name != "command":
                return fixed if fixed is not None else self.app.public
            server.nginx["upstream"] = f"127.0.0.1:{ports.application}"
        return None if task or ports.switch == run.SIDE_BY_SIDE else ports.application

    def _check_network(self, variable: str, run_command: str) -> None:
        what = command.needs_network(run_command)
        if what:
            shown = environment.show(variable, run_command, self.secrets)
            self.findings.append(finding("run_needs_network", variable, shown, what=what))

    def _check_literal_port(self, variable: str, run_command: str, hops: list[int]) -> None:
        """A command that names a port of the chain itself would listen where a hop is called."""
        part = chain_settings.literal_port(run_command, hops)
        if part:
            shown = environment.show(variable, run_command, self.secrets)
            port = re.sub(r".*?([0-9]+)\Z", r"\1", part, flags=re.DOTALL)
            part = environment.scrub(part, self.secrets)
            self.findings.append(finding("request_flow_literal_port", variable, shown, part=part, port=port))

    def _chain_settings(
        self,
        chain: request_flow.Chain,
        hops: list[request_flow.Hop],
        root: str,
        paths: list[str],
        runtime: Mapping[str, str],
        uv_mode: bool,
    ) -> dict[str, Any]:
        """F5, F8 to F11: what each service is told, and what is wrong with that."""
        reader = chain_settings.Reader(
            chain_settings.Inputs(
                services=chain.services,
                env=self.env,
                given=self.app.given,
                name=self.app.name,
                root=root,
                files=self.files,
                texts=self.texts,
                known=self.known,
                facts=_mapping(self.host),
                today=str(self.inputs.get("today")),
                paths=paths,
                runtime=runtime,
                uv_mode=uv_mode,
                ports=[hop.listen for hop in hops],
            )
        )
        settings = reader.read()
        self.findings += reader.findings
        if "custom" in chain.services and settings["custom"]["script"]:
            self._check_network(chain_settings.CUSTOM, self.env[chain_settings.CUSTOM])
        return settings

    def _check_ports(self, ports: run.Ports, hops: list[request_flow.Hop], has_nginx: bool) -> None:
        """Every port has one job, belongs to no other application, and is not in use by a stranger."""
        jobs: dict[int, tuple[str, str]] = {}
        own: list[tuple[int, str, str]] = []
        inside = "PORT" if ports.fixed else "app_port"
        if hops:
            own += [(hop.listen, f"the hop {hop.service}", "app_public_port") for hop in hops]
            own += [
                (slot + index, f"a port of the chain ({hop.service})", "app_release_ports")
                for slot in ports.candidates
                if slot
                for index, hop in enumerate(hops)
            ]
            # Where a PORT of the application's own is called, the chain's port is another one.
            own += [(port, "a port that the chain forwards to", "app_port") for port in ports.inner]
        else:
            own.append((self.app.public, "the public port", "app_public_port"))
            if has_nginx:
                own += [(port, "a port of the application's Nginx", "app_release_ports") for port in ports.candidates]
            elif ports.fixed:
                own.append((ports.application, "the application's own port", inside))
            elif ports.switch == run.SIDE_BY_SIDE:
                own += [(port, "a release's own port", "app_release_ports") for port in ports.candidates]
        for layer in ports.behind:
            nginx = layer.kind == "nginx"
            called = "Nginx's port behind the chain" if nginx else "the application's own port"
            if layer.call not in ports.inner[:1]:
                own.append((layer.call, called, "app_port" if nginx else inside))
            job = "a port of the application's Nginx" if nginx else "a release's own port"
            own += [(port, job, "app_port") for port in layer.candidates if port != layer.call]
        for port, job, variable in own:
            if not port:
                continue
            if port > 65535:
                derived = variable == "app_release_ports" and not self.app.given.get("release_ports")
                moved = "app_public_port" if derived else variable
                self.findings.append(finding("port_derived", moved, port, job=job))
                continue
            # PORT may name the public port: the application then listens there itself.
            same = ports.fixed and not hops and port == self.app.public and variable == "PORT"
            if port in jobs and not same:
                self.findings.append(finding("ports_collide", variable, port, first=jobs[port][0], second=job))
            jobs.setdefault(port, (job, variable))
        self._check_neighbours(jobs)
        self._check_listeners(jobs, ports, len(hops))

    def _check_neighbours(self, jobs: Mapping[int, tuple[str, str]]) -> None:
        for other, facts in sorted(_mapping(_mapping(self.host).get("apps")).items(), key=lambda item: str(item[0])):
            if other == self.app.name:
                continue
            taken = _mapping(facts).get("ports")
            for port in sorted(set(taken) & set(jobs)) if isinstance(taken, (list, tuple)) and _hashable(taken) else []:
                self.findings.append(finding("port_taken_by_app", jobs[port][1], port, other=other))

    def _check_listeners(self, jobs: Mapping[int, tuple[str, str]], ports: run.Ports, hops: int) -> None:
        """A listener is the application's own when its `unit` says so, or, without one, when a release of it is current and the
        port is one it may use."""
        facts = _mapping(self.host)
        listeners = facts.get("listeners")
        current = _mapping(facts.get("current"))
        mine: set[object] = set()
        if current:
            mine = {current.get("port") if isinstance(current.get("port"), int) else None, *ports.candidates}
            mine |= set(self.app.release_ports) | {ports.application, *ports.application_candidates}
            mine |= {port for layer in ports.behind for port in layer.candidates}
            mine |= {slot + index for slot in ports.candidates for index in range(hops)}
        seen: set[int] = set()
        neighbours = (
            {
                port
                for other, entry in _mapping(facts.get("apps")).items()
                for port in (_mapping(entry).get("ports") or [])
                if other != self.app.name and isinstance(port, int)
            }
            if _lists(facts.get("apps"))
            else set()
        )
        for listener in listeners if isinstance(listeners, (list, tuple)) else []:
            entry = _mapping(listener)
            port = entry.get("port")
            if not isinstance(port, int) or port not in jobs or port in seen or port in neighbours:
                continue
            unit = entry.get("unit")
            own = str(unit).startswith((f"app-{self.app.name}@", f"app-{self.app.name}-")) if unit else port in mine
            if not own:
                seen.add(port)
                process = visible(entry.get("process") or "another process")
                self.findings.append(finding("port_in_use", jobs[port][1], port, process=process))


def _whole(value: object) -> int | None:
    """A whole number from 1 on, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 10**9 else None


def _hashable(items: Iterable[object]) -> bool:
    return all(isinstance(item, int) for item in items)


def _lists(apps: object) -> bool:
    return all(isinstance(_mapping(entry).get("ports") or [], (list, tuple)) for entry in _mapping(apps).values())


def _today(value: object) -> datetime.date | None:
    """The date of the plan. It comes from the caller, so that the same inputs give the same plan."""
    try:
        return datetime.date.fromisoformat(str(value)[:10])
    except ValueError:
        return None


def _dicts(items: Iterable[Finding]) -> list[dict[str, str]]:
    """The findings in order, each once."""
    return list({(item.code, item.variable, item.message): item.to_dict() for item in items}.values())


def _without_surrogates(value: Any) -> Any:
    """File names may hold bytes that are no UTF-8 (as lone surrogates); the result can be encoded all the same."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_without_surrogates(name): _without_surrogates(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value


class _Summary:
    """The plan in lines for a person."""

    def __init__(
        self,
        plan: Mapping[str, Any],
        app: _App,
        secrets: list[str],
        start: command.Start,
        python: python_version.Selection,
        has_host: bool,
    ) -> None:
        self.plan = plan
        self.app = app
        self.secrets = secrets
        self.start = start
        self.python = python
        self.has_host = has_host

    def lines(self) -> list[str]:
        """Aligned `label  text` lines; errors and warnings are not in them, their render() is."""
        rows: list[tuple[str, str]] = [("Application", self._application())]
        plan = self.plan
        rows.append(("Mode", f"{plan['mode']}: {'; '.join(plan['reasons'])}"))
        rows += [("Ignored", f"{item['name']} ({item['why']})") for item in plan["ignored"]]
        rows.append(("Python", self._python()))
        if plan["mode"] == "uv":
            rows.append(("Build", "uv " + " ".join(plan["build"]["argv"]) + self._in_root()))
        else:
            rows += self._legacy_build()
        rows += [
            (
                "Index",
                f"{index['name']}, {visible(index['url'] or 'of the host')}; credentials: {self._shown(index['origin'])}",
            )
            for index in plan["build"]["indexes"]
        ]
        if plan["build"]["accelerator"]["reason"]:
            rows.append(("Accelerator", plan["build"]["accelerator"]["reason"]))
        for label, text in (
            ("Pre-build", plan["build"]["pre_hook"]),
            ("Post-build", plan["build"]["post_hook"]),
            ("Pre-run", plan["hooks"]["pre_run"]),
        ):
            if text:
                rows.append((label, self._shown(text)))
        if plan["server"]:
            rows += self._server(plan["server"])
        if not plan["server"] or plan["run"]["script"]:
            rows.append(("Run", self._run()))
        rows += [
            (
                "Celery" if worker["variable"] == celery.MODULE else f"Worker {worker['index']}",
                f"{self._shown(worker['command'])} (restart {worker['restart']})",
            )
            for worker in plan["workers"]
        ]
        if not plan["run"]["task"]:
            rows.append(("Switch", self._switch()))
            if plan["chain"]["active"]:
                rows += self._chain()
            rows.append(("Ports", self._ports()))
            rows.append(("Health", self._health()))
        for label, name in (("Succeeded", "run_succeeded"), ("Failed", "run_failed")):
            if plan["hooks"][name]:
                rows.append((label, self._shown(plan["hooks"][name])))
        kept = sorted(set(plan["build"]["environment"]) - set(plan["environment"]) - {"PORT"})
        if kept:
            rows.append(("Build only", ", ".join(kept) + " (not in the environment of the running application)"))
        return [f"{label:<12} {text}" for label, text in rows]

    def _legacy_build(self) -> list[tuple[str, str]]:
        part = self.plan["build"]
        installed = [visible(part["requirements"])] if part["requirements"] else []
        installed += [f"{visible(item['requirement'])} unless it is there already" for item in part["install"]]
        rows = [
            ("Build", "install " + ", then ".join(installed) + self._in_root() if installed else "nothing to install")
        ]
        rows.append(
            ("", f"environment {'shared' if part['shared'] else 'of its own'}: {self._shown(part['shared_reason'])}")
        )
        if part["setup_goal"]:
            rows.append(("Setup", f"setup.py {part['setup_goal']}"))
        rows += [("Task", "manage.py " + self._shown(" ".join(task))) for task in part["manage_tasks"]]
        return rows

    def _server(self, server: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Backend, its size and its settings, Nginx and what it answers itself."""
        own = server["settings"]
        if not server["socket"]:
            name = (
                "CC_RUN_COMMAND"
                if server["backend"] == "command"
                else "none: Nginx answers alone, workers run beside it"
            )
            rows = [("Backend", name)]
        else:
            how = ", gevent" if server["gevent"] else ""
            details = {
                "uwsgi": ("harakiri", "buffer_size", "post_buffering", "async", "async_engine"),
                "gunicorn": ("worker_class", "timeout", "loglevel"),
            }.get(server["backend"], ())
            shown = [f"{name.replace('_', ' ')} {visible(own[name])}" for name in details if own[name] not in (0, "")]
            shown += [] if own.get("file_wrapper", True) else ["no file wrapper"]
            shown += (
                [f"directives {', '.join(visible(key) for key, _value in own['extra'])}"] if own.get("extra") else []
            )
            rows = [
                (
                    "Backend",
                    f"{server['backend']}{how}, {visible(server['module'])}" + "".join(f"; {text}" for text in shown),
                ),
                (
                    "Size",
                    f"workers {server['workers']}, threads {server['threads']} ({visible(server['workers_reason'])})",
                ),
            ]
        nginx = server["nginx"]
        parts = [f"read timeout {nginx['read_timeout']} s", f"bodies up to {nginx['max_body_mb']} MB"]
        if nginx["proxy_buffers"] or nginx["proxy_buffer_size"]:
            parts.append(
                f"buffers {nginx['proxy_buffers'] or 'of Nginx'}, head {nginx['proxy_buffer_size'] or 'of Nginx'}"
            )
        parts += ["gzip"] if nginx["gzip"] else []
        parts += ["answers errors itself"] if nginx["intercept_errors"] else []
        parts += ["WebSocket"] if nginx["websocket"] else []
        parts += ["HTTPS only"] if nginx["force_https"] else []
        parts += [f"charset {nginx['charset']}"] if nginx["charset"] else []
        rows.append(("Nginx", ", ".join(parts)))
        if nginx["users"]:
            rows.append(("Logins", ", ".join(visible(login) for login, _password in nginx["users"])))
        if nginx["static"]:
            rows.append(("Static", visible(f"{nginx['static']['path']}/ under {nginx['static']['prefix']}")))
        rows += [("Error page", visible(f"{code}: {page}")) for code, page in nginx["error_pages"].items()]
        rows += [("Alias", visible(f"{source} → {target}")) for source, target in nginx["aliases"].items()]
        if nginx["languages"]:
            rows.append(
                ("Languages", visible(", ".join(f"{name} → /{to}/" for name, to in nginx["languages"].items())))
            )
        return rows

    def _shown(self, text: str) -> str:
        return visible(environment.scrub(text, self.secrets))

    def _in_root(self) -> str:
        return f" in {visible(self.plan['project_root'])}/" if self.plan["project_root"] else ""

    def _application(self) -> str:
        commit = self.plan["environment"].get("CC_COMMIT_ID") or ""
        return self.app.name + (f" at {visible(commit)[:12]}" if commit else "")

    def _python(self) -> str:
        selected = self.python.selected
        if selected is None:
            asked = f"{self.python.request}, as CC_PYTHON_VERSION asks" if self.python.request else ""
            if self.plan["mode"] == "uv":
                return asked or "uv decides, from requires-python and .python-version"
            return "none that can be used" if self.has_host else "the newest supported one of the host"
        origin = "uv fetches it" if selected.installable else ("managed by uv" if selected.managed else "of the host")
        expected = (
            "" if self.python.request or self.plan["mode"] == "legacy" else "; uv decides, this is the expectation"
        )
        return f"{visible(selected.version)} ({origin}{expected})"

    def _run(self) -> str:
        run_part = self.plan["run"]
        if not run_part["command"]:
            return "nothing that can be run"
        how = " (once, as a task)" if run_part["task"] else ""
        if self.start.direct:
            how += ", started directly from .venv/bin"
        return f"{self._shown(run_part['command'])}{how} [{run_part['variable']}]"

    def _switch(self) -> str:
        if self.plan["switch"] == run.SIDE_BY_SIDE:
            return f"side by side, without a gap: {self.plan['switch_reason']}"
        return f"in place, with a gap: {self.plan['switch_reason']}"

    def _chain(self) -> list[tuple[str, str]]:
        """The way of a request: each hop with its port, then what stands behind the chain."""
        chain, behind = self.plan["chain"], self.plan["ports"]["behind"]
        drawn = [f"{hop['listen']} {hop['service']}{self._hop_note(hop['service'])}" for hop in chain["hops"]]
        if chain["block"]:
            return [
                ("Chain", f"{drawn[0]}: answers 200 OK to everything"),
                ("", f"the application runs out of reach, on {behind[0]['call']} of the host"),
            ]
        names = {"nginx": "Nginx", "application": "application"}
        drawn += [f"{layer['call']} {names[layer['kind']]}" for layer in behind]
        if self.plan["server"] and self.plan["server"]["socket"]:
            drawn.append("application (socket)")
        return [("Chain", " → ".join(drawn)), ("", chain["reason"])]

    def _hop_note(self, service: str) -> str:
        given = self.plan["chain"]["settings"].get(service, {})
        notes = {
            "varnish": lambda: [visible(given["storage"])],
            "otoroshi-challenge": lambda: ["two secrets"] if len(given["secrets"]) > 1 else [],
            "redirectionio": lambda: [f"forwards to {given['forward_port']}"] if given["forward_port"] else [],
            "custom": lambda: ["a new one with every release"] if given["renewed"] else [],
        }
        found = notes[service]() if service in notes and given else []
        return f" ({', '.join(found)})" if found else ""

    def _ports(self) -> str:
        ports = self.plan["ports"]
        chained = self.plan["chain"]["active"]
        parts = [f"public {ports['public']}"]
        if chained:
            parts.append("chain on " + " or ".join(str(port) for port in ports["candidates"]))
        elif self.plan["server"]:
            parts.append("Nginx on " + " or ".join(str(port) for port in ports["candidates"]))
        elif self.plan["switch"] == run.SIDE_BY_SIDE:
            parts.append("release on " + " or ".join(str(port) for port in ports["candidates"]))
        elif ports["application"] != ports["public"]:
            parts.append(f"application on {ports['application']}")
        for layer in ports["behind"]:
            own = " or ".join(str(port) for port in layer["candidates"])
            if layer["kind"] == "nginx":
                parts.append(f"Nginx called on {layer['call']} → on {own}")
            else:
                moves = self.plan["switch"] == run.SIDE_BY_SIDE
                parts.append(f"application on {layer['call']}" + (f" → release on {own}" if moves else ""))
        return " → ".join(parts)

    def _health(self) -> str:
        part = self.plan["health"]
        wanted = {"200": "must answer 200", "2xx": "must answer 2xx", "200-499": "must answer 200 to 499"}
        attempts = len(part["schedule"])
        return (
            f"GET {', '.join(visible(path) for path in part['paths'])} {wanted[part['accept']]}, "
            f"up to {attempts} attempts in {part['deadline']:g} s"
        )
