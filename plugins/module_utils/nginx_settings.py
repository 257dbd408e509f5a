# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nginx in front of a legacy application (section G): timeouts, buffers, compression, static files, logins, http.json.

Every value that reaches Nginx's configuration is checked here, so that no value can end a directive and begin another.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection
from typing import Any

from ansible_collections.pyfleet.runtime.plugins.module_utils.findings import SECRET, Finding, finding
from ansible_collections.pyfleet.runtime.plugins.module_utils.legacy import Project
from ansible_collections.pyfleet.runtime.plugins.module_utils.settings import TRUE, Settings, relative_path

HTTP_JSON = "clevercloud/http.json"
GZIP_TYPES = (
    "text/plain", "text/css", "text/xml", "text/javascript", "application/json", "application/xml", "application/javascript",
    "image/svg+xml",
)  # fmt: skip
# Nginx's own: four header buffers of 8k, eight buffers of a page for an answer and one of a page for its head.
_HEADER_BUFFER = 8192
_PAGE = 4096
_BUFFER_COUNT = 8
_SIZE = re.compile(r"([0-9]{1,7})([kKmM]?)\Z", re.ASCII)
_BUFFERS = re.compile(r"([0-9]{1,4})\s+([0-9]{1,7}[kKmM]?)\Z", re.ASCII)
_LARGEST_BUFFER = 64 * 1024 * 1024
_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]*/[a-z0-9*][a-z0-9.+*-]*\Z", re.ASCII)
# What would leave a quoted word of Nginx's configuration or be read as one of its variables.
_UNSAFE = re.compile(r"[\"'\\$;{}`<>\x00-\x1f\x7f\u0085\u2028\u2029]")
_PATH = re.compile(r"/[^\s?#]*\Z")
_TARGET = re.compile(r"(/(?!/)|https?://[A-Za-z0-9\[])[^\s]*\Z")
_CHARSET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,39}\Z", re.ASCII)
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8}){0,3}\Z", re.ASCII)
_FOLDER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._~-]*\Z", re.ASCII)
_AUTH = re.compile(r"CC_HTTP_BASIC_AUTH(?:_(.*))?\Z", re.DOTALL)
# crypt(3) takes 512 bytes with the final NUL.
_LONGEST_PASSWORD = 511
_KEYS = ("languages", "error_pages", "force_https", "aliases", "charset")


def read_nginx(
    settings: Settings, *, project: Project, buffer_size: int, max_body_mb: int, makers: Collection[str] = ()
) -> dict[str, Any]:
    """Everything of `server.nginx` that does not depend on the backend. Findings go to `settings`.

    `buffer_size` is the backend's buffer for a request's head in bytes; `makers` are variables that may still write files while
    building.
    """
    prefix = project.path("")
    present = {path[len(prefix) :] for path in project.files if path.startswith(prefix)}
    path = project.path(HTTP_JSON)
    extra = _read_http_json(settings, project.texts.get(path), path, present, project.known)
    buffers, size = _read_buffers(settings)
    gzip = settings.flag("ENABLE_GZIP_COMPRESSION")
    intercept = settings.flag("UWSGI_INTERCEPT_ERRORS")
    if intercept and not extra["error_pages"]:
        settings.error("intercept_without_pages", "UWSGI_INTERCEPT_ERRORS")
    return {
        "read_timeout": settings.number("NGINX_READ_TIMEOUT", 300, 1, 86400, "seconds"),
        "proxy_buffers": buffers,
        "proxy_buffer_size": size,
        "header_buffer": max(_HEADER_BUFFER, buffer_size),
        "max_body_mb": max_body_mb,
        "gzip": gzip,
        "gzip_types": _read_types(settings) if gzip else list(GZIP_TYPES),
        "static": _read_static(settings, present, " or ".join(makers), project.known),
        "intercept_errors": intercept,
        "users": read_users(settings),
        **extra,
    }


# -- buffers and compression -----------------------------------------------------------------------------------------------


def _bytes(text: str) -> int:
    match = _SIZE.match(text)
    if not match:
        return 0
    return int(match.group(1)) * {"": 1, "k": 1024, "m": 1024 * 1024}[match.group(2).lower()]


def _read_buffers(settings: Settings) -> tuple[str, str]:
    """CC_NGINX_PROXY_BUFFERS and CC_NGINX_PROXY_BUFFER_SIZE; "" leaves Nginx's own. Both have to fit together, or Nginx refuses
    them: twice the largest buffer may not exceed all buffers but one."""
    count, each = _BUFFER_COUNT, _PAGE
    buffers = " ".join(settings.text("CC_NGINX_PROXY_BUFFERS").split())
    if buffers:
        match = _BUFFERS.match(buffers)
        if match and int(match.group(1)) >= 2 and 1024 <= _bytes(match.group(2)) <= _LARGEST_BUFFER:
            count, each = int(match.group(1)), _bytes(match.group(2))
        else:
            settings.error("nginx_buffers", "CC_NGINX_PROXY_BUFFERS")
            buffers = ""
    size = settings.text("CC_NGINX_PROXY_BUFFER_SIZE")
    if size and not 1024 <= _bytes(size) <= _LARGEST_BUFFER:
        settings.error("nginx_buffer_size", "CC_NGINX_PROXY_BUFFER_SIZE")
        size = ""
    largest = max(_bytes(size) or _PAGE, each)
    if 2 * largest > (count - 1) * each:
        if not buffers:
            # A larger head alone would be refused; answers get buffers of the same size.
            return f"{_BUFFER_COUNT} {size}", size
        settings.error("nginx_buffers_fit", "CC_NGINX_PROXY_BUFFERS", size=size or "4k", buffers=buffers)
        return "", ""
    return buffers, size


