# Copyright: pyfleet contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The tables of docs/legacy.md: every setting of section G, and the packages of the backends.

Defaults and bounds are those that the plan asks for: its own functions read an environment here, and what they ask is written down.
Only what a setting does is written by hand. A setting without words, and words without a setting, are errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.pyfleet.runtime.plugins.module_utils import celery, legacy, nginx_settings
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import LEGACY_SERVER
from ansible_collections.pyfleet.runtime.plugins.module_utils.requirements import Requirements
from ansible_collections.pyfleet.runtime.plugins.module_utils.settings import Settings


@dataclass(frozen=True)
class Asked:
    """What the plan asks of a variable."""

    default: str
    values: str


class Recorder(Settings):
    """Settings that note every question."""

    def __init__(self, env: Mapping[str, str]) -> None:
        super().__init__(env)
        self.asked: dict[str, Asked] = {}

    def number(self, name: str, default: int, least: int, most: int, unit: str = "") -> int:
        """Note the bounds."""
        words, _comma, zero = unit.partition(", ")
        values = (
            f"{least} to {most}"
            + (f" {words}" if words else "")
            + (f"; {zero.replace('0 is', '`0`:')}" if zero else "")
        )
        self.asked[name] = Asked(f"`{default}`" if default else "", values)
        return super().number(name, default, least, most, unit)

    def flag(self, name: str) -> bool:
        """Note that it is a switch."""
        self.asked[name] = Asked("off", "a switch")
        return super().flag(name)

    def choice(self, name: str, default: str, choices: Sequence[str], normalise: Callable[[str], str] = str) -> str:
        """Note the words."""
        self.asked[name] = Asked(f"`{default}`" if default else "", ", ".join(f"`{word}`" for word in choices))
        return super().choice(name, default, choices, normalise)


def asked() -> dict[str, Asked]:
    """Let the plan's functions read one environment per backend; return what they asked of each variable."""
    found: dict[str, Asked] = {}
    project = legacy.Project("", (), {}, known=False)
    for name in legacy.BACKENDS:
        recorder = Recorder({legacy.MODULE: "shop:app", "CC_PYTHON_BACKEND": name, celery.MODULE: "tasks"})
        legacy.read_backend(recorder, project, Requirements(), None, 2, 2048, "", "", {})
        nginx_settings.read_nginx(recorder, project=project, buffer_size=4096, max_body_mb=512)
        celery.read_celery(recorder, home="", first=0, restart="on-failure", delay=1)
        found.update(recorder.asked)
    return found


