# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role host where no host is needed: its files, its variables, and how bundles are split."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.pyfleet.runtime.plugins.filter.ca_certificates import ca_certificates
from ansible_collections.pyfleet.runtime.plugins.module_utils.redirect import render_table

ROLE = Path(__file__).resolve().parents[3] / "roles/host"


def pem(body: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


def test_d2_the_frame_that_the_role_installs_is_the_one_the_switch_expects() -> None:
    assert (ROLE / "templates/nftables.nft.j2").read_text() == render_table()


def test_defaults_agree_with_the_argument_spec() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    options = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert defaults == {name: option["default"] for name, option in options.items() if "default" in option}


def test_bundle_becomes_one_file_per_certificate_in_any_order() -> None:
    one, two = pem("MAAA" + "A" * 80), pem("MAAB")
    files = ca_certificates(f"# a comment\n{one}\n{two}{one}", "/folder")
    assert len(files) == 2
    assert files == ca_certificates(two + one, "/folder")
    assert {str(each["content"]) for each in files} == {
        pem("MAAA" + "A" * 60 + "\n" + "A" * 20),
        two,
    }
    assert all(str(each["path"]).startswith("/folder/pyfleet-") and each["path"].endswith(".crt") for each in files)


@pytest.mark.parametrize(
    ("bundle", "words"),
    [
        ("", "holds no certificate"),
        ("<html>sign in</html>", "holds no certificate"),
        (pem("MAAA") + "-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----", "holds a private key"),
        (pem("MAAA") + pem("not base64!"), "Certificate 2 of the bundle"),
        (pem("AAAA"), "Certificate 1 of the bundle"),
    ],
)
def test_what_is_no_bundle_says_so(bundle: str, words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=words) as raised:
        ca_certificates(bundle, "/folder")
    assert "Next step:" in str(raised.value)
