# Copyright: (c) 2026, the pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Section G: whatever the plan lets through, a real Nginx takes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from ansible_collections.pyfleet.runtime.plugins.module_utils.plan import make_plan
from ansible_collections.pyfleet.runtime.tests.unit.legacy.servers import Nginx

ODD = st.text("ab/.-_~%+:@!*()[]|^é?#&=, 0189", min_size=1, max_size=12)
PATH = st.sampled_from(["/a", "/", "/static/", "/a/b.html"]) | ODD.map(lambda text: "/" + text)
SIZE = st.sampled_from(["", "1k", "4k", "8k", "16K", "1m", "5000"])
ENV = st.fixed_dictionaries(
    {"CC_PYTHON_MODULE": st.just("shop:app")},
    optional={
        "CC_PYTHON_BACKEND": st.sampled_from(["uwsgi", "gunicorn"]),
        "CC_NGINX_PROXY_BUFFERS": st.builds("{} {}".format, st.integers(2, 12), SIZE.filter(bool)),
        "CC_NGINX_PROXY_BUFFER_SIZE": SIZE,
        "WSGI_BUFFER_SIZE": st.integers(1024, 65535).map(str),
        "ENABLE_GZIP_COMPRESSION": st.just("on"),
        "GZIP_TYPES": st.sampled_from(["", "*", "text/css text/CSS text/html", "application/vnd.x+json", "text/html"])
        | ODD,
        "STATIC_FILES_PATH": PATH,
        "STATIC_URL_PREFIX": PATH,
        "UWSGI_INTERCEPT_ERRORS": st.just("true"),
        "CC_HTTP_BASIC_AUTH": ODD.map(lambda text: f"{text}:pass"),
        "NGINX_READ_TIMEOUT": st.integers(1, 86400).map(str),
    },
)
HTTP_JSON = st.fixed_dictionaries(
    {},
    optional={
        "force_https": st.booleans(),
        "charset": st.sampled_from(["utf-8", "latin-1", "koi8-r", "UTF8", "cp1252"]),
        "aliases": st.dictionaries(PATH, PATH | ODD.map(lambda text: "https://x" + text), max_size=4),
        "error_pages": st.dictionaries(st.integers(295, 605).map(str), PATH, max_size=4),
        "languages": st.dictionaries(
            st.sampled_from(["default", "fr", "pt-BR", "pt", "FR"]) | ODD,
            st.fixed_dictionaries({"rewrite": st.sampled_from(["en", "/fr/"]) | ODD}),
            max_size=4,
        ),
    },
)


@pytest.mark.rule("G12", "G13", "G14", "G15", "G16")
# Nginx takes a while: what fails is reported as it was found, without a search for something smaller.
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@example(env={"CC_PYTHON_MODULE": "shop:app", "ENABLE_GZIP_COMPRESSION": "on", "GZIP_TYPES": "text/html"}, data={})
@given(env=ENV, data=HTTP_JSON)
def test_g_nginx_takes_what_the_plan_lets_through(env: dict[str, str], data: dict[str, Any]) -> None:
    texts = {"requirements.txt": "", "clevercloud/http.json": json.dumps(data)}
    source = {"files": ["shop.py", "a/b.html", *texts], "texts": texts}
    plan = make_plan({"app": {"name": "shop"}, "env": env, "source": source, "today": "2026-11-20"})
    with tempfile.TemporaryDirectory() as folder:
        checked = Nginx(Path(folder), **plan["server"]["nginx"]).check()
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr, checked.stderr
