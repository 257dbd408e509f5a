# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWX as code: the data against the roles, the playbooks and the rules of AWX's API.

There is no AWX here, and no collection awx.awx. What AWX takes is written down below from its documentation, and setup.yml runs
with stand-ins for the modules that take exactly the options of the real ones: it proves our side, not AWX's.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pyfleet.runtime.tests.tools import awx, stage_tree

ROOT = stage_tree.ROOT
TEMPLATES = awx.job_templates(ROOT)
WORKFLOW = awx.data(ROOT)["awx_workflow"]
SURVEYS = {**{key: template["survey"] for key, template in TEMPLATES.items()}, "workflow": WORKFLOW["survey"]}
QUESTIONS = [
    pytest.param(key, question, id=f"{key}-{question['variable']}")
    for key, survey in SURVEYS.items()
    for question in survey
]

ASKED = ("credential", "diff_mode", "execution_environment", "forks", "instance_groups", "inventory", "job_slice_count", "job_type",
         "labels", "limit", "scm_branch", "skip_tags", "tags", "timeout", "variables", "verbosity")  # fmt: skip
TEXT, FLAG, NUMBER, LIST, DICT = {"type": "str"}, {"type": "bool"}, {"type": "int"}, {"type": "list"}, {"type": "dict"}
NAMES = {"type": "list", "elements": "str"}
NOTIFICATIONS = {f"notification_templates_{when}": NAMES for when in ("started", "success", "error")}
#: Options of the modules of awx.awx 24.6, as documented; those of credentials for the API itself are left out.
MODULES: dict[str, dict[str, dict[str, Any]]] = {
    "organization": {"name": TEXT, "description": TEXT, "default_environment": TEXT, "galaxy_credentials": NAMES, **NOTIFICATIONS},
    "execution_environment": {
        "name": TEXT, "image": TEXT, "description": TEXT, "organization": TEXT, "credential": TEXT,
        "pull": {"type": "str", "choices": ["always", "missing", "never"]},
    },
    "project": {
        "name": TEXT, "description": TEXT, "organization": TEXT, "scm_url": TEXT, "scm_branch": TEXT, "credential": TEXT,
        "scm_type": {"type": "str", "choices": ["manual", "git", "svn", "insights", "archive"]}, "scm_update_on_launch": FLAG,
        "update_project": FLAG, "wait": FLAG, "allow_override": FLAG, "default_environment": TEXT, **NOTIFICATIONS,
    },
    "inventory": {"name": TEXT, "description": TEXT, "organization": TEXT, "variables": DICT},
    "job_template": {
        "name": TEXT, "description": TEXT, "job_type": {"type": "str", "choices": ["run", "check"]}, "inventory": TEXT,
        "organization": TEXT, "project": TEXT, "playbook": TEXT, "credentials": NAMES, "execution_environment": TEXT, "forks": NUMBER,
        "limit": TEXT, "verbosity": {"type": "int", "choices": [0, 1, 2, 3, 4]}, "extra_vars": DICT, "diff_mode": FLAG,
        "allow_simultaneous": FLAG, "timeout": NUMBER, "job_slice_count": NUMBER, "survey_enabled": FLAG, "survey_spec": DICT,
        "become_enabled": FLAG, **{f"ask_{what}_on_launch": FLAG for what in ASKED}, **NOTIFICATIONS,
    },
    "workflow_job_template": {
        "name": TEXT, "description": TEXT, "organization": TEXT, "inventory": TEXT, "limit": TEXT, "extra_vars": DICT,
        "allow_simultaneous": FLAG, "survey_enabled": FLAG, "survey_spec": DICT, "schema": {"type": "list", "elements": "dict"},
        "destroy_current_schema": FLAG, "notification_templates_approvals": NAMES,
        **{f"ask_{what}_on_launch": FLAG for what in ("inventory", "limit", "variables", "scm_branch")}, **NOTIFICATIONS,
    },
}  # fmt: skip
#: What an answer may be put into, by the type that a role's argument specs give. A mapping arrives as YAML text.
FITTING = {
    "str": {"text", "textarea", "password", "multiplechoice"},
    "path": {"text"},
    "raw": {"text", "textarea"},
    "int": {"integer"},
    "float": {"float", "integer"},
    "bool": {"multiplechoice"},
    "list": {"multiselect"},
    "dict": {"textarea"},
}
#: Variables that playbooks read and that are no setting of a role.
OF_PLAYBOOKS = {"app_release": "str"}


