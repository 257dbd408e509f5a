# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Legacy mode's server and build (sections B and G): the backend, its settings, its packages, what the environment depends on."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils import requirements as needed
from ansible_collections.pyfleet.runtime.plugins.module_utils.environment import is_true
from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import SECRET, Finding, finding
from ansible_collections.pyfleet.runtime.plugins.module_utils.requirements import Requirements
from ansible_collections.pyfleet.runtime.plugins.module_utils.settings import Settings, relative_path

MODULE = "CC_PYTHON_MODULE"
BACKENDS = ("uwsgi", "gunicorn", "daphne", "uvicorn")
SETTINGS_ROOT = "/etc/pyfleet"
REQUIREMENTS = "requirements.txt"

# -- packages: one table ---------------------------------------------------------------------------------------------------

#: The Python series from which a row holds, newest first → package by role. A role that a row lacks cannot be installed there.
PINS: tuple[tuple[tuple[int, int], dict[str, str]], ...] = (
    (
        (3, 10),
        {
            "uwsgi": "pyuwsgi==2.0.30.post1",
            "gunicorn": "gunicorn==27.0.1",
            "daphne": "daphne==4.2.3",
            "uvicorn": "uvicorn[standard]==0.54.0",
            "gevent": "gevent==26.9.0",
            "packaging": "packaging>=24",
            "tornado": "tornado>=6.5",
            "eventlet": "eventlet>=0.36",
        },
    ),
    (
        (3, 9),
        {
            "uwsgi": "pyuwsgi==2.0.30.post1",
            "gunicorn": "gunicorn==23.0.0",
            "daphne": "daphne==4.2.3",
            "uvicorn": "uvicorn[standard]==0.39.0",
            "gevent": "gevent==25.9.1",
            "packaging": "packaging>=24",
            "tornado": "tornado>=6.5",
            "eventlet": "eventlet>=0.36",
        },
    ),
    # Pythons out of support: the index decides what they still get.
    (
        (3, 0),
        {
            "uwsgi": "pyuwsgi>=2.0.18",
            "gunicorn": "gunicorn>=20.0",
            "daphne": "daphne>=2.5",
            "uvicorn": "uvicorn[standard]>=0.13",
            "gevent": "gevent>=20.5",
            "packaging": "packaging>=20",
            "tornado": "tornado>=6.0",
            "eventlet": "eventlet>=0.25",
        },
    ),
    ((2, 7), {"gunicorn": "gunicorn==19.10.0", "packaging": "packaging==20.9"}),
)
#: Any of these in the environment already does what the role is installed for.
PROVIDES: dict[str, tuple[str, ...]] = {"uwsgi": ("uwsgi", "pyuwsgi")}

# -- which setting belongs to which backend ----------------------------------------------------------------------------------

_UWSGI = (
    "HARAKIRI", "WSGI_BUFFER_SIZE", "WSGI_POST_BUFFERING", "UWSGI_ASYNC", "UWSGI_ASYNC_ENGINE", "CC_UWSGI_EXTRA_CONFIG",
    "CC_UWSGI_DISABLE_FILE_WRAPPER",
)  # fmt: skip
_GUNICORN = (
    "CC_GUNICORN_WORKER_CLASS",
    "CC_GUNICORN_TIMEOUT",
    "CC_GUNICORN_LOGLEVEL",
    "GUNICORN_WORKER_CLASS",
    "GUNICORN_CMD_ARGS",
)
_SHARED = {
    "CC_PYTHON_USE_GEVENT": ("uwsgi", "gunicorn"),
    "WSGI_THREADS": ("uwsgi", "gunicorn"),
    "WSGI_WORKERS": ("uwsgi", "gunicorn", "uvicorn"),
}
USED_BY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_UWSGI, ("uwsgi",)),
    **dict.fromkeys(_GUNICORN, ("gunicorn",)),
    **_SHARED,
}

# -- uWSGI -------------------------------------------------------------------------------------------------------------------

