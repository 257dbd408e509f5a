# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""H5: the Containerfile and what goes with it, as a pure function of the plan."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import containerfile
from ansible_collections.pyfleet.runtime.plugins.module_utils.containerfile import Image, Settings, make_image
from ansible_collections.pyfleet.runtime.plugins.module_utils.plan import make_plan
from ansible_collections.pyfleet.runtime.tests.unit.plan import support

pytestmark = pytest.mark.rule("H5")
RELEASE = "0a1b2c3d4e5f"
BASE = "localhost/python:trixie"
HOME = "/srv/pyfleet/shop/current"


def image(
    env: dict[str, Any] | None = None,
    settings: Settings | None = None,
    app: dict[str, Any] | None = None,
    files: list[str] | None = None,
    **options: Any,
) -> Image:
    """The image of the plan tests' small application, with these changes."""
    plan = support.ask(env, app, files=files)
    assert not plan["errors"], plan["errors"]
    given = {"root": "/srv/pyfleet/shop", "release": RELEASE, **options}
    return make_image(plan, settings or Settings(BASE), **given)


def codes(made: Image) -> set[str]:
    return {item.code for item in made.findings}


def stages(made: Image) -> dict[str, str]:
    """The stages by name; continued lines are one line."""
    text = made.text.replace("\\\n", "")
    found = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    names = ("dependencies", "build", "final")
    assert len(found) == len(names)
    return dict(zip(names, found, strict=True))


def steps(stage: str, instruction: str) -> list[str]:
    return [line for line in stage.splitlines() if line.startswith(f"{instruction} ")]


def test_three_stages_and_the_last_one_begins_anew() -> None:
    made = stages(image(settings=Settings(BASE, "localhost/compilers:1")))
    assert made["dependencies"].startswith("localhost/compilers:1 AS dependencies\n")
    assert made["build"].startswith("dependencies AS build\n")
    assert made["final"].startswith(f"{BASE}\n")
    assert stages(image())["dependencies"].startswith(f"{BASE} AS dependencies\n")


def test_dependencies_are_installed_without_the_project_from_project_files_alone() -> None:
    made = stages(image())
    copied = [line.split()[1] for line in steps(made["dependencies"], "COPY")]
    assert copied == ["uv", "uv.toml", "dependencies/"]
    (step,) = steps(made["dependencies"], "RUN")
    # The comparison with pyproject.toml (B4) is the next step's: members of a workspace are not complete here.
    assert step.endswith(
        "uv sync --no-progress --no-dev --frozen --no-install-project --no-install-workspace --no-install-local"
    )
    # Nothing in it changes with the code, the commit or the environment.
    assert RELEASE not in made["dependencies"]
    assert "0123456789abcdef" not in made["dependencies"]


def test_what_decides_beside_the_lock_is_in_the_dependencies_own_step_in_which_an_engine_sees_a_change() -> None:
    env = {"UV_NO_BINARY_PACKAGE": "a b", "UV_NO_DEV": "0", "API_TOKEN": "hunter2", "UV_INDEX_A_PASSWORD": "hunter2"}
    first, second = (steps(stages(image(each))["dependencies"], "RUN")[0] for each in (env, {**env, "UV_NO_DEV": "1"}))
    assert " UV_NO_DEV=0 'UV_NO_BINARY_PACKAGE=a b'; uv sync " in re.sub(" +", " ", first)
    assert first != second
    assert "hunter2" not in first


@pytest.mark.rule("B1", "B2", "B3")
@pytest.mark.parametrize(
    ("env", "command"),
    [
        ({}, "uv sync --locked --no-progress --no-dev"),
        ({"ENVIRONMENT": "development"}, "uv sync --locked --no-progress"),
        ({"CC_PYTHON_UV_SYNC_FLAGS": "--locked --extra 'a b'"}, "uv sync --locked --extra 'a b'"),
    ],
)
def test_b1_the_project_is_synced_by_the_plans_own_command(env: dict[str, str], command: str) -> None:
    (step,) = steps(stages(image(env))["build"], "RUN")
    assert f" {command};" in re.sub(r"\s+", " ", step)
    assert f": release {RELEASE};" in step