def specs() -> dict[str, dict[str, Any]]:
    """Every documented variable of every role."""
    return {
        name: option
        for path in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml"))
        for name, option in yaml.safe_load(path.read_text())["argument_specs"]["main"].get("options", {}).items()
    }


# -- the data --------------------------------------------------------------------------------------------------------------


def test_every_playbook_that_people_launch_has_a_template() -> None:
    playbooks = {path.name for path in (ROOT / "playbooks").glob("*.yml")} - {"site.yml"}
    assert {template["playbook"] for template in TEMPLATES.values()} == playbooks


@pytest.mark.parametrize("key", TEMPLATES)
def test_fields_are_those_of_awx(key: str) -> None:
    template = TEMPLATES[key]
    fields = awx.fields(template)
    known = MODULES["job_template"]
    kinds = {"str": str, "bool": bool, "int": int}
    assert not [name for name in fields if name not in known]
    assert not [name for name, value in fields.items() if not isinstance(value, kinds[known[name]["type"]])]
    assert fields["job_type"] in ("run", "check")
    assert {"name", "description", "playbook", "allow_simultaneous", "ask_limit_on_launch"} <= set(fields)


@pytest.mark.parametrize("key", TEMPLATES)
def test_the_project_has_the_playbook_in_awxs_own_reading(key: str) -> None:
    """AWX lists the files in which a line begins with `hosts:` or `import_playbook:`; `ansible.builtin.import_playbook` is none."""
    text = (ROOT / "playbooks/awx/project" / TEMPLATES[key]["playbook"]).read_text()
    assert re.search(r"^\s*?-?\s*?(?:hosts|include|import_playbook):\s*?.*?$", text, re.MULTILINE)
    (play,) = yaml.safe_load(text)
    assert play["import_playbook"] == f"pyfleet.runtime.{TEMPLATES[key]['playbook'].removesuffix('.yml')}"


def test_the_project_has_nothing_else() -> None:
    files = {path.name for path in (ROOT / "playbooks/awx/project").iterdir()}
    assert files == {template["playbook"] for template in TEMPLATES.values()}


@pytest.mark.parametrize(("key", "question"), QUESTIONS)
def test_awx_takes_the_question(key: str, question: dict[str, Any]) -> None:
    assert awx.wrong_question(question) == ""


@pytest.mark.parametrize("key", SURVEYS)
def test_a_survey_asks_for_a_variable_once(key: str) -> None:
    variables = [question["variable"] for question in SURVEYS[key]]
    assert len(variables) == len(set(variables))


@pytest.mark.parametrize(("key", "question"), QUESTIONS)
def test_the_variable_exists_and_takes_the_answer(key: str, question: dict[str, Any]) -> None:
    documented = specs()
    name = question["variable"]
    if name in OF_PLAYBOOKS:
        tasks = "".join(path.read_text() for path in sorted((ROOT / "roles/app/tasks").glob("*.yml")))
        assert re.search(rf"\b{name}\b", tasks), f"nothing reads {name}"
    spec = documented.get(name, {"type": OF_PLAYBOOKS.get(name)})
    assert question["type"] in FITTING[spec["type"]], f"{name} is of type {spec['type']}"
    if spec["type"] == "bool":
        assert sorted(question["choices"]) == ["false", "true"]
    elif question["type"] == "multiplechoice":
        assert question["choices"] == spec["choices"]
    elif "choices" in spec:
        raise AssertionError(f"{name} has choices: the question's type is multiplechoice")
    if question["type"] == "multiselect":
        assert spec["elements"] == "str"


