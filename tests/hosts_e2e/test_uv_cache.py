# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""uv's cache is bounded when a run ends, and nobody waits for a service that uses it (contract B5)."""

from __future__ import annotations

import json

import pytest

from .conftest import Application

CACHE = "/srv/pyfleet/shop/home/.cache/uv"
AS_USER = "env -C / HOME=/srv/pyfleet/shop/home setpriv --reuid app-shop --regid app-shop --clear-groups"


def unused(app: Application, name: str, megabytes: int) -> None:
    """Puts a package into the cache that no release uses, as an earlier release left it."""
    app.host(f"""set -e; cd "$(mktemp -d)"; mkdir {name} {name}-1.dist-info
        head -c {megabytes}M /dev/urandom > {name}/blob; touch {name}/__init__.py
        printf 'Metadata-Version: 2.1\\nName: {name}\\nVersion: 1\\n' > {name}-1.dist-info/METADATA
        printf 'Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n' > {name}-1.dist-info/WHEEL
        printf '{name}/__init__.py,,\\n{name}/blob,,\\n{name}-1.dist-info/METADATA,,\\n{name}-1.dist-info/WHEEL,,\\n\
{name}-1.dist-info/RECORD,,\\n' > {name}-1.dist-info/RECORD
        python3 -c 'import shutil; shutil.make_archive("w", "zip")'
        mv w.zip {name}-1-py3-none-any.whl; chmod -R a+rX .
        {AS_USER} uv pip install -q --no-index --find-links "$PWD" --target /srv/pyfleet/shop/home/t {name}
        rm -rf /srv/pyfleet/shop/home/t "$PWD" """)


def packages(app: Application) -> set[str]:
    """The unpacked packages in the cache."""
    found = app.host(f"ls -d {CACHE}/archive-v*/*/*.dist-info 2>/dev/null || true")
    return {line.rpartition("/")[2].partition("-")[0] for line in found.splitlines()}


@pytest.mark.rule("B5")
def test_b5_the_cache_is_bounded_when_a_run_ends(app: Application) -> None:
    app.variables["app_uv_cache_max_mb"] = 5
    app.deploy().succeeded()
    serving = packages(app) if app.host.exists(f"{CACHE}/archive-v0") else set()
    unused(app, "oldest", 4)
    unused(app, "newest", 4)
    assert packages(app) == serving | {"oldest", "newest"}

    app.change("2.0.0")
    run = app.deploy().succeeded()
    told = [event.result["uv_cache"] for event in run.of("release") if "uv_cache" in event.result]
    assert [each["state"] for each in told] == ["bounded"]
    assert told[0]["removed"] == ["oldest"]
    assert told[0]["after"]["own"] <= 5 * 1024 * 1024 < told[0]["before"]["own"]
    assert packages(app) == serving | {"newest"}
    assert app.host(f"find {CACHE} ! -user app-shop") == ""
    assert app.deploy().succeeded().changed == 0

    app.change("3.0.0")
    app.variables["app_uv_cache_max_mb"] = 0
    unused(app, "third", 4)
    app.deploy().succeeded()
    assert packages(app) == serving | {"newest", "third"}


@pytest.mark.rule("B5")
def test_b5_nobody_waits_for_a_service_that_uses_the_cache(app: Application) -> None:
    app.variables["app_uv_cache_max_mb"] = 2
    app.deploy().succeeded()
    unused(app, "oldest", 4)
    unit = "systemd-run -q --collect --unit lock-holder -p User=app-shop -p Environment=HOME=/srv/pyfleet/shop/home"
    app.host(f"{unit} /usr/local/bin/uv run --no-project --offline sleep 600")
    try:
        app.host.wait_until(f"! flock --nonblock --exclusive {CACHE}/.lock true && pgrep -f 'sleep 600'")
        app.change("2.0.0")
        run = app.deploy().succeeded()
        told = [event.result["uv_cache"] for event in run.of("release") if "uv_cache" in event.result]
        assert [each["state"] for each in told] == ["in_use"]
        assert "lock-holder.service" in told[0]["note"]
        assert "larger than app_uv_cache_max_mb (2)" in json.dumps([event.result for event in run.of("release")])
        assert app.version() == "2.0.0"
        assert "oldest" in packages(app)
        assert run.seconds < 240, "uv itself would wait for five minutes"
    finally:
        app.host("systemctl stop lock-holder")
    app.change("3.0.0")
    app.deploy().succeeded()
    assert "oldest" not in packages(app)
