#!/usr/bin/env python3
# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWX's job templates, from `playbooks/awx/templates.yml`: as payloads of its API, and launched as AWX launches them.

`docs.py` writes the payloads into `docs/awx/`. The rules about surveys here are those of AWX 24.6 (`survey_spec` of its API, and
what becomes of answers when a job starts); no AWX was at hand to ask.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

#: Fields of ours in templates.yml; all others are AWX's.
OURS = ("key", "survey", "nodes")
#: Question types, and what their answers are.
ANSWERS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "textarea": (str,),
    "password": (str,),
    "integer": (int,),
    "float": (int, float),
    "multiplechoice": (str,),
    "multiselect": (list,),
}
QUESTION_FIELDS = {
    "question_name", "question_description", "variable", "type", "required", "default", "min", "max", "choices", "new_question",
}  # fmt: skip


def data(root: Path) -> dict[str, Any]:
    """The content of templates.yml."""
    content: dict[str, Any] = yaml.safe_load((root / "playbooks/awx/templates.yml").read_text(encoding="utf-8"))
    return content


def defaults(root: Path) -> dict[str, Any]:
    """The variables of setup.yml."""
    (play,) = yaml.safe_load((root / "playbooks/awx/setup.yml").read_text(encoding="utf-8"))
    variables: dict[str, Any] = play["vars"]
    return variables


def job_templates(root: Path) -> dict[str, dict[str, Any]]:
    """The job templates by key."""
    return {template["key"]: template for template in data(root)["awx_job_templates"]}


def survey_spec(survey: list[dict[str, Any]]) -> dict[str, Any]:
    """The body for `…/survey_spec/`."""
    return {"name": "", "description": "", "spec": survey}


def fields(template: Mapping[str, Any]) -> dict[str, Any]:
    """The body for `/api/v2/job_templates/` or `/api/v2/workflow_job_templates/`, without what differs from AWX to AWX."""
    own = {name: value for name, value in template.items() if name not in OURS}
    return {**own, "survey_enabled": True}


def payloads(root: Path) -> dict[str, dict[str, Any]]:
    """What stands in `docs/awx/`, by key."""
    found = {
        key: {"job_template": fields(template), "survey_spec": survey_spec(template["survey"])}
        for key, template in job_templates(root).items()
    }
    workflow = data(root)["awx_workflow"]
    text = jinja2.Template(json.dumps(workflow["nodes"]), undefined=jinja2.StrictUndefined).render(defaults(root))
    found[workflow["key"]] = {
        "workflow_job_template": fields(workflow),
        "survey_spec": survey_spec(workflow["survey"]),
        "nodes": json.loads(text),
    }
    return found


def generated(root: Path) -> dict[Path, str]:
    """The text that every file in `docs/awx/` must have; nothing where there is no templates.yml."""
    if not (root / "playbooks/awx/templates.yml").exists():
        return {}
    return {
        root / f"docs/awx/{key}.json": json.dumps(payload, indent=2, ensure_ascii=False) + "\n"
        for key, payload in payloads(root).items()
    }


def wrong_question(question: Mapping[str, Any]) -> str:
    """Why AWX's API would refuse a question of a survey; empty when it would not."""
    for name in ("type", "question_name", "variable"):
        if not isinstance(question.get(name), str) or not question[name]:
            return f"{name} is not a text"
    if not isinstance(question.get("required"), bool):
        return "required is not a boolean"
    unknown = sorted(set(question) - QUESTION_FIELDS)
    if unknown:
        return f"unknown fields: {unknown}"
    if question["type"] not in ANSWERS:
        return f"{question['type']} is no type of question"
    if any(type(question.get(name)) not in (int, type(None)) for name in ("min", "max")):
        return "min and max are integers"
    choices = question.get("choices")
    if question["type"] in ("multiplechoice", "multiselect"):
        if (
            not isinstance(choices, list)
            or not choices
            or not all(isinstance(choice, str) and choice for choice in choices)
        ):
            return "choices are a list of texts"
    elif choices is not None:
        return "choices belong to multiplechoice and multiselect"
    default = question.get("default", "")
    if default != "":
        return wrong_answer(question, default)
    return ""


def wrong_answer(question: Mapping[str, Any], value: Any) -> str:
    """Why AWX would refuse an answer; empty when it would not."""
    kind = question["type"]
    if not isinstance(value, ANSWERS[kind]) or isinstance(value, bool):
        return f"{question['variable']}: {value!r} is not an answer to a question of type {kind}"
    size = len(value) if isinstance(value, str) else value
    if kind in ("text", "textarea", "password", "integer", "float"):
        if question.get("min") is not None and size < question["min"]:
            return f"{question['variable']}: {value!r} is too small"
        if question.get("max") is not None and size > question["max"]:
            return f"{question['variable']}: {value!r} is too large"
        return ""
    chosen = value if isinstance(value, list) else [value]
    outside = [choice for choice in chosen if choice not in question["choices"]]
    return f"{question['variable']}: {outside} is not among the choices" if outside else ""


def launched(survey: list[dict[str, Any]], answers: Mapping[str, Any]) -> dict[str, Any]:
    """The extra variables of a job that somebody launches with these answers.

    Raises:
        ValueError: AWX would not launch it.
    """
    questions = {question["variable"]: question for question in survey}
    refused = sorted(set(answers) - set(questions))
    if refused:
        raise ValueError(f"Variables {', '.join(refused)} are not allowed on launch.")
    variables = {
        name: question["default"]
        for name, question in questions.items()
        if question.get("default") is not None and not wrong_answer(question, question["default"])
    }
    for name, question in questions.items():
        if name in answers:
            # an empty field of the form, where the question says that it is nothing
            if answers[name] == "" and not question["required"] and (question.get("min") or 0) > 0:
                continue
            wrong = wrong_answer(question, answers[name])
            if wrong:
                raise ValueError(wrong)
            variables[name] = answers[name]
        elif question["required"] and name not in variables:
            raise ValueError(f"'{name}' value missing")
    return variables


class _Dumper(yaml.SafeDumper):
    """Marks every text as data, which no template is looked for in."""

    def represent_data(self, data: Any) -> yaml.Node:
        """A text becomes `!unsafe`."""
        if isinstance(data, str):
            return self.represent_scalar("!unsafe", data)
        return super().represent_data(data)


def extra_vars_file(variables: Mapping[str, Any]) -> str:
    """The file `env/extravars` that AWX writes for ansible-runner: values of whoever launches a job are marked as unsafe."""
    return yaml.dump(dict(variables), Dumper=_Dumper, default_flow_style=False, allow_unicode=True)
