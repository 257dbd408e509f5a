# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application's environment: validation (D6), platform variables (D5), what is secret (I), systemd's file format."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import SECRET, Finding, finding

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

# MAX_ARG_STRLEN of Linux is 131072 bytes for "NAME=value" and its terminating NUL.
VALUE_LIMIT = 131071
# ARG_MAX is a quarter of the stack limit (2 MiB by default) for environment and arguments together; some is left for the latter.
TOTAL_LIMIT = 2 * 1024 * 1024 - 160 * 1024

# Not passed to the build or the application even when the application's environment sets them: they move the environment that uv
# builds or uses, and uv then reports success for another place than the release.
DROPPED_FROM_APPLICATION: dict[str, str] = {
    "UV_PROJECT_ENVIRONMENT": "uv would build another directory than the release's own .venv",
    "VIRTUAL_ENV": "it names the release's own .venv, which the platform sets",
    "UV_PROJECT": "uv would build another project than the release",
    "UV_WORKING_DIR": "uv would run in another directory than the release",
    "UV_WORKING_DIRECTORY": "uv would run in another directory than the release",
    "UV_NO_PROJECT": "uv would ignore the project",
    "UV_ISOLATED": "uv would build a fresh environment at every start",
    "UV_SYSTEM_PYTHON": "uv would leave the release's own .venv aside",
    "CONDA_PREFIX": "uv would take the conda environment for the application's",
    "PYTHONHOME": "Python would look for its library outside the release's own .venv",
}

# Not taken over from the environment that surrounds a build (a login shell, the connection): the application's own environment
# says which indexes it uses.
DROPPED_FROM_OUTSIDE: frozenset[str] = frozenset(DROPPED_FROM_APPLICATION) | frozenset(
    {
        "UV_DEFAULT_INDEX",
        "UV_INDEX",
        "UV_INDEX_URL",
        "UV_EXTRA_INDEX_URL",
        "UV_FIND_LINKS",
        "UV_PYTHON",
        "UV_FROZEN",
        "UV_LOCKED",
        "UV_NO_SYNC",
        "UV_NO_DEV",
        "UV_CONSTRAINT",
        "UV_OVERRIDE",
        "UV_EXCLUDE_NEWER",
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
        "PYTHONPATH",
        "CONDA_DEFAULT_ENV",
    }
)

# B8: what only the build sees. Credentials of indexes, and addresses that may embed them.
BUILD_ONLY: tuple[re.Pattern[str], ...] = tuple(
    re.compile(pattern + r"\Z")
    for pattern in (
        r"UV_INDEX_.+_(USERNAME|PASSWORD)",
        r"UV_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS)",
        r"UV_PUBLISH_.+",
        r"UV_KEYRING_PROVIDER",
        r"UV_(PYTHON|PYPY)_INSTALL_MIRROR",
        r"UV_PYTHON_DOWNLOADS_JSON_URL",
        r"PIP_(INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|TRUSTED_HOST|CLIENT_CERT|KEYRING_PROVIDER)",
        r"POETRY_HTTP_BASIC_.+",
        r"POETRY_PYPI_TOKEN_.+",
        r"TWINE_.+",
        r"NETRC",
    )
)
# Build settings that reach the runtime unless they embed credentials.
_BUILD_TEXTS = ("CC_PYTHON_UV_SYNC_FLAGS", "CC_PRE_BUILD_HOOK", "CC_POST_BUILD_HOOK")
_URL_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}://)[^/\s@'\"]+@")

# D5, without PORT, which the environment may set (D2).
PLATFORM: frozenset[str] = frozenset(
    {
        "APP_ID",
        "APP_HOME",
        "CC_APP_NAME",
        "CC_COMMIT_ID",
        "COMMIT_ID",
        "CC_DEPLOYMENT_ID",
        "INSTANCE_ID",
        "INSTANCE_NUMBER",
        "INSTANCE_TYPE",
        "CC_PRETTY_INSTANCE_NAME",
    }
)