def _words(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


@dataclass(frozen=True)
class Row:
    """A setting in words. `default` and `values` stand for what no single question of the plan says."""

    variable: str
    effect: str
    default: str = ""
    values: str = ""


_SIZE = "a number of bytes, `k` or `m`, from `1k` to `64m`"
ROWS = (
    Row(
        "CC_PYTHON_MODULE",
        "What the backend imports. Gunicorn takes a call with arguments as well, `shop:make('x')`, uwsgi one without.",
        "none",
        "`module:object`",
    ),
    Row("CC_PYTHON_BACKEND", "The server behind Nginx."),
    Row("CC_RUN_COMMAND", "Replaces the backend by a server of your own behind Nginx.", "none", "a command"),
    Row(
        "CC_PYTHON_USE_GEVENT",
        f"Workers run gevent's loop: with uwsgi {legacy._GEVENT_CORES} requests each, or `UWSGI_ASYNC`.",
    ),
    Row(
        "WSGI_WORKERS",
        "Processes of the backend. Daphne has one.",
        f"2 × cores + 1, as far as each has {legacy.MEMORY_PER_WORKER_MB} MB",
    ),
    Row(
        "WSGI_THREADS",
        "Threads of a process. More than one make Gunicorn's `sync` workers `gthread`.",
        "uwsgi and `gthread`: as many as cores, 4 at most; else 1",
    ),
    Row(
        "HARAKIRI",
        "uWSGI ends a worker whose request takes longer, and the client gets 502. It has one limit for each worker: with threads, "
        "`UWSGI_ASYNC` or gevent, a request that ends lifts it from those that go on. The plan warns of that where the variable is set.",
    ),
    Row("WSGI_BUFFER_SIZE", "Head of a request that uWSGI takes. Nginx's buffers for it grow along."),
    Row("WSGI_POST_BUFFERING", "uWSGI reads a body before the application does; more than this goes to a file."),
    Row("UWSGI_ASYNC", "Requests that a worker answers at once, instead of threads.", "off"),
    Row(
        "UWSGI_ASYNC_ENGINE",
        "How it does so. The others need `uwsgi` in the requirements, built with them.",
        f"`{legacy.ENGINES[0]}`",
        f"{_words(legacy.ENGINES)}; {_words(legacy.OWN_ENGINES)}",
    ),
    Row(
        "CC_UWSGI_EXTRA_CONFIG",
        "More directives of uWSGI. Those of the platform (socket, user, process, application) and those with a variable of their own "
        "are errors.",
        "none",
        "`key = value` on lines, or separated by `;`",
    ),
    Row("CC_UWSGI_DISABLE_FILE_WRAPPER", "Takes `wsgi.file_wrapper` away from the application."),
    Row(
        "CC_GUNICORN_WORKER_CLASS",
        "Gunicorn's kind of workers.",
        "`sync`",
        f"{_words(legacy.WORKER_CLASSES)}, or a class such as `uvicorn.workers.UvicornWorker`",
    ),
    Row("CC_GUNICORN_TIMEOUT", "Gunicorn ends a worker that is silent for longer."),
    Row("CC_GUNICORN_LOGLEVEL", "What Gunicorn writes to the journal."),
    Row("NGINX_READ_TIMEOUT", "Nginx waits so long for the backend, then the client gets 504."),
    Row(
        "CC_NGINX_PROXY_BUFFERS",
        "Nginx's buffers for an answer.",
        f"Nginx's own, {nginx_settings._BUFFER_COUNT} of {nginx_settings._PAGE // 1024}k",
        f"number and size, `16 16k`: at least 2, {_SIZE}",
    ),
    Row(
        "CC_NGINX_PROXY_BUFFER_SIZE",
        "Nginx's buffer for the head of an answer. An answer with more cookies gets 502.",
        f"Nginx's own, {nginx_settings._PAGE // 1024}k",
        _SIZE,
    ),
    Row("ENABLE_GZIP_COMPRESSION", "Nginx compresses answers of at least 1 KiB."),
    Row(
        "GZIP_TYPES",
        "What it compresses besides `text/html`.",
        " ".join(f"`{kind}`" for kind in nginx_settings.GZIP_TYPES),
        "types with blanks between them, or `*`",
    ),
    Row(
        "STATIC_FILES_PATH",
        "Folder that Nginx serves itself; hidden files stay hidden. Set with `STATIC_URL_PREFIX`, or not at all.",
        "none",
        "a folder below the project root",
    ),
    Row(
        "STATIC_URL_PREFIX",
        "Where it is served. Below a prefix a file that is not there is 404; with `/` the application answers then.",
        "none",
        "a path such as `/static`, or `/`",
    ),
    Row(
        "UWSGI_INTERCEPT_ERRORS",
        "For errors of the application, whatever its backend, clients get the `error_pages` of `http.json`.",
    ),
    Row(
        "CC_HTTP_BASIC_AUTH",
        "Nginx asks for a password, for files too. `CC_HTTP_BASIC_AUTH_1` and so on add logins.",
        "nobody is asked",
        f"`login:password`, the password up to {nginx_settings._LONGEST_PASSWORD} bytes",
    ),
    Row(
        nginx_settings.HTTP_JSON,
        "A file of the project, [see above](#clevercloudhttpjson).",
        "none",
        _words(nginx_settings._KEYS),
    ),
    Row(
        "CC_PYTHON_CELERY_MODULE",
        "A Celery worker beside the application.",
        "none",
        "a module, as `celery -A` takes it",
    ),
    Row("CC_PYTHON_CELERY_USE_BEAT", "Celery's beat as well. Its schedule lies in the home of the application's user."),
    Row(
        "CC_PYTHON_CELERY_LOGFILE",
        "Celery's log goes to files instead of the journal: a name with an extension is the worker's (beat gets `-beat`), else a folder.",
        "the journal",
        "a path below the project root",
    ),
)


def settings() -> list[str]:
    """Return the table's lines. Raises SystemExit when words and code name different settings."""
    questions = asked()
    known = LEGACY_SERVER | {legacy.MODULE, "CC_PYTHON_BACKEND", "CC_RUN_COMMAND", nginx_settings.HTTP_JSON}
    different = known.symmetric_difference(row.variable for row in ROWS) | (questions.keys() - known)
    if different:
        raise SystemExit(f"server_settings.py and the plan name different settings: {', '.join(sorted(different))}")
    lines = ["| setting | default | values | of | what it changes |", "|---|---|---|---|---|"]
    for row in ROWS:
        question = questions.get(row.variable, Asked("", ""))
        backends = ", ".join(legacy.USED_BY.get(row.variable, ())) or "all"
        default, values = row.default or question.default, row.values or question.values
        lines.append(f"| `{row.variable}` | {default} | {values} | {backends} | {row.effect} |")
    return lines


def packages() -> list[str]:
    """Return the table of what is installed when the requirements do not name it."""
    lines = ["| Python | " + " | ".join(legacy.BACKENDS) + " | gevent |", "|---" * (len(legacy.BACKENDS) + 2) + "|"]
    above: tuple[int, int] | None = None
    for first, row in legacy.PINS:
        cells = [f"`{row[name]}`" if name in row else "–" for name in (*legacy.BACKENDS, "gevent")]
        series = ".".join(str(part) for part in first)
        shown = (
            f"{series} and newer"
            if above is None
            else series
            if above == (first[0], first[1] + 1)
            else f"older {first[0]}"
        )
        lines.append(f"| {shown if first[0] == 3 else series} | " + " | ".join(cells) + " |")
        above = first
    return lines


def section() -> str:
    """Return both tables with their headings."""
    lines = [
        "## All settings",
        "",
        "All but `http.json` are variables of `app_env`. A blank value counts as not set; a value that is not among those listed ends",
        "the plan before any host changes. A switch is on with `true`, `yes`, `on` or `1`, off with `false`, `no`, `off` or `0`.",
        "*Of* names the backends that have the setting; where another one runs, the plan says that it is ignored.",
        "",
        *settings(),
        "",
        "## Versions of the backends",
        "",
        "Installed when the requirements do not bring the package themselves; `app_backend_requirements` names others.",
        "",
        *packages(),
    ]
    return "\n".join(lines) + "\n"
