# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requirements files as pip reads them, and pip's variables as uv needs them (B7)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.pyfleet.runtime.plugins.module_utils import pip_settings, requirements_file, venvs
from ansible_collections.pyfleet.runtime.plugins.module_utils.legacy_verdicts import OTHER_FAILURE, VERDICTS, classify


def read(folder: Path, text: str | bytes, **others: str) -> requirements_file.Requirements:
    """Reads a requirements file beside others."""
    (folder / "wheels").mkdir(exist_ok=True)
    content = text if isinstance(text, bytes) else text.encode()
    (folder / "requirements.txt").write_bytes(content)
    for name, other in others.items():
        path = folder / name.replace("__", "/").replace("_txt", ".txt")
        path.parent.mkdir(exist_ok=True)
        path.write_text(other, encoding="utf-8")
    return requirements_file.read(str(folder / "requirements.txt"), directory=str(folder))


@pytest.mark.rule("B7")
def test_b7_includes_are_found_from_the_file_they_stand_in(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "-r deep/base.txt\n--constraint=pins.txt\n-cmore.txt\n  -r   'deep/base.txt'  # twice\n",
        deep__base_txt="-r ../last.txt\n--requirement gone.txt\n",
        pins_txt="-r requirements.txt\n",
        more_txt="",
        last_txt="flask\n",
    )
    assert [os.path.relpath(path, tmp_path) for path, _content in found.files] == [
        "requirements.txt", "deep/base.txt", "pins.txt", "more.txt", "last.txt",
    ]  # fmt: skip
    assert [os.path.relpath(path, tmp_path) for path in found.missing] == ["deep/gone.txt"]
    assert found.own is None


@pytest.mark.rule("B9")
@pytest.mark.parametrize(
    "line",
    [
        "-e .",
        "-e ./lib",
        "--editable=git+https://example.com/x.git#egg=x",
        ".",
        "./lib[extra]",
        "/opt/lib",
        "lib/shop",
        "file:///opt/lib",
        "shop @ file:///opt/lib",
        "shop @ ./lib",
        "wheels/shop-1.0-py3-none-any.whl",
        "shop-1.0.tar.gz ; python_version > '3'",
    ],
)
def test_b9_what_lies_on_the_host_is_local(tmp_path: Path, line: str) -> None:
    (tmp_path / "lib" / "shop").mkdir(parents=True)
    found = read(tmp_path, f"flask\n{line}\n")
    assert found.local, line
    assert "from the release itself" in str(found.own)


@pytest.mark.rule("B9")
@pytest.mark.parametrize(
    "line",
    [
        "flask",
        "flask==3.0  # ./local",
        "# -e .",
        "flask ; python_version >= '3.9' and platform_machine == 'x86_64/other'",
        "shop @ git+https://example.com/shop.git@v1",
        "shop@https://example.com/shop-1.0.tar.gz",
        "git+ssh://git@example.com/shop.git#egg=shop",
        "https://example.com/shop-1.0-py3-none-any.whl",
        "--index-url https://example.com/simple",
        "--find-links wheels",
    ],
)
def test_b9_what_an_index_or_a_repository_gives_is_not_local(tmp_path: Path, line: str) -> None:
    assert read(tmp_path, f"{line}\n").own is None


def test_file_from_an_address_may_change_and_is_not_shared(tmp_path: Path) -> None:
    found = read(tmp_path, "-c https://example.com/pins.txt\n")
    assert found.remote == ["https://example.com/pins.txt"]
    assert "from an address" in str(found.own)


def test_hashes_variables_and_options(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "flask==3.0 \\\n  --hash=sha256:00 \\\n  --hash=sha256:11\n--pre\n--trusted-host pypi.internal\n-f wheels\n"
        "--find-links https://example.com/wheels\nshop @ https://${TOKEN}@example.com/${lower}/x.whl\n--use-feature=x\n",
    )
    assert found.hashes
    assert found.prereleases
    assert found.trusted_hosts == ["pypi.internal"]
    assert found.links == [str(tmp_path / "wheels")]
    assert found.variables == {"TOKEN"}  # pip expands capitals only
    assert found.unknown == ["--use-feature"]
    assert not read(tmp_path, "flask\n").hashes