# Section G: known so that uv mode can say that it ignores them.
LEGACY_SERVER: frozenset[str] = frozenset(
    {
        "CC_PYTHON_USE_GEVENT",
        "HARAKIRI",
        "WSGI_BUFFER_SIZE",
        "WSGI_POST_BUFFERING",
        "WSGI_WORKERS",
        "WSGI_THREADS",
        "UWSGI_ASYNC",
        "UWSGI_ASYNC_ENGINE",
        "CC_UWSGI_EXTRA_CONFIG",
        "CC_UWSGI_DISABLE_FILE_WRAPPER",
        "UWSGI_INTERCEPT_ERRORS",
        "CC_GUNICORN_WORKER_CLASS",
        "CC_GUNICORN_TIMEOUT",
        "CC_GUNICORN_LOGLEVEL",
        "NGINX_READ_TIMEOUT",
        "CC_NGINX_PROXY_BUFFERS",
        "CC_NGINX_PROXY_BUFFER_SIZE",
        "ENABLE_GZIP_COMPRESSION",
        "GZIP_TYPES",
        "STATIC_FILES_PATH",
        "STATIC_URL_PREFIX",
        "CC_HTTP_BASIC_AUTH",
        "CC_PYTHON_CELERY_MODULE",
        "CC_PYTHON_CELERY_USE_BEAT",
        "CC_PYTHON_CELERY_LOGFILE",
    }
)

# Variables whose values may be shown. Everything else is secret by default (I).
NON_SECRET: frozenset[str] = (
    PLATFORM
    | (LEGACY_SERVER - {"CC_HTTP_BASIC_AUTH", "CC_UWSGI_EXTRA_CONFIG"})
    | frozenset(
        {
            "APP_FOLDER",
            "ENVIRONMENT",
            "PORT",
            "CC_PYTHON_VERSION",
            "CC_PYTHON_MODULE",
            "CC_PYTHON_BACKEND",
            "PYTHON_BACKEND",
            "GUNICORN_WORKER_CLASS",
            "CC_PYTHON_MANAGE_TASKS",
            "PYTHON_SETUP_PY_GOAL",
            "CC_PIP_REQUIREMENTS_FILE",
            "CC_HEALTH_CHECK_PATH",
            "CC_WORKER_RESTART",
            "CC_WORKER_RESTART_DELAY",
            "CC_TASK",
            "CC_REQUEST_FLOW",
            "CC_VARNISH_FILE",
            "CC_VARNISH_STORAGE_SIZE",
            "CC_REDIRECTIONIO_FORWARD_PORT",
            "CC_REDIRECTIONIO_INSTANCE_NAME",
            "OTOROSHI_CHALLENGE_EXCLUDE_PATHS",
            "OAUTH2_PROXY_AUTHENTICATED_EMAILS_FILE",
            "OAUTH2_PROXY_CLIENT_SECRET_FILE",
            "OAUTH2_PROXY_COOKIE_SECRET_FILE",
            "OAUTH2_PROXY_EMAIL_DOMAINS",
            "OAUTH2_PROXY_HTPASSWD_FILE",
            "OAUTH2_PROXY_HTTP_ADDRESS",
            "OAUTH2_PROXY_HTTPS_ADDRESS",
            "OAUTH2_PROXY_PING_PATH",
            "OAUTH2_PROXY_PROVIDER",
            "OAUTH2_PROXY_READY_PATH",
            "OAUTH2_PROXY_SKIP_AUTH_REGEX",
            "OAUTH2_PROXY_SKIP_AUTH_ROUTES",
            "UV_PROJECT_ENVIRONMENT",
            "UV_PROJECT",
            "UV_WORKING_DIR",
            "UV_WORKING_DIRECTORY",
            "UV_NO_PROJECT",
            "UV_NO_SYNC",
            "UV_NO_DEV",
            "UV_ISOLATED",
            "UV_SYSTEM_PYTHON",
            "UV_PYTHON",
            "UV_PYTHON_DOWNLOADS",
            "UV_LINK_MODE",
            "UV_COMPILE_BYTECODE",
            "UV_TORCH_BACKEND",
            "UV_CUDA_DRIVER_VERSION",
            "VIRTUAL_ENV",
            "CONDA_PREFIX",
            "PYTHONHOME",
            "PATH",
            "PYTHONUNBUFFERED",
            "LANG",
            "LC_ALL",
            "TZ",
        }
    )
)
_NON_SECRET_INDEXED = re.compile(r"CC_HEALTH_CHECK_PATH_[0-9A-Za-z_]*\Z")
# Commands and flags: the plan shows them, with the values of secret variables scrubbed.
_COMMANDS = re.compile(
    r"(CC_PYTHON_UV_RUN_COMMAND|CC_RUN_COMMAND|CC_PYTHON_UV_SYNC_FLAGS|CC_WORKER_COMMAND(_[0-9A-Za-z_]*)?|CC_REQUEST_FLOW_CUSTOM"
    r"|CC_(PRE|POST)_BUILD_HOOK|CC_PRE_RUN_HOOK|CC_RUN_(SUCCEEDED|FAILED)_HOOK)\Z"
)
_BASIC_AUTH = re.compile(r"CC_HTTP_BASIC_AUTH(_.*)?\Z", re.DOTALL)
# Values too common to be a secret: scrubbing them would only make a command unreadable.
_COMMON_VALUE = re.compile(
    r"([0-9]{1,5}|true|false|none|null|yes|no|on|off|default|debug|info|warning|error|localhost)\Z", re.IGNORECASE
)

