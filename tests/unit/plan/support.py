# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan's tests share: inputs of a small good application, and a way to ask for its plan."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils.plan import make_plan

COMMAND = "uv run uvicorn shop:app --host 0.0.0.0 --port $PORT"
INPUTS: dict[str, Any] = {
    "app": {"name": "shop", "root": "/srv/pyfleet/shop", "host_name": "web1", "instance_number": 2},
    "env": {"CC_PYTHON_UV_RUN_COMMAND": COMMAND},
    "source": {
        "files": ["uv.lock", "pyproject.toml", "shop/__init__.py"],
        "texts": {"pyproject.toml": '[project]\nname = "shop"\nrequires-python = ">=3.11"\n'},
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "digest": "d",
    },
    "host": {
        "pythons": [{"version": "3.13.1", "path": "/usr/bin/python3.13", "managed": False}],
        "listeners": [],
        "apps": {},
        "current": None,
    },
    "today": "2026-11-20",
    "release_id": "0a1b2c3d4e5f",
}

Plan = Callable[..., "dict[str, Any]"]


def ask(
    env: dict[str, Any] | None = None,
    app: dict[str, Any] | None = None,
    host: dict[str, Any] | None = None,
    files: list[str] | None = None,
    texts: dict[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The plan of the small good application with these changes; a variable that is None is removed."""
    inputs = copy.deepcopy(INPUTS)
    inputs["env"].update(env or {})
    inputs["env"] = {name: value for name, value in inputs["env"].items() if value is not None}
    inputs["app"].update(app or {})
    if host is not None:
        inputs["host"].update(host)
    if files is not None:
        inputs["source"]["files"] = files
    if texts is not None:
        inputs["source"]["texts"] = texts
    inputs.update(more)
    return make_plan(inputs)


def legacy(
    env: dict[str, Any] | None = None, texts: dict[str, str] | None = None, files: list[str] | None = None, **more: Any
) -> dict[str, Any]:
    """The plan of a small good application in legacy mode: shop.py with CC_PYTHON_MODULE=shop:app and a requirements.txt."""
    contents = {"requirements.txt": "flask\n", **(texts or {})}
    names = [*(["shop.py"] if files is None else files), *contents]
    host = {"cores": 2, "memory_mb": 4000, **(more.pop("host", None) or {})}
    base = {"CC_PYTHON_UV_RUN_COMMAND": None, "CC_PYTHON_MODULE": "shop:app"}
    return ask({**base, **(env or {})}, files=names, texts=contents, host=host, **more)


def codes(items: list[dict[str, str]]) -> list[str]:
    """The codes of findings, in order."""
    return [item["code"] for item in items]


def only(items: list[dict[str, str]], code: str) -> dict[str, str]:
    """The one finding with this code."""
    found = [item for item in items if item["code"] == code]
    assert len(found) == 1, codes(items)
    return found[0]
