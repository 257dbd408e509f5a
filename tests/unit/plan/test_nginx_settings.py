# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Section G in front of the backend: Nginx's settings, and that no value can break out of its configuration."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .support import codes, legacy, only

UNSAFE = ['a"b', "a'b", "a$b", "a;b", "a{b", "a}b", "a\nb", "a\\b", "a\rb", "a`b"]


def nginx(env: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    result = legacy(env, **more)
    assert result["errors"] == [], result["errors"]
    part: dict[str, Any] = result["server"]["nginx"]
    return part


def test_g_defaults() -> None:
    part = nginx()
    assert {name: part[name] for name in ("read_timeout", "proxy_buffers", "proxy_buffer_size", "max_body_mb")} == {
        "read_timeout": 300,
        "proxy_buffers": "",
        "proxy_buffer_size": "",
        "max_body_mb": 512,
    }
    assert not any(part[name] for name in ("gzip", "static", "intercept_errors", "users", "force_https", "charset"))
    assert (part["error_pages"], part["aliases"], part["languages"]) == ({}, {}, {})


def test_input_max_body() -> None:
    assert nginx(app={"max_body_mb": 8})["max_body_mb"] == 8
    for wrong in (-1, 1.5, "big", 2_000_000):
        assert only(legacy(app={"max_body_mb": wrong})["errors"], "option_invalid")["variable"] == "app_max_body_mb"


def test_g9_intercept_errors() -> None:
    assert nginx({"UWSGI_INTERCEPT_ERRORS": "true"})["intercept_errors"] is True
    assert codes(legacy({"UWSGI_INTERCEPT_ERRORS": "some"})["errors"]) == ["setting_flag"]
    alone = legacy({"UWSGI_INTERCEPT_ERRORS": "true"})
    assert codes(alone["warnings"]) == ["intercept_without_pages"]  # Nginx has nothing to answer with


def test_g11_read_timeout() -> None:
    assert nginx({"NGINX_READ_TIMEOUT": "900"})["read_timeout"] == 900
    for wrong in ("0", "86401", "5m", "-1", "300;"):
        error = only(legacy({"NGINX_READ_TIMEOUT": wrong})["errors"], "setting_number")
        assert (error["variable"], error["value"]) == ("NGINX_READ_TIMEOUT", wrong)


@pytest.mark.parametrize(
    ("buffers", "size", "expected"),
    [
        ("8 16k", "", ("8 16k", "")),
        ("8  16K", "16k", ("8 16K", "16k")),
        ("", "8k", ("", "8k")),
        ("", "32k", ("8 32k", "32k")),
        ("4 1m", "1m", ("4 1m", "1m")),
        ("16 4096", "8192", ("16 4096", "8192")),
    ],
)
def test_g12_buffers(buffers: str, size: str, expected: tuple[str, str]) -> None:
    part = nginx({"CC_NGINX_PROXY_BUFFERS": buffers, "CC_NGINX_PROXY_BUFFER_SIZE": size})
    assert (part["proxy_buffers"], part["proxy_buffer_size"]) == expected


@pytest.mark.parametrize(
    ("buffers", "size", "code"),
    [
        ("8", "", "nginx_buffers"),
        ("8 16k; x", "", "nginx_buffers"),
        ("1 16k", "", "nginx_buffers"),
        ("8 0k", "", "nginx_buffers"),
        ("8 1g", "", "nginx_buffers"),
        ("", "big", "nginx_buffer_size"),
        ("", "16k;", "nginx_buffer_size"),
        ("", "65m", "nginx_buffer_size"),
        ("8 4k", "32k", "nginx_buffers_fit"),
        ("2 16k", "", "nginx_buffers_fit"),
    ],
)
def test_g12_buffers_that_nginx_would_refuse(buffers: str, size: str, code: str) -> None:
    assert codes(legacy({"CC_NGINX_PROXY_BUFFERS": buffers, "CC_NGINX_PROXY_BUFFER_SIZE": size})["errors"]) == [code]


@pytest.mark.parametrize("word", ["on", "yes", "true", "TRUE", " on "])
def test_g13_gzip_on(word: str) -> None:
    part = nginx({"ENABLE_GZIP_COMPRESSION": word})
    assert part["gzip"] is True
    assert part["gzip_types"] == [
        "text/plain",
        "text/css",
        "text/xml",
        "text/javascript",
        "application/json",
        "application/xml",
        "application/javascript",
        "image/svg+xml",
    ]


def test_g13_gzip_types() -> None:
    env = {"ENABLE_GZIP_COMPRESSION": "on", "GZIP_TYPES": "text/css  Text/CSS application/wasm text/html *"}
    assert nginx(env)["gzip_types"] == ["text/css", "application/wasm", "*"]
    for wrong in ("css", "text/css;", "text/css,text/xml", "text/"):
        env["GZIP_TYPES"] = wrong
        assert codes(legacy(env)["errors"]) == ["gzip_types"], wrong
    assert nginx({"ENABLE_GZIP_COMPRESSION": "off"})["gzip"] is False
    assert codes(legacy({"ENABLE_GZIP_COMPRESSION": "gzip"})["errors"]) == ["setting_flag"]


def static(path: str | None, prefix: str | None, **more: Any) -> dict[str, Any]:
    files = ["shop.py", "public/a.css", "deep/er/b.css", "sp ace/c.css"]
    return legacy({"STATIC_FILES_PATH": path, "STATIC_URL_PREFIX": prefix}, files=files, **more)


@pytest.mark.parametrize(
    ("path", "prefix", "expected"),
    [
        ("public", "/static", {"path": "public", "prefix": "/static"}),
        ("/public/", "/static/", {"path": "public", "prefix": "/static"}),
        ("/deep//er", "/", {"path": "deep/er", "prefix": "/"}),
        ("./deep/../public", "/a/b", {"path": "public", "prefix": "/a/b"}),
        ("sp ace", "/é", {"path": "sp ace", "prefix": "/é"}),
    ],
)
def test_g14_static_files(path: str, prefix: str, expected: dict[str, str]) -> None:
    result = static(path, prefix)
    assert result["errors"] + result["warnings"] == []
    assert result["server"]["nginx"]["static"] == expected
    assert result["build"]["static"] == expected["path"]


@pytest.mark.parametrize(
    ("path", "prefix", "code"),
    [
        ("../x", "/s", "static_outside"),
        ("/../etc", "/s", "static_outside"),
        ("public/../..", "/s", "static_outside"),
        ("~/x", "/s", "static_outside"),
        ("/", "/s", "static_root"),
        (".", "/s", "static_root"),
        ("shop.py", "/s", "static_file"),
        ("public", "/a b", "static_prefix"),
        ("public", "/a/../b", "static_prefix"),
        ("public", "//a", "static_prefix"),
        ("public", "/a?b", "static_prefix"),
        *[(text, "/s", "static_unsafe") for text in UNSAFE],
        *[("public", "/" + text, "static_prefix") for text in UNSAFE],
    ],
)
def test_g14_static_path_or_prefix_that_cannot_be(path: str, prefix: str, code: str) -> None:
    result = static(path, prefix)
    assert codes(result["errors"]) == [code]
    assert result["server"]["nginx"]["static"] is None


def test_g14_half_a_setting_a_missing_slash_and_a_folder_that_is_not_there_warn() -> None:
    for path, prefix in (("public", None), (None, "/s")):
        result = static(path, prefix)
        assert (codes(result["warnings"]), result["server"]["nginx"]["static"]) == (["static_half"], None)
    slash = static("public", "s")
    assert (codes(slash["warnings"]), slash["server"]["nginx"]["static"]["prefix"]) == (["static_prefix_slash"], "/s")
    missing = static("dist", "/s")
    assert codes(missing["warnings"]) == ["static_missing"]
    assert missing["server"]["nginx"]["static"] == {"path": "dist", "prefix": "/s"}


# -- G15: logins ---------------------------------------------------------------------------------------------------------------


def test_g15_logins_in_order() -> None:
    env = {
        "CC_HTTP_BASIC_AUTH_10": "c:3",
        "CC_HTTP_BASIC_AUTH_2": "b:2:2",
        "CC_HTTP_BASIC_AUTH": "a: é",
        "CC_HTTP_BASIC_AUTHOR": "x",
    }
    assert nginx(env)["users"] == [["a", " é"], ["b", "2:2"], ["c", "3"]]


@pytest.mark.parametrize(
    "text",
    ["", "hunter2", ":hunter2", "hunter2:", "a\n:hunter2", "a:hunter2\n", "a:hunter2\x7f", "#a:hunter2", " :hunter2",
     "a:" + "hunter2" * 99],
)  # fmt: skip
def test_g15_what_is_no_login_and_password(text: str) -> None:
    result = legacy({"CC_HTTP_BASIC_AUTH": text})
    error = only(result["errors"], "basic_auth")
    assert (error["variable"], error["value"]) == ("CC_HTTP_BASIC_AUTH", "(secret)")
    assert "hunter2" not in json.dumps(result["errors"]) + "".join(result["summary"])


def test_g15_the_same_login_twice_and_an_index_that_is_none() -> None:
    assert codes(legacy({"CC_HTTP_BASIC_AUTH": "a:1", "CC_HTTP_BASIC_AUTH_0": "a:2"})["errors"]) == ["basic_auth"]
    for name in ("CC_HTTP_BASIC_AUTH_x", "CC_HTTP_BASIC_AUTH_01", "CC_HTTP_BASIC_AUTH_"):
        assert codes(legacy({name: "a:1"})["errors"]) == ["basic_auth_index"]


# -- G16: http.json ------------------------------------------------------------------------------------------------------------


def http_json(data: Any, files: list[str] | None = None, env: dict[str, Any] | None = None) -> dict[str, Any]:
    text = data if isinstance(data, str) else json.dumps(data)
    return legacy(env, files=["shop.py", "errors/404.html", *(files or [])], texts={"clevercloud/http.json": text})


def test_g16_everything_at_once() -> None:
    result = http_json(
        {
            "languages": {"default": {"rewrite": "en"}, "fr": {"rewrite": "fr"}, "pt-BR": {"rewrite": "/pt/"}},
            "error_pages": {"404": "/errors/404.html", "503": "errors/404.html"},
            "force_https": "ENABLED",
            "aliases": {"/old": "/new?x=1", "/out": "https://example.org/a#b"},
            "charset": "latin-1",
        }
    )
    assert result["errors"] + result["warnings"] == []
    part = result["server"]["nginx"]
    assert part["languages"] == {"default": "en", "fr": "fr", "pt-br": "pt"}
    assert part["error_pages"] == {"404": "errors/404.html", "503": "errors/404.html"}
    assert (part["force_https"], part["charset"]) == (True, "latin-1")
    assert part["aliases"] == {"/old": "/new?x=1", "/out": "https://example.org/a#b"}


def test_g16_of_the_project_root() -> None:
    texts = {
        "clevercloud/http.json": "{",
        "web/clevercloud/http.json": '{"charset": "utf-8"}',
        "web/requirements.txt": "",
    }
    assert nginx({"APP_FOLDER": "web"}, files=["web/shop.py"], texts=texts)["charset"] == "utf-8"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (False, False),
        ("true", True),
        ("ENABLED", True),
        ("enabled", True),
        ("false", False),
        (None, False),
    ],
)
def test_g16_force_https(value: object, expected: bool) -> None:
    result = http_json({"force_https": value})
    assert (result["errors"], result["server"]["nginx"]["force_https"]) == ([], expected)


