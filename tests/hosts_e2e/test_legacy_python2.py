# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python 2.7 (C2): from the distribution on bullseye, with Gunicorn; elsewhere an error that says what to do."""

from __future__ import annotations

import pytest

from . import legacy
from .conftest import FIXTURES, Maker

HOST = "bullseye1"


@pytest.mark.rule("C2", "B7", "G")
def test_c2_an_application_that_python_3_cannot_read_on_bullseye(make_app: Maker) -> None:
    with pytest.raises(SyntaxError):
        compile((FIXTURES / "legacy-python2" / "shop.py").read_text(), "shop.py", "exec")
    app = make_app("old", "legacy-python2", limit=HOST)
    versions = {"python_versions": ["2.7", "3.9"]}
    app.bed.play("playbooks/provision.yml", versions, limit=HOST).succeeded()
    assert app.bed.play("playbooks/provision.yml", versions, limit=HOST).succeeded().changed == 0
    app.deploy().succeeded()
    told = app.ask("/version").json()
    assert told["python"].startswith("2.7.")
    assert told["server"] == "gunicorn/19.10.0"
    assert told["greeting"] == "Grüße"
    assert app.ask().headers["Server"] == "nginx"
    assert app.deploy().succeeded().changed == 0
    app.change("2.0.0")
    again = app.deploy().succeeded()
    assert legacy.installed(again) == [], "unchanged requirements install nothing"
    assert app.ask("/version").json()["version"] == "2.0.0"
    on_uwsgi = app.deploy({"CC_PYTHON_BACKEND": "uwsgi"}).failed()
    for words in ("CC_PYTHON_BACKEND", "gunicorn", "Next step", "nothing was changed"):
        assert words in on_uwsgi.message()
    assert app.ask("/version").json()["version"] == "2.0.0"


@pytest.mark.rule("C2")
def test_c2_newer_hosts_have_none_and_say_so(make_app: Maker) -> None:
    app = make_app("old", "legacy-python2", limit="trixie1")
    refused = app.deploy().failed()
    for words in ("CC_PYTHON_VERSION", "Python 2.7", "bullseye", "Next step", "nothing was changed"):
        assert words in refused.message()
    assert not app.host.exists("/srv/pyfleet/old")
    provisioned = app.bed.play("playbooks/provision.yml", {"python_versions": ["2.7"]}, limit="trixie1").failed()
    for words in ("Python 2.7 cannot be installed here", "python_versions", "bullseye", "Debian trixie", "Next step"):
        assert words in provisioned.message()
    assert provisioned.changed == 0


@pytest.mark.rule("C1", "C2")
def test_c2_nobody_gets_python_2_without_asking(make_app: Maker) -> None:
    app = make_app("new", "legacy-flask", limit=HOST)
    app.env["CC_PYTHON_BACKEND"] = "gunicorn"
    app.bed.play("playbooks/provision.yml", {"python_versions": ["2.7", "3.9"]}, limit=HOST).succeeded()
    app.deploy().succeeded()
    server = app.ask("/server").json()
    assert server["python"].startswith("3.9.")
    assert server["software"] == "gunicorn/23.0.0", "the newest that still runs there"