@pytest.mark.parametrize("key", TEMPLATES)
def test_the_playbook_uses_the_role_of_each_variable(key: str) -> None:
    text = (ROOT / "playbooks" / TEMPLATES[key]["playbook"]).read_text()
    while "import_playbook: pyfleet.runtime." in text:
        text = re.sub(
            r"import_playbook: pyfleet\.runtime\.(\w+)",
            lambda found: (ROOT / f"playbooks/{found[1]}.yml").read_text(),
            text,
        )
    roles = {question["variable"].partition("_")[0] for question in TEMPLATES[key]["survey"]}
    assert not [role for role in roles if not re.search(rf"pyfleet\.runtime\.{role}\b", text)]


@pytest.mark.parametrize(("key", "question"), QUESTIONS)
def test_what_nobody_answers_leaves_the_inventory_alone(key: str, question: dict[str, Any]) -> None:
    """An extra variable wins over the inventory. AWX passes an empty text on where the minimum is 0, and any default."""
    if question["required"]:
        return
    assert "default" not in question
    if question["type"] in ("text", "textarea", "password"):
        assert question["min"] >= 1


def test_required_variables_are_asked_for_or_left_to_the_inventory() -> None:
    needed = {name for name, option in specs().items() if option.get("required")}
    assert needed == {"app_name", "app_source", "batch_name", "batch_script"}
    asked = {question["variable"] for question in TEMPLATES["batch"]["survey"] if question["required"]}
    assert asked == {"batch_name", "batch_script"}
    for key, template in TEMPLATES.items():
        if key not in ("provision", "batch", "notebook"):
            name = next(question for question in template["survey"] if question["variable"] == "app_name")
            assert name["required"] is True


def test_the_workflow_hangs_together() -> None:
    nodes = {node["identifier"]: node for node in WORKFLOW["nodes"]}
    by_name = {template["name"]: template for template in TEMPLATES.values()}
    reached = {"canary"}
    for node in nodes.values():
        related = node["related"]
        assert set(related) == {"success_nodes", "failure_nodes", "always_nodes", "credentials"}
        reached |= {after["identifier"] for kind in related.values() for after in kind}
        runs = node["unified_job_template"]
        if runs["type"] == "job_template":
            template = by_name[runs["name"]]
            # AWX drops what the job template does not ask for
            assert "limit" not in node or template["ask_limit_on_launch"]
            assert "app_name" in {question["variable"] for question in template["survey"]}
            # a handled failure is none to AWX: the workflow would succeed
            assert related["failure_nodes"] == related["always_nodes"] == []
        else:
            assert runs["type"] == "workflow_approval"
    assert reached == set(nodes)
    asked = {question["variable"] for question in WORKFLOW["survey"]}
    assert asked <= {question["variable"] for question in TEMPLATES["deploy"]["survey"]}


# -- the payloads ------------------------------------------------------------------------------------------------------------


def test_the_payloads_are_current() -> None:
    texts = awx.generated(ROOT)
    assert {path.name for path in (ROOT / "docs/awx").iterdir()} == {path.name for path in texts}, "run 'make docs'"
    assert [path.name for path, text in texts.items() if path.read_text() != text] == [], "run 'make docs'"


def test_the_documentation_names_every_payload() -> None:
    page = (ROOT / "docs/awx.md").read_text()
    assert [path.name for path in awx.generated(ROOT) if f"({'awx/' + path.name})" not in page] == []


# -- launching ---------------------------------------------------------------------------------------------------------------


def test_answers_become_extra_variables() -> None:
    survey = TEMPLATES["rollback"]["survey"]
    assert awx.launched(survey, {"app_name": "shop", "app_release": ""}) == {
        "app_name": "shop",
        "app_rollback_force": "false",
    }
    with pytest.raises(ValueError, match="'app_name' value missing"):
        awx.launched(survey, {})
    with pytest.raises(ValueError, match="not allowed on launch"):
        awx.launched(survey, {"app_name": "shop", "app_root": "/"})
    with pytest.raises(ValueError, match="not among the choices"):
        awx.launched(survey, {"app_name": "shop", "app_rollback_force": "yes"})
    with pytest.raises(ValueError, match="not an answer"):
        awx.launched(TEMPLATES["deploy"]["survey"], {"app_name": "shop", "app_health_deadline": "60"})


def test_extra_variables_are_written_as_awx_does() -> None:
    text = awx.extra_vars_file({"app_name": "shop", "app_env": "A: '{{ b }}'\nB: 1\n", "app_health_deadline": 60})
    assert "!unsafe 'app_name': !unsafe 'shop'" in text
    assert "!unsafe 'app_health_deadline': 60" in text


