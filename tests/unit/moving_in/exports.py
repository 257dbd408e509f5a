# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the exports in tests/fixtures/exports hold, and how the platforms write such files: the inverse of what is tested."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "fixtures" / "exports"

#: Values that lose something in a reader that is careless; each is a variable of the application in every fixture.
NASTY = {
    "D6_BACKSLASH": "C:\\shop\\",
    "D6_BACKSLASHES": "two at the end \\\\",
    "D6_CERTIFICATE": "-----BEGIN CERTIFICATE-----\nMIIBpl4ntedCertificate==\n-----END CERTIFICATE-----\n",
    "D6_DOLLAR": "$HOME ${HOME} $(id) `id` $$",
    "D6_EMPTY": "",
    "D6_ENV_FILE": '# Addon of nobody\nINNER="1"\nexport OTHER="2";\n',
    "D6_ESCAPED": 'say \\"hi\\" and \\\\" and \\n',
    "D6_HASH": "# not a comment; neither",
    "D6_JSON": '{"name": "shop",\n "tags": ["a", "b"]}\n',
    "D6_PERCENT": "%i %% 100%",
    "D6_QUOTES": """both ' and " and '"'"'""",
    "D6_SPACES": "  around  ",
    "D6_TEMPLATE": "{{ 1 + 1 }} {% raw %} {# x #}",
    "D6_UTF8": "Grüße, 世界 🚀",
}
#: What the fixtures of Clever Cloud say for the application `tiny`.
CLEVER = {
    **NASTY,
    "CC_HEALTH_CHECK_PATH": "/health",
    "CC_PYTHON_UV_RUN_COMMAND": "uv run python server.py --port $PORT",
    "LOG_LEVEL": "debug",
    "POSTGRESQL_ADDON_HOST": "db.example.org",
    "POSTGRESQL_ADDON_URI": "postgresql://shop:pl4nted-s3cret@db.example.org:5432/shop",
    "STOCK_URL": "https://stock.example.org/?a=b&c=d",
}
#: Those of the platform in the same fixtures.
DROPPED = ("APP_ID", "CC_DEPLOYMENT_ID", "INSTANCE_ID")
#: What the fixtures of Heroku say.
HEROKU = {
    **NASTY,
    "DATABASE_URL": "postgres://shop:pl4nted-s3cret@db.example.org:5432/shop",
    "SECRET_KEY": "it's pl4nted!",
    "WEB_CONCURRENCY": "2",
}


def clever_text(variables: Mapping[str, str] | Iterable[tuple[str, str]], export: bool = False) -> str:
    """The lines of `clever env`, or of `clever env --format shell`: only quotes are escaped, by twice the backslashes and one."""
    lines = []
    for name, value in dict(variables).items():
        quoted = re.sub(r'(\\*)"', lambda match: match.group(1) * 2 + '\\"', value)
        lines.append(f'export {name}="{quoted}";' if export else f'{name}="{quoted}"')
    return "\n".join(lines)


def heroku_text(variables: Mapping[str, str]) -> str:
    """`heroku config --shell`."""

    def quoted(value: str) -> str:
        if not re.search(r"[\"\s#!$&'()*,:;<=>?@\[\\\]^`{|}]", value):
            return value
        if re.search(r"['\n]", value):
            return '"' + re.sub(r'(["\\$`!])', r"\\\1", value).replace("\n", "\\n") + '"'
        return "'" + re.sub(r"(['\\])", r"\\\1", value) + "'"

    return "".join(f"{name}={quoted(value)}\n" for name, value in variables.items())


def objects(variables: Mapping[str, str]) -> list[dict[str, str]]:
    """The array of Clever Cloud's JSON."""
    return [{"name": name, "value": value} for name, value in variables.items()]


def clever_json(variables: Mapping[str, str]) -> str:
    """`clever env --format json` of an application without add-ons."""
    return json.dumps({"env": objects(variables), "fromAddons": [], "fromDependencies": []}, ensure_ascii=False)