@pytest.mark.parametrize("flag", ["-U", "--upgrade", "--upgrade-package=fastapi", "-Pfastapi"])
def test_flags_that_change_the_lock_leave_no_layer_for_dependencies(flag: str) -> None:
    made = image({"CC_PYTHON_UV_SYNC_FLAGS": f"{flag} --no-dev"})
    assert not made.layered
    assert not steps(stages(made)["dependencies"], "RUN")


@pytest.mark.rule("B6")
def test_b6_hooks_run_before_and_after_and_their_text_is_in_no_layer() -> None:
    made = image({"CC_PRE_BUILD_HOOK": "curl internal/one", "CC_POST_BUILD_HOOK": "make two"})
    (step,) = steps(stages(made)["build"], "RUN")
    order = [step.index(part) for part in ('"$CC_PRE_BUILD_HOOK"', "uv sync --locked", '"$CC_POST_BUILD_HOOK"')]
    assert order == sorted(order)
    assert "curl" not in made.text
    assert "make two" not in made.text
    assert "echo pyfleet-failed: CC_PRE_BUILD_HOOK >&2; exit 1;" in step
    # What runs before dependencies are installed may need all of the source.
    assert not steps(stages(made)["dependencies"], "RUN")
    assert "image_not_layered" in codes(made)
    assert "image_not_layered" not in codes(image({"CC_POST_BUILD_HOOK": "make two"}))


@pytest.mark.rule("B8", "I")
def test_b8_the_builds_environment_is_a_mount_and_whole() -> None:
    secret = {"UV_INDEX_INTERNAL_PASSWORD": "hunter2-hunter2", "API_TOKEN": "it's\n$HOME `x`"}
    made = image(secret)
    for stage in ("dependencies", "build"):
        (step,) = steps(stages(made)[stage], "RUN")
        assert "--mount=type=secret,id=pyfleet-env" in step
        assert step.index(". /run/secrets/pyfleet-env") < step.index("uv sync")
    for value in ("hunter2", "it's", "API_TOKEN", "UV_INDEX_INTERNAL_PASSWORD"):
        assert value not in made.text + "".join(made.scripts.values()) + repr(sorted(made.environment.items()))
    ask = f"{made.build_env}printenv API_TOKEN UV_INDEX_INTERNAL_PASSWORD INSTANCE_TYPE"
    told = subprocess.run(["/bin/sh", "-c", ask], capture_output=True, text=True, check=True)
    assert told.stdout == "it's\n$HOME `x`\nhunter2-hunter2\nbuild\n"
    # Of the runtime's environment, what only the build sees is not a part.
    assert "UV_INDEX_INTERNAL_PASSWORD" not in made.env_file


def test_the_home_of_the_build_is_not_the_applications() -> None:
    assert "export HOME=/root\n" in image().build_env
    assert "export HOME=/somewhere\n" in image({"HOME": "/somewhere"}).build_env
    assert image().environment["HOME"] == "/srv/pyfleet/shop/home"


@pytest.mark.rule("D5", "I")
def test_d5_the_image_holds_the_platforms_constants_and_nothing_else() -> None:
    made = image({"API_TOKEN": "s3cr3t-s3cr3t", "LOG_LEVEL": "info"})
    assert made.environment == {
        "APP_HOME": HOME,
        "APP_ID": "app-shop",
        "CC_APP_NAME": "shop",
        "CC_COMMIT_ID": "0123456789abcdef0123456789abcdef01234567",
        "CC_DEPLOYMENT_ID": RELEASE,
        "COMMIT_ID": "0123456789abcdef0123456789abcdef01234567",
        "HOME": "/srv/pyfleet/shop/home",
        "INSTANCE_TYPE": "production",
        "PATH": f"{HOME}/.venv/bin:/srv/pyfleet/shop/home/.local/bin:/usr/local/bin:/usr/bin:/bin",
        "PORT": "8080",
        "PYTHONUNBUFFERED": "1",
        "UV_NO_DEV": "1",
        "UV_NO_SYNC": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "VIRTUAL_ENV": f"{HOME}/.venv",
    }
    (step,) = steps(stages(made)["final"], "ENV")
    assert all(f'{name}="{value}"' in step for name, value in made.environment.items())
    # The rest is for --env-file; what tells instances apart is neither here nor there.
    assert "API_TOKEN=s3cr3t-s3cr3t\n" in made.env_file
    assert "LOG_LEVEL=info\n" in made.env_file
    assert "INSTANCE_" not in made.env_file + " ".join(set(made.environment) - {"INSTANCE_TYPE"})
    assert not {line.split("=")[0] for line in made.env_file.splitlines()} & set(made.environment)