def _read_types(settings: Settings) -> list[str]:
    words = settings.text("GZIP_TYPES").split()
    if not words:
        return list(GZIP_TYPES)
    wrong = [word for word in words if word != "*" and not _TYPE.match(word.lower())]
    if wrong:
        settings.error("gzip_types", "GZIP_TYPES", wrong=", ".join(wrong))
        return list(GZIP_TYPES)
    # Nginx always compresses text/html, and warns when it is listed.
    return list(dict.fromkeys(word.lower() for word in words if word.lower() != "text/html"))


# -- static files ----------------------------------------------------------------------------------------------------------


def _read_static(settings: Settings, present: Collection[str], may_build: str, known: bool) -> dict[str, str] | None:
    """STATIC_FILES_PATH and STATIC_URL_PREFIX; None unless both are set."""
    path_name, prefix_name = "STATIC_FILES_PATH", "STATIC_URL_PREFIX"
    path_text, prefix = settings.text(path_name), settings.text(prefix_name)
    if not path_text and not prefix:
        return None
    if not path_text or not prefix:
        given, lacking = (path_name, prefix_name) if path_text else (prefix_name, path_name)
        settings.error("static_half", given, lacking=lacking)
    path = relative_path(path_text)
    wrong = ""
    if path is None:
        wrong = "static_outside"
    elif path_text and not path:
        wrong = "static_root"
    elif _UNSAFE.search(path):
        wrong = "static_unsafe"
    elif path in present:
        wrong = "static_file"
    elif path and known and not any(name.startswith(path + "/") for name in present):
        settings.error("static_missing", path_name, maker=f" ({may_build} may make it)" if may_build else "")
    if wrong:
        settings.error(wrong, path_name)
    if prefix and not prefix.startswith("/"):
        settings.error("static_prefix_slash", prefix_name, used="/" + prefix)
        prefix = "/" + prefix
    if prefix and (_UNSAFE.search(prefix) or not _PATH.match(prefix) or ".." in prefix.split("/") or "//" in prefix):
        settings.error("static_prefix", prefix_name)
        return None
    if wrong or not path or not prefix:
        return None
    return {"path": path, "prefix": prefix.rstrip("/") or "/"}


# -- logins ----------------------------------------------------------------------------------------------------------------


def read_users(settings: Settings) -> list[list[str]]:
    """CC_HTTP_BASIC_AUTH and CC_HTTP_BASIC_AUTH_n: [login, password] in the order of the variables. No message shows any of
    both."""
    names: list[tuple[int, str]] = []
    for name in settings.env:
        match = _AUTH.match(name)
        if not match:
            continue
        index = match.group(1)
        if index is None:
            names.append((-1, name))
        elif re.match(r"(0|[1-9][0-9]{0,8})\Z", index, re.ASCII):
            names.append((int(index), name))
        else:
            # A pair that nobody reads may be the only one, and the application would be open.
            settings.findings.append(finding("basic_auth_index", name, SECRET))
    users: list[list[str]] = []
    for _index, name in sorted(names):
        login, colon, password = settings.env[name].partition(":")
        why = _login_problem(login, colon, password)
        if not why and any(login == other for other, _password in users):
            why = "another variable has the same login"
        if why:
            settings.findings.append(finding("basic_auth", name, SECRET, why=why))
        else:
            users.append([login, password])
    return users


def _login_problem(login: str, colon: str, password: str) -> str:
    if not colon:
        return "there is no colon between login and password" if login.strip() else "it is empty"
    if not login.strip():
        return "the login is empty"
    if not password:
        return "the password is empty"
    if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", login + password):
        return "it holds a control character, such as a line break"
    if login.startswith("#"):
        return "the login begins with #, which begins a comment in a password file"
    if len(password.encode("utf-8", "replace")) > _LONGEST_PASSWORD:
        return f"the password has more than {_LONGEST_PASSWORD} bytes"
    return ""


# -- clevercloud/http.json -------------------------------------------------------------------------------------------------