@pytest.mark.parametrize(
    "text", ["", "{", "[1,]", "{'a': 1}", '{"charset": "utf-8",}', "[" * 100_000, '{"charset": NaN']
)
def test_g16_broken_json(text: str) -> None:
    error = only(http_json(text)["errors"], "http_json_broken")
    assert error["variable"] == "clevercloud/http.json"


@pytest.mark.parametrize(
    "data",
    [
        [],
        "text",
        7,
        {"force_https": "soon"},
        {"force_https": 1},
        {"charset": "utf8; x"},
        {"charset": "klingon"},
        {"charset": "base64"},
        {"charset": ["utf-8"]},
        {"error_pages": ["404"]},
        {"error_pages": {"4o4": "a.html"}},
        {"error_pages": {"200": "a.html"}},
        {"error_pages": {"600": "a.html"}},
        {"error_pages": {"404": 1}},
        {"error_pages": {"404": ""}},
        {"error_pages": {"404": "../a.html"}},
        {"error_pages": {"404": "/"}},
        {"aliases": {"old": "/new"}},
        {"aliases": {"/a b": "/new"}},
        {"aliases": {"/old": "new"}},
        {"aliases": {"/old": "//evil.example"}},
        {"aliases": {"/old": "ftp://x"}},
        {"aliases": {"/old": None}},
        {"aliases": {"/old": "/old"}},
        {"languages": "fr"},
        {"languages": {"fr": "fr"}},
        {"languages": {"fr": {"rewrite": "../x"}}},
        {"languages": {"fr": {"rewrite": ".."}}},
        {"languages": {"fr": {"rewrite": ""}}},
        {"languages": {"f r": {"rewrite": "fr"}}},
    ],
)
def test_g16_wrong_types_and_forms(data: Any) -> None:
    text = json.dumps(data)
    assert codes(http_json(text)["errors"]) == ["http_json_value"]