def test_variables_that_are_called_public_stand_in_the_image() -> None:
    made = image({"LOG_LEVEL": 'a "b" \\ $c'}, Settings(BASE, public_variables=("LOG_LEVEL",)))
    assert made.environment["LOG_LEVEL"] == 'a "b" \\ $c'
    assert 'LOG_LEVEL="a \\"b\\" \\\\ \\$c"' in made.text
    assert "LOG_LEVEL" not in made.env_file
    assert "image_public_unknown" in codes(image(settings=Settings(BASE, public_variables=("NO_SUCH",))))
    lines = image({"KEY": "a\nb"}, Settings(BASE, public_variables=("KEY",)))
    assert "image_public_lines" in codes(lines)
    build_only = Settings(BASE, public_variables=("UV_INDEX_A_PASSWORD",))
    assert "image_public_unknown" in codes(image({"UV_INDEX_A_PASSWORD": "x"}, build_only))


@pytest.mark.rule("D6")
def test_d6_values_of_several_lines_are_told_and_left_out_of_the_file() -> None:
    made = image({"KEY": "a\nb", "OTHER": 'c "d" $e #f'})
    assert made.several_lines == ("KEY",)
    assert 'OTHER=c "d" $e #f\n' in made.env_file
    assert not re.search(r"^KEY=|^b$", made.env_file, re.MULTILINE)


@pytest.mark.rule("I")
def test_i_a_secret_in_a_command_is_an_error_that_names_the_variable_only() -> None:
    command = "uv run server.py --port $PORT --key s3cr3t-key-0"
    env = {"CC_PYTHON_UV_RUN_COMMAND": command, "API_KEY": "s3cr3t-key-0"}
    (found,) = [item for item in image(env).findings if item.severity == "error"]
    assert (found.code, found.variable) == ("image_secret", "API_KEY")
    assert "s3cr3t" not in found.render()
    assert "image_secret" not in codes(image(env, Settings(BASE, public_variables=("API_KEY",))))
    assert "image_secret" not in codes(image({"API_KEY": "s3cr3t-key-0"}))
    assert "image_secret" in codes(image({"CC_WORKER_COMMAND": "w --key s3cr3t-key-0", "API_KEY": "s3cr3t-key-0"}))
    assert "image_secret" in codes(
        image({"CC_PYTHON_UV_SYNC_FLAGS": "--extra s3cr3t-key-0", "API_KEY": "s3cr3t-key-0"})
    )
    with_url = {"CC_PYTHON_UV_RUN_COMMAND": "uv run x --port $PORT --db postgres://u:p4ss@db/x"}
    assert "image_url_secret" in codes(image(with_url))


@pytest.mark.rule("D1", "D7", "D8")
def test_d1_commands_are_scripts_that_the_signal_of_a_stop_reaches() -> None:
    made = image({"CC_WORKER_COMMAND": "python worker.py", "CC_PRE_RUN_HOOK": "python migrate.py"})
    assert sorted(made.scripts) == ["pre-run", "run", "worker-0"]
    assert made.scripts["run"].startswith("#!/bin/bash\n")
    assert f"cd {HOME} || exit 1\nexec uvicorn shop:app --host 0.0.0.0 --port $PORT\n" in made.scripts["run"]
    assert made.scripts["worker-0"].endswith("exec python worker.py\n")
    assert 'eval "${CC_PRE_RUN_HOOK:?' in made.scripts["pre-run"]
    assert "migrate.py" not in made.scripts["pre-run"]
    final = stages(made)["final"]
    assert final.splitlines()[-2:] == ["ENTRYPOINT []", 'CMD ["/usr/local/lib/pyfleet/run"]']
    assert "STOPSIGNAL SIGTERM" in final


def test_it_runs_as_a_numeric_user_who_owns_the_source_but_not_the_environment() -> None:
    final = stages(image(settings=Settings(BASE, user="2000:3000")))["final"]
    assert "\nUSER 2000:3000\n" in final
    assert f"COPY --from=build --chown=2000:3000 /var/tmp/pyfleet-source/ {HOME}/" in final
    assert f"COPY --from=dependencies {HOME}/.venv/ {HOME}/.venv/" in final
    # Layers that a change of code leaves as they are come before the source, and the release's id after it.
    parts = (f"{HOME}/.venv/ ", "scripts/ ", "/var/tmp/pyfleet-source/ ", RELEASE, "USER 2000:3000")
    order = [final.index(part) for part in parts]
    assert order == sorted(order)


