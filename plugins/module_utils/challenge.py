# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Otoroshi challenge as a health check has to send it (F9, protocol version 2)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping

HEADER = "Otoroshi-State"
SECRET = "OTOROSHI_CHALLENGE_SECRET"  # noqa: S105 - the variable's name
#: For how long a challenge is valid, in seconds.
TTL = 30


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def token(secret: bytes, state: str, now: float, ttl: float = TTL) -> str:
    """A JWT, signed HS512, as Otoroshi sends it."""
    parts = [
        {"alg": "HS512", "typ": "JWT"},
        {"iss": "Otoroshi", "state": state, "iat": int(now), "exp": int(now + ttl)},
    ]
    text = ".".join(_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    signature = hmac.new(secret, text.encode("ascii"), hashlib.sha512).digest()
    return f"{text}.{_encoded(signature)}"


def challenge_header(environment: Mapping[str, str], now: float | None = None) -> dict[str, str]:
    """The header for a health check; empty when the environment holds no secret."""
    secret = environment.get(SECRET, "")
    if not secret:
        return {}
    return {HEADER: token(secret.encode(), secrets.token_hex(16), time.time() if now is None else now)}


__all__ = ["HEADER", "challenge_header", "token"]