#: What pyuwsgi brings. Others come with a uWSGI that the application builds itself (`uwsgi` in its requirements).
ENGINES = ("ugreen", "gevent")
OWN_ENGINES = ("greenlet", "asyncio", "tornado")
_GEVENT_CORES = 100
#: Directives that are the platform's: where uWSGI listens, as whom it runs, what it starts, how systemd follows it.
_PLATFORM_DIRECTIVE = re.compile(
    r"(?!socket-timeout\Z|wait-for-socket)"
    r"([a-z0-9-]*socket[a-z0-9-]*|https?\d?(-.*)?|http-?router.*|(fast|raw|ssl)router.*|emperor.*|vassals?.*|early-emperor|zerg.*"
    r"|udp|upd|mongrel2.*|zeromq.*|zmq.*|subscribe-to.*|protocol|chmod|daemonize2?|log-daemonize|uid|gid|add-gid|immediate-[ug]id"
    r"|no-initgroups|chroot|pivot[-_]root|unshare2?|setns.*|re-?fork.*|(hook|exec|call|mount|umount)-as-root|chdir2?"
    r"|(safe-)?pidfile2?|no-?master|master(-as-root)?|die-on-term|exit-on-reload|need-app|no-orphans|strict|stats|stats-server"
    r"|ini|ini-paste(-logged)?|ya?ml|json|js|xml|xmlconfig|config|include|inherit|inject-(before|after)|fallback-config"
    r"|module|wsgi|wsgi-file|wsgi-lite|web3|pump|file|eval|mount|callable|paste|pecan|test|home|virtualenv|venv|pyhome"
    r"|python|py|pyrun|pyshell.*|python-worker-override|upgrade|reload|stop)\Z"
)
#: Directives that have a variable of their own.
OWN_VARIABLE = {
    "processes": "WSGI_WORKERS", "workers": "WSGI_WORKERS", "threads": "WSGI_THREADS", "harakiri": "HARAKIRI",
    "buffer-size": "WSGI_BUFFER_SIZE", "post-buffering": "WSGI_POST_BUFFERING", "async": "UWSGI_ASYNC",
    "gevent": "CC_PYTHON_USE_GEVENT", "ugreen": "UWSGI_ASYNC_ENGINE", "loop": "UWSGI_ASYNC_ENGINE",
    "wsgi-disable-file-wrapper": "CC_UWSGI_DISABLE_FILE_WRAPPER",
}  # fmt: skip
_OWN_UWSGI_VARIABLES = ("UWSGI_ASYNC", "UWSGI_ASYNC_ENGINE", "UWSGI_INTERCEPT_ERRORS")
_KEY = r"[A-Za-z][A-Za-z0-9_-]*"

# -- Gunicorn ----------------------------------------------------------------------------------------------------------------

WORKER_CLASSES = ("sync", "gthread", "gevent", "eventlet", "tornado", "asgi")
_CLASS_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+\Z", re.ASCII)
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
#: Options that would take socket, user or process away, where servers read options from the environment.
_GUNICORN_OPTIONS = {
    "-b": "--bind", "-c": "--config", "-D": "--daemon", "-p": "--pid", "-u": "--user", "-g": "--group", "-w": "WSGI_WORKERS",
    "-k": "CC_GUNICORN_WORKER_CLASS", "-t": "CC_GUNICORN_TIMEOUT",
}  # fmt: skip
_GUNICORN_TAKEN = {
    "--bind": "", "--config": "", "--daemon": "", "--pid": "", "--user": "", "--group": "", "--chdir": "", "--reload": "",
    "--workers": "WSGI_WORKERS", "--threads": "WSGI_THREADS", "--worker-class": "CC_GUNICORN_WORKER_CLASS",
    "--timeout": "CC_GUNICORN_TIMEOUT", "--log-level": "CC_GUNICORN_LOGLEVEL",
}  # fmt: skip
_UVICORN_TAKEN = ("UVICORN_UDS", "UVICORN_RELOAD", "UVICORN_APP_DIR")

# -- workers and threads -----------------------------------------------------------------------------------------------------

MEMORY_PER_WORKER_MB = 256
ASSUMED_CORES = 2
ASSUMED_MEMORY_MB = 2048
_MOST = 1024

_DOTTED = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_MODULE = re.compile(rf"(?P<module>{_DOTTED}):(?P<object>{_DOTTED})(?P<call>\([^\n\r]*\))?\Z", re.ASCII)


@dataclass(frozen=True)
class Project:
    """The project's files: `files` and `texts` by path relative to the source's root, `root` the project root there.

    `known` is false where the source could not be resolved: rules about files are then left alone. `installed` is true where the
    build may install the project itself, so that its modules need not lie at the root.
    """

    root: str
    files: Collection[str]
    texts: Mapping[str, str]
    known: bool = True
    installed: bool = False

    def path(self, name: str) -> str:
        """A path of the project, relative to the source's root."""
        return f"{self.root}/{name}" if self.root else name

    def has(self, name: str) -> bool:
        """Whether the project has this file."""
        return self.path(name) in self.files


