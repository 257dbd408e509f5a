# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Legacy mode in the plan: backend, workers, build, Celery, ports, and every setting of section G that the backend has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import legacy as rules
from ansible_collections.pyfleet.runtime.plugins.module_utils.plan import make_plan, public_view

from .support import INPUTS, ask, codes, legacy, only

SETTINGS = "/etc/pyfleet/shop/0a1b2c3d4e5f"


def own(env: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The backend's settings."""
    result = legacy(env, **more)
    assert result["errors"] == [], result["errors"]
    settings: dict[str, Any] = result["server"]["settings"]
    return settings


def ignored(env: dict[str, Any], **more: Any) -> dict[str, str]:
    return {item["name"]: item["why"] for item in legacy(env, **more)["ignored"]}


def test_a4_legacy_keeps_the_shape_of_uv_mode() -> None:
    result = legacy()
    assert (result["mode"], result["errors"], result["warnings"]) == ("legacy", [], [])
    assert result["build"]["argv"] == []
    assert result["run"]["script"] == f"exec uwsgi --ini {SETTINGS}/server.ini"
    assert result["run"]["variable"] == "CC_PYTHON_MODULE"
    assert result["switch"] == "side_by_side"
    assert result["ports"]["candidates"] == [18080, 28080]
    assert result["ports"]["application_candidates"] == []
    assert result["server"]["nginx"]["upstream"] == "socket"


def test_d3_uv_mode_has_no_server() -> None:
    result = legacy({"CC_PYTHON_UV_RUN_COMMAND": "uv run x --port $PORT"}, files=["uv.lock"])
    assert (result["mode"], result["server"], result["build"]["install"]) == ("uv", None, [])
    assert (result["build"]["requirements"], result["ports"]["application_candidates"]) == ("", [])


# -- G1: the module ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "backend"),
    [
        ("shop:app", "uwsgi"),
        ("shop:make()", "uwsgi"),
        ("shop:site.app", "gunicorn"),
        ("shop:make('a b')", "gunicorn"),
        ("shop:site.app", "uvicorn"),
        ("shop:app", "daphne"),
    ],
)
def test_g1_a_module_and_its_object(module: str, backend: str) -> None:
    result = legacy({"CC_PYTHON_MODULE": module, "CC_PYTHON_BACKEND": backend})
    assert (result["errors"], result["server"]["module"]) == ([], module)


@pytest.mark.parametrize(
    ("module", "backend", "code"),
    [
        ("shop", "uwsgi", "module_syntax"),
        ("shop.py:app", "uwsgi", "module_missing"),
        ("shop/wsgi.py", "uwsgi", "module_syntax"),
        ("shop:", "gunicorn", "module_syntax"),
        ("shop:app\nmaster = false", "uwsgi", "module_syntax"),
        ("shop:app; rm -rf /", "gunicorn", "module_syntax"),
        ("shop:app --bind 0.0.0.0", "gunicorn", "module_syntax"),
        ("-c:app", "gunicorn", "module_syntax"),
        ("shop:site.app", "uwsgi", "module_call"),
        ("shop:make(1)", "uwsgi", "module_call"),
        ("shop:make()", "daphne", "module_call"),
    ],
)
def test_g1_what_is_no_module_and_object(module: str, backend: str, code: str) -> None:
    result = legacy({"CC_PYTHON_MODULE": module, "CC_PYTHON_BACKEND": backend})
    found = only(result["errors"] + result["warnings"], code)
    assert (found["variable"], found["rule"][:3]) == ("CC_PYTHON_MODULE", "G1:")


@pytest.mark.parametrize(
    ("module", "files", "hint"),
    [
        ("web.wsgi:app", ["shop.py"], "Correct CC_PYTHON_MODULE"),
        ("shop:app", ["src/shop/__init__.py"], "src/"),
        ("shop:app", ["back/shop.py"], "APP_FOLDER"),
    ],
)
def test_g1_a_module_that_the_source_lacks_is_a_warning(module: str, files: list[str], hint: str) -> None:
    result = legacy({"CC_PYTHON_MODULE": module}, files=files)
    assert result["errors"] == []
    assert hint in only(result["warnings"], "module_missing")["next_step"]


@pytest.mark.parametrize(
    ("files", "env", "requirements"),
    [
        (["shop/__init__.py"], {}, "flask"),
        (["src/shop.py", "setup.py"], {"PYTHON_SETUP_PY_GOAL": "develop"}, "flask"),
        (["src/shop.py"], {}, "-e ."),
        (["src/shop.py"], {"PYTHONPATH": "src"}, "flask"),
    ],
)
def test_g1_a_module_that_python_will_find(files: list[str], env: dict[str, str], requirements: str) -> None:
    assert legacy(env, files=files, texts={"requirements.txt": requirements})["warnings"] == []


# -- G2: the backend -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "script", "protocol", "requirement"),
    [
        ("uwsgi", f"exec uwsgi --ini {SETTINGS}/server.ini", "uwsgi", "pyuwsgi=="),
        ("Gunicorn", f"exec gunicorn --config {SETTINGS}/server.py shop:app", "http", "gunicorn=="),
        ("daphne", "exec daphne -e systemd:domain=UNIX:index=0 --proxy-headers shop:app", "http", "daphne=="),
        (
            "uvicorn",
            "exec uvicorn --fd 3 --workers 5 --proxy-headers --forwarded-allow-ips '*' shop:app",
            "http",
            "uvicorn[standard]==",
        ),
    ],
)
def test_g2_each_backend_and_its_package(backend: str, script: str, protocol: str, requirement: str) -> None:
    result = legacy({"CC_PYTHON_BACKEND": backend})
    assert result["errors"] + result["warnings"] == []
    assert (result["run"]["script"], result["server"]["protocol"]) == (script, protocol)
    assert (result["server"]["backend"], result["server"]["socket"]) == (backend.lower(), True)
    assert result["server"]["nginx"]["websocket"] is (protocol == "http")
    assert [item["requirement"].startswith(requirement) for item in result["build"]["install"]] == [True]


def test_g2_another_backend_is_an_error_that_lists_them() -> None:
    error = only(legacy({"CC_PYTHON_BACKEND": "hypercorn"})["errors"], "setting_choice")
    assert (error["variable"], error["value"]) == ("CC_PYTHON_BACKEND", "hypercorn")
    for name in rules.BACKENDS:
        assert name in error["next_step"]


