# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/lambda.md, as it is written, on a host: packed there, unpacked in an empty place, answering the guide's event.

AWS itself is on no registry: Debian's Python of the function's version stands in for the runtime, as the page says.
"""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Callable

import pytest
import yaml

from ansible_collections.pyfleet.runtime.tests.hosts.machine import CHECKOUT
from ansible_collections.pyfleet.runtime.tests.testbed import Bed

PAGE = (CHECKOUT / "docs" / "lambda.md").read_text(encoding="utf-8")
#: The only one of the standard hosts whose Python is the page's, 3.13.
HOST = "trixie1"
PROJECT = "/srv/lambda"


def block(language: str, start: str) -> str:
    """The block of the page that starts so."""
    (found,) = [
        text
        for text in re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
        if text.startswith(start)
    ]
    return str(found)


@pytest.mark.rule("H6")
def test_h6_the_page_packs_a_function_on_a_host_and_it_answers_there(
    provisioned: Bed, locked_apps: Callable[[str], pathlib.Path]
) -> None:
    source, host = locked_apps("lambda-fastapi"), provisioned.host(HOST)
    upload = {
        "name": "Project",
        "hosts": HOST,
        "gather_facts": False,
        "tasks": [
            {"name": "Copy", "ansible.builtin.copy": {"src": f"{source}/", "dest": f"{PROJECT}/", "mode": "preserve"}}
        ],
    }
    text = block("yaml", "- name: Pack the function").replace("localhost", HOST).replace("{{ playbook_dir }}", PROJECT)
    pack = yaml.safe_load(text)
    try:
        provisioned.play([upload]).succeeded()
        shown = provisioned.play(pack, check=True, diff=True).succeeded()
        assert "app/main.py" in shown.output
        assert not host.exists(f"{PROJECT}/package.zip")

        provisioned.play(pack).succeeded()
        first = host(f"sha256sum {PROJECT}/package.zip")
        assert provisioned.play(pack).succeeded().changed == 0
        # Built anew, from another cache, it is the same file.
        host(f"rm -rf {PROJECT}/package.zip /root/.cache/uv")
        provisioned.play(pack).succeeded()
        assert host(f"sha256sum {PROJECT}/package.zip") == first

        script = block("sh", "python3.13 -m zipfile")
        answer = host(f"mkdir {PROJECT}/empty && cd {PROJECT}/empty && cp ../package.zip . && {script}")
        (told,) = re.findall(r"^```\n(\{'statusCode'.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
        assert ast.literal_eval(answer) == ast.literal_eval(told)
    finally:
        host(f"rm -rf {PROJECT}")