@dataclass
class Backend:
    """What answers behind Nginx, and with how many processes."""

    name: str
    module: str = ""
    workers: int = 0
    threads: int = 0
    reason: str = ""
    gevent: bool = False
    settings: dict[str, Any] | None = None
    command: str = ""
    script: str = ""

    @property
    def protocol(self) -> str:
        """How Nginx speaks to it."""
        return {"uwsgi": "uwsgi", "none": "none"}.get(self.name, "http")

    @property
    def socket(self) -> bool:
        """Whether it answers on a socket that systemd holds."""
        return self.name in BACKENDS

    def to_dict(self) -> dict[str, Any]:
        """The JSON-able form, without `nginx`."""
        return {
            "backend": self.name,
            "module": self.module,
            "protocol": self.protocol,
            "socket": self.socket,
            "workers": self.workers,
            "threads": self.threads,
            "workers_reason": self.reason,
            "gevent": self.gevent,
            "settings": self.settings or {},
        }


def read_backend(
    settings: Settings,
    project: Project,
    required: Requirements,
    series: tuple[int, int] | None,
    cores: int | None,
    memory_mb: int | None,
    run_command: str,
    settings_dir: str,
    overrides: Mapping[str, str],
) -> Backend:
    """Section G's backend. `series` is the Python that will run it, None when it is not known; so are `cores` and `memory_mb`."""
    if run_command:
        return Backend("command")
    if not settings.text(MODULE):
        return Backend("none")
    name = settings.choice(
        settings.renamed("PYTHON_BACKEND", "CC_PYTHON_BACKEND"), BACKENDS[0], BACKENDS, lambda text: text.lower()
    )
    module = _read_module(settings, project, name)
    backend = Backend(name, module)
    if name == "uwsgi":
        _read_uwsgi(settings, backend, required)
    elif name == "gunicorn":
        _read_gunicorn(settings, backend, required, series, overrides)
    elif name == "uvicorn":
        for variable in _UVICORN_TAKEN:
            if variable in settings.env:
                settings.error("server_variable", variable, server="uvicorn")
    _read_size(settings, backend, cores, memory_mb)
    backend.command = backend.script = _command(backend, settings_dir)
    if name == "uwsgi":
        _check_harakiri(settings, backend)
        # uWSGI would read them as directives of its own, and refuses those that it does not know.
        hidden = "".join(f"-u {variable} " for variable in _OWN_UWSGI_VARIABLES if variable in settings.env)
        backend.script = (f"env {hidden}" if hidden else "") + backend.command
    return backend


def _command(backend: Backend, settings_dir: str) -> str:
    module = shlex.quote(backend.module)
    return {
        "uwsgi": f"uwsgi --ini {settings_dir}/server.ini",
        "gunicorn": f"gunicorn --config {settings_dir}/server.py {module}",
        "uvicorn": f"uvicorn --fd 3 --workers {backend.workers} --proxy-headers --forwarded-allow-ips '*' {module}",
        "daphne": f"daphne -e systemd:domain=UNIX:index=0 --proxy-headers {module}",
    }[backend.name]


# -- the module --------------------------------------------------------------------------------------------------------------


def _read_module(settings: Settings, project: Project, backend: str) -> str:
    text = settings.text(MODULE)
    match = _MODULE.match(text)
    if not match:
        if re.match(rf"{_DOTTED}\Z", text, re.ASCII):
            why = "it names no object of the module"
        elif "/" in text or text.endswith(".py"):
            why = "it is a file, and a module is written with dots"
        else:
            why = "it is not in the form module:object"
        settings.error("module_syntax", MODULE, why=why)
        return ""
    name, call = match.group("object"), match.group("call") or ""
    if call and backend != "gunicorn" and not (call == "()" and backend == "uwsgi"):
        settings.error("module_call", MODULE, backend=backend, what="a call")
    elif "." in name and backend == "uwsgi":
        settings.error("module_call", MODULE, backend=backend, what="an attribute of an object")
    check_module(settings, MODULE, match.group("module"), project)
    return text


