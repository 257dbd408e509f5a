# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sections A, B and D of the contract in the plan, and what the plan shows of secrets."""

from __future__ import annotations

import ast
import json
import pathlib
import string

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import command, environment, findings
from ansible_collections.pyfleet.runtime.plugins.module_utils.plan import public_view

from .support import COMMAND, Plan, codes, only

# -- A ---------------------------------------------------------------------------------------------------------------------


def test_a1_lock_and_command_are_uv_mode(plan: Plan) -> None:
    result = plan()
    assert (result["mode"], result["errors"], result["warnings"]) == ("uv", [], [])


@pytest.mark.parametrize(
    ("env", "files", "warning"),
    [
        ({}, ["pyproject.toml", "web/uv.lock"], "uv_command_without_lock"),
        ({"CC_PYTHON_UV_RUN_COMMAND": None}, ["uv.lock"], "uv_lock_without_command"),
    ],
)
def test_a1_one_condition_is_not_enough(plan: Plan, env: dict[str, None], files: list[str], warning: str) -> None:
    result = plan({**env, "CC_PYTHON_MODULE": "shop:app"}, files=files)
    assert result["mode"] == "legacy"
    assert codes(result["warnings"])[0] == warning
    assert result["errors"] == []
    assert result["server"]["backend"] == "uwsgi"


def test_a1_lock_in_a_folder_hints_at_app_folder(plan: Plan) -> None:
    result = plan(files=["web/uv.lock"])
    assert "APP_FOLDER to web" in only(result["warnings"], "uv_command_without_lock")["next_step"]


def test_a2_project_root_is_app_folder(plan: Plan) -> None:
    result = plan({"APP_FOLDER": "./sub//dir/"}, files=["sub/dir/uv.lock"])
    assert (result["mode"], result["project_root"], result["errors"]) == ("uv", "sub/dir", [])
    assert result["environment"]["VIRTUAL_ENV"] == "/srv/pyfleet/shop/releases/0a1b2c3d4e5f/sub/dir/.venv"


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("/srv", "app_folder_absolute"),
        ("../other", "app_folder_outside"),
        ("a/../../b", "app_folder_outside"),
        ("missing", "app_folder_missing"),
        ("uv.lock", "app_folder_missing"),
    ],
)
def test_a2_app_folder_may_not_leave_the_source(plan: Plan, folder: str, code: str) -> None:
    error = only(plan({"APP_FOLDER": folder})["errors"], code)
    assert (error["variable"], error["value"]) == ("APP_FOLDER", folder)
    assert error["rule"].startswith("A2")


@pytest.mark.parametrize("text", ["", "   ", "uv run 'x", 'a "b', "A=1", "''", "#", "x\\"])
def test_a3_invalid_command_is_legacy_with_a_warning(plan: Plan, text: str) -> None:
    result = plan({"CC_PYTHON_UV_RUN_COMMAND": text})
    if text == "#":  # a word to shlex, and a program's name as far as A3 goes
        assert result["mode"] == "uv"
        return
    assert result["mode"] == "legacy"
    assert command.problem(text) in only(result["warnings"], "uv_command_invalid")["message"]


def test_a3_unbalanced_quote_is_legacy() -> None:
    assert command.problem("uv run 'x") == "a quote is not closed"


@pytest.mark.parametrize("text", ["x", "A=1 x", "cd a && uv run x", "x | y", "echo $(date); x", "'a b' c"])
def test_a3_valid_commands(text: str) -> None:
    assert command.problem(text) == ""


def test_a4_uv_mode_lists_everything_ignored(plan: Plan) -> None:
    env = {
        "CC_PYTHON_MODULE": "m:a",
        "CC_PYTHON_BACKEND": "gunicorn",
        "CC_PYTHON_MANAGE_TASKS": "migrate",
        "CC_PIP_REQUIREMENTS_FILE": "req/prod.txt",
        "PYTHON_SETUP_PY_GOAL": "install",
        "HARAKIRI": "60",
        "CC_HTTP_BASIC_AUTH_1": "a:b",
    }
    files = ["uv.lock", "requirements.txt", "req/prod.txt", "setup.py", "clevercloud/http.json"]
    ignored = {item["name"]: item["why"] for item in plan(env, files=files)["ignored"]}
    assert set(ignored) == {*env, *files} - {"uv.lock"}
    assert all(ignored.values())