def test_an_image_to_build_on_that_has_a_user_of_its_own_is_built_on_by_root() -> None:
    made = stages(image())
    for stage in ("dependencies", "final"):
        first, second = made[stage].splitlines()[:2]
        assert first.startswith(BASE)
        assert second == "USER 0"


def test_what_the_project_adds_to_the_environment_is_a_layer_beside_that_of_its_dependencies() -> None:
    made = stages(image())
    (step,) = steps(made["build"], "RUN")
    parts = ("touch /var/tmp/pyfleet-own/begun", "uv sync", "find .venv ! -type d -cnewer /var/tmp/pyfleet-own/begun")
    order = [step.index(part) for part in parts]
    assert order == sorted(order)
    own = f"COPY --from=build /var/tmp/pyfleet-own/.venv/ {HOME}/.venv/"
    assert own in made["final"]
    assert made["final"].index("--from=dependencies") < made["final"].index(own)
    # A hook may change or remove any file of it, and without a layer there is nothing to add to.
    for env in ({"CC_POST_BUILD_HOOK": "x"}, {"CC_PRE_BUILD_HOOK": "x"}):
        whole = stages(image(env))
        assert f"COPY --from=build {HOME}/.venv/ {HOME}/.venv/" in whole["final"]
        assert "pyfleet-own" not in "".join(whole.values())


@pytest.mark.parametrize(
    ("env", "there"),
    [
        ({}, False),
        ({"CC_PYTHON_UV_RUN_COMMAND": "uv run --no-dev uvicorn shop:app --port $PORT"}, True),
        ({"CC_WORKER_COMMAND": "uv run --extra w worker"}, True),
        ({"CC_PRE_RUN_HOOK": "uv run migrate"}, True),
        ({"CC_WORKER_COMMAND": "python my.uv/uv.py --not-uv"}, False),
        ({"CC_POST_BUILD_HOOK": "uv pip list"}, False),
    ],
)
@pytest.mark.rule("D4")
def test_d4_uv_is_in_the_image_only_where_a_command_calls_it(env: dict[str, str], there: bool) -> None:
    made = image(env)
    assert made.needs_uv is there
    assert ("COPY uv /usr/local/bin/uv" in stages(made)["final"]) is there
    assert made.environment["UV_NO_SYNC"] == "1"


@pytest.mark.rule("E1", "E2")
def test_e1_the_health_check_asks_the_paths_of_the_contract() -> None:
    assert image().health == {"paths": ["/"], "accept": "200-499"}
    env = {"CC_HEALTH_CHECK_PATH": "/a", "CC_HEALTH_CHECK_PATH_0": "/b"}
    assert image(env).health == {"paths": ["/a", "/b"], "accept": "200"}
    assert image(env, accept_2xx=True).health == {"paths": ["/a", "/b"], "accept": "2xx"}
    text = image(env, app={"health_deadline": 90}).text
    assert "--start-period=90s" in text
    assert f'CMD ["{HOME}/.venv/bin/python", "-I", "/usr/local/lib/pyfleet/health.pyz"]' in text


@pytest.mark.rule("D9")
def test_d9_a_task_has_neither_port_nor_health_check() -> None:
    made = image({"CC_TASK": "true", "CC_RUN_COMMAND": "python once.py"})
    assert made.health is None
    assert "HEALTHCHECK NONE" in made.text
    assert "EXPOSE" not in made.text
    assert "PORT" not in made.environment
    assert "exec python once.py" in made.scripts["run"]


@pytest.mark.rule("D2")
@pytest.mark.parametrize(
    ("env", "app", "port"),
    [
        ({}, {}, 8080),
        ({}, {"public_port": 8100}, 8100),
        ({"PORT": "7000"}, {}, 7000),
        ({"CC_REQUEST_FLOW": "block"}, {}, 8080),
        ({"CC_REQUEST_FLOW": "block", "CC_PYTHON_UV_RUN_COMMAND": "uv run server --port 9000"}, {}, 9000),
    ],
)
def test_d2_without_a_chain_the_application_has_the_public_port(
    env: dict[str, str], app: dict[str, Any], port: int
) -> None:
    made = image(env, app=app)
    assert (made.port, made.environment["PORT"]) == (port, str(port))
    assert f"\nEXPOSE {port}\n" in made.text


