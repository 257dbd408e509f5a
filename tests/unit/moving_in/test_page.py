# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/moving-in.md: the variables, rules, playbooks and links that it names exist, and its inventories give good plans."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pyfleet.runtime.plugins.module_utils import environment, exported_env, run
from ansible_collections.pyfleet.runtime.plugins.module_utils.plan import make_plan
from ansible_collections.pyfleet.runtime.tests.tools import rules, stage_tree

from .exports import CLEVER, FOLDER, HEROKU

ROOT = stage_tree.ROOT
PAGE = (ROOT / "docs" / "moving-in.md").read_text(encoding="utf-8")
#: The heading of the table of what is not supported: names in its first column must not be known.
NOTHING = "Variables that mean nothing here"
VARIABLE = re.compile(r"\b(?:CC|APP|UV|PIP|WSGI|UWSGI|NGINX|STATIC|OTOROSHI|OAUTH2|INSTANCE)_[A-Z0-9_]+\b")
SETTING = re.compile(r"\b(?:app|host)_[a-z0-9_]+\b|\bpython_versions\b")


def section(title: str) -> str:
    """The text below a heading, up to the next one of its level or above."""
    match = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,3}} |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match, title
    return match.group(2)


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@functools.cache
def known_to_the_plan() -> set[str]:
    """Every name of a variable that stands by itself somewhere in the plan's code."""
    names = set(environment.NON_SECRET | environment.LEGACY_SERVER | environment.PLATFORM)
    for path in (ROOT / "plugins" / "module_utils").glob("*.py"):
        if path.stem in ("findings", "exported_env"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and VARIABLE.fullmatch(node.value):
                names.add(node.value)
    return names


def settings_of_roles() -> set[str]:
    """Every variable of every role."""
    specs = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in ROOT.glob("roles/*/meta/argument_specs.yml")]
    return {name for spec in specs for entry in spec["argument_specs"].values() for name in entry.get("options", {})}


def known(name: str) -> bool:
    """Whether a variable means something here; indexed ones by the name without the index."""
    names = {name, re.sub(r"_[0-9]+\Z", "", name)}
    return bool(names & (known_to_the_plan() | exported_env.SET_BY_CLEVER)) or environment.is_build_only(name)


# -- names -------------------------------------------------------------------------------------------------------------------


def test_every_variable_that_the_page_names_means_something() -> None:
    unsupported = {name for row in rows(section(NOTHING)) for name in VARIABLE.findall(row[0])}
    named = set(VARIABLE.findall(PAGE)) - unsupported
    assert len(named) > 60
    assert sorted(name for name in named if not known(name)) == []
    assert len(unsupported) > 10
    assert sorted(name for name in unsupported if known(name)) == [], "these mean something by now: move them up"


def test_every_setting_that_the_page_names_is_one_of_a_role() -> None:
    named = set(SETTING.findall(PAGE))
    assert {"app_env", "app_public_port", "app_pre_run_hook", "host_extra_packages", "python_versions"} <= named
    assert sorted(named - settings_of_roles()) == []


def test_every_rule_that_the_page_names_is_one_of_the_contract() -> None:
    contract = {rule.id for rule in rules.read_contract((ROOT / rules.CONTRACT).read_text(encoding="utf-8"))}
    table = [rule for row in rows(section("What the variables mean here"))[1:] for rule in row[-1].split(", ")]
    text = [rule for group in re.findall(r"\(([A-I]\d*(?:, [A-I]\d*)*)\)", PAGE) for rule in group.split(", ")]
    assert len(table) > 40
    assert len(text) > 20
    assert sorted({*table, *text} - contract) == []


def test_platform_variables_are_all_in_the_table() -> None:
    row = next(row for row in rows(section("What the variables mean here")) if row[-1] == "D5")
    assert set(re.findall(r"`([A-Z_]+)`", row[0])) == set(environment.PLATFORM)