@pytest.mark.parametrize("name", sorted(environment.LEGACY_SERVER))
def test_a4_d3_server_settings_are_ignored_by_name(plan: Plan, name: str) -> None:
    assert name in [item["name"] for item in plan({name: "1"})["ignored"]]


def test_a4_legacy_mode_lists_what_it_ignores(plan: Plan) -> None:
    without_lock = plan({"CC_PYTHON_MODULE": "m:a", "CC_PYTHON_UV_SYNC_FLAGS": "--locked"}, files=["requirements.txt"])
    assert [item["name"] for item in without_lock["ignored"]] == ["CC_PYTHON_UV_RUN_COMMAND", "CC_PYTHON_UV_SYNC_FLAGS"]
    without_command = plan({"CC_PYTHON_UV_RUN_COMMAND": None, "CC_PYTHON_MODULE": "m:a"})
    assert without_command["ignored"] == [{"name": "uv.lock", "why": "CC_PYTHON_UV_RUN_COMMAND is not set"}]


def test_a4_one_reason_per_condition(plan: Plan) -> None:
    assert plan()["reasons"] == ["uv.lock exists", "CC_PYTHON_UV_RUN_COMMAND is a valid command"]
    assert plan({"CC_PYTHON_UV_RUN_COMMAND": None}, files=[])["reasons"] == [
        "there is no uv.lock at the project root (the source's root)",
        "CC_PYTHON_UV_RUN_COMMAND is not set",
    ]


def test_a5_nothing_to_run_names_all(plan: Plan) -> None:
    error = only(plan({"CC_PYTHON_UV_RUN_COMMAND": None}, files=[])["errors"], "nothing_to_run")
    text = json.dumps(error)
    for word in (
        "CC_PYTHON_MODULE",
        "CC_RUN_COMMAND",
        "CC_PYTHON_CELERY_MODULE",
        "uv.lock",
        "CC_PYTHON_UV_RUN_COMMAND",
    ):
        assert word in text


@pytest.mark.parametrize(
    ("name", "value", "backend"),
    [
        ("CC_PYTHON_MODULE", "shop:app", "uwsgi"),
        ("CC_RUN_COMMAND", "x", "command"),
        ("CC_PYTHON_CELERY_MODULE", "shop", "none"),
    ],
)
def test_a5_each_of_three_is_something_to_run(plan: Plan, name: str, value: str, backend: str) -> None:
    env = {"CC_PYTHON_UV_RUN_COMMAND": None, name: value}
    result = plan(env, files=["requirements.txt", "shop.py"], texts={"requirements.txt": "celery\n"})
    assert (result["errors"], result["server"]["backend"]) == ([], backend)


# -- B ---------------------------------------------------------------------------------------------------------------------


def test_b1_exact_build_command(plan: Plan) -> None:
    assert plan()["build"]["argv"] == ["sync", "--locked", "--no-progress", "--no-dev"]


def test_b2_development_includes_dev_dependencies(plan: Plan) -> None:
    result = plan({"ENVIRONMENT": "development"})
    assert result["build"]["argv"] == ["sync", "--locked", "--no-progress"]
    assert "UV_NO_DEV" not in result["environment"]


def test_b2_other_environments_are_production_with_a_warning(plan: Plan) -> None:
    result = plan({"ENVIRONMENT": "staging"})
    assert result["build"]["argv"][-1] == "--no-dev"
    assert only(result["warnings"], "environment_unknown")["value"] == "staging"


def test_b3_flags_replace_those_after_sync(plan: Plan) -> None:
    assert plan({"CC_PYTHON_UV_SYNC_FLAGS": "--frozen --extra 'a b'"})["build"]["argv"] == [
        "sync",
        "--frozen",
        "--extra",
        "a b",
    ]
    assert codes(plan({"CC_PYTHON_UV_SYNC_FLAGS": "--extra 'a"})["errors"]) == ["sync_flags_invalid"]


