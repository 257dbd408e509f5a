# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties: any environment and any files yield a plan or named errors, never a traceback; D6 byte for byte."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.pyfleet.runtime.plugins.module_utils import command, environment, python_version
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import CATALOGUE, from_dict, render_findings
from ansible_collections.pyfleet.runtime.plugins.module_utils.plan import make_plan, public_view

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

KNOWN = sorted(
    environment.NON_SECRET
    | environment.LEGACY_SERVER
    | set(environment.DROPPED_FROM_APPLICATION)
    | {
        "CC_PYTHON_UV_RUN_COMMAND", "CC_RUN_COMMAND", "CC_PYTHON_UV_SYNC_FLAGS", "CC_WORKER_COMMAND", "CC_WORKER_COMMAND_0",
        "CC_WORKER_COMMAND_x", "CC_HEALTH_CHECK_PATH_0", "CC_HEALTH_CHECK_PATH_7", "CC_REQUEST_FLOW_CUSTOM",
        "CC_PRE_BUILD_HOOK", "CC_PRE_RUN_HOOK", "OTOROSHI_CHALLENGE_SECRET", "UV_INDEX_A_PASSWORD",
        "CC_HTTP_BASIC_AUTH_0", "CC_HTTP_BASIC_AUTH_x", "GUNICORN_CMD_ARGS", "UWSGI_SOCKET", "CC_POST_BUILD_HOOK",
    }
)  # fmt: skip
WORDS = ["", " ", "uv run x --port $PORT", "uv run 'x", "3", "3.9", "three", "true", "/health", "a/b", "../x", "varnish,block", "-1",
         "a:b", "shop:app", "shop:make()", "gunicorn", "uvicorn", "daphne", "gevent", "2", "7", "8 16k", "32k", "static", "/", "on",
         "migrate, x --y 'z'", "a=1 b=2;c", "shop.tasks", "requirements.txt", "2.7", "text/css",
         "8080",          "custom", "x @@LISTEN_PORT@@", "development", "a && b", "\0", "\ud800", "{release}", "{0}", "uv"]  # fmt: skip
TEXT = st.one_of(st.sampled_from(WORDS), st.text(max_size=40), st.text("'\"\\ $PORT{}uvrn;&|<>#`()\n-=", max_size=30))
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ENV = st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=8), TEXT | JUNK, max_size=12)
FILES = st.lists(
    st.sampled_from(
        [
            "uv.lock",
            "pyproject.toml",
            "a/b/uv.lock",
            "requirements.txt",
            "clevercloud/varnish.vcl",
            "\udcff",
            "clevercloud/http.json",
            "shop.py",
            "manage.py",
            "setup.py",
            "static/a",
        ]
    )
    | st.text(max_size=12),
    max_size=8,
)
PYTHONS = st.lists(
    st.fixed_dictionaries(
        {"version": st.sampled_from(["2.7.18", "3.9.2", "3.13.1", "3.15", "x", ""]) | JUNK, "managed": JUNK}
    )
    | JUNK,
    max_size=4,
)
HOST = (
    st.none()
    | JUNK
    | st.fixed_dictionaries(
        {
            "pythons": PYTHONS,
            "listeners": JUNK
            | st.lists(st.fixed_dictionaries({"port": st.sampled_from([8080, 18080]) | JUNK, "process": JUNK})),
            "apps": JUNK
            | st.dictionaries(st.text(max_size=4), st.fixed_dictionaries({"ports": JUNK | st.lists(st.just(8080))})),
            "current": JUNK | st.fixed_dictionaries({"port": JUNK, "gap_seconds": JUNK}),
        }
    )
)
APP = st.just({"name": "shop"}) | st.dictionaries(
    st.sampled_from(
        [
            "name",
            "public_port",
            "port",
            "release_ports",
            "switch",
            "instance_number",
            "health_deadline",
            "drain_seconds",
            "stop_seconds",
            "user",
            "root",
            "host_name",
            "health_accept_2xx",
            "max_body_mb",
            "backend_requirements",
        ]
    ),
    JUNK | st.integers(0, 70000),
)


JSON = st.dictionaries(
    st.sampled_from(["languages", "error_pages", "force_https", "aliases", "charset", "x"]),
    JUNK
    | st.dictionaries(st.sampled_from(["404", "/a", "fr", "default"]) | st.text(max_size=5), JUNK | TEXT, max_size=3),
).map(lambda data: json.dumps(data, default=str))
TEXTS = st.dictionaries(
    st.sampled_from(["pyproject.toml", ".python-version", "requirements.txt", "clevercloud/http.json"]), TEXT | JSON
)
LEGACY = st.dictionaries(
    st.sampled_from(
        sorted(environment.LEGACY_SERVER | {"CC_PYTHON_BACKEND", "CC_PYTHON_MANAGE_TASKS", "CC_HTTP_BASIC_AUTH_0"})
    ),
    TEXT,
    max_size=10,
)
CONTROL = set('"\n\r$;{}')


