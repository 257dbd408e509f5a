# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""uv's configuration for a whole host, /etc/uv/uv.toml, as a pure function of the role's variables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils import environment, uv
from ansible_collections.pyfleet.runtime.plugins.module_utils.indexes import PARTS, address

MARKER = "# Managed by the role pyfleet.runtime.uv: changes made here are lost."
INDEX_KEYS = frozenset(
    {
        "name",
        "url",
        "default",
        "explicit",
        "format",
        "authenticate",
        "ignore-error-codes",
        "cache-control",
        "publish-url",
    }
)
PATH = "/etc/uv/uv.toml"
_TEXT = re.compile(r'^(name|url) = "([^"\\]*)"$', re.MULTILINE)
_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
_INDEX_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


def effective(
    version: str,
    raw: Mapping[str, Any],
    indexes: Sequence[Mapping[str, Any]] = (),
    python_mirror: str = "",
    python_downloads_json_url: str = "",
    system_certs: bool | None = None,
    cache_dir: str = "",
) -> dict[str, Any]:
    """The settings as uv knows them; `raw` wins over the single variables.

    uv 0.11.0 renamed `native-tls` to `system-certs`; the name that `version` knows is written.
    """
    settings: dict[str, Any] = {}
    if system_certs is not None:
        older = uv.is_older(version, uv.FIRST_WITH_SYSTEM_CERTS)
        settings["native-tls" if older else "system-certs"] = system_certs
    if cache_dir:
        settings["cache-dir"] = cache_dir
    if python_mirror:
        settings["python-install-mirror"] = python_mirror
    if python_downloads_json_url:
        settings["python-downloads-json-url"] = python_downloads_json_url
    settings.update({str(key).replace("_", "-"): value for key, value in raw.items()})
    own = settings.get("index", [])
    index = [{str(key).replace("_", "-"): value for key, value in _addressed(entry).items()} for entry in indexes]
    if index or own:
        settings["index"] = index + (list(own) if isinstance(own, (list, tuple)) else [])
    return settings


def _addressed(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An index with the address of its preset (H2); one whose preset cannot be used stays as it is, for `problems` to find."""
    url, wrong = address(entry) if entry.get("preset") else ("", ["none"])
    if wrong:
        return dict(entry)
    return {**{key: value for key, value in entry.items() if key != "preset" and key not in PARTS}, "url": url}


def problems(settings: Mapping[str, Any]) -> list[str]:
    """What is wrong with the settings, each as one line with its rule; nothing of a secret."""
    found = []
    for number, entry in enumerate(settings.get("index", [])):
        where = f"uv_indexes[{number}]"
        if entry.get("preset"):
            found += [f"{where}: {wrong}." for wrong in address(entry)[1]]
            continue
        unknown = sorted(set(entry) - INDEX_KEYS)
        if unknown:
            found.append(
                f"{where}: {', '.join(unknown)} is not a key of an index. Known: {', '.join(sorted(INDEX_KEYS))}."
            )
        if not isinstance(entry.get("url"), str) or not entry["url"]:
            found.append(f"{where}: an index has a url.")
        if "name" in entry and not _INDEX_NAME.match(str(entry["name"])):
            found.append(f"{where}: the name of an index is letters, digits, dots, hyphens and underscores.")
    if sum(entry.get("default") is True for entry in settings.get("index", [])) > 1:
        found.append("uv_indexes: only one index can be the default.")
    try:
        text = render(settings)
    except ValueError as error:
        return [*found, str(error)]
    if environment.has_credentials(text):
        found.append(
            "An address holds a user or a password, and every user of the host may read uv.toml (I). Name the index and set "
            "UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD in the application's environment (H2)."
        )
    return found


def render(settings: Mapping[str, Any]) -> str:
    """The settings as TOML with the marker on top; an empty text when there are none. Raises ValueError for what TOML has not."""
    if not settings:
        return ""
    return MARKER + "\n" + "".join(_table(settings, ()))


def named_indexes(path: str = PATH) -> dict[str, str]:
    """Name → address of the named indexes in a uv.toml as `render` writes it; a file in another form may have none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return {}
    tables = [dict(_TEXT.findall(part.split("\n[", 1)[0])) for part in text.split("\n[[index]]\n")[1:]]
    return {each["name"]: each["url"] for each in tables if "name" in each and "url" in each}


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines: list[str] = []
    nested: list[str] = []
    for key, value in table.items():
        here = (*path, str(key))
        if isinstance(value, Mapping):
            nested += ["\n[" + ".".join(_key(part) for part in here) + "]\n", *_table(value, here)]
        elif isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
            for item in value:
                nested += ["\n[[" + ".".join(_key(part) for part in here) + "]]\n", *_table(item, here)]
        else:
            lines.append(f"{_key(str(key))} = {_value(value, here)}\n")
    return lines + nested


def _key(key: str) -> str:
    return key if _BARE.match(key) else _value(key, (key,))


def _value(value: Any, path: tuple[str, ...]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\u{ord(match.group()):04X}", escaped) + '"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item, path) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(str(key))} = {_value(item, path)}" for key, item in value.items()) + " }"
    raise ValueError(f"uv_config: {'.'.join(path)} is {type(value).__name__}, which a TOML file cannot hold.")