@pytest.mark.parametrize("unsafe", UNSAFE)
def test_g16_nothing_breaks_out_of_the_configuration(unsafe: str) -> None:
    for data in (
        {"aliases": {"/" + unsafe: "/x"}},
        {"aliases": {"/x": "/" + unsafe}},
        {"error_pages": {"404": unsafe}},
        {"error_pages": {unsafe: "a.html"}},
        {"languages": {"fr": {"rewrite": unsafe}}},
        {"languages": {unsafe: {"rewrite": "fr"}}},
        {"charset": unsafe},
    ):
        result = http_json(data)
        assert len(result["errors"]) == 1, data
        part = result["server"]["nginx"]
        assert not any(part[name] for name in ("aliases", "error_pages", "languages", "charset"))


def test_g16_unknown_keys_and_missing_pages_warn_and_a_key_twice_is_an_error() -> None:
    result = http_json({"force_http": True, "error_pages": {"404": "made.html"}})
    assert sorted(codes(result["warnings"])) == ["http_json_key", "http_json_page"]
    assert result["errors"] == []
    twice = http_json('{"aliases": {"/a": "/b", "/a": "/c"}}')
    assert codes(twice["errors"]) == ["http_json_twice"]


def test_g16_all_errors_of_the_file_at_once() -> None:
    result = http_json({"charset": 1, "aliases": {"x": "y", "/a": "b"}, "languages": 3})
    assert codes(result["errors"]) == ["http_json_value"] * 4