def test_g2_the_old_name_warns_and_counts() -> None:
    result = legacy({"PYTHON_BACKEND": "gunicorn"})
    assert result["server"]["backend"] == "gunicorn"
    assert "CC_PYTHON_BACKEND" in only(result["warnings"], "setting_renamed")["next_step"]
    assert legacy({"PYTHON_BACKEND": "gunicorn", "CC_PYTHON_BACKEND": "daphne"})["server"]["backend"] == "daphne"


@pytest.mark.parametrize("version", ["3.9.2", "3.10.1", "3.11.2", "3.13.1", "3.14.0", "3.8.1", "3.15.0"])
@pytest.mark.parametrize("backend", rules.BACKENDS)
def test_g2_every_python_has_every_backend(version: str, backend: str) -> None:
    host = {"pythons": [{"version": version, "path": "/usr/bin/python3"}]}
    result = legacy({"CC_PYTHON_BACKEND": backend}, host=host)
    assert result["errors"] == []
    assert result["build"]["python"] == {"path": "/usr/bin/python3", "version": version}
    requirement = result["build"]["install"][0]["requirement"]
    assert ("==" in requirement) is (version != "3.8.1"), "out of support: the index decides"


def test_g2_python_3_9_gets_what_still_runs_there() -> None:
    host = {"pythons": [{"version": "3.9.2", "path": "/usr/bin/python3.9"}]}
    assert legacy({"CC_PYTHON_BACKEND": "gunicorn"}, host=host)["build"]["install"] == [
        {"requirement": "gunicorn==23.0.0", "provides": ["gunicorn"]}
    ]


def test_g2_uwsgi_of_the_requirements_counts_as_well() -> None:
    assert legacy()["build"]["install"][0]["provides"] == ["uwsgi", "pyuwsgi"]


def test_g2_setting_overrides_the_table() -> None:
    app = {"backend_requirements": {"uwsgi": "pyuwsgi==2.0.28"}}
    assert legacy(app=app)["build"]["install"][0]["requirement"] == "pyuwsgi==2.0.28"
    own_build = {"backend_requirements": {"uwsgi": "Our_uWSGI @ https://packages.example/our.whl"}}
    assert legacy(app=own_build)["build"]["install"][0]["provides"] == ["uwsgi", "pyuwsgi", "our-uwsgi"]
    for wrong in ({"apache": "x"}, {"uwsgi": "a b c"}, ["pyuwsgi"], {"uwsgi": None}):
        error = only(legacy(app={"backend_requirements": wrong})["errors"], "option_invalid")
        assert error["variable"] == "app_backend_requirements"


@pytest.mark.parametrize(
    ("variable", "backend"),
    [
        ("UWSGI_HTTP_SOCKET", "uwsgi"),
        ("UWSGI_DAEMONIZE", "uwsgi"),
        ("UWSGI_WORKERS", "uwsgi"),
        ("UVICORN_UDS", "uvicorn"),
    ],
)
def test_g2_the_servers_own_variables_cannot_take_over(variable: str, backend: str) -> None:
    result = legacy({variable: "hunter2-x", "CC_PYTHON_BACKEND": backend})
    assert [item["variable"] for item in result["errors"]] == [variable]
    other = "gunicorn" if backend == "uwsgi" else "uwsgi"
    assert legacy({variable: "hunter2-x", "CC_PYTHON_BACKEND": other})["errors"] == []


@pytest.mark.parametrize(
    "arguments", ["--bind 0.0.0.0:80", "-b:80", "-D", "--daemon", "--workers=3", "-k gevent", "--user x"]
)
def test_g10_gunicorns_arguments_cannot_take_over(arguments: str) -> None:
    result = legacy({"GUNICORN_CMD_ARGS": f"--max-requests 10 {arguments}", "CC_PYTHON_BACKEND": "gunicorn"})
    assert codes(result["errors"]) == ["gunicorn_argument"]
    assert legacy({"GUNICORN_CMD_ARGS": "--max-requests 10", "CC_PYTHON_BACKEND": "gunicorn"})["errors"] == []
    broken = legacy({"GUNICORN_CMD_ARGS": "--x 'y", "CC_PYTHON_BACKEND": "gunicorn"})
    assert codes(broken["errors"]) == ["gunicorn_arguments"]


# -- G3: gevent ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["uwsgi", "gunicorn"])
def test_g3_gevent(backend: str) -> None:
    result = legacy({"CC_PYTHON_USE_GEVENT": "true", "CC_PYTHON_BACKEND": backend})
    assert (result["errors"], result["server"]["gevent"], result["server"]["threads"]) == ([], True, 1)
    # Gunicorn's gevent workers import `packaging`, and Gunicorn does not bring it
    needed = [backend, "gevent", "packaging"] if backend == "gunicorn" else [backend, "gevent"]
    assert [item["provides"][0] for item in result["build"]["install"]] == needed
    settings = result["server"]["settings"]
    assert (settings["async"] >= 2) if backend == "uwsgi" else (settings["worker_class"] == "gevent")


def test_g3_off_by_default_and_a_word_that_is_neither_is_an_error() -> None:
    assert legacy()["server"]["gevent"] is legacy({"CC_PYTHON_USE_GEVENT": "false"})["server"]["gevent"] is False
    assert only(legacy({"CC_PYTHON_USE_GEVENT": "maybe"})["errors"], "setting_flag")["value"] == "maybe"


@pytest.mark.parametrize("backend", ["daphne", "uvicorn"])
def test_g3_gevent_is_ignored_where_it_cannot_be(backend: str) -> None:
    env = {"CC_PYTHON_USE_GEVENT": "true", "CC_PYTHON_BACKEND": backend}
    assert backend in ignored(env)["CC_PYTHON_USE_GEVENT"]
    assert legacy(env)["server"]["gevent"] is False


# -- G4, G5: uWSGI -------------------------------------------------------------------------------------------------------------