def check_module(settings: Settings, variable: str, module: str, project: Project, inner: Sequence[str] = ()) -> None:
    """Warn about a module that the source lacks; `inner` are modules below it that would do as well."""
    if not project.known:
        return
    path = module.replace(".", "/")
    names = [f"{path}.py", f"{path}/__init__.py", *(f"{path}/{name}.py" for name in inner)]
    if any(project.has(name) or project.has(f"{name[:-3]}.pyx") for name in names):
        return
    elsewhere = sorted(file for file in project.files if any(file.endswith("/" + name) for name in names))
    if elsewhere and (project.installed or settings.text("PYTHONPATH")):
        return
    below_src = any(project.has(f"src/{name}") for name in names)
    hint = ""
    if below_src:
        hint = (
            "it is below src/, which is not where Python looks: add `-e .` to the requirements, or set PYTHONPATH=src"
        )
    elif elsewhere:
        hint = f"the source has {elsewhere[0]}; set APP_FOLDER to the folder from which it is imported, or correct {variable}"
    else:
        hint = f"correct {variable}, or nothing when the requirements install the module"
    settings.error("module_missing", variable, module=module, path=names[0], hint=hint[0].upper() + hint[1:])


# -- uWSGI -------------------------------------------------------------------------------------------------------------------


def _read_uwsgi(settings: Settings, backend: Backend, required: Requirements) -> None:
    gevent = settings.flag("CC_PYTHON_USE_GEVENT")
    engine = settings.text("UWSGI_ASYNC_ENGINE").lower()
    cores = settings.number("UWSGI_ASYNC", 0, 2, 60000, "cores of every worker")
    own = required.has("uwsgi")
    engines = ENGINES + (OWN_ENGINES if own else ())
    if engine and engine not in engines:
        hint = "" if own or engine not in OWN_ENGINES else f"; {engine} needs uwsgi in the requirements, built with it"
        settings.error("uwsgi_engine", "UWSGI_ASYNC_ENGINE", engines=", ".join(engines), hint=hint)
        engine = ""
    elif engine and not cores and not settings.text("UWSGI_ASYNC"):
        settings.error("uwsgi_engine_alone", "UWSGI_ASYNC_ENGINE")
        engine = ""
    if cores and gevent and engine not in ("", "gevent"):
        settings.error("uwsgi_async_gevent", "UWSGI_ASYNC_ENGINE")
    elif cores and not gevent and settings.text("WSGI_THREADS") not in ("", "1"):
        settings.error("uwsgi_async_threads", "UWSGI_ASYNC")
    if gevent or engine == "gevent":
        backend.gevent, engine, cores = True, "gevent", cores or _GEVENT_CORES
    elif cores:
        engine = engine or ENGINES[0]
    backend.settings = {
        "harakiri": settings.number("HARAKIRI", 180, 0, 86400, "seconds, 0 is no limit"),
        "buffer_size": settings.number("WSGI_BUFFER_SIZE", 4096, 1024, 65535, "bytes"),
        "post_buffering": settings.number("WSGI_POST_BUFFERING", 4096, 0, 1073741824, "bytes, 0 is no buffer"),
        "async": cores,
        "async_engine": engine if cores else "",
        "file_wrapper": not settings.flag("CC_UWSGI_DISABLE_FILE_WRAPPER"),
        "extra": _read_extra(settings),
    }
    # uWSGI itself reads every UWSGI_… of its environment as a directive.
    for variable in sorted(settings.env):
        if variable.startswith("UWSGI_") and variable not in _OWN_UWSGI_VARIABLES:
            _check_directive(settings, variable, variable[len("UWSGI_") :].lower())


def _check_harakiri(settings: Settings, backend: Backend) -> None:
    """G4: a limit that somebody counts on, and that requests of a worker share."""
    own = backend.settings or {}
    if settings.text("HARAKIRI") and own["harakiri"] and (backend.threads > 1 or backend.gevent or own["async"]):
        settings.error("uwsgi_harakiri_shared", "HARAKIRI")


def _read_extra(settings: Settings) -> list[list[str]]:
    """CC_UWSGI_EXTRA_CONFIG: directives on lines, or separated by semicolons, or `key=value key=value`."""
    variable = "CC_UWSGI_EXTRA_CONFIG"
    found: list[list[str]] = []
    pieces = [piece.strip() for line in settings.text(variable).splitlines() for piece in _pieces(line.strip())]
    for piece in pieces:
        if not piece or piece == "[uwsgi]":
            continue
        match = re.match(rf"({_KEY})\s*(?:=\s*(.*))?\Z", piece, re.DOTALL)
        if not match or re.search(r"[\x00-\x1f\x7f\u0085\u2028\u2029]", piece):
            settings.findings.append(finding("uwsgi_extra_syntax", variable, SECRET, number=pieces.index(piece) + 1))
            continue
        key, value = match.group(1), (match.group(2) or "").strip()
        if _check_directive(settings, variable, key):
            # A directive without a value switches something on.
            found.append([key, value or "true"])
    return found