def test_a_chain_is_left_out_with_a_warning_and_the_applications_own_paths_are_asked() -> None:
    made = image({"CC_REQUEST_FLOW": "block", "CC_HEALTH_CHECK_PATH": "/health"})
    assert "image_without_chain" in codes(made)
    assert made.health == {"paths": ["/health"], "accept": "200"}
    assert "image_without_chain" not in codes(image())


@pytest.mark.parametrize(
    ("env", "app"),
    [({"UV_KEYRING_PROVIDER": "subprocess"}, {}), ({}, {"netrc": "machine index.example login a password hunter22"})],
    ids=["keyring", "netrc"],
)
def test_h2_ways_to_an_index_that_a_build_of_an_image_has_not_are_refused(
    env: dict[str, str], app: dict[str, Any]
) -> None:
    assert "image_credentials" in codes(image(env, app=app))
    assert "image_credentials" not in codes(
        image({"UV_KEYRING_PROVIDER": "disabled", "UV_INDEX_A_PASSWORD": "hunter22"})
    )


def test_legacy_mode_is_refused_with_its_reason() -> None:
    plan = support.ask(
        {"CC_PYTHON_UV_RUN_COMMAND": None, "CC_PYTHON_MODULE": "shop:app"}, files=["shop.py", "requirements.txt"]
    )
    found = make_image(plan, Settings(BASE), root="/srv/pyfleet/shop", release=RELEASE).findings
    assert "image_legacy" in {item.code for item in found if item.severity == "error"}


def test_a_project_in_a_folder_of_the_source() -> None:
    made = image({"APP_FOLDER": "web"}, files=["web/uv.lock", "web/pyproject.toml", "lib/x.py"])
    both = stages(made)
    assert f"WORKDIR {HOME}/web\n" in both["dependencies"]
    assert f"COPY dependencies/ {HOME}/\n" in both["dependencies"]
    assert "--exclude=./web/.venv -cf - ." in both["build"]
    assert f"COPY --from=dependencies {HOME}/web/.venv/ {HOME}/web/.venv/" in both["final"]
    assert f"cd {HOME}/web || exit 1" in made.scripts["run"]
    assert made.environment["VIRTUAL_ENV"] == f"{HOME}/web/.venv"
    assert made.environment["APP_HOME"] == HOME


def test_without_its_source_the_project_is_a_package() -> None:
    made = image(settings=Settings(BASE, source=False))
    assert "image_no_package" not in codes(made)
    (step,) = steps(stages(made)["build"], "RUN")
    assert "uv sync --locked --no-progress --no-dev --no-editable;" in step
    assert "/var/tmp/pyfleet-source/ " not in stages(made)["final"]
    assert "--no-editable" not in image().text
    assert "image_no_package" in codes(image(settings=Settings(BASE, source=False), is_package=False))
    assert "image_no_package" not in codes(image(is_package=False))


@pytest.mark.parametrize(
    ("python", "wanted"),
    [
        ("auto", ""),
        ("base", " UV_PYTHON_DOWNLOADS=never UV_PYTHON_PREFERENCE=only-system"),
        ("managed", " UV_PYTHON_PREFERENCE=only-managed"),
    ],
)
@pytest.mark.rule("C5")
def test_c5_where_python_comes_from(python: str, wanted: str) -> None:
    made = stages(image({"CC_PYTHON_VERSION": "3.13"}, Settings(BASE, python=python)))
    (step,) = steps(made["dependencies"], "ENV")
    assert step.endswith(f"UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy{wanted}")
    assert "COPY --from=build /opt/pyfleet/python/ /opt/pyfleet/python/" in made["final"]
    assert "export UV_PYTHON=3.13" in image({"CC_PYTHON_VERSION": "3.13"}).build_env
    assert "echo pyfleet-failed: python >&2; exit 1;" in made["final"]


def test_certificates_are_a_mount_of_the_build() -> None:
    made = stages(image(certificates=True))
    for stage in ("dependencies", "build"):
        (step,) = steps(made[stage], "RUN")
        assert "--mount=type=secret,id=pyfleet-ca --mount=type=tmpfs,target=/run/pyfleet" in step
        assert "export SSL_CERT_FILE=/run/pyfleet/ca.pem UV_SYSTEM_CERTS=1" in step
    assert "pyfleet-ca" not in made["final"]
    assert "pyfleet-ca" not in image().text