@pytest.mark.rule("G4")
@pytest.mark.parametrize(
    ("more", "warned"),
    [
        ({"WSGI_THREADS": "1"}, False),
        ({"WSGI_THREADS": "2"}, True),
        ({}, True),
        ({"UWSGI_ASYNC": "5"}, True),
        ({"CC_PYTHON_USE_GEVENT": "true"}, True),
        ({"CC_PYTHON_BACKEND": "gunicorn", "WSGI_THREADS": "2"}, False),
    ],
)
def test_g4_a_limit_that_requests_share_is_told_where_it_is_set(more: dict[str, str], warned: bool) -> None:
    def told(env: dict[str, str]) -> bool:
        return "uwsgi_harakiri_shared" in codes(legacy({**env, **more})["warnings"])

    assert told({"HARAKIRI": "30"}) is warned
    assert not told({})
    assert not told({"HARAKIRI": "0"})
    if warned:
        warning = only(legacy({"HARAKIRI": "30", **more})["warnings"], "uwsgi_harakiri_shared")
        assert "HARAKIRI=30" in warning["message"]
        assert "WSGI_THREADS=1" in warning["next_step"]


@pytest.mark.parametrize(
    ("variable", "key", "default", "good", "bad"),
    [
        pytest.param("HARAKIRI", "harakiri", 180, ["0", "60", "86400"], ["-1", "86401", "3m", "1.5", "٣"], id="G4"),
        pytest.param(
            "WSGI_BUFFER_SIZE", "buffer_size", 4096, ["1024", "65535"], ["1023", "65536", "32k"], id="G5-head"
        ),
        pytest.param(
            "WSGI_POST_BUFFERING", "post_buffering", 4096, ["0", "8192"], ["-1", "1073741825", "x"], id="G5-body"
        ),
        pytest.param("UWSGI_ASYNC", "async", 0, ["2", "100"], ["0", "1", "60001", "many"], id="G7"),
    ],
)
def test_g4_g5_g7_numbers_of_uwsgi(variable: str, key: str, default: int, good: list[str], bad: list[str]) -> None:
    assert own({})[key] == own({variable: " "})[key] == default
    for text in good:
        assert own({variable: text})[key] == int(text)
    for text in bad:
        error = only(legacy({variable: text})["errors"], "setting_number")
        assert (error["variable"], error["value"]) == (variable, text)


def test_g5_a_larger_head_is_let_through_by_nginx_too() -> None:
    assert legacy()["server"]["nginx"]["header_buffer"] == 8192
    assert legacy({"WSGI_BUFFER_SIZE": "32768"})["server"]["nginx"]["header_buffer"] == 32768


# -- G6: workers and threads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cores", "memory", "workers", "threads"),
    [
        (1, 512, 2, 1),
        (1, 4096, 3, 1),
        (2, 4096, 5, 2),
        (2, 1024, 4, 2),
        (4, 16000, 9, 4),
        (16, 64000, 33, 4),
        (2, 128, 1, 2),
    ],
)
def test_g6_size_follows_cores_and_memory(cores: int, memory: int, workers: int, threads: int) -> None:
    server = legacy(host={"cores": cores, "memory_mb": memory})["server"]
    assert (server["workers"], server["threads"]) == (workers, threads)
    assert f"{memory} MB" in server["workers_reason"]
    gunicorn = legacy({"CC_PYTHON_BACKEND": "gunicorn"}, host={"cores": cores, "memory_mb": memory})["server"]
    assert (gunicorn["workers"], gunicorn["threads"]) == (workers, 1)


def test_g6_set_sizes_win() -> None:
    server = legacy({"WSGI_WORKERS": "7", "WSGI_THREADS": "3"})["server"]
    assert (server["workers"], server["threads"]) == (7, 3)
    assert "WSGI_WORKERS=7" in server["workers_reason"]
    assert "WSGI_THREADS=3" in server["workers_reason"]
    assert "--workers 7 " in legacy({"WSGI_WORKERS": "7", "CC_PYTHON_BACKEND": "uvicorn"})["run"]["script"]


@pytest.mark.parametrize("variable", ["WSGI_WORKERS", "WSGI_THREADS"])
@pytest.mark.parametrize("text", ["0", "-1", "1025", "two"])
def test_g6_sizes_have_bounds(variable: str, text: str) -> None:
    assert only(legacy({variable: text})["errors"], "setting_number")["variable"] == variable


def test_g6_without_a_host_the_size_is_assumed_and_says_so() -> None:
    env = {"CC_PYTHON_MODULE": "shop:app"}
    source = {"files": ["shop.py", "requirements.txt"], "texts": {"requirements.txt": ""}}
    result = make_plan({**INPUTS, "env": env, "source": source, "host": None})
    assert result["server"]["workers"] == 5
    assert "no host was looked at" in result["server"]["workers_reason"]


def test_g6_threads_make_sync_workers_gthread_and_the_plan_says_so() -> None:
    server = legacy({"CC_PYTHON_BACKEND": "gunicorn", "WSGI_THREADS": "4"})["server"]
    assert (server["settings"]["worker_class"], server["threads"]) == ("gthread", 4)
    assert "gthread" in server["workers_reason"]


def test_g6_daphne_is_one_process() -> None:
    env = {"CC_PYTHON_BACKEND": "daphne", "WSGI_WORKERS": "4", "WSGI_THREADS": "2"}
    server = legacy(env)["server"]
    assert (server["workers"], server["threads"]) == (1, 1)
    assert {"WSGI_WORKERS", "WSGI_THREADS"} <= set(ignored(env))


# -- G7: asynchronous uWSGI ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "cores", "engine", "gevent"),
    [
        ({"UWSGI_ASYNC": "10"}, 10, "ugreen", False),
        ({"UWSGI_ASYNC": "10", "UWSGI_ASYNC_ENGINE": "gevent"}, 10, "gevent", True),
        ({"UWSGI_ASYNC": "10", "CC_PYTHON_USE_GEVENT": "true"}, 10, "gevent", True),
        ({"UWSGI_ASYNC": "10", "UWSGI_ASYNC_ENGINE": "UGREEN"}, 10, "ugreen", False),
    ],
)
def test_g7_asynchronous_cores_and_engine(env: dict[str, str], cores: int, engine: str, gevent: bool) -> None:
    result = legacy(env)
    settings = result["server"]["settings"]
    assert result["errors"] == []
    assert (settings["async"], settings["async_engine"], result["server"]["gevent"]) == (cores, engine, gevent)
    assert result["server"]["threads"] == 1


