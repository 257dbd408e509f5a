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
    activation,
    build,
    command,
    environment,
    health,
    hooks,
    python_version,
    request_flow,
    run,
    workers,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import Finding, finding, visible

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


def make_plan(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a deployment will do, with every error and warning at once. See the collection's design for both forms.

    `inputs` holds `app`, `env`, `source`, `host` (None: no host is looked at), `today` (ISO date), `release_id`.
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
    return _Planner(app, env, files, texts, str(source.get("commit") or ""), facts, inputs, errors).plan()


def public_view(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan without anything that may be secret: names instead of values, commands and hooks scrubbed."""
    secrets = environment.secret_values(_mapping(plan.get("environment")))
    secrets += environment.secret_values(_mapping(_mapping(plan.get("build")).get("environment")))
    shown: dict[str, Any] = {}
    for key, value in plan.items():
        if key == "environment":
            shown[key] = sorted(value)
        elif key == "build":
            shown[key] = _scrubbed({name: item for name, item in value.items() if name != "environment"}, secrets)
            shown[key]["environment"] = sorted(value.get("environment", {}))
        elif key in ("run", "hooks", "workers", "summary"):
            shown[key] = _scrubbed(value, secrets)
        else:
            shown[key] = value
    return shown


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
    )
    return app, errors


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
    ) -> None:
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

        chain = request_flow.read_chain(env, self.files, root)
        self.findings += chain.findings
        fixed, found = run.read_port(env)
        self.findings += found
        ports = run.decide_ports(
            switch=app.switch,
            command=run_command,
            variable=variable,
            public=app.public,
            inner=app.inner,
            release_ports=app.release_ports,
            chain=chain.active,
            task=task,
            fixed=fixed,
            last_gap=self._last_gap(),
            legacy=active.mode == "legacy",
            secrets=self.secrets,
        )
        # A command that cannot run has an error of its own; how it would switch is beside the point.
        self.findings += [item for item in ports.findings if run_command or item.code == "port_fixed_side_by_side"]
        hops = chain.hops(app.public, ports.application)
        if not task:
            self._check_ports(ports, hops)

        python = self._python(active.mode, root)
        self.findings += python.findings
        argv, found = build.sync_argv(env) if active.mode == "uv" else ([], [])
        self.findings += found
        if active.mode == "uv" and run_command:
            self._check_network(variable, run_command)
        paths, found = health.read_paths(env)
        self.findings += found
        beside, found = workers.read_workers(env)
        self.findings += found
        named_hooks = hooks.read_hooks(env)

        release = str(self.inputs.get("release_id") or RELEASE_PLACEHOLDER)
        home, _project, venv = run.release_paths(app.root, release, root)
        platform = environment.platform_variables(
            app.name, home, self.commit, release, app.host_name, app.instance_number
        )
        port = None if task or ports.switch == run.SIDE_BY_SIDE else ports.application
        runtime, found = run.runtime_environment(
            env, platform, root=app.root, venv=venv, port=port, python_request=python.request
        )
        self.findings += found
        self._not_yet(active, chain)

        start = command.start(run_command) if run_command else command.Start("", False)
        checked = [] if task else (paths or ["/"])
        errors = [item for item in self.findings if item.severity == "error"]
        warnings = [item for item in self.findings if item.severity != "error"]
        result: dict[str, Any] = {
            "errors": _dicts(errors),
            "warnings": _dicts(warnings),
            "mode": active.mode,
            "reasons": [visible(reason) for reason in active.reasons],
            "ignored": [{"name": visible(name), "why": visible(why)} for name, why in active.ignored],
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
                "environment": build.build_environment(env, platform, f"{app.root}/home", python.request),
            },
            "run": {
                "command": run_command,
                "variable": variable,
                "script": start.script,
                "direct": start.direct,
                "honours_port": command.honours_port(run_command),
                "task": task,
            },
            "switch": ports.switch,
            "switch_reason": ports.reason,
            "ports": {
                "public": app.public,
                "candidates": [] if task else list(ports.candidates),
                "application": ports.application,
                "hops": [hop.listen for hop in hops],
            },
            "chain": {
                "active": chain.active,
                "block": chain.block,
                "hops": [hop.to_dict() for hop in hops],
                "reason": visible(chain.reason),
            },
            "health": {
                "paths": checked,
                "accept": health.accept_rule(paths, app.accept_2xx),
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

    def _check_network(self, variable: str, run_command: str) -> None:
        what = command.needs_network(run_command)
        if what:
            shown = environment.show(variable, run_command, self.secrets)
            self.findings.append(finding("run_needs_network", variable, shown, what=what))

    def _not_yet(self, active: activation.Activation, chain: request_flow.Chain) -> None:
        """What the plan knows and nothing carries out today: an error, beside the complete result."""
        if active.mode == "legacy":
            variable = "CC_PYTHON_UV_RUN_COMMAND"
            shown = environment.show(variable, self.env.get(variable, "(not set)"), self.secrets)
            self.findings.append(finding("not_yet_legacy", variable, shown, missing=active.missing))
        if chain.active:
            shown = visible(self.env.get("CC_REQUEST_FLOW") or "(not set)")
            services = ", ".join(chain.services)
            self.findings.append(finding("not_yet_request_flow", "CC_REQUEST_FLOW", shown, services=services))

    def _check_ports(self, ports: run.Ports, hops: list[request_flow.Hop]) -> None:
        """Every port has one job, belongs to no other application, and is not in use by a stranger."""
        jobs: dict[int, tuple[str, str]] = {}
        own: list[tuple[int, str, str]] = []
        if hops:
            own += [(hop.listen, f"the hop {hop.service}", "app_public_port") for hop in hops]
        else:
            own.append((self.app.public, "the public port", "app_public_port"))
        inside = "PORT" if ports.fixed else "app_port"
        if hops or ports.fixed:
            own.append((ports.application, "the application's own port", inside))
        if ports.switch == run.SIDE_BY_SIDE:
            own += [(port, "a release's own port", "app_release_ports") for port in ports.candidates]
        for port, job, variable in own:
            if not port:
                continue
            if port > 65535:
                self.findings.append(finding("port_out_of_range", "app_public_port", port, example=8080))
                continue
            # PORT may name the public port: the application then listens there itself.
            same = ports.fixed and not hops and port == self.app.public and variable == "PORT"
            if port in jobs and not same:
                self.findings.append(finding("ports_collide", variable, port, first=jobs[port][0], second=job))
            jobs.setdefault(port, (job, variable))
        self._check_neighbours(jobs)
        self._check_listeners(jobs, ports)

    def _check_neighbours(self, jobs: Mapping[int, tuple[str, str]]) -> None:
        for other, facts in sorted(_mapping(_mapping(self.host).get("apps")).items(), key=lambda item: str(item[0])):
            if other == self.app.name:
                continue
            taken = _mapping(facts).get("ports")
            for port in sorted(set(taken) & set(jobs)) if isinstance(taken, (list, tuple)) and _hashable(taken) else []:
                self.findings.append(finding("port_taken_by_app", jobs[port][1], port, other=other))

    def _check_listeners(self, jobs: Mapping[int, tuple[str, str]], ports: run.Ports) -> None:
        """A listener is the application's own when its `unit` says so, or, without one, when a release of it is current and the
        port is one it may use."""
        facts = _mapping(self.host)
        listeners = facts.get("listeners")
        current = _mapping(facts.get("current"))
        mine: set[object] = set()
        if current:
            mine = {current.get("port") if isinstance(current.get("port"), int) else None, *ports.candidates}
            mine |= set(self.app.release_ports) | {ports.application}
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
        for label, text in (
            ("Pre-build", plan["build"]["pre_hook"]),
            ("Post-build", plan["build"]["post_hook"]),
            ("Pre-run", plan["hooks"]["pre_run"]),
        ):
            if text:
                rows.append((label, self._shown(text)))
        rows.append(("Run", self._run()))
        rows += [
            (f"Worker {worker['index']}", f"{self._shown(worker['command'])} (restart {worker['restart']})")
            for worker in plan["workers"]
        ]
        if not plan["run"]["task"]:
            rows.append(("Switch", self._switch()))
            rows.append(("Ports", self._ports()))
            rows.append(("Health", self._health()))
        for label, name in (("Succeeded", "run_succeeded"), ("Failed", "run_failed")):
            if plan["hooks"][name]:
                rows.append((label, self._shown(plan["hooks"][name])))
        kept = sorted(set(plan["build"]["environment"]) - set(plan["environment"]) - {"PORT"})
        if kept:
            rows.append(("Build only", ", ".join(kept) + " (not in the environment of the running application)"))
        return [f"{label:<12} {text}" for label, text in rows]

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
            return "the backend of legacy mode" if self.plan["mode"] == "legacy" else "nothing that can be run"
        how = " (once, as a task)" if run_part["task"] else ""
        if self.start.direct:
            how += ", started directly from .venv/bin"
        return f"{self._shown(run_part['command'])}{how} [{run_part['variable']}]"

    def _switch(self) -> str:
        if self.plan["switch"] == run.SIDE_BY_SIDE:
            return f"side by side, without a gap: {self.plan['switch_reason']}"
        return f"in place, with a gap: {self.plan['switch_reason']}"

    def _ports(self) -> str:
        ports = self.plan["ports"]
        parts = [f"public {ports['public']}"]
        parts += [f"{hop['service']} on {hop['listen']}" for hop in self.plan["chain"]["hops"]]
        if self.plan["switch"] == run.SIDE_BY_SIDE:
            parts.append("release on " + " or ".join(str(port) for port in ports["candidates"]))
        elif self.plan["chain"]["active"] or ports["application"] != ports["public"]:
            parts.append(f"application on {ports['application']}")
        return " → ".join(parts)

    def _health(self) -> str:
        part = self.plan["health"]
        wanted = {"200": "must answer 200", "2xx": "must answer 2xx", "200-499": "must answer 200 to 499"}
        attempts = len(part["schedule"])
        return (
            f"GET {', '.join(visible(path) for path in part['paths'])} {wanted[part['accept']]}, "
            f"up to {attempts} attempts in {part['deadline']:g} s"
        )