def _pieces(line: str) -> list[str]:
    if line.startswith(("#", ";")):
        return []
    pieces: list[str] = []
    for part in line.split(";"):
        # Several directives on one line: `a=1 b=2` and `a = 1 b = 2`. A value with blanks keeps a line to itself.
        several = re.match(rf"\s*(?:{_KEY}\s*=\s*[^\s=]+(?:\s+|\Z)){{2,}}\Z", part)
        pieces += re.findall(rf"{_KEY}\s*=\s*[^\s=]+", part) if several else [part]
    return pieces


def _check_directive(settings: Settings, variable: str, key: str) -> bool:
    """Whether a directive may be set. Socket, user, process and application are the platform's."""
    name = key.lower().replace("_", "-")
    if _PLATFORM_DIRECTIVE.match(name):
        settings.findings.append(finding("uwsgi_extra_refused", variable, SECRET, key=key))
        return False
    if name in OWN_VARIABLE:
        settings.findings.append(finding("uwsgi_extra_variable", variable, SECRET, key=key, own=OWN_VARIABLE[name]))
        return False
    return True


# -- Gunicorn ----------------------------------------------------------------------------------------------------------------


def _read_gunicorn(
    settings: Settings,
    backend: Backend,
    required: Requirements,
    series: tuple[int, int] | None,
    overrides: Mapping[str, str],
) -> None:
    variable = settings.renamed("GUNICORN_WORKER_CLASS", "CC_GUNICORN_WORKER_CLASS")
    gevent = settings.flag("CC_PYTHON_USE_GEVENT")
    chosen = settings.text(variable)
    short = chosen.lower()
    if short in WORKER_CLASSES:
        chosen = short
    elif chosen and not _CLASS_PATH.match(chosen):
        settings.error("gunicorn_class", variable, classes=", ".join(WORKER_CLASSES))
        chosen = ""
    new = series is None or series >= (3, 10)
    if (
        not required.has("gunicorn")
        and "gunicorn" not in overrides
        and ((chosen == "eventlet" and new) or (chosen == "asgi" and not new))
    ):
        settings.error("gunicorn_class_gone", variable, pin=pin("gunicorn", series))
    backend.gevent = chosen == "gevent" or (gevent and not chosen)
    backend.settings = {
        "worker_class": chosen or ("gevent" if gevent else "sync"),
        "timeout": settings.number("CC_GUNICORN_TIMEOUT", 30, 0, 86400, "seconds, 0 is no limit"),
        "loglevel": settings.choice("CC_GUNICORN_LOGLEVEL", "info", LOG_LEVELS, lambda text: text.lower()),
    }
    arguments = settings.env.get("GUNICORN_CMD_ARGS", "")
    try:
        words = shlex.split(arguments)
    except ValueError:
        settings.findings.append(finding("gunicorn_arguments", "GUNICORN_CMD_ARGS", SECRET))
        words = []
    for word in words:
        option = word.split("=", 1)[0]
        if not word.startswith("--") and word[:1] == "-":
            option = _GUNICORN_OPTIONS.get(word[:2], option)
        own = _GUNICORN_TAKEN.get(option, option if option in _GUNICORN_OPTIONS.values() else None)
        if own is None:
            continue
        instead = f"use {own}" if own and not own.startswith("-") else "the platform sets it"
        settings.findings.append(
            finding("gunicorn_argument", "GUNICORN_CMD_ARGS", SECRET, option=option, instead=instead)
        )


# -- size --------------------------------------------------------------------------------------------------------------------