@pytest.mark.parametrize(
    ("env", "code"),
    [
        ({"UWSGI_ASYNC": "10", "UWSGI_ASYNC_ENGINE": "asyncio"}, "uwsgi_engine"),
        ({"UWSGI_ASYNC": "10", "UWSGI_ASYNC_ENGINE": "twisted"}, "uwsgi_engine"),
        ({"UWSGI_ASYNC_ENGINE": "ugreen"}, "uwsgi_engine_alone"),
        ({"UWSGI_ASYNC": "10", "WSGI_THREADS": "2"}, "uwsgi_async_threads"),
        ({"UWSGI_ASYNC": "10", "UWSGI_ASYNC_ENGINE": "ugreen", "CC_PYTHON_USE_GEVENT": "1"}, "uwsgi_async_gevent"),
    ],
)
def test_g7_what_does_not_go_together(env: dict[str, str], code: str) -> None:
    assert codes(legacy(env)["errors"]) == [code]


def test_g7_a_uwsgi_of_the_application_may_have_more_engines() -> None:
    env = {"UWSGI_ASYNC": "10", "UWSGI_ASYNC_ENGINE": "asyncio"}
    assert own(env, texts={"requirements.txt": "uWSGI==2.0.28"})["async_engine"] == "asyncio"


def test_g7_g9_uwsgi_does_not_see_the_contracts_variables_as_directives() -> None:
    result = legacy({"UWSGI_ASYNC": "4", "UWSGI_INTERCEPT_ERRORS": "true"})
    assert result["run"]["script"].startswith("exec env -u UWSGI_ASYNC -u UWSGI_INTERCEPT_ERRORS uwsgi --ini ")
    assert result["environment"]["UWSGI_INTERCEPT_ERRORS"] == "true"


# -- G8: further directives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("reload-mercy = 10", [["reload-mercy", "10"]]),
        ("reload-mercy=10\nlazy-apps\n\n# comment\n; comment", [["reload-mercy", "10"], ["lazy-apps", "true"]]),
        ("a=1;b = 2 ; c", [["a", "1"], ["b", "2"], ["c", "true"]]),
        ("a=1 b=2", [["a", "1"], ["b", "2"]]),
        ("a = 1 b = 2", [["a", "1"], ["b", "2"]]),
        ("env = A=b c", [["env", "A=b c"]]),
        ("log-format = %(uri) took %(msecs)", [["log-format", "%(uri) took %(msecs)"]]),
        ("[uwsgi]\na = 1", [["a", "1"]]),
        ("socket-timeout = 9", [["socket-timeout", "9"]]),
    ],
)
def test_g8_directives_in_every_spelling(text: str, expected: list[list[str]]) -> None:
    assert own({"CC_UWSGI_EXTRA_CONFIG": text})["extra"] == expected


@pytest.mark.parametrize(
    "text",
    ["socket = :80", "http=:80", "http-socket = :80", "daemonize = x", "uid = root", "pidfile=/x", "chdir = /", "master = false",
     "MASTER=0", "safe_pidfile = x", "ini = /x", "stats = :1", "module = x"],
)  # fmt: skip
def test_g8_directives_that_are_the_platforms_are_refused(text: str) -> None:
    error = only(legacy({"CC_UWSGI_EXTRA_CONFIG": f"a = 1\n{text}"})["errors"], "uwsgi_extra_refused")
    assert (error["variable"], error["value"]) == ("CC_UWSGI_EXTRA_CONFIG", "(secret)")


@pytest.mark.parametrize(
    "text", ["processes = 3", "workers=3", "threads=2", "harakiri = 5", "buffer-size=1", "gevent = 10"]
)
def test_g8_directives_that_have_a_variable_name_it(text: str) -> None:
    error = only(legacy({"CC_UWSGI_EXTRA_CONFIG": text})["errors"], "uwsgi_extra_variable")
    assert rules.OWN_VARIABLE[text.split("=", maxsplit=1)[0].strip()] in error["next_step"]


@pytest.mark.parametrize("text", ["a b c", "= 1", "[x]", "1a = 2", "a = b\x00c"])
def test_g8_directives_that_cannot_be_read(text: str) -> None:
    assert legacy({"CC_UWSGI_EXTRA_CONFIG": text})["errors"] != []


def test_g8_i_values_of_directives_are_not_shown() -> None:
    result = legacy({"CC_UWSGI_EXTRA_CONFIG": "env = TOKEN=hunter2", "OTHER": "x"})
    shown = json.dumps(public_view(result)) + "\n".join(result["summary"])
    assert "hunter2" not in shown
    assert result["server"]["settings"]["extra"] == [["env", "TOKEN=hunter2"]]


def test_g8_file_wrapper() -> None:
    assert own({})["file_wrapper"] is True
    assert own({"CC_UWSGI_DISABLE_FILE_WRAPPER": "true"})["file_wrapper"] is False


# -- G10: Gunicorn -------------------------------------------------------------------------------------------------------------


def gunicorn(**env: str) -> dict[str, Any]:
    return legacy({"CC_PYTHON_BACKEND": "gunicorn", **env})


def test_g10_defaults() -> None:
    assert gunicorn()["server"]["settings"] == {"worker_class": "sync", "timeout": 30, "loglevel": "info"}


@pytest.mark.parametrize(
    ("given", "used", "more"),
    [
        ("sync", "sync", []),
        ("GThread", "gthread", []),
        ("gevent", "gevent", ["gevent", "packaging"]),
        ("tornado", "tornado", ["tornado"]),
        ("asgi", "asgi", []),
        ("uvicorn.workers.UvicornWorker", "uvicorn.workers.UvicornWorker", ["uvicorn"]),
        ("shop.workers.Own", "shop.workers.Own", []),
    ],
)
def test_g10_worker_classes_and_what_they_need(given: str, used: str, more: list[str]) -> None:
    for variable in ("CC_GUNICORN_WORKER_CLASS", "GUNICORN_WORKER_CLASS"):
        result = gunicorn(**{variable: given})
        assert result["errors"] == []
        assert codes(result["warnings"]) == ([] if variable.startswith("CC_") else ["setting_renamed"])
        assert result["server"]["settings"]["worker_class"] == used
        assert result["server"]["gevent"] is (used == "gevent")
        assert [item["provides"][0] for item in result["build"]["install"]] == ["gunicorn", *more]


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [
        ("CC_GUNICORN_WORKER_CLASS", "fast", "gunicorn_class"),
        ("CC_GUNICORN_WORKER_CLASS", 'sync"\nimport os', "gunicorn_class"),
        ("CC_GUNICORN_WORKER_CLASS", "eventlet", "gunicorn_class_gone"),
        ("CC_GUNICORN_TIMEOUT", "-1", "setting_number"),
        ("CC_GUNICORN_TIMEOUT", "30s", "setting_number"),
        ("CC_GUNICORN_LOGLEVEL", "loud", "setting_choice"),
    ],
)
def test_g10_values_that_gunicorn_would_refuse(variable: str, value: str, code: str) -> None:
    assert only(gunicorn(**{variable: value})["errors"], code)["variable"] == variable