def test_b3_i_no_credentials_in_flags(plan: Plan) -> None:
    result = plan({"CC_PYTHON_UV_SYNC_FLAGS": "--index https://me:hunter2@index.example/simple"})
    assert only(result["errors"], "sync_flags_credentials")["value"] == "(secret)"
    assert "hunter2" not in json.dumps(public_view(result))
    assert "hunter2" not in json.dumps(result["environment"])


def test_b6_d8_hooks_unchanged(plan: Plan) -> None:
    names = [
        "CC_PRE_BUILD_HOOK",
        "CC_POST_BUILD_HOOK",
        "CC_PRE_RUN_HOOK",
        "CC_RUN_SUCCEEDED_HOOK",
        "CC_RUN_FAILED_HOOK",
    ]
    result = plan({name: f" echo '{name}'\n" for name in names})
    build = result["build"]
    found = [
        build["pre_hook"],
        build["post_hook"],
        *(result["hooks"][key] for key in ("pre_run", "run_succeeded", "run_failed")),
    ]
    assert found == [f" echo '{name}'\n" for name in names]
    assert plan({"CC_PRE_BUILD_HOOK": " "})["build"]["pre_hook"] is None


BUILD_ONLY = [
    "UV_INDEX_MY_PRIVATE_USERNAME",
    "UV_INDEX_A_PASSWORD",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_PUBLISH_TOKEN",
    "UV_KEYRING_PROVIDER",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "NETRC",
]


@pytest.mark.parametrize("name", BUILD_ONLY)
def test_b8_index_credentials_reach_the_build_only(plan: Plan, name: str) -> None:
    result = plan({name: "value-of-it"})
    assert result["build"]["environment"][name] == "value-of-it"
    assert name not in result["environment"]
    assert any(name in line for line in result["summary"])


def test_b8_hooks_with_credentials_do_not_reach_the_runtime(plan: Plan) -> None:
    result = plan({"CC_PRE_BUILD_HOOK": "curl https://u:p@host/x", "CC_POST_BUILD_HOOK": "true"})
    assert "CC_PRE_BUILD_HOOK" not in result["environment"]
    assert result["environment"]["CC_POST_BUILD_HOOK"] == "true"


@pytest.mark.parametrize("name", sorted(environment.DROPPED_FROM_APPLICATION))
def test_b8_variables_that_move_the_build_are_dropped_by_name(plan: Plan, name: str) -> None:
    result = plan({name: "/elsewhere"})
    assert result["build"]["environment"].get(name) != "/elsewhere"
    assert result["environment"].get(name) != "/elsewhere"
    assert only(result["warnings"], "env_dropped")["variable"] == name


# -- D ---------------------------------------------------------------------------------------------------------------------


def test_d1_run_command_takes_precedence(plan: Plan) -> None:
    result = plan({"CC_RUN_COMMAND": "uv run other --port $PORT"})
    assert (result["run"]["command"], result["run"]["variable"]) == ("uv run other --port $PORT", "CC_RUN_COMMAND")
    assert "CC_PYTHON_UV_RUN_COMMAND" in [item["name"] for item in result["ignored"]]


def test_d1_invalid_run_command_is_an_error_empty_one_a_warning(plan: Plan) -> None:
    assert codes(plan({"CC_RUN_COMMAND": "a 'b"})["errors"]) == ["run_command_invalid"]
    result = plan({"CC_RUN_COMMAND": ""})
    assert (codes(result["warnings"]), result["run"]["command"]) == (["run_command_empty"], COMMAND)


def test_d2_side_by_side_has_release_ports_and_no_port_of_its_own(plan: Plan) -> None:
    result = plan()
    assert result["switch"] == "side_by_side"
    own = {"candidates": [18080, 28080], "application_candidates": [], "inner": [], "behind": []}
    assert result["ports"] == {"public": 8080, "application": 8080, "hops": [], **own}
    assert "PORT" not in result["environment"]