def _read_http_json(
    settings: Settings, text: str | None, path: str, present: Collection[str], known: bool
) -> dict[str, Any]:
    result: dict[str, Any] = {"force_https": False, "charset": "", "error_pages": {}, "aliases": {}, "languages": {}}
    if not isinstance(text, str):
        return result
    reader = _HttpJson(path, settings.findings, present if known else None)
    try:
        data = json.loads(text.lstrip("\ufeff"), object_pairs_hook=reader.pairs)
    except (ValueError, RecursionError) as error:
        settings.findings.append(finding("http_json_broken", path, "(the file)", why=str(error) or "too deeply nested"))
        return result
    if not isinstance(data, dict):
        reader.wrong("(the file)", "an object", data)
        return result
    for key in data:
        if key not in _KEYS:
            reader.findings.append(finding("http_json_key", path, key, keys=", ".join(_KEYS)))
    result["force_https"] = reader.force_https(data.get("force_https"))
    result["charset"] = reader.charset(data.get("charset"))
    result["error_pages"] = reader.error_pages(data.get("error_pages"))
    result["aliases"] = reader.aliases(data.get("aliases"))
    result["languages"] = reader.languages(data.get("languages"))
    return result


class _HttpJson:
    """The parts of http.json. A part that is not there, or null, is as if it were not set."""

    def __init__(self, path: str, findings: list[Finding], present: Collection[str] | None) -> None:
        self.path = path
        self.findings = findings
        self.present = present

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """An object; a key that is there twice is an error, since only one of both could count."""
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                self.findings.append(finding("http_json_twice", self.path, key))
            result[key] = value
        return result

    def wrong(self, key: str, expected: str, value: object) -> None:
        """A value of a wrong type or form."""
        shown = json.dumps(value, ensure_ascii=False, default=str)
        self.findings.append(finding("http_json_value", self.path, f"{key}: {shown}", key=key, expected=expected))

    def unsafe(self, key: str, text: str) -> bool:
        """Whether the text could leave its place in Nginx's configuration."""
        if not _UNSAFE.search(text):
            return False
        self.findings.append(finding("http_json_unsafe", self.path, f"{key}: {text}", key=key))
        return True

    def entries(self, key: str, value: object) -> list[tuple[str, Any]]:
        if value is None:
            return []
        if not isinstance(value, dict):
            self.wrong(key, "an object", value)
            return []
        return [(name, item) for name, item in value.items() if not self.unsafe(key, name)]

    def force_https(self, value: object) -> bool:
        if value is None or isinstance(value, bool):
            return bool(value)
        text = value.strip().lower() if isinstance(value, str) else None
        if text in (*TRUE, "enabled"):
            return True
        if text not in ("false", "no", "off", "0", "", "disabled"):
            self.wrong("force_https", 'true, false or "ENABLED"', value)
        return False

    def charset(self, value: object) -> str:
        if value is None or value == "":
            return ""
        if not isinstance(value, str) or not _CHARSET.match(value.strip()):
            self.wrong("charset", 'the name of a character set, for example "utf-8"', value)
            return ""
        try:
            text = getattr(codecs.lookup(value.strip()), "_is_text_encoding", True)
        except (LookupError, ValueError):
            text = False
        if not text:
            self.wrong("charset", 'the name of a character set that is known, for example "utf-8"', value)
            return ""
        return value.strip()

    def error_pages(self, value: object) -> dict[str, str]:
        pages: dict[str, str] = {}
        for code, page in self.entries("error_pages", value):
            key = f"error_pages.{code}"
            if not re.match(r"[3-5][0-9]{2}\Z", code, re.ASCII) or code == "499":
                self.wrong(key, "a status from 300 to 599 (but for 499)", page)
            elif not isinstance(page, str) or not page.strip():
                self.wrong(key, "the path of a file below the project root", page)
            elif not self.unsafe(key, page):
                path = relative_path(page)
                if not path:
                    self.wrong(key, "the path of a file below the project root", page)
                    continue
                if self.present is not None and path not in self.present:
                    self.findings.append(finding("http_json_page", self.path, f"{key}: {page}", page=path))
                pages[code] = path
        return pages

    def aliases(self, value: object) -> dict[str, str]:
        aliases: dict[str, str] = {}
        for source, target in self.entries("aliases", value):
            key = f"aliases.{source}"
            if not _PATH.match(source):
                self.wrong(key, "a path that begins with /, without spaces, ? and #", target)
            elif not isinstance(target, str) or not _TARGET.match(target):
                self.wrong(key, "a path that begins with /, or an http(s) URL", target)
            elif not self.unsafe(key, target):
                if target == source:
                    self.wrong(key, "another path than the alias itself", target)
                    continue
                aliases[source] = target
        return aliases

    def languages(self, value: object) -> dict[str, str]:
        languages: dict[str, str] = {}
        for language, entry in self.entries("languages", value):
            key = f"languages.{language}"
            rewrite = entry.get("rewrite") if isinstance(entry, dict) else None
            if not _LANGUAGE.match(language):
                self.wrong(key, 'a language such as "fr" or "pt-BR", or "default"', entry)
            elif not isinstance(rewrite, str) or not _FOLDER.match(rewrite.strip("/")):
                self.wrong(key, 'an object with the folder to go to, for example {"rewrite": "en"}', entry)
            else:
                languages[language if language == "default" else language.lower()] = rewrite.strip("/")
        return languages