def test_playbooks_plugins_and_links_exist() -> None:
    for name in set(re.findall(r"pyfleet\.runtime\.([a-z_]+)", PAGE)):
        places = [f"playbooks/{name}.yml", f"plugins/lookup/{name}.py"]
        assert any((ROOT / place).exists() for place in places), name
    for link in re.findall(r"\]\(([^)#]*)(?:#[^)]*)?\)", PAGE):
        assert not link or (ROOT / "docs" / link).exists(), link
    for page, anchor in re.findall(r"\]\(([^)#]*)#([^)]*)\)", PAGE):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8") if page else PAGE
        titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, anchor


def test_other_pages_lead_here() -> None:
    for page in ("README.md", "docs/getting-started.md", "docs/legacy.md"):
        assert "moving-in.md" in (ROOT / page).read_text(encoding="utf-8"), page


# -- inventories -------------------------------------------------------------------------------------------------------------

INVENTORIES = [
    yaml.safe_load(block)["python_hosts"]["vars"]
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    if "python_hosts:" in block
]
UV = {
    "files": ["uv.lock", "pyproject.toml", "shop/__init__.py"],
    "texts": {"pyproject.toml": '[project]\nname = "shop"\nrequires-python = ">=3.11"\n'},
}
DJANGO = {
    "files": ["requirements.txt", "manage.py", "shop/wsgi.py", "shop/celery.py"],
    "texts": {"requirements.txt": "django==5.2\ncelery==5.5\ngunicorn==23.0.0\n"},
}
HOST = {
    "pythons": [{"version": "3.13.1", "path": "/usr/bin/python3.13", "managed": False}],
    "cores": 2,
    "memory_mb": 4096,
    "listeners": [{"port": 8000, "address": "127.0.0.1", "process": "gunicorn"}],
    "apps": {},
    "current": None,
}


def planned(inventory: dict[str, Any], exported: dict[str, str], source: dict[str, Any], **app: Any) -> dict[str, Any]:
    """The plan that an inventory of the page gives, with what the lookup returns put in."""
    template = inventory["app_env"]
    match = re.fullmatch(
        r"\{\{ lookup\('pyfleet\.runtime\.clever_env', '([\w.]+)'(?:, drop=(.*?))?\) \| combine\(shop_env\) \}\}",
        template,
    )
    assert match, template
    drop = inventory["of_systemd"] if match.group(2) == "of_systemd" else ast.literal_eval(match.group(2) or "[]")
    result, found = exported_env.read(json.dumps(exported).encode(), match.group(1), drop=drop)
    assert result is not None, found
    given = {"name": inventory["app_name"], "root": "/srv/pyfleet/shop", **app}
    return make_plan(
        {
            "app": given,
            "env": {**result.variables, **inventory["shop_env"]},
            "source": {**source, "commit": "c", "digest": "d"},
            "host": HOST,
            "today": "2026-11-20",
            "release_id": "0a1b2c3d4e5f",
        }
    )


@pytest.mark.rule("A1", "D2")
def test_d2_the_inventory_for_clever_cloud_plans_uv_mode_without_a_gap() -> None:
    plan = planned(INVENTORIES[0], {**CLEVER, "PORT": "8080", "APP_ID": "app_1"}, UV)
    assert (plan["errors"], plan["warnings"]) == ([], [])
    assert (plan["mode"], plan["switch"]) == ("uv", run.SIDE_BY_SIDE)
    assert {**plan["environment"], **CLEVER, "CC_PYTHON_UV_RUN_COMMAND": plan["run"]["command"]} == plan["environment"]
    # what the page says of PORT
    kept = {**INVENTORIES[0], "app_env": INVENTORIES[0]["app_env"].replace("'PORT'", "'OTHER'")}
    assert planned(kept, {"PORT": "8080"}, UV)["switch"] == run.IN_PLACE