def test_g10_eventlet_with_a_gunicorn_that_has_it() -> None:
    env = {"CC_PYTHON_BACKEND": "gunicorn", "CC_GUNICORN_WORKER_CLASS": "eventlet"}
    assert legacy(env, texts={"requirements.txt": "gunicorn==23.0.0"})["errors"] == []
    assert legacy(env, app={"backend_requirements": {"gunicorn": "gunicorn==23.0.0"}})["errors"] == []
    host = {"pythons": [{"version": "3.9.2", "path": "/usr/bin/python3.9"}]}
    assert legacy(env, host=host)["errors"] == []
    asgi = {**env, "CC_GUNICORN_WORKER_CLASS": "asgi"}
    assert codes(legacy(asgi, host=host)["errors"]) == ["gunicorn_class_gone"]


def test_g10_numbers_and_levels_arrive() -> None:
    settings = gunicorn(CC_GUNICORN_TIMEOUT="90", CC_GUNICORN_LOGLEVEL="DEBUG")["server"]["settings"]
    assert (settings["timeout"], settings["loglevel"]) == (90, "debug")


def test_g10_a_class_wins_over_gevent_and_says_so() -> None:
    env = {"CC_PYTHON_BACKEND": "gunicorn", "CC_PYTHON_USE_GEVENT": "true", "CC_GUNICORN_WORKER_CLASS": "sync"}
    assert legacy(env)["server"]["gevent"] is False
    assert "sync" in ignored(env)["CC_PYTHON_USE_GEVENT"]


# -- A4: what is ignored -------------------------------------------------------------------------------------------------------

BACKEND_ONLY = sorted(set(rules.USED_BY) - {"GUNICORN_CMD_ARGS"})


@pytest.mark.parametrize("variable", BACKEND_ONLY)
def test_a4_g18_settings_of_the_backend_are_ignored_behind_a_command(variable: str) -> None:
    assert ignored({"CC_RUN_COMMAND": "x", variable: "1"})[variable] == "CC_RUN_COMMAND replaces the backend"
    assert (
        "no backend runs"
        in ignored({"CC_PYTHON_MODULE": None, "CC_PYTHON_CELERY_MODULE": "shop", variable: "1"})[variable]
    )


@pytest.mark.parametrize("variable", BACKEND_ONLY)
@pytest.mark.parametrize("backend", rules.BACKENDS)
def test_a4_settings_of_another_backend_are_ignored_by_name(variable: str, backend: str) -> None:
    result = legacy({"CC_PYTHON_BACKEND": backend, variable: "nonsense"})
    names = [item["name"] for item in result["ignored"]]
    assert (variable in names) is (backend not in rules.USED_BY[variable])
    if variable in names:
        assert result["errors"] == []


def test_a4_settings_without_their_switch_are_ignored() -> None:
    assert "ENABLE_GZIP_COMPRESSION" in ignored({"GZIP_TYPES": "text/css"})["GZIP_TYPES"]
    env = {"CC_PYTHON_CELERY_USE_BEAT": "true", "CC_PYTHON_CELERY_LOGFILE": "logs"}
    assert set(ignored(env)) >= set(env)
    assert "WSGI_THREADS" in ignored({"WSGI_THREADS": "2", "CC_PYTHON_USE_GEVENT": "true"})


# -- G18: a command of its own; D2: ports ----------------------------------------------------------------------------------------