@pytest.mark.parametrize("content", ["-e .\n".encode("utf-16"), b"\xef\xbb\xbf-e .\n", b"\xff\n-e .\n", b"-e .\r\n"])
def test_files_of_any_encoding_are_read(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path, content).local == ["."]


def test_what_is_no_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.txt")
    (tmp_path / "folder.txt").mkdir()
    found = read(tmp_path, "-r fifo.txt\n-r folder.txt\n-r\n-e\n--hash\n")
    assert len(found.missing) == 2


@pytest.mark.rule("B7")
def test_b7_pips_variables_become_uvs() -> None:
    result = pip_settings.translate(
        {
            "PIP_INDEX_URL": "https://a.example.com/simple",
            "PIP_EXTRA_INDEX_URL": "https://b.example.com/simple https://c.example.com/simple",
            "PIP_FIND_LINKS": "wheels\n/opt/wheels",
            "PIP_NO_BINARY": "lxml,psycopg2",
            "PIP_ONLY_BINARY": ":all:",
            "PIP_PRE": "0",
            "PIP_NO_BUILD_ISOLATION": "false",
            "PIP_TRUSTED_HOST": " ",
            "PIP_NO_INPUT": "1",
            "OTHER": "x",
        }
    )
    assert result.variables == {
        "UV_DEFAULT_INDEX": "https://a.example.com/simple",
        "UV_EXTRA_INDEX_URL": "https://b.example.com/simple https://c.example.com/simple",
        "UV_FIND_LINKS": "wheels,/opt/wheels",
        "UV_NO_BUILD_ISOLATION": "1",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    assert result.options == ["--no-binary", "lxml", "--no-binary", "psycopg2", "--only-binary", ":all:"]
    assert result.warnings == []
    assert "PIP_INDEX_URL -> UV_DEFAULT_INDEX" in result.translated


@pytest.mark.rule("B7")
def test_b7_uvs_own_variables_win_and_unknown_ones_are_named() -> None:
    result = pip_settings.translate(
        {
            "PIP_INDEX_URL": "https://secret.example.com",
            "UV_INDEX_URL": "https://b.example.com",
            "UV_INDEX_STRATEGY": "first-index",
            "PIP_CONFIG_FILE": "/etc/secret.conf",
            "PIP_USER": "1",
        }
    )
    assert result.variables == {}
    text = "\n".join(result.warnings)
    assert "UV_INDEX_URL says the same" in text
    assert "PIP_CONFIG_FILE has no effect" in text
    assert "PIP_USER is left out" in text
    assert "secret" not in text


@pytest.mark.rule("C2")
def test_c2_uvs_variables_reach_pip_where_pip_installs() -> None:
    added, translated = pip_settings.for_pip(
        {
            "UV_DEFAULT_INDEX": "main=https://a.example.com/simple",
            "UV_INDEX": "b=https://b.example.com/x https://c.example.com/y",
        },
        "/etc/bundle.crt",
    )
    assert added == {
        **dict.fromkeys(pip_settings.QUIET, "1"),
        "PIP_INDEX_URL": "https://a.example.com/simple",
        "PIP_EXTRA_INDEX_URL": "https://b.example.com/x https://c.example.com/y",
        "PIP_CERT": "/etc/bundle.crt",
    }
    assert translated == ["UV_DEFAULT_INDEX -> PIP_INDEX_URL", "UV_INDEX -> PIP_EXTRA_INDEX_URL"]
    own = {**dict.fromkeys(pip_settings.QUIET, "0"), "PIP_INDEX_URL": "x", "PIP_CERT": "y", "UV_DEFAULT_INDEX": "z"}
    assert pip_settings.for_pip(own, "/etc/bundle.crt") == ({}, [])


#: The words are what uv 0.13.8 and pip 20.3.4 really printed.
WORDS = [
    ("disk_full", "error: failed to write: No space left on device (os error 28)"),
    (
        "tls_untrusted",
        "error: Failed to fetch: x\n  cause: error sending request\n  cause: invalid peer certificate: UnknownIssuer",
    ),
    (
        "tls_untrusted",
        "SSLError(SSLError(1, u'[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:727)'))",
    ),
    (
        "index_unauthorized",
        "error: Failed to fetch: x\n  cause: HTTP status client error (401 Unauthorized) for url (x)",
    ),
    (
        "index_unreachable",
        "cause: client error (Connect)\n    cause: tcp connect error\n    cause: Connection refused (os error 111)",
    ),
    (
        "package_missing",
        "cause: Because nosuch was not found in the package registry and you require nosuch, we can conclude that",
    ),
    ("package_missing", "ERROR: Could not find a version that satisfies the requirement nosuch (from versions: none)"),
    (
        "unsatisfiable",
        "error: No solution found when resolving dependencies\n  cause: Because there is no version of flask==99.9",
    ),
    ("unsatisfiable", "ERROR: No matching distribution found for flask==2.0 (from -r requirements.txt (line 1))"),
    ("requirements_unparsable", "error: Couldn't parse requirement in `requirements.txt` at position 0"),
    ("requirements_unparsable", "ERROR: Invalid requirement: u'<<<< x' (from line 1 of requirements.txt)"),
    ("requirements_unparsable", 'error: Expected `--hash`, found `"--install-option=x"`: r9:5:7'),
    (
        "requirements_missing",
        "ERROR: Could not open requirements file: [Errno 2] No such file or directory: 'other.txt'",
    ),
    (
        "compiler_missing",
        "error: Failed to build `mysqlclient==2.2.4`\n Trying pkg-config --exists mysqlclient\n Command 'pkg-config",
    ),
    (
        "compiler_missing",
        "error: Failed to build `x`\n error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory",
    ),
    (
        "compiler_missing",
        "Exception: you need a C compiler to build uWSGI\n ERROR: Command errored out with exit status 1",
    ),
    ("build_failed", "error: Failed to build `shop==1`\n KeyError: '__version__'"),
    ("no_wheel", "cause: Because mysqlclient==2.2.4 has no usable wheels and you require mysqlclient==2.2.4"),
    (
        "python_incompatible",
        "cause: Because the current Python version (3.9.2) does not satisfy Python>=3.10 and gunicorn==27.0.1",
    ),
    (
        "hashes_incomplete",
        "error: In `--require-hashes` mode, all requirements must have their versions pinned with `==`",
    ),
    ("hash_mismatch", "error: Failed to download `six==1.16.0`\n  cause: Hash mismatch for `six==1.16.0`"),
]


@pytest.mark.rule("B7")
@pytest.mark.parametrize(("reason", "words"), WORDS)
def test_b7_failures_are_told_apart(reason: str, words: str) -> None:
    assert classify(words).reason == reason


def test_every_verdict_says_rule_and_next_step() -> None:
    for _pattern, verdict in VERDICTS:
        assert verdict.what.endswith("."), verdict.reason
        assert verdict.next_step.endswith("."), verdict.reason
        assert verdict.rule, verdict.reason
    assert classify("something else") is OTHER_FAILURE


def test_installed_reads_what_wheels_eggs_and_develop_leave(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    for name in (
        "Flask_SQLAlchemy-3.1.dist-info",
        "shop-0.3-py3.11.egg",
        "old_one-1.0-py2.7.egg-info",
        "_distutils_hack",
        "six",
    ):
        (packages / name).mkdir()
    (packages / "shop-pkg.egg-link").write_text("/srv\n", encoding="utf-8")
    (packages / "six.py").touch()
    assert venvs.installed(str(tmp_path)) == {
        "flask-sqlalchemy": "3.1",
        "shop": "0.3",
        "old-one": "1.0",
        "shop-pkg": "",
    }
    assert venvs.installed(str(tmp_path / "nowhere")) == {}