def test_d2_hard_coded_port_is_in_place_with_the_gap_said(plan: Plan) -> None:
    env = {"CC_PYTHON_UV_RUN_COMMAND": "uv run uvicorn a:b --port 8080"}
    result = plan(env, host={"current": {"id": "x", "port": 8080, "gap_seconds": 1.25}})
    assert (result["switch"], result["ports"]["candidates"], result["environment"]["PORT"]) == (
        "in_place",
        [8080],
        "8080",
    )
    warning = only(result["warnings"], "in_place_gap")
    assert "1.25 s" in warning["message"]
    assert "$PORT" in warning["next_step"]
    assert "app_switch: side_by_side" in warning["next_step"]


def test_d2_switch_setting_wins(plan: Plan) -> None:
    assert plan(app={"switch": "in_place"})["switch"] == "in_place"
    env = {"CC_PYTHON_UV_RUN_COMMAND": "uv run python app.py"}
    assert plan(env, app={"switch": "side_by_side"})["switch"] == "side_by_side"


def test_d2_port_of_the_environment_is_the_applications_port(plan: Plan) -> None:
    result = plan({"PORT": 7000})
    assert (result["switch"], result["ports"]["candidates"], result["ports"]["application"]) == (
        "in_place",
        [7000],
        7000,
    )
    assert result["environment"]["PORT"] == "7000"
    assert codes(plan({"PORT": 7000}, app={"switch": "side_by_side"})["errors"]) == ["port_fixed_side_by_side"]
    assert codes(plan({"PORT": "8080"})["errors"]) == []


@pytest.mark.parametrize("value", ["", "eighty", "80", "65536", "-1", "8080.0", "٨٠٨٠"])
def test_d2_invalid_port(plan: Plan, value: str) -> None:
    assert codes(plan({"PORT": value})["errors"]) == ["port_env_invalid"]


@pytest.mark.parametrize(
    ("text", "honours"),
    [
        ("x --port $PORT", True),
        ("x --port=${PORT}", True),
        ('x "--port=${PORT:-8080}"', True),
        ("x '$PORT'", False),
        ("x \\$PORT", False),
        ("x $PORTAL ${PORT_A}", False),
        ("x '--a' \"it's $PORT\"", True),
        ("sh -c 'exec x --port $PORT'", True),
        ("uv run bash -ec 'x $PORT'", True),
        ("echo -c 'x $PORT'", False),
        ("x # $PORT", False),
    ],
)
def test_d2_honours_port(text: str, honours: bool) -> None:
    assert command.honours_port(text) is honours


@pytest.mark.parametrize(
    ("text", "script", "direct"),
    [
        (COMMAND, "exec uvicorn shop:app --host 0.0.0.0 --port $PORT", True),
        ("uv run app.py 'a b'", "exec python app.py 'a b'", True),
        ("uv run -m shop --x", "exec python -m shop --x", True),
        ("uv run -- prog -x", "exec prog -x", True),
        ("uv run --with rich x", "exec uv run --with rich x", False),
        ("FOO=1 uv run x", "FOO=1 exec uv run x", False),
        ("uv run a && uv run b", "uv run a && uv run b", False),
        ("uv run a; b", "uv run a; b", False),
        ("uv run a | b", "uv run a | b", False),
        ("uv run x $(cat y)", "uv run x $(cat y)", False),
        ("cd web", "cd web", False),
        ("exec x", "exec x", False),
        ("gunicorn x", "exec gunicorn x", False),
        ("uv run x 'a;b' \"&\"", "exec x 'a;b' \"&\"", True),
        ("uv run https://x.example/a.py", "exec uv run https://x.example/a.py", False),
    ],
)
def test_d4_start_of_a_command(text: str, script: str, direct: bool) -> None:
    assert command.start(text) == command.Start(script, direct)


def test_d4_run_environment_never_syncs(plan: Plan) -> None:
    result = plan({"UV_NO_SYNC": "0", "UV_PYTHON_DOWNLOADS": "automatic", "UV_NO_DEV": "false"})
    run = result["environment"]
    assert (run["UV_NO_SYNC"], run["UV_NO_DEV"], run["UV_PYTHON_DOWNLOADS"]) == ("1", "1", "never")
    assert codes(result["warnings"]) == ["env_forced"] * 3
    assert run["PATH"].startswith(run["VIRTUAL_ENV"] + "/bin:")
    assert run["PYTHONUNBUFFERED"] == "1"