# -- setup.yml ---------------------------------------------------------------------------------------------------------------

STAND_IN = """
from ansible.module_utils.basic import AnsibleModule
import json
module = AnsibleModule(argument_spec={spec!r}, supports_check_mode=True)
given = {{name: value for name, value in module.params.items() if value is not None}}
with open({record!r}, "a") as record:
    record.write(json.dumps({{"module": {name!r}, "options": given}}) + "\\n")
module.exit_json(changed=False)
"""


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    """A folder of collections with stand-ins for awx.awx, and this checkout."""
    collection = tmp_path / "ansible_collections/awx/awx"
    (collection / "plugins/modules").mkdir(parents=True)
    (collection / "galaxy.yml").write_text("namespace: awx\nname: awx\nversion: 24.6.1\n")
    for name, options in MODULES.items():
        spec = {option: dict(kind) for option, kind in options.items()}
        text = STAND_IN.format(spec=spec, record=str(tmp_path / "calls.jsonl"), name=name)
        (collection / f"plugins/modules/{name}.py").write_text(text)
    (tmp_path / "ansible_collections/pyfleet").mkdir()
    (tmp_path / "ansible_collections/pyfleet/runtime").symlink_to(ROOT)
    return tmp_path


def set_up(stand_ins: Path, **variables: Any) -> list[dict[str, Any]]:
    """Run setup.yml by its name in the collection; the calls of AWX's modules."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment.update(ANSIBLE_COLLECTIONS_PATH=str(stand_ins), ANSIBLE_LOCALHOST_WARNING="false", HOME=str(stand_ins))
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        "pyfleet.runtime.awx.setup",
        "-e",
        json.dumps(variables),
    ]
    done = subprocess.run(command, cwd=stand_ins, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in (stand_ins / "calls.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_setup_makes_what_the_data_says(stand_ins: Path) -> None:
    calls = set_up(
        stand_ins,
        awx_organization="Shops",
        awx_execution_environment_image="registry.example.org/pyfleet-ee:1",
        awx_project_url="https://git.example.org/fleet.git",
        awx_inventory="fleet",
        awx_credentials=["deploy key"],
        awx_canary="first",
    )
    names = [call["module"] for call in calls]
    assert names == [
        "organization", "execution_environment", "project", "inventory", *["job_template"] * len(TEMPLATES), "workflow_job_template",
    ]  # fmt: skip
    made = {call["options"]["name"]: call["options"] for call in calls if call["module"] == "job_template"}
    for key, payload in awx.payloads(ROOT).items():
        if key == WORKFLOW["key"]:
            continue
        options = made[payload["job_template"]["name"]]
        assert options["survey_spec"] == payload["survey_spec"]
        assert {name: options[name] for name in payload["job_template"]} == payload["job_template"]
        assert options["inventory"] == "fleet"
        assert options["credentials"] == ["deploy key"]
        assert options["ask_inventory_on_launch"] is options["ask_credential_on_launch"] is False
        # what the payload does not name is off in AWX, too
        unnamed = {name for name in options if name.startswith("ask_")} - set(payload["job_template"])
        assert [name for name in unnamed if options[name]] == []
    workflow = calls[-1]["options"]
    assert workflow["survey_spec"] == awx.payloads(ROOT)["workflow"]["survey_spec"]
    limits = {node["identifier"]: node.get("limit") for node in workflow["schema"]}
    assert limits == {"canary": "first", "approval": None, "rest": None, "take-back": "first"}
    assert workflow["schema"][0]["unified_job_template"]["organization"] == {"name": "Shops"}


@pytest.mark.slow
def test_setup_leaves_to_the_launch_what_it_is_not_told(stand_ins: Path) -> None:
    calls = set_up(stand_ins)
    assert {call["module"] for call in calls} == {"organization", "job_template", "workflow_job_template"}
    for call in calls[1:]:
        assert "inventory" not in call["options"]
        assert call["options"]["ask_inventory_on_launch"] is True
    assert calls[1]["options"]["ask_credential_on_launch"] is True
