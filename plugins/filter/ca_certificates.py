# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Splits a bundle of certificates into the files that update-ca-certificates wants: one certificate each."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ca_certificates
short_description: Splits a bundle of certificates into one file per certificate
version_added: "0.1.0"
description:
  - C(update-ca-certificates) passes over files that hold more than one certificate. This filter makes one entry per certificate of a
    bundle, in the form that P(pyfleet.runtime.managed_files#module) takes.
  - Names come from the certificates' digests, so that the order in the bundle does not matter, and a certificate that is there twice
    becomes one file.
author:
  - pyfleet contributors (@pyfleet)
positional: folder
options:
  _input:
    description: Text of the bundle in PEM format. What stands between certificates is left out.
    type: str
    required: true
  folder:
    description: Directory of the files on the host.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Trust what this machine trusts
  pyfleet.runtime.managed_files:
    set: trust
    files: "{{ lookup('ansible.builtin.file', '/etc/ssl/certs/ca-certificates.crt')
               | pyfleet.runtime.ca_certificates('/usr/local/share/ca-certificates/company') }}"
    verify:
      - command: update-ca-certificates
"""

RETURN = r"""
_value:
  description: One entry per certificate, with C(path), C(content) and C(diff).
  type: list
  elements: dict
"""

import base64
import binascii
import hashlib
import re
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

_BLOCK = re.compile(r"-----BEGIN ((?:TRUSTED |X509 )?CERTIFICATE)-----\s+(.*?)\s+-----END \1-----", re.DOTALL)
_NEXT_STEP = "Next step: point the variable at a PEM file with certificates only."


def ca_certificates(bundle: str, folder: str) -> list[dict[str, Any]]:
    """One entry per certificate; raises AnsibleFilterError for text that is no bundle of certificates."""
    if "PRIVATE KEY-----" in bundle:
        raise AnsibleFilterError(
            "The bundle of certificates holds a private key. Rule: hosts trust certificates; a key is not theirs to have. "
            + _NEXT_STEP
        )
    found: dict[str, str] = {}
    for position, (kind, body) in enumerate(_BLOCK.findall(bundle), 1):
        text = "".join(body.split())
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            content = b""
        # The outermost part of a certificate is an ASN.1 sequence.
        if kind != "CERTIFICATE" or content[:1] != b"\x30":
            raise AnsibleFilterError(
                f"Certificate {position} of the bundle is not one in plain PEM format. {_NEXT_STEP}"
            )
        lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
        found[hashlib.sha256(content).hexdigest()] = (
            f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
        )
    if not found:
        raise AnsibleFilterError(f"The bundle holds no certificate. {_NEXT_STEP}")
    return [
        {"path": f"{folder}/pyfleet-{digest[:16]}.crt", "content": found[digest], "diff": False}
        for digest in sorted(found)
    ]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"ca_certificates": ca_certificates}