@pytest.mark.parametrize("text", ["uvx x", "uv run --with=a x", "uv tool run x", "a && uv sync"])
def test_d4_command_that_fetches_warns(plan: Plan, text: str) -> None:
    assert "run_needs_network" in codes(plan({"CC_RUN_COMMAND": text})["warnings"])


def test_d5_platform_variables(plan: Plan) -> None:
    result = plan({"APP_ID": "mine"})
    run = result["environment"]
    assert set(run) >= environment.PLATFORM
    assert (run["APP_ID"], run["INSTANCE_NUMBER"], run["INSTANCE_TYPE"]) == ("app-shop", "2", "production")
    assert run["CC_COMMIT_ID"] == run["COMMIT_ID"] == "0123456789abcdef0123456789abcdef01234567"
    assert run["APP_HOME"] == "/srv/pyfleet/shop/releases/0a1b2c3d4e5f"
    assert result["build"]["environment"]["INSTANCE_TYPE"] == "build"
    assert codes(result["warnings"]) == ["env_platform_wins"]


@pytest.mark.parametrize("name", ["1A", "A-B", "", "A B", "É", "A\n", "A=x"])
def test_d6_malformed_name(plan: Plan, name: str) -> None:
    error = only(plan({name: "hunter2"})["errors"], "env_name_invalid")
    assert "hunter2" not in json.dumps(error)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ([1], "env_value_type"),
        ({}, "env_value_type"),
        ("a\0b", "env_value_nul"),
        ("\ud800", "env_value_not_text"),
        ("\uffff", "env_value_not_text"),
        ("x" * 131071, "env_value_too_long"),
    ],
)
def test_d6_values_that_cannot_be(plan: Plan, value: object, code: str) -> None:
    assert codes(plan({"A": value})["errors"]) == [code]


def test_d6_null_is_an_error() -> None:
    assert [item.code for item in environment.validate({"A": None})[1]] == ["env_value_type"]


def test_d6_yaml_values_become_text_and_all_others_arrive(plan: Plan) -> None:
    odd = "a\n\"b'$C `d` \\ %h é🎉\r\t"
    run = plan({"A": True, "B": 3, "C": 1.5, "D": odd, "E": "x" * 131069})["environment"]
    assert (run["A"], run["B"], run["C"], run["D"], len(run["E"])) == ("true", "3", "1.5", odd, 131069)


def test_d6_environment_file_escapes_four_characters_only() -> None:
    text = environment.to_environment_file({"A": "a\nb\\c\"d$e`f'g%h", "B": ""})
    assert text == 'A="a\nb\\\\c\\"d\\$e\\`f\'g%h"\nB=""\n'
    with pytest.raises(ValueError, match="A"):
        environment.to_environment_file({"A": "\0"})
    with pytest.raises(ValueError, match="line 2"):
        environment.parse_environment_file('A="1"\nB=2\n')


def test_d6_too_large_together(plan: Plan) -> None:
    assert codes(plan({f"A{n}": "x" * 131000 for n in range(16)})["errors"]) == ["env_too_large"]


def test_d7_workers(plan: Plan) -> None:
    env = {
        "CC_WORKER_COMMAND_10": "c",
        "CC_WORKER_COMMAND_2": "uv run b",
        "CC_WORKER_COMMAND": "a",
        "CC_WORKER_RESTART": "always",
        "CC_WORKER_RESTART_DELAY": "2.5",
    }
    workers = plan(env)["workers"]
    assert [(w["index"], w["script"]) for w in workers] == [(0, "exec a"), (1, "exec b"), (2, "exec c")]
    assert {(w["restart"], w["delay"]) for w in workers} == {("always", 2.5)}
    default = plan({"CC_WORKER_COMMAND": "a"})["workers"][0]
    assert (default["restart"], default["delay"]) == ("on-failure", 1)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("CC_WORKER_RESTART_DELAY", "soon", "worker_delay_invalid"),
        ("CC_WORKER_RESTART_DELAY", "-1", "worker_delay_invalid"),
        ("CC_WORKER_RESTART_DELAY", "nan", "worker_delay_invalid"),
        ("CC_WORKER_RESTART_DELAY", "99999", "worker_delay_invalid"),
        ("CC_WORKER_RESTART", "sometimes", "worker_restart_invalid"),
        ("CC_WORKER_COMMAND_0", "a 'b", "worker_command_invalid"),
    ],
)
def test_d7_bad_worker_settings(plan: Plan, name: str, value: str, code: str) -> None:
    assert only(plan({name: value})["errors"], code)["variable"] == name