def command(text: str, env: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return legacy({"CC_PYTHON_MODULE": None, "CC_RUN_COMMAND": text, **(env or {})}, **more)


def test_g18_d2_a_command_with_port_switches_side_by_side_behind_9000() -> None:
    result = command("python app.py --port $PORT")
    assert (result["errors"], result["warnings"], result["switch"]) == ([], [], "side_by_side")
    ports = result["ports"]
    assert (ports["candidates"], ports["application_candidates"], ports["application"]) == (
        [18080, 28080],
        [19000, 29000],
        9000,
    )
    assert "PORT" not in result["environment"]
    assert (result["server"]["backend"], result["server"]["nginx"]["upstream"]) == ("command", "127.0.0.1:9000")
    assert (result["server"]["socket"], result["server"]["protocol"]) == (False, "http")
    assert result["build"]["install"] == []


def test_g18_d2_a_command_without_port_switches_in_place_on_9000() -> None:
    result = command("python app.py")
    assert (result["switch"], result["ports"]["application_candidates"], result["environment"]["PORT"]) == (
        "in_place",
        [9000],
        "9000",
    )
    assert codes(result["warnings"]) == ["in_place_gap"]
    assert command("python app.py", app={"switch": "side_by_side"})["switch"] == "side_by_side"
    assert command("python app.py --port $PORT", app={"switch": "in_place"})["switch"] == "in_place"


def test_g18_d2_port_of_the_environment_is_where_the_command_listens() -> None:
    result = command("python app.py --port $PORT", {"PORT": "7000"})
    assert (result["errors"], result["switch"], result["ports"]["application_candidates"]) == ([], "in_place", [7000])
    assert result["server"]["nginx"]["upstream"] == "127.0.0.1:7000"
    assert result["environment"]["PORT"] == "7000"
    error = only(command("python app.py", {"PORT": "8080"})["errors"], "command_port_public")
    assert "PORT=9000" in error["next_step"]
    assert "ports_collide" in codes(command("x", {"PORT": "18080"})["errors"])
    assert "ports_collide" in codes(command("x $PORT", app={"port": 8080})["errors"])
    assert "port_derived" in codes(command("x $PORT", app={"port": 50000})["errors"])


def test_g18_d4_uv_run_stays_as_written_and_uv_keeps_its_defaults() -> None:
    result = command("uv run web --port $PORT", {"CC_WORKER_COMMAND": "uv run job"})
    assert result["run"]["script"] == "exec uv run web --port $PORT"
    assert result["workers"][0]["script"] == "exec uv run job"
    assert not {"UV_NO_SYNC", "UV_NO_DEV", "UV_PYTHON_DOWNLOADS", "UV_PYTHON"} & set(result["environment"])
    assert result["build"]["shared"] is False
    kept = command("x", {"UV_NO_SYNC": "0"})
    assert (kept["environment"]["UV_NO_SYNC"], codes(kept["warnings"])) == ("0", ["in_place_gap"])


def test_g18_uv_needs_no_requirements_file() -> None:
    env = {"CC_PYTHON_UV_RUN_COMMAND": None, "CC_PYTHON_MODULE": None, "CC_RUN_COMMAND": "uv run x $PORT"}
    assert ask(env, files=["pyproject.toml"], texts={})["warnings"] == []
    other = ask({**env, "CC_RUN_COMMAND": "x $PORT"}, files=["pyproject.toml"], texts={})
    assert codes(other["warnings"]) == ["requirements_none"]


def test_d2_port_of_a_backend_is_the_public_one() -> None:
    assert legacy()["environment"]["PORT"] == "8080"
    assert "Nginx has the public port" in ignored({"PORT": "8080"})["PORT"]
    result = legacy({"PORT": "7000"})
    assert (result["errors"], result["environment"]["PORT"], result["switch"]) == ([], "7000", "side_by_side")


def test_d2_ports_of_nginx_collide_like_others() -> None:
    assert "ports_collide" in codes(legacy(app={"release_ports": [8080, 28080]})["errors"])
    taken = {"apps": {"blog": {"ports": [18080]}}}
    assert codes(legacy(host=taken)["errors"]) == ["port_taken_by_app"]
    stranger = {"listeners": [{"port": 19000, "address": "::", "process": "x"}]}
    assert codes(command("x $PORT", host=stranger)["errors"]) == ["port_in_use"]
    assert legacy(host=stranger)["errors"] == []


def test_f13_behind_a_chain_nginx_has_the_applications_place() -> None:
    result = legacy({"CC_REQUEST_FLOW": "varnish"})
    assert (result["ports"]["application"], result["chain"]["hops"][-1]["forward"]) == (9000, 9000)
    assert result["ports"]["candidates"] == [18080, 28080]


def test_d9_a_task_has_no_server() -> None:
    result = command("python job.py", {"CC_TASK": "true"})
    assert (result["errors"], result["server"], result["ports"]["candidates"]) == ([], None, [])
    assert (result["run"]["script"], result["build"]["requirements"]) == ("exec python job.py", "requirements.txt")


# -- B7: build -----------------------------------------------------------------------------------------------------------------


def test_b7_requirements_file() -> None:
    assert legacy()["build"]["requirements"] == "requirements.txt"
    result = legacy({"CC_PIP_REQUIREMENTS_FILE": "/deps/web.list"}, texts={"deps/web.list": "flask"})
    assert (result["errors"], result["build"]["requirements"]) == ([], "deps/web.list")
    folder = legacy({"APP_FOLDER": "web"}, files=["web/shop.py"], texts={"web/requirements.txt": "x"})
    assert folder["build"]["requirements"] == "requirements.txt"


def test_b7_a_missing_file_is_an_error_when_named_and_a_warning_otherwise() -> None:
    error = only(legacy({"CC_PIP_REQUIREMENTS_FILE": "deps.txt"})["errors"], "requirements_missing")
    assert "requirements.txt" in error["next_step"]
    assert codes(legacy({"CC_PIP_REQUIREMENTS_FILE": "../x.txt"})["errors"]) == ["requirements_outside"]
    env = {"CC_PYTHON_UV_RUN_COMMAND": None, "CC_PYTHON_MODULE": "shop:app"}
    result = ask(env, files=["shop.py", "requirements/prod.txt"], texts={})
    assert (result["errors"], result["build"]["requirements"]) == ([], "")
    assert "requirements/prod.txt" in only(result["warnings"], "requirements_none")["next_step"]
    hook = {**env, "CC_PRE_BUILD_HOOK": "poetry export > requirements.txt"}
    later = ask(hook, files=["shop.py"], texts={})
    assert (codes(later["warnings"]), later["build"]["requirements"]) == (["requirements_later"], "requirements.txt")
    other = ask({**env, "CC_PRE_BUILD_HOOK": "npm ci"}, files=["shop.py"], texts={})
    assert (codes(other["warnings"]), other["build"]["requirements"]) == (["requirements_none"], "")


def test_b7_setup_goal() -> None:
    assert (
        legacy({"PYTHON_SETUP_PY_GOAL": "develop"}, files=["shop.py", "setup.py"])["build"]["setup_goal"] == "develop"
    )
    assert codes(legacy({"PYTHON_SETUP_PY_GOAL": "develop"})["errors"]) == ["setup_py_missing"]
    assert codes(legacy({"PYTHON_SETUP_PY_GOAL": "a; b"}, files=["shop.py", "setup.py"])["errors"]) == ["setup_goal"]


def test_b7_manage_tasks() -> None:
    files = ["shop.py", "manage.py"]
    text = "migrate, collectstatic --noinput ,createuser --name 'a, b', python manage.py check,"
    result = legacy({"CC_PYTHON_MANAGE_TASKS": text}, files=files)
    assert result["errors"] == []
    assert result["build"]["manage_tasks"] == [
        ["migrate"],
        ["collectstatic", "--noinput"],
        ["createuser", "--name", "a, b"],
        ["check"],
    ]
    assert codes(legacy({"CC_PYTHON_MANAGE_TASKS": "migrate"})["errors"]) == ["manage_py_missing"]
    for text in ("a 'b", "--noinput", "a, manage.py", "a\\"):
        assert codes(legacy({"CC_PYTHON_MANAGE_TASKS": text}, files=files)["errors"]) == ["manage_task"], text


@pytest.mark.parametrize(
    ("env", "requirements", "shared"),
    [
        ({}, "flask==3.0 --hash=sha256:aa", True),
        ({}, "flask\n-e .", False),
        ({}, "flask\n./lib", False),
        ({}, "lib @ file:///srv/x", False),
        ({}, "flask==${VERSION}", False),
        ({}, "git+https://git.example/x.git@v1#egg=x", True),
        ({"PYTHON_SETUP_PY_GOAL": "install"}, "flask", False),
        ({"CC_PRE_BUILD_HOOK": "npm ci"}, "flask", True),
        ({"CC_POST_BUILD_HOOK": "pip install x"}, "flask", False),
        ({"CC_POST_BUILD_HOOK": "./build.sh"}, "flask", False),
        ({"CC_POST_BUILD_HOOK": "echo $(pip freeze)"}, "flask", False),
        ({"CC_POST_BUILD_HOOK": "python -m x"}, "flask", False),
        ({"CC_POST_BUILD_HOOK": "python manage.py check && echo done"}, "flask", True),
        ({"CC_PYTHON_MANAGE_TASKS": "migrate"}, "flask", True),
        ({"CC_RUN_COMMAND": "uv run x"}, "flask", False),
        ({"CC_RUN_COMMAND": "python x.py"}, "flask", True),
    ],
)
def test_b7_when_releases_share_an_environment(env: dict[str, str], requirements: str, shared: bool) -> None:
    result = legacy(env, files=["shop.py", "setup.py", "manage.py"], texts={"requirements.txt": requirements})
    assert result["errors"] == []
    assert result["build"]["shared"] is shared
    assert result["build"]["shared_reason"]


def test_b7_a_source_that_could_not_be_resolved_leaves_rules_about_files_alone() -> None:
    env = {"CC_PYTHON_MANAGE_TASKS": "a", "PYTHON_SETUP_PY_GOAL": "b", "CC_PYTHON_CELERY_MODULE": "x", "STATIC_FILES_PATH": "s",
           "STATIC_URL_PREFIX": "/s", "CC_PIP_REQUIREMENTS_FILE": "x.txt"}  # fmt: skip
    source = {"files": ["pyproject.toml"], "texts": {}, "known": False}
    result = legacy(env, source=source)
    assert result["errors"] + result["warnings"] == []


# -- G17: Celery ---------------------------------------------------------------------------------------------------------------

CELERY = {"requirements.txt": "flask\nCelery[redis]>=5\n"}


def test_g17_worker_and_beat_come_last() -> None:
    env = {"CC_WORKER_COMMAND": "a", "CC_PYTHON_CELERY_MODULE": "shop", "CC_PYTHON_CELERY_USE_BEAT": "true"}
    env["CC_WORKER_RESTART"] = "always"
    workers = legacy(env, texts=CELERY)["workers"]
    assert [worker["variable"] for worker in workers] == ["CC_WORKER_COMMAND"] + ["CC_PYTHON_CELERY_MODULE"] * 2
    assert [worker["index"] for worker in workers] == [0, 1, 2]
    assert workers[1]["script"] == "exec celery -A shop worker --loglevel INFO"
    schedule = "--schedule /srv/pyfleet/shop/home/celerybeat-schedule --pidfile="
    assert workers[2]["script"] == f"exec celery -A shop beat --loglevel INFO {schedule}"
    assert {worker["restart"] for worker in workers} == {"always"}


def test_g17_no_beat_and_no_celery_unless_asked() -> None:
    assert len(legacy({"CC_PYTHON_CELERY_MODULE": "shop"}, texts=CELERY)["workers"]) == 1
    assert legacy(texts=CELERY)["workers"] == []


@pytest.mark.parametrize(
    ("text", "worker", "beat", "folder"),
    [
        ("/logs", "logs/worker.log", "logs/beat.log", "logs"),
        ("logs/c.log", "logs/c.log", "logs/c-beat.log", "logs"),
        ("c.log", "c.log", "c-beat.log", ""),
        ("my.d/", "my.d/worker.log", "my.d/beat.log", "my.d"),
        ("a b", "'a b/worker.log'", "'a b/beat.log'", "'a b'"),
        ("a%n", "a%%n/worker.log", "a%%n/beat.log", "a%n"),
    ],
)
def test_g17_logfile_is_a_folder_or_a_file(text: str, worker: str, beat: str, folder: str) -> None:
    env = {"CC_PYTHON_CELERY_MODULE": "shop:app", "CC_PYTHON_CELERY_USE_BEAT": "yes", "CC_PYTHON_CELERY_LOGFILE": text}
    scripts = [item["script"] for item in legacy(env, texts=CELERY)["workers"]]
    assert [script.split("--logfile ")[1] for script in scripts] == [worker, beat]
    assert all(
        script.startswith(f"mkdir -p {folder} && exec celery" if folder else "exec celery") for script in scripts
    )


@pytest.mark.parametrize(
    ("env", "code"),
    [
        ({"CC_PYTHON_CELERY_MODULE": "shop; rm"}, "celery_module"),
        ({"CC_PYTHON_CELERY_MODULE": "shop/tasks.py"}, "celery_module"),
        ({"CC_PYTHON_CELERY_MODULE": "shop", "CC_PYTHON_CELERY_LOGFILE": "../x"}, "celery_logfile"),
        ({"CC_PYTHON_CELERY_MODULE": "shop", "CC_PYTHON_CELERY_USE_BEAT": "maybe"}, "setting_flag"),
    ],
)
def test_g17_broken_settings(env: dict[str, str], code: str) -> None:
    assert codes(legacy(env, texts=CELERY)["errors"]) == [code]


@pytest.mark.parametrize(
    ("texts", "errors", "warnings"),
    [
        ({"requirements.txt": "flask"}, ["celery_missing"], []),
        ({"requirements.txt": "# celery"}, ["celery_missing"], []),
        ({"requirements.txt": "django-celery-beat"}, ["celery_missing"], []),
        ({"requirements.txt": "-c pins.txt\nflask", "pins.txt": "celery==5"}, ["celery_missing"], []),
        ({"requirements.txt": "-r more.txt", "more.txt": "celery==5 ; python_version > '3'"}, [], []),
        ({"requirements.txt": "git+https://git.example/celery.git#egg=celery"}, [], []),
        ({"requirements.txt": "flask\n-e ."}, [], ["celery_unseen"]),
    ],
)
def test_g17_celery_missing_from_the_requirements_aborts(
    texts: dict[str, str], errors: list[str], warnings: list[str]
) -> None:
    result = legacy({"CC_PYTHON_CELERY_MODULE": "shop"}, texts=texts)
    assert (codes(result["errors"]), codes(result["warnings"])) == (errors, warnings)


def test_g17_celery_alone_has_nginx_and_no_backend() -> None:
    result = legacy({"CC_PYTHON_MODULE": None, "CC_PYTHON_CELERY_MODULE": "shop"}, texts=CELERY)
    server = result["server"]
    assert (result["errors"], server["backend"], server["protocol"], server["socket"]) == ([], "none", "none", False)
    assert (result["run"]["script"], result["run"]["variable"]) == ("", "CC_PYTHON_CELERY_MODULE")
    assert (server["nginx"]["upstream"], result["build"]["install"]) == ("", [])


def test_g17_a_module_that_is_not_there_warns() -> None:
    result = legacy({"CC_PYTHON_CELERY_MODULE": "web.tasks"}, texts=CELERY)
    assert only(result["warnings"], "module_missing")["variable"] == "CC_PYTHON_CELERY_MODULE"
    files = ["shop.py", "web/celery.py"]
    assert legacy({"CC_PYTHON_CELERY_MODULE": "web"}, texts=CELERY, files=files)["warnings"] == []


# -- C2: Python 2.7 ------------------------------------------------------------------------------------------------------------

PYTHONS = [{"version": "2.7.18", "path": "/usr/bin/python2.7"}, {"version": "3.13.1", "path": "/usr/bin/python3.13"}]


@pytest.mark.parametrize("asked", ["2", "2.7", "2.7.18", "2.7.9"])
def test_c2_python_2_must_be_asked_for_and_gets_gunicorn_19(asked: str) -> None:
    env = {"CC_PYTHON_VERSION": asked, "CC_PYTHON_BACKEND": "gunicorn"}
    result = legacy(env, host={"pythons": PYTHONS})
    assert result["errors"] == []
    assert result["build"]["python"] == {"path": "/usr/bin/python2.7", "version": "2.7.18"}
    assert result["build"]["install"] == [{"requirement": "gunicorn==19.10.0", "provides": ["gunicorn"]}]
    assert codes(result["warnings"]) == ["python_support_ended"]
    assert legacy(host={"pythons": PYTHONS})["python"]["selected"]["version"] == "3.13.1"


@pytest.mark.parametrize("asked", ["2", "2.7", "2.6"])
def test_c2_a_host_without_python_2_is_an_error_that_says_what_to_do(asked: str) -> None:
    error = only(legacy({"CC_PYTHON_VERSION": asked})["errors"], "python_2_missing")
    assert error["rule"].startswith("C2")
    assert 'python_versions: ["2.7"]' in error["next_step"]
    assert "Python 3" in error["next_step"]


def test_c2_uwsgi_on_python_2_comes_from_the_requirements_only() -> None:
    env = {"CC_PYTHON_VERSION": "2"}
    error = only(legacy(env, host={"pythons": PYTHONS})["errors"], "backend_for_python")
    assert "CC_PYTHON_BACKEND=gunicorn" in error["next_step"]
    named = legacy(env, host={"pythons": PYTHONS}, texts={"requirements.txt": "uWSGI==2.0.21"})
    assert (named["errors"], named["build"]["install"]) == ([], [])


# -- I: secrets ----------------------------------------------------------------------------------------------------------------


def test_i_all_errors_at_once_and_none_shows_a_secret() -> None:
    env = {
        "CC_PYTHON_BACKEND": "x",
        "HARAKIRI": "x",
        "CC_UWSGI_EXTRA_CONFIG": "socket = hunter2-extra",
        "CC_HTTP_BASIC_AUTH": "hunter2-login",
        "CC_HTTP_BASIC_AUTH_0": ":hunter2-password",
        "NGINX_READ_TIMEOUT": "x",
        "CC_PYTHON_MANAGE_TASKS": "a 'b",
        "CC_PYTHON_CELERY_MODULE": "-x",
    }
    result = legacy(env, texts={"requirements.txt": "flask = https://me:hunter2-url@index.example/x y"})
    assert {
        "setting_choice",
        "setting_number",
        "uwsgi_extra_refused",
        "basic_auth",
        "manage_task",
        "manage_py_missing",
        "celery_module",
        "requirements_line",
        "source_credentials",
    } == set(codes(result["errors"]))
    assert "hunter2" not in json.dumps(public_view(result)) + "\n".join(result["summary"])


def test_i_logins_reach_neither_environment_and_are_shown_without_passwords() -> None:
    env = {
        "CC_HTTP_BASIC_AUTH": "anna:hunter2-a",
        "CC_HTTP_BASIC_AUTH_3": "ben:hunter2:b",
        "CC_PRE_RUN_HOOK": "x hunter2-a",
    }
    result = legacy(env)
    assert result["server"]["nginx"]["users"] == [["anna", "hunter2-a"], ["ben", "hunter2:b"]]
    for part in (result["environment"], result["build"]["environment"]):
        assert not [name for name in part if name.startswith("CC_HTTP_BASIC_AUTH")]
    view = public_view(result)
    assert view["server"]["nginx"]["users"] == ["anna", "ben"]
    assert "hunter2" not in json.dumps(view) + "\n".join(result["summary"])


def test_a4_summary_says_what_runs() -> None:
    env = {
        "STATIC_FILES_PATH": "static",
        "STATIC_URL_PREFIX": "/s",
        "CC_PYTHON_MANAGE_TASKS": "migrate",
        "CC_HTTP_BASIC_AUTH": "a:b",
    }
    texts = {
        "clevercloud/http.json": json.dumps({"aliases": {"/a": "/b"}, "languages": {"default": {"rewrite": "en"}}})
    }
    files = ["shop.py", "manage.py", "static/x.css"]
    lines = {line[:12].strip(): line[13:] for line in legacy(env, files=files, texts=texts)["summary"]}
    assert {"Build", "Task", "Backend", "Size", "Nginx", "Logins", "Static", "Alias", "Languages", "Switch"} <= set(
        lines
    )
    assert lines["Size"].startswith("workers 5, threads 2 (2 × cores + 1")
    assert lines["Ports"] == "public 8080 → Nginx on 18080 or 28080"