def default_workers(cores: int, memory_mb: int) -> int:
    """WSGI_WORKERS when unset: 2 × cores + 1, as far as every worker has 256 MB; at least one."""
    return max(1, min(2 * cores + 1, memory_mb // MEMORY_PER_WORKER_MB))


def default_threads(backend: str, cores: int, worker_class: str = "") -> int:
    """WSGI_THREADS when unset: as many as cores for uwsgi (and gunicorn's gthread), four at most; otherwise one."""
    if backend == "uwsgi" or worker_class == "gthread":
        return max(1, min(4, cores))
    return 1


def _read_size(settings: Settings, backend: Backend, cores: int | None, memory_mb: int | None) -> None:
    """Workers and threads, and in words why so many."""
    if backend.name == "daphne":
        backend.workers = backend.threads = 1
        backend.reason = "daphne is one process"
        return
    assumed = cores is None or memory_mb is None
    cores = cores if cores is not None else ASSUMED_CORES
    memory_mb = memory_mb if memory_mb is not None else ASSUMED_MEMORY_MB
    given = settings.number("WSGI_WORKERS", 0, 1, _MOST)
    backend.workers = given or default_workers(cores, memory_mb)
    parts = []
    if given:
        parts.append(f"WSGI_WORKERS={given}")
    else:
        size = f"{cores} core{'s' if cores != 1 else ''} and {memory_mb} MB"
        rule = f"2 × cores + 1, and {MEMORY_PER_WORKER_MB} MB for each"
        parts.append(f"{rule}: {size}" + (", assumed since no host was looked at" if assumed else ""))
    own = backend.settings or {}
    worker_class = str(own.get("worker_class") or "")
    if backend.name == "uvicorn" or backend.gevent or own.get("async") or worker_class not in ("", "sync", "gthread"):
        backend.threads = 1
    else:
        threads = settings.number("WSGI_THREADS", 0, 1, _MOST)
        backend.threads = threads or default_threads(backend.name, cores, worker_class)
        if threads:
            parts.append(f"WSGI_THREADS={threads}")
        if worker_class == "sync" and backend.threads > 1:
            own["worker_class"] = "gthread"
            parts.append("threads make gunicorn's sync workers gthread")
    backend.reason = "; ".join(parts)


# -- what is ignored ---------------------------------------------------------------------------------------------------------


def ignored(settings: Settings, backend: Backend) -> list[tuple[str, str]]:
    """A4: the settings of this environment that the backend does not have, each with the reason."""
    found = []
    for name in sorted(settings.env):
        if not settings.env[name].strip():
            continue
        users = USED_BY.get(name)
        if users is not None and backend.name not in users:
            found.append((name, _why(backend, users)))
        elif name == "CC_PYTHON_BACKEND" and backend.name == "none":
            found.append((name, f"{MODULE} is not set, so no backend runs"))
        elif name == "PYTHON_BACKEND" and backend.name in ("command", "none"):
            found.append((name, "no backend runs"))
        elif name == "PORT" and backend.name != "command":
            why = "the backend answers on a socket" if backend.socket else "no backend runs"
            found.append((name, f"{why}; Nginx has the public port"))
    env = settings.env
    own = backend.settings or {}
    if backend.name == "uwsgi" and own.get("async") and env.get("WSGI_THREADS", "").strip():
        found.append(("WSGI_THREADS", f"{own['async_engine']} answers requests in one thread of every worker"))
    if backend.name == "gunicorn" and own["worker_class"] not in ("sync", "gthread"):
        if env.get("WSGI_THREADS", "").strip():
            found.append(("WSGI_THREADS", f"workers of the class {own['worker_class']} have one thread"))
        if is_true(env.get("CC_PYTHON_USE_GEVENT")) and not backend.gevent:
            found.append(("CC_PYTHON_USE_GEVENT", f"CC_GUNICORN_WORKER_CLASS asks for {own['worker_class']}"))
    elif backend.name == "gunicorn" and is_true(env.get("CC_PYTHON_USE_GEVENT")):
        found.append(("CC_PYTHON_USE_GEVENT", f"CC_GUNICORN_WORKER_CLASS asks for {own['worker_class']}"))
    if not is_true(env.get("ENABLE_GZIP_COMPRESSION")) and env.get("GZIP_TYPES", "").strip():
        found.append(("GZIP_TYPES", "ENABLE_GZIP_COMPRESSION is not on"))
    celery = env.get("CC_PYTHON_CELERY_MODULE", "").strip()
    found += [
        (name, "CC_PYTHON_CELERY_MODULE is not set")
        for name in ("CC_PYTHON_CELERY_USE_BEAT", "CC_PYTHON_CELERY_LOGFILE")
        if env.get(name, "").strip() and not celery
    ]
    return found


def _why(backend: Backend, users: Sequence[str]) -> str:
    if backend.name == "command":
        return "CC_RUN_COMMAND replaces the backend"
    if backend.name == "none":
        return f"{MODULE} is not set, so no backend runs"
    return f"it is a setting of {' and '.join(users)}, and the backend is {backend.name}"


# -- build -------------------------------------------------------------------------------------------------------------------


def pin(role: str, series: tuple[int, int] | None) -> str:
    """The table's requirement for a backend or its companion on a Python, "" when there is none."""
    for first, row in PINS:
        if series is None or series >= first:
            return row.get(role, "")
    return ""


def packages(
    settings: Settings,
    backend: Backend,
    required: Requirements,
    series: tuple[int, int] | None,
    overrides: Mapping[str, str],
) -> list[dict[str, Any]]:
    """What the backend needs besides the requirements, in the order of installation."""
    roles = [backend.name] if backend.socket else []
    worker_class = str((backend.settings or {}).get("worker_class") or "")
    if backend.gevent:
        # Gunicorn's gevent workers import `packaging`, which Gunicorn requires with its extra `gevent` only.
        roles += ["gevent", "packaging"] if backend.name == "gunicorn" else ["gevent"]
    elif worker_class in ("eventlet", "tornado"):
        roles.append(worker_class)
    elif worker_class.startswith("uvicorn."):
        roles.append("uvicorn")
    result: list[dict[str, Any]] = []
    for role in roles:
        provides = list(PROVIDES.get(role, (role,)))
        requirement = overrides.get(role) or pin(role, series)
        name = needed.requirement_name(requirement)
        if name and name not in provides:
            provides.append(name)
        if requirement:
            result.append({"requirement": requirement, "provides": provides})
        elif not required.has(*provides) and not required.unseen:
            python = ".".join(str(part) for part in series or ())
            settings.error("backend_for_python", _variable(role, settings), role=role, python=python)
    return result


def _variable(role: str, settings: Settings) -> str:
    if role in BACKENDS:
        return (
            "PYTHON_BACKEND"
            if not settings.text("CC_PYTHON_BACKEND") and settings.text("PYTHON_BACKEND")
            else ("CC_PYTHON_BACKEND")
        )
    return "CC_PYTHON_USE_GEVENT" if role == "gevent" else "CC_GUNICORN_WORKER_CLASS"


def read_requirements(settings: Settings, project: Project, pre_hook: str | None, needs_none: bool) -> Requirements:
    """B7: the requirements file, or an empty path without one. `needs_none`: the run command brings its own packages."""
    variable = "CC_PIP_REQUIREMENTS_FILE"
    text = settings.text(variable)
    name = relative_path(text) if text else REQUIREMENTS
    if not name:
        settings.error("requirements_outside", variable)
        return Requirements()
    path = project.path(name)
    if not project.known:
        return Requirements(name, unseen=[name])
    if path in project.files:
        result = needed.read_requirements(path, project.texts, project.files)
        for item in result.findings:
            if item.code == "requirements_nested" and pre_hook:
                later = finding(
                    "requirements_later", item.variable, item.value, path=item.value, other="it is not there"
                )
                settings.findings.append(later)
            else:
                settings.findings.append(item)
        result.path = name
        return result
    if pre_hook and (text or "requirements" in pre_hook):
        # The hook may write it (`poetry export`): known on the host only.
        settings.findings.append(
            finding("requirements_later", variable, text or "(not set)", path=path, other="it is not there")
        )
        return Requirements(name, unseen=[name])
    if text:
        others = sorted(file for file in project.files if re.search(r"requirements[^/]*\.txt\Z", file))
        hint = f"; the source has {', '.join(others[:5])}" if others else ""
        settings.error("requirements_missing", variable, path=path, hint=hint)
    elif not needs_none:
        others = sorted(
            file for file in project.files if re.search(r"requirements[^/]*\.txt\Z|requirements/.*\.txt\Z", file)
        )
        hint = f"; the source has {', '.join(others[:5])}" if others else ""
        settings.error("requirements_none", variable, path=path, hint=hint)
    return Requirements()


def setup_goal(settings: Settings, project: Project) -> str:
    """B7: PYTHON_SETUP_PY_GOAL, "" without one."""
    variable = "PYTHON_SETUP_PY_GOAL"
    goal = settings.text(variable)
    if not goal:
        return ""
    if not re.match(r"[A-Za-z][A-Za-z0-9_-]*\Z", goal, re.ASCII):
        settings.error("setup_goal", variable)
        return ""
    if project.known and not project.has("setup.py"):
        settings.error("setup_py_missing", variable, path=project.path("setup.py"))
    return goal


def manage_tasks(settings: Settings, project: Project) -> list[list[str]]:
    """B7: CC_PYTHON_MANAGE_TASKS, each entry as the arguments of one `python manage.py`."""
    variable = "CC_PYTHON_MANAGE_TASKS"
    text = settings.text(variable)
    tasks: list[list[str]] = []
    for entry in split_tasks(text):
        try:
            words = shlex.split(entry)
        except ValueError as error:
            why = "it ends in a lone backslash" if "escape" in str(error) else "a quote is not closed"
            settings.error("manage_task", variable, entry=entry.strip(), why=why)
            continue
        while words and (re.match(r"python[0-9.]*\Z", words[0]) or words[0] in ("manage.py", "./manage.py")):
            words = words[1:]
        if not words:
            if entry.strip():
                settings.error("manage_task", variable, entry=entry.strip(), why="it names no task")
            continue
        if words[0].startswith("-"):
            settings.error(
                "manage_task", variable, entry=entry.strip(), why="it begins with an option, not with a task"
            )
            continue
        tasks.append(words)
    if text and project.known and not project.has("manage.py"):
        settings.error("manage_py_missing", variable, path=project.path("manage.py"))
    return tasks


def split_tasks(text: str) -> list[str]:
    """Split at commas outside of quotes."""
    parts, quote, current, position = [], "", "", 0
    while position < len(text):
        char = text[position]
        if char == "\\" and quote != "'":
            current += text[position : position + 2]
            position += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == ",":
            parts.append(current)
            current = ""
            position += 1
            continue
        current += char
        position += 1
    return [*parts, current]


_INSTALLERS = re.compile(
    r"(?<![\w.-])(uv|uvx|pip[0-9.]*|pipenv|poetry|pdm|hatch|conda|mamba|easy_install|virtualenv|venv)(?![\w-])"
)
_HARMLESS = frozenset(
    {
        "true", "echo", "printf", "cp", "mv", "rm", "mkdir", "ln", "ls", "cat", "touch", "chmod", "test", "[", "cd", "npm", "npx",
        "yarn", "pnpm", "node", "sass", "curl", "wget", "tar", "gzip", "gunzip", "unzip", "sed", "grep", "msgfmt", "export", "set",
    }
)  # fmt: skip


def shared_environment(
    env: Mapping[str, str], required: Requirements, goal: str, post_hook: str | None, commands: Sequence[str]
) -> tuple[bool, str]:
    """Whether releases with the same requirements and Python may share one environment, and in words why.

    Whatever ties an environment to one release, or may change it after it was installed, forbids that: a running release
    would change under its clients.
    """
    if required.local:
        return False, f"{required.path} names something inside of the release: {required.local[0]}"
    if any("${" in text for text in required.names.values()):
        return False, f"{required.path} takes a part of it from the environment"
    if goal:
        return False, f"setup.py {goal} may install the release itself"
    for command in commands:
        if installs(command):
            return False, "the run command brings packages of its own"
    if post_hook and _may_install(post_hook):
        return False, "CC_POST_BUILD_HOOK may change it"
    if is_true(env.get("PIP_NO_CACHE_DIR")) or is_true(env.get("UV_NO_CACHE")):
        return False, "the environment asks for no cache"
    return True, "releases with the same requirements and Python share it"


def installs(command: str) -> bool:
    """Whether a command names a program that installs packages."""
    return bool(_INSTALLERS.search(command))


def _may_install(hook: str) -> bool:
    """Whether a hook may do more than call known harmless programs and manage.py."""
    if installs(hook) or "$(" in hook or "`" in hook:
        return True
    for part in re.split(r"[\n;&|]+", hook):
        words = part.split()
        if not words or words[0].startswith("#"):
            continue
        if re.match(r"(\S*/)?python[0-9.]*\Z", words[0]):
            if len(words) < 2 or not re.match(r"(\./)?manage\.py\Z", words[1]):
                return True
        elif words[0] not in _HARMLESS and words[0] not in ("./manage.py", "django-admin", "flask"):
            return True
    return False


def read_overrides(value: object) -> tuple[dict[str, str], list[Finding]]:
    """The setting `app_backend_requirements`: role → requirement instead of the table's."""
    variable = "app_backend_requirements"
    roles = (*BACKENDS, "gevent", "eventlet", "tornado")
    expected = f"a mapping of {', '.join(roles)} to requirements"
    example = '{"uwsgi": "pyuwsgi==2.0.28"}'
    if not value:
        return {}, []
    if not isinstance(value, Mapping):
        return {}, [finding("option_invalid", variable, value, expected=expected, example=example)]
    result: dict[str, str] = {}
    findings = []
    for role, text in value.items():
        if role in roles and isinstance(text, str) and needed.requirement_name(text):
            result[str(role)] = "".join(text.strip())
        else:
            findings.append(finding("option_invalid", variable, f"{role}: {text}", expected=expected, example=example))
    return result, findings