def test_caches_are_mounts_and_dependencies_and_build_share_them() -> None:
    both = stages(image())
    mount = "--mount=type=cache,id=pyfleet-uv,target=/var/cache/pyfleet-uv"
    assert all(mount in steps(both[stage], "RUN")[0] for stage in ("dependencies", "build"))
    assert "UV_CACHE_DIR=/var/cache/pyfleet-uv" in both["dependencies"]
    assert "cache" not in both["final"]


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        (Settings(""), "image_base"),
        (Settings("a b"), "image_base"),
        (Settings(BASE, "--x"), "image_build_base"),
        (Settings(BASE, repository="Shop:1"), "image_repository"),
        (Settings(BASE, user="root"), "image_user"),
        (Settings(BASE, user="0:10001"), "image_user"),
        (Settings(BASE, python="3.13"), "image_python"),
    ],
)
def test_wrong_variables_are_named(settings: Settings, variable: str) -> None:
    assert [item.variable for item in containerfile.check(settings)] == [variable]
    assert not containerfile.check(
        Settings("registry.example.com:5000/a/b@sha256:00", "x:1", "localhost:5000/a/shop", "1")
    )


def test_folders_that_a_containerfile_would_read_otherwise_are_refused() -> None:
    for name, wrong in (("web-1.0_x@2", False), ("my web", True), ("$HOME", True), ("a*", True)):
        made = image({"APP_FOLDER": name}, files=[f"{name}/uv.lock", f"{name}/pyproject.toml"])
        assert ("image_path" in codes(made)) == wrong, name


@pytest.mark.rule("H3")
def test_h3_an_image_has_no_host_on_which_auto_could_look() -> None:
    def refused(wanted: str, *extras: str) -> bool:
        source = {**support.INPUTS["source"], "project": {"extras": list(extras), "conflicts": []}}
        app = {**support.INPUTS["app"], "accelerator": wanted}
        plan = make_plan({**support.INPUTS, "app": app, "source": source, "host": None})
        made = make_image(plan, Settings(BASE), root="/srv/pyfleet/shop", release=RELEASE)
        return "image_accelerator" in codes(made)

    assert refused("auto", "cpu", "cu128")
    assert not refused("cu128", "cpu", "cu128")
    assert not refused("", "cpu", "cu128")
    assert not refused("auto", "auto"), "an extra of that name is one like any other"


def test_another_platform_and_a_relative_path_elsewhere_are_refused() -> None:
    def refused(local: bool, **wanted: Any) -> list[str]:
        return [item.code for item in containerfile.check_place(wanted, local=local)]

    for argument in ("--platform", "--platform=linux/arm64", "--arch=arm64", "--os", "--variant=v7"):
        assert refused(True, build_arguments=["--squash", argument]) == ["image_platform"]
    assert refused(True, build_arguments=["--squash", "--label=--platform"]) == []
    assert refused(False, env_file="shop.env") == ["image_place"]
    assert refused(False, env_file="/etc/shop.env") == refused(True, env_file="shop.env") == refused(False) == []


#: As podman 4.3 prints it, shortened: the step before its output, and once more at the end.
STEP = "RUN set -e; bash -c 'x' || { echo pyfleet-failed: CC_PRE_BUILD_HOOK >&2; exit 1; }"
FAILED_STEP = f'[1/3] STEP 7/7: {STEP}\n%s\nError: building at STEP "{STEP}": while running runtime: exit status 1\n'
STALE = "error: The lockfile at `uv.lock` needs to be updated."


@pytest.mark.parametrize(
    ("said", "told", "words"),
    [
        ("make: nothing\npyfleet-failed: CC_POST_BUILD_HOOK", "CC_POST_BUILD_HOOK", "make: nothing"),
        (f"Using CPython 3.13\n{STALE}", "", STALE),
        ("nothing that is known", "", "nothing that is known"),
        ("pyfleet-failed: python", "python", ""),
    ],
)
def test_why_a_build_failed_is_what_its_last_step_said(said: str, told: str, words: str) -> None:
    assert containerfile.read_failure(FAILED_STEP % said) == (told, words)
