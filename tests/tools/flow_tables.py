# Copyright: pyfleet contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The tables of docs/request-flow.md: every setting of section F, and what oauth2-proxy is not passed or reads by another name.

Bounds and lists are those of the plan. Only what a setting does is written by hand. A variable that the plan reads and no row
names, and a row that nobody reads, are errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from ansible_collections.pyfleet.runtime.plugins.module_utils import chain_settings, request_flow

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Row:
    """A setting: what it does, what it is without being set, and what it may be."""

    variable: str
    effect: str
    default: str = "none"
    values: str = ""


ROWS = (
    Row(
        "CC_REQUEST_FLOW",
        "The services, from the public side inwards.",
        "those that are detected",
        ", ".join(f"`{name}`" for name in request_flow.SERVICES),
    ),
    Row(
        chain_settings.CHALLENGE_SECRET,
        "The secret that Otoroshi has for this service. Detected.",
        values=f"up to {chain_settings._LONG_SECRET} bytes; a warning below {chain_settings._SHORT_SECRET}",
    ),
    Row(
        chain_settings.EXCLUDE_PATHS,
        "What passes `GET` and `HEAD` without a challenge, besides health check paths.",
        values="paths with commas between them, taken literally",
    ),
    Row("app_challenge_previous_secret", "The secret before, while it is replaced.", values="as the secret"),
    Row("app_challenge_previous_until", "Until when it is accepted.", values="date and time with a time zone"),
    Row(
        chain_settings.VARNISH_FILE,
        "The VCL. Detected, as is a file at the default place.",
        f"`{chain_settings.VARNISH_DEFAULT}`",
        f"a file of the project, up to {chain_settings._VCL_LIMIT // 1024} KiB",
    ),
    Row(
        chain_settings.VARNISH_STORAGE,
        "Memory for what is cached.",
        "`1G`",
        "at least 1M, at most the host's memory",
    ),
    Row(chain_settings.PROJECT_KEY, "The project's key at redirection.io. Detected."),
    Row("CC_REDIRECTIONIO_INSTANCE_NAME", "What redirection.io calls this agent.", "the application's name"),
    Row(
        chain_settings.FORWARD_PORT,
        "Where the agent forwards to.",
        "the next service",
        "a port of the host that does not lead back into the chain",
    ),
    Row("app_redirectionio_agent", "The program.", values="a path on the hosts, or `url` and `checksum`"),
    Row("app_redirectionio_generation", "Which form of configuration it reads.", "`2`", "`2` or `3`"),
    Row(
        "app_redirectionio_configuration",
        "Its complete configuration, in place of the one that follows from the settings above.",
        values="a text with `@LISTEN_PORT@` and `@FORWARD_PORT@`",
    ),
    Row("app_oauth2_proxy", "The program.", values="a path on the hosts, or `url` and `checksum`"),
    Row(f"{chain_settings.OAUTH2}*", "oauth2-proxy's own settings.", values="as its documentation says"),
    Row(
        chain_settings.CUSTOM,
        "The command of `custom`.",
        values="with " + " and ".join(f"`{placeholder}`" for placeholder in request_flow.PLACEHOLDERS),
    ),
)


def read_by_the_plan(root: Path = ROOT) -> set[str]:
    """Every setting that the plan reads for the chain: of the application's environment, and of the role."""
    found = {f"{chain_settings.OAUTH2}*"}
    for name in ("request_flow", "chain_settings"):
        text = (root / f"plugins/module_utils/{name}.py").read_text(encoding="utf-8")
        found |= set(re.findall(r'"((?:CC|OTOROSHI)_[A-Z_]+[A-Z])"', text))
    found -= set(chain_settings._OF_A_RELEASE)
    spec = yaml.safe_load((root / "roles/app/meta/argument_specs.yml").read_text(encoding="utf-8"))
    options = spec["argument_specs"]["main"]["options"]
    found |= {name for name in options if re.match(r"app_(challenge|oauth2|redirectionio)_", name)}
    return found


def settings(root: Path = ROOT) -> list[str]:
    """Return the table's lines. Raises SystemExit when words and code name different settings."""
    different = read_by_the_plan(root).symmetric_difference(row.variable for row in ROWS)
    if different:
        raise SystemExit(f"flow_tables.py and the plan name different settings: {', '.join(sorted(different))}")
    lines = ["| setting | default | values | what it is |", "|---|---|---|---|"]
    return lines + [f"| `{row.variable}` | {row.default} | {row.values} | {row.effect} |" for row in ROWS]


def oauth2(lists: Mapping[str, str] = chain_settings._LISTS) -> list[str]:
    """Return what is said of oauth2-proxy's variables."""
    owned = ", ".join(f"`{name}`" for name in chain_settings._OWNED)
    plurals = ", ".join(f"`{plural}`" for plural in lists.values())
    return [
        f"Not passed on, because the chain says it: {owned}.",
        "",
        f"Lists, which oauth2-proxy reads in the plural only: {plurals}.",
    ]


def section() -> str:
    """Return the tables with their headings."""
    lines = [
        "## All settings",
        "",
        "Those in capitals are variables of `app_env`, the others of the role `app`. A blank value counts as not set.",
        "",
        *settings(),
        "",
        f"## Variables of oauth2-proxy, without `{chain_settings.OAUTH2}`",
        "",
        *oauth2(),
    ]
    return "\n".join(lines) + "\n"
