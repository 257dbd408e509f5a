# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secret options of modules without unreadable results (contract, section I).

Ansible replaces every value of a `no_log` option wherever it occurs in a result, whatever its length: an environment
with `DEBUG=1` turns every 1 of the result into asterisks. So the option keeps `no_log` (which hides it from the system
log), the values leave the echoed arguments, and only what can be a secret is replaced in the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

HIDDEN = "(hidden)"


def hide(value: Any) -> Any:
    """Returns `value` with the same keys and without any of its values."""
    if isinstance(value, Mapping):
        return {str(key): hide(item) for key, item in value.items()}
    return value if value is None else HIDDEN


def keep_hidden(module: AnsibleModule, options: Iterable[str], secrets: Iterable[str]) -> None:
    """Takes the values of `options` out of the echoed arguments and makes `secrets` what Ansible scrubs from results."""
    for option in options:
        module.params[option] = hide(module.params.get(option))
    module.no_log_values = {secret for secret in secrets if secret}