@QUICK
@given(
    env=LEGACY,
    data=JSON | TEXT,
    requirements=TEXT,
    makes=st.sampled_from([{"CC_PYTHON_MODULE": "shop:app"}, {"CC_RUN_COMMAND": "x"}]),
)
def test_g_no_value_breaks_out_of_a_servers_configuration(env: Any, data: str, requirements: str, makes: Any) -> None:
    texts = {"clevercloud/http.json": data, "requirements.txt": requirements}
    inputs = {
        "app": {"name": "shop"},
        "env": {**env, **makes},
        "source": {"files": [*texts, "shop.py"], "texts": texts},
    }
    plan = make_plan({**inputs, "today": "2026-11-20"})
    server = plan["server"]
    if server is None:
        return
    nginx, own = dict(server["nginx"]), dict(server["settings"])
    nginx.pop("users")
    extra = own.pop("extra", [])

    def texts_of(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for pair in value.items() for item in pair for text in texts_of(item)]
        if isinstance(value, list):
            return [text for item in value for text in texts_of(item)]
        return [value] if isinstance(value, str) else []

    for text in [*texts_of(nginx), *texts_of(own), server["module"].split("(", maxsplit=1)[0]]:
        assert not CONTROL & set(text)
    assert not any(set(text) & {"\n", "\r", "\0"} for pair in extra for text in pair)


@QUICK
@given(
    env=ENV,
    files=FILES,
    texts=TEXTS,
    host=HOST,
    app=APP,
)
def test_a4_any_input_yields_a_plan_or_named_errors(env: Any, files: Any, texts: Any, host: Any, app: Any) -> None:
    inputs = {"app": app, "env": env, "source": {"files": files, "texts": texts}, "host": host, "today": "2026-11-20"}
    plan = make_plan(inputs)
    assert json.loads(json.dumps(plan).encode("utf-8")) == plan
    assert plan == make_plan(inputs)
    assert plan["mode"] in ("uv", "legacy")
    for item in plan["errors"] + plan["warnings"]:
        assert item["code"] in CATALOGUE
        assert item["message"]
        assert item["next_step"]
    render_findings(from_dict(item) for item in plan["errors"])
    assert all("\n" not in line for line in plan["summary"])
    json.dumps(public_view(plan))
    if not plan["errors"]:
        assert plan["run"]["script"] or plan["server"]["backend"] == "none"
        environment.to_environment_file(plan["environment"])


NAMES = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,10}\Z")


@QUICK
@given(st.dictionaries(NAMES, st.text(max_size=60) | st.text("\"'\\$`\n\r\t %#; ", max_size=30), max_size=6))
def test_d6_environment_file_round_trip(raw: dict[str, str]) -> None:
    env, _refused = environment.validate(raw)
    assert all(env[name] == raw[name] for name in env)
    assert environment.parse_environment_file(environment.to_environment_file(env)) == env


@QUICK
@given(NAMES.map(lambda name: "X_" + name), st.text(max_size=60))
def test_d6_values_reach_the_runtime_environment(name: str, value: str) -> None:
    env = {"CC_PYTHON_UV_RUN_COMMAND": "uv run x", name: value}
    plan = make_plan({"app": {"name": "shop"}, "env": env, "source": {"files": ["uv.lock"]}, "today": "2026-11-20"})
    if not plan["errors"]:
        assert plan["environment"][name] == value


@QUICK
@given(st.text(max_size=40) | st.text("'\"\\ $PORT{}uvrn;&|<>#`()\n-=", max_size=40))
def test_a3_d4_any_command_text_is_judged(text: str) -> None:
    command.honours_port(text)
    command.needs_network(text)
    if not command.problem(text):
        started = command.start(text)
        assert started.script
        if not started.direct:
            assert started.script.replace("exec ", "", 1) in (text.strip(), text.strip().replace("exec ", "", 1))


@QUICK
@given(st.text("0123456789.<>=!~,* a", max_size=20), st.lists(st.integers(0, 40), min_size=2, max_size=3))
def test_c5_any_specifier_is_judged(requires: str, release: list[int]) -> None:
    assert python_version.satisfies(release, requires) in (True, False, None)
    python_version.requires_python(requires)
    python_version.pinned_version(requires)