@pytest.mark.rule("D8", "D7", "B7")
def test_d8_the_inventory_for_heroku_plans_gunicorn_a_worker_and_a_migration() -> None:
    plan = planned(INVENTORIES[1], HEROKU, DJANGO)
    assert (plan["errors"], plan["warnings"]) == ([], [])
    assert (plan["mode"], plan["server"]["backend"], plan["switch"]) == ("legacy", "gunicorn", run.SIDE_BY_SIDE)
    assert [worker["command"] for worker in plan["workers"]] == ["celery -A shop worker"]
    assert plan["hooks"]["pre_run"] == "python manage.py migrate --noinput"
    assert plan["python"]["selected"]["version"] == "3.13.1"
    assert INVENTORIES[1]["app_pre_run_hook"] == "once"


def procfile() -> list[tuple[str, str]]:
    """Per cell of the Procfile's table the source that it needs and its assignments, those of a real command only."""
    cells = [
        (source, cell) for row in rows(section("The Procfile"))[1:] for source, cell in zip("lu", row[1:], strict=True)
    ]
    return [(source, cell) for source, cell in cells if "…" not in cell and "CC_" in cell]


@pytest.mark.parametrize(("source", "cell"), procfile())
def test_every_line_of_the_procfile_gives_a_plan_without_errors(source: str, cell: str) -> None:
    env = dict(part.split(": ", 1) for part in re.findall(r"`(CC_[A-Z0-9_]+: [^`]+)`", cell))
    assert env
    run_by = (
        {"CC_PYTHON_MODULE": "shop.wsgi:app"}
        if source == "l"
        else {"CC_PYTHON_UV_RUN_COMMAND": "uv run x --port $PORT"}
    )
    if not any(name in ("CC_PYTHON_MODULE", "CC_PYTHON_UV_RUN_COMMAND") for name in env):
        env = {**run_by, **env}
    files = {**DJANGO, "files": [*DJANGO["files"], "shop/__init__.py"]} if source == "l" else UV
    plan = planned({**INVENTORIES[1], "shop_env": env}, HEROKU, files)
    assert plan["errors"] == []
    assert plan["mode"] == {"l": "legacy", "u": "uv"}[source]
    assert plan["switch"] == run.SIDE_BY_SIDE


@pytest.mark.rule("D2", "G6", "G10", "G14")
def test_d2_the_inventory_for_a_gunicorn_host_stands_beside_the_old_one_and_not_on_its_port() -> None:
    old = {"HOME": "/var/www", "PATH": "/usr/bin", "USER": "www-data", "GREETING": 'Grüße, "$HOME"'}
    plan = planned(INVENTORIES[2], old, DJANGO)
    assert plan["errors"] == []
    assert [item["code"] for item in plan["warnings"]] == ["static_missing"], "which says that the build may make them"
    assert plan["server"]["workers"] == 4
    assert plan["server"]["settings"]["timeout"] == 60
    assert plan["server"]["nginx"]["static"] == {"path": "staticfiles", "prefix": "/static"}
    assert plan["environment"]["GREETING"] == old["GREETING"]
    assert plan["environment"]["HOME"] == "/srv/pyfleet/shop/home"
    taken = planned(INVENTORIES[2], old, DJANGO, public_port=8000)
    assert [item["code"] for item in taken["errors"]] == ["port_in_use"]


def test_d6_the_command_for_a_running_process_takes_every_byte(tmp_path: Path) -> None:
    program = re.search(r"python3 -c '(import json, os, sys.*?)' > shop\.old\.json", PAGE, re.DOTALL)
    assert program
    wanted = json.loads((FOLDER / "heroku.json").read_text(encoding="utf-8"))
    pairs = "".join(f"{name}={value}\0" for name, value in wanted.items()).encode()
    done = subprocess.run([sys.executable, "-c", program.group(1)], input=pairs, capture_output=True, check=True)
    result, found = exported_env.read(done.stdout, "shop.old.json")
    assert result is not None, found
    assert result.variables == wanted