SCRUBBED = "********"


def is_true(value: str | None) -> bool:
    """Whether a variable switches something on: true, yes, on or 1, in any case; unset is false."""
    return value is not None and value.strip().lower() in ("true", "yes", "on", "1")


def is_secret(name: str) -> bool:
    """Whether the value of the variable must not be shown: all but a list of known names (I)."""
    return not (name in NON_SECRET or _NON_SECRET_INDEXED.match(name) or is_command(name))


def is_command(name: str) -> bool:
    """Whether the variable holds a command, a hook or flags: shown, but scrubbed."""
    return bool(_COMMANDS.match(name))


def is_basic_auth(name: str) -> bool:
    """Whether the variable holds a login and its password, which only Nginx sees in legacy mode."""
    return bool(_BASIC_AUTH.match(name))


def is_build_only(name: str, value: str = "") -> bool:
    """B8: whether only the build may see the variable."""
    if any(pattern.match(name) for pattern in BUILD_ONLY):
        return True
    return name in _BUILD_TEXTS and has_credentials(value)


def has_credentials(text: str) -> bool:
    """Whether the text holds a URL with a user or a password."""
    return bool(_URL_CREDENTIALS.search(text))


def validate(env: Mapping[str, object]) -> tuple[dict[str, str], list[Finding]]:
    """D6: the environment as text, and one finding for each variable that cannot be.

    Numbers and booleans become text as YAML writes them (`true`, not `True`); a variable with an error is left out of the result.
    """
    texts: dict[str, str] = {}
    findings: list[Finding] = []
    total = 0
    for name, raw in env.items():
        if not isinstance(name, str) or not NAME.match(name):
            # What follows an equals sign may be a value that slipped into the name.
            shown = str(name).split("=", 1)[0]
            fixed = re.sub(r"[^A-Za-z0-9_]", "_", shown).lstrip("0123456789")
            suggestion = f", for example {fixed}" if NAME.match(fixed) and fixed != shown else ""
            findings.append(finding("env_name_invalid", shown or "(empty)", SECRET, suggestion=suggestion))
            continue
        value = _text(raw)
        if value is None:
            findings.append(finding("env_value_type", name, _kind(raw), kind=_kind(raw)))
            continue
        shown = show(name, value)
        if "\0" in value:
            findings.append(finding("env_value_nul", name, shown))
            continue
        if _unusable_character(value):
            findings.append(finding("env_value_not_text", name, shown))
            continue
        size = len(name) + 1 + len(value.encode("utf-8"))
        if size > VALUE_LIMIT:
            findings.append(finding("env_value_too_long", name, shown, size=size))
            continue
        # The kernel also counts the terminating NUL and a pointer.
        total += size + 9
        texts["".join(name)] = value
    if total > TOTAL_LIMIT:
        findings.append(finding("env_too_large", "app_env", f"{len(texts)} variables", size=total, limit=TOTAL_LIMIT))
    return texts, findings


def _text(raw: object) -> str | None:
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, str):
        # A plain str also where Ansible hands over a tagged subclass.
        return "".join(raw)
    if isinstance(raw, (int, float)):
        try:
            return str(raw)
        except ValueError:  # an integer with thousands of digits, refused by newer Pythons
            return None
    return None


def _kind(raw: object) -> str:
    if raw is None:
        return "empty (null)"
    if isinstance(raw, Mapping):
        return "a mapping"
    if isinstance(raw, (list, tuple, set, frozenset)):
        return "a list"
    if isinstance(raw, datetime.date):
        return "a date"
    if isinstance(raw, int):
        return "a number with too many digits"
    return "of the type " + type(raw).__name__