def test_d7_odd_indexes_are_named(plan: Plan) -> None:
    result = plan({"CC_WORKER_COMMAND_x": "a", "CC_WORKER_COMMAND_01": "b", "CC_WORKER_COMMAND_1": " "})
    assert codes(result["warnings"]) == ["index_malformed", "index_malformed", "worker_command_empty"]
    assert result["workers"] == []


def test_d9_task(plan: Plan) -> None:
    result = plan({"CC_TASK": "true", "CC_RUN_COMMAND": "uv run job"})
    assert result["run"]["task"] is True
    assert (result["ports"]["candidates"], result["health"]["paths"], result["warnings"]) == ([], [], [])
    assert codes(plan({"CC_TASK": True})["errors"]) == ["task_without_command"]


# -- settings and ports ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Shop", "1shop", "shop_a", "", "a" * 29, "shop@x", None, 7, "shop-", "shop\n"])
def test_input_app_name(plan: Plan, name: object) -> None:
    assert codes(plan(app={"name": name})["errors"]) == ["app_name_invalid"]
    assert codes(plan(app={"name": "a" * 28})["errors"]) == []


@pytest.mark.parametrize(
    ("app", "code", "variable"),
    [
        ({"public_port": 80}, "port_out_of_range", "app_public_port"),
        ({"public_port": "x"}, "port_out_of_range", "app_public_port"),
        ({"port": 70000}, "port_out_of_range", "app_port"),
        ({"release_ports": [1]}, "option_invalid", "app_release_ports"),
        ({"release_ports": [8080, 28080]}, "ports_collide", "app_release_ports"),
        ({"release_ports": [18080, 18080]}, "ports_collide", "app_release_ports"),
        ({"switch": "blue"}, "option_invalid", "app_switch"),
        ({"health_deadline": -1}, "option_invalid", "app_health_deadline"),
        ({"drain_seconds": "long"}, "option_invalid", "app_drain_seconds"),
        ({"instance_number": 1.5}, "option_invalid", "app_instance_number"),
    ],
)
def test_input_settings(plan: Plan, app: dict[str, object], code: str, variable: str) -> None:
    assert only(plan(app=app)["errors"], code)["variable"] == variable


def test_input_port_in_use_by_a_stranger_only(plan: Plan) -> None:
    listeners = [
        {"port": 8080, "address": "127.0.0.1", "process": "nginx"},
        {"port": 22, "address": "::", "process": "sshd"},
    ]
    error = only(plan(host={"listeners": listeners})["errors"], "port_in_use")
    assert "nginx" in error["message"]
    own = [{"port": 18080, "address": "0.0.0.0", "process": "uvicorn"}]
    assert plan(host={"listeners": own, "current": {"id": "x", "port": 18080}})["errors"] == []
    unit = [{"port": 18080, "address": "0.0.0.0", "process": "uvicorn", "unit": "app-shop@x.service"}]
    assert plan(host={"listeners": unit})["errors"] == []


def test_input_port_of_another_application(plan: Plan) -> None:
    error = only(
        plan(host={"apps": {"blog": {"ports": [8080]}, "shop": {"ports": [18080]}}})["errors"], "port_taken_by_app"
    )
    assert "blog" in error["message"]


def test_all_errors_at_once(plan: Plan) -> None:
    env = {
        "1A": "x",
        "APP_FOLDER": "/x",
        "CC_WORKER_RESTART_DELAY": "x",
        "CC_HEALTH_CHECK_PATH": "x",
        "CC_PYTHON_VERSION": "three",
    }
    found = plan(env, app={"name": "X"})["errors"]
    assert {
        "app_name_invalid",
        "env_name_invalid",
        "app_folder_absolute",
        "worker_delay_invalid",
        "health_path_invalid",
        "python_version_invalid",
    } <= set(codes(found))
    text = findings.render_findings(findings.from_dict(item) for item in found)
    assert text.startswith(f"{len(found)} problems, nothing was changed:")
    for label in ("Variable:", "Value:", "Rule:", "Next step:"):
        assert text.count(label) == len(found)


def test_many_errors_of_one_kind_are_told_in_short() -> None:
    links = [findings.finding("source_link", variable="app_source", value=f"link{number}") for number in range(40)]
    other = findings.finding("app_name_invalid", variable="app_name", value="X", suggestion="x")
    lines = findings.render_findings([*links, other]).splitlines()
    assert lines[0] == "41 problems, nothing was changed:"
    assert sum("Next step:" in line for line in lines) == 11, "ten links, and the name that comes after all of them"
    assert "     Value:     X" in lines
    assert any(line.startswith("And 30 more like this: A symbolic link leads out of the source") for line in lines)
    assert [line.strip() for line in lines[-21:]] == [*(f"link{number}" for number in range(10, 30)), "…"]


# -- secrets and the catalogue -----------------------------------------------------------------------------------------------


def test_i_no_secret_in_what_is_shown(plan: Plan) -> None:
    env = {
        "TOKEN": "hunter2-token",
        "CC_PYTHON_UV_RUN_COMMAND": "uv run x --token hunter2-token --db postgres://me:pw-in-url@db/x",
        "CC_PRE_RUN_HOOK": "echo hunter2-token",
        "CC_WORKER_COMMAND": "w hunter2-token 'x",
        "UV_INDEX_A_PASSWORD": "hunter2-index",
        "MULTI": "first-line-secret\nsecond-line-secret",
        "CC_RUN_FAILED_HOOK": "echo second-line-secret",
        "BAD": "hunter2\0",
    }
    result = plan(env)
    shown = json.dumps(public_view(result)) + "\n".join(result["summary"])
    for secret in ("hunter2", "pw-in-url", "second-line-secret"):
        assert secret not in shown
    assert "hunter2-token" in result["run"]["script"]


def test_i_commands_are_shown_without_their_secrets(plan: Plan) -> None:
    error = only(
        plan({"TOKEN": "hunter2-token", "CC_RUN_COMMAND": "x hunter2-token 'y"})["errors"], "run_command_invalid"
    )
    assert error["value"] == "x ******** 'y"
    assert environment.show("CC_RUN_COMMAND", "x") == environment.show("OTHER", "x") == "(secret)"


def test_i_scrub_covers_quoted_forms() -> None:
    secret = 'p"a/s&s'
    text = environment.scrub(f"{secret} p%22a%2Fs%26s {json.dumps(secret)}", [secret])
    assert text == '******** ******** "********"'


def test_catalogue_has_one_entry_for_every_finding_made() -> None:
    folder = pathlib.Path(findings.__file__).parent
    made = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "finding":
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant):
                    made.add(str(first.value))
    assert made <= set(findings.CATALOGUE)


@pytest.mark.parametrize("code", sorted(findings.CATALOGUE))
def test_catalogue_entries_are_complete(code: str) -> None:
    entry = findings.CATALOGUE[code]
    fields = {
        name
        for template in (entry.message, entry.explanation, entry.remedy)
        for _text, name, _spec, _conversion in string.Formatter().parse(template)
        if name
    } - {"variable", "value"}
    made = findings.finding(code, "V", "v", **dict.fromkeys(fields, "{x}\n"))
    assert made.severity in ("error", "warning")
    assert made.to_dict() == findings.from_dict(made.to_dict()).to_dict()
    assert all(made.to_dict().values())
    assert len(made.render().splitlines()) == 5


def test_i_a_short_word_is_scrubbed_where_it_stands_alone() -> None:
    scrubbed = environment.scrub("exited: exit, exit=1, re-exit_exit", ["exit"])
    assert scrubbed == "exited: ********, ********=1, re-********_********"
    assert environment.scrub("xlongsecretx", ["longsecret"]) == "x********x"