def _unusable_character(value: str) -> bool:
    """Lone surrogates cannot be encoded; noncharacters make several systemd versions drop the variable."""
    for char in value:
        point = ord(char)
        if point >= 0xD800 and (point <= 0xDFFF or 0xFDD0 <= point <= 0xFDEF or point & 0xFFFE == 0xFFFE):
            return True
    return False


def show(name: str, value: str, secrets: Iterable[str] | None = None) -> str:
    """The value for a message: itself when it cannot be secret, scrubbed for a command, `(secret)` otherwise.

    A command is shown only to a caller who gives the secrets to scrub from it.
    """
    if is_command(name):
        return SECRET if secrets is None else scrub(value, secrets)
    return SECRET if is_secret(name) else value


def secret_values(env: Mapping[str, str]) -> list[str]:
    """The values to scrub from any output, longest first. Lines of a value with several lines count for themselves."""
    found = set()
    for name, value in env.items():
        if not is_secret(name):
            continue
        texts = [value, value.strip()] + (value.splitlines() if "\n" in value else [])
        if is_basic_auth(name):
            texts.append(value.partition(":")[2])
        for text in texts:
            if len(text) < 4 or _COMMON_VALUE.match(text):
                continue
            # A line such as `}` or `-----` says nothing; a whole value is scrubbed whatever it is.
            if text not in (value, value.strip()) and len(text) < 8 and not is_basic_auth(name):
                continue
            found.add(text)
    return sorted(found, key=lambda text: (-len(text), text))


#: Values shorter than this are replaced only as whole words.
_WORD = 8


def scrub(text: str, secrets: Iterable[str]) -> str:
    """The text without any of the secrets, also where they stand URL-encoded or as a JSON string, and without URL credentials."""
    for secret in sorted(set(secrets), key=lambda item: (-len(item), item)):
        if not secret:
            continue
        forms = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
        try:
            forms.add(quote(secret, safe=""))
            forms.add(quote(secret))
        except UnicodeEncodeError:
            pass
        for form in sorted(forms, key=len, reverse=True):
            if len(form) < _WORD and form.isalnum():
                # A short word, such as `exit`, is a secret where it stands alone, not inside of `exited`.
                text = re.sub(rf"(?<![^\W_]){re.escape(form)}(?![^\W_])", SCRUBBED, text)
            else:
                text = text.replace(form, SCRUBBED)
    return _URL_CREDENTIALS.sub(r"\g<1>" + SCRUBBED + "@", text)


def platform_variables(
    name: str,
    app_home: str,
    commit: str = "",
    deployment: str = "",
    host_name: str = "",
    instance_number: int = 0,
    instance_type: str = "production",
) -> dict[str, str]:
    """D5 without PORT. `instance_type` is `build` or `production`; `app_home` the release's source root."""
    return {
        "APP_ID": f"app-{name}",
        "APP_HOME": app_home,
        "CC_APP_NAME": name,
        "CC_COMMIT_ID": commit,
        "COMMIT_ID": commit,
        "CC_DEPLOYMENT_ID": deployment,
        "INSTANCE_ID": f"{name}-{instance_number}" + (f"@{host_name}" if host_name else ""),
        "INSTANCE_NUMBER": str(instance_number),
        "INSTANCE_TYPE": instance_type,
        "CC_PRETTY_INSTANCE_NAME": f"{name}-{instance_number}",
    }


def to_environment_file(env: Mapping[str, str]) -> str:
    """The environment in the format of systemd's `EnvironmentFile=`, byte for byte (D6).

    Inside double quotes systemd takes every character as it is, newlines included, and a backslash only before one of the four
    characters escaped here. Raises ValueError for a name or value that `validate` refuses.
    """
    lines = []
    for name in sorted(env):
        value = env[name]
        if not NAME.match(name) or "\0" in value or _unusable_character(value):
            raise ValueError(f"{name!r} cannot stand in an environment file")
        lines.append(f'{name}="' + re.sub(r'([\\"$`])', r"\\\1", value) + '"\n')
    return "".join(lines)


_ASSIGNMENT = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"\n', re.DOTALL)


def parse_environment_file(text: str) -> dict[str, str]:
    """The inverse of `to_environment_file`. Raises ValueError for text in another form."""
    env: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _ASSIGNMENT.match(text, position)
        if match is None:
            line = text.count("\n", 0, position) + 1
            raise ValueError(f'line {line} is not in the form NAME="value"')
        env[match.group(1)] = re.sub(r'\\([\\"$`])', r"\1", match.group(2))
        position = match.end()
    return env
