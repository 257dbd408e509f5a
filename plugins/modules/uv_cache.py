#!/usr/bin/python
# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: uv_cache
short_description: Ships uv's cache from the host that builds to those that receive, and keeps it below a size
version_added: "0.1.0"
author:
  - pyfleet contributors (@pyfleet)
description:
  - In a rollout with C(app_build=once) the first host of each kind builds and its uv cache, one file named after its checksum, goes
    through the controller to the others, which build offline from it. Which host does what follows from the rollout; the
    states do nothing where it says so, and cost no round trip then.
  - Everything in the cache is read and written as O(user).
requirements:
  - uv 0.9.19 or newer on the host.
attributes:
  check_mode:
    support: full
    description: A dry run packs and sends nothing; V(bounded) says what is too much.
  diff_mode:
    support: none
    description: What is in a cache concerns nobody but uv.
  platform:
    support: full
    platforms: posix
    description: Linux hosts.
  action:
    support: full
    description: The bundle passes through the controller, which also decides who builds.
options:
  name:
    description: Name of the application.
    type: str
    required: true
  state:
    description:
      - V(elected) says whether the host is V(builder), V(receiver), V(alone) or V(none), as RV(role). It happens on the controller.
      - V(awaited) says whether the host is to build now, as RV(go); without its builder's bundle a receiver is not. On the controller, too.
      - V(packed) fetches the builder's cache to the controller, if a receiver lacks it.
      - V(unpacked) brings it to a receiver that lacks it. Its checksum is verified on the controller and on the host, before anything is
        unpacked.
      - V(bounded) prunes the cache and brings it below O(max_mb), unless it is in use.
    type: str
    choices: [elected, packed, awaited, unpacked, bounded]
    required: true
  root:
    description: Folder that holds the applications.
    type: path
    default: /srv/pyfleet
  user:
    description: User whose cache it is. Default C(app-NAME).
    type: str
  cache_dir:
    description: The cache. By default uv's configuration on the host and the user's home decide.
    type: path
  executable:
    description: The uv to use. Default C(/usr/local/bin/uv), then the first one on C(PATH).
    type: str
  max_mb:
    description: Megabytes that the cache alone may hold. V(0) means any number.
    type: int
    default: 4096
  bundle:
    description: Path of the bundle on the host. Filled in by the controller.
    type: path
  sha256:
    description: Checksum of the bundle. Filled in by the controller.
    type: str
  key:
    description: What the bundle is made for. Filled in by the controller.
    type: str
"""

EXAMPLES = r"""
- name: Keep an application's uv cache below a gigabyte
  pyfleet.runtime.uv_cache:
    name: shop
    state: bounded
    max_mb: 1024
"""

RETURN = r"""
role:
  description: The host's part; one of builder, receiver, alone and none.
  returned: with state elected or awaited
  type: str
  sample: receiver
go:
  description: Whether the host is to build now.
  returned: with state awaited
  type: bool
builder:
  description: The host whose cache a receiver gets.
  returned: with state elected or awaited
  type: str
sha256:
  description: Checksum of the bundle, which is its name on the controller.
  returned: when a bundle was packed or unpacked
  type: str
bytes:
  description: Size of the bundle.
  returned: when a bundle was packed or unpacked
  type: int
entries:
  description: Unpacked packages in the bundle.
  returned: when a bundle was packed or unpacked
  type: list
  elements: str
new:
  description: How many of them the host did not have.
  returned: when a bundle was unpacked
  type: int
cache:
  description: What became of the cache. Sizes are in bytes; C(own) is what the cache alone holds, C(shared) what releases hold, too.
  returned: with state bounded
  type: dict
  sample:
    state: bounded
    cache_dir: /srv/pyfleet/shop/home/.cache/uv
    max_mb: 1024
    before: {own: 2147483648, shared: 104857600}
    after: {own: 1046478848, shared: 104857600}
    removed: [torch]
    note: ''
"""

import os
import stat
from typing import Any, BinaryIO, cast

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils import process, shipping, uv, uv_cache

ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["elected", "packed", "awaited", "unpacked", "bounded"], "required": True},
    "root": {"type": "path", "default": "/srv/pyfleet"},
    "user": {"type": "str"},
    "cache_dir": {"type": "path"},
    "executable": {"type": "str"},
    "max_mb": {"type": "int", "default": 4096},
    "bundle": {"type": "path"},
    "sha256": {"type": "str"},
    "key": {"type": "str", "no_log": False},
}
#: Refused before anything is read; a bundle is root's or the login user's, and nobody else's.
FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC


class Cache:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.options: dict[str, Any] = module.params
        self.user: str = self.options["user"] or f"app-{self.options['name']}"
        self.folder = os.path.join(self.options["root"], self.options["name"])

    def elected(self) -> dict[str, Any]:
        """The controller decides; on a host there is nothing to do."""
        return {"changed": False, "role": shipping.ALONE, "builder": ""}

    def awaited(self) -> dict[str, Any]:
        """The same."""
        return {**self.elected(), "go": True}

    def packed(self) -> dict[str, Any]:
        """Packs the cache into `bundle`, which the login user may read afterwards."""
        account, cache_dir = self._find()
        path = self._given("bundle")
        # What nothing refers to need not travel. A cache in use is shipped as it is.
        uv_cache.bound(self._uv(), cache_dir, self.user, uv_cache.NO_CAP, outside=os.environ)
        with shipping.handed_over(path) as file:
            packed = shipping.as_user(account, lambda: shipping.pack(cache_dir, file))
            digest = shipping.sha256_of(file)
            size = os.fstat(file.fileno()).st_size
        shipping.remember(self.folder, cache_dir, self._given("key"), digest, packed["entries"])
        return {"changed": False, "sha256": digest, "bytes": size, "entries": packed["entries"]}

    def unpacked(self) -> dict[str, Any]:
        """Verifies the bundle, then unpacks it into the cache."""
        account, cache_dir = self._find()
        path, wanted = self._given("bundle"), self._given("sha256")
        with cast(BinaryIO, os.fdopen(os.open(path, os.O_RDONLY | FLAGS), "rb")) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise shipping.ShippingError("The bundle is refused: it is no file.")
            digest = shipping.sha256_of(file)
            if digest != wanted:
                raise shipping.ShippingError(
                    f"The bundle of uv's cache is refused: it changed on its way.\nValue: sha256 {digest}, {facts.st_size} bytes\n"
                    f"Rule: a bundle is unpacked only if its sha256 is {wanted}, that of the builder's.\n"
                    "Next step: deploy again; if it happens again, look at the disks and the connection."
                )
            result = shipping.as_user(account, lambda: shipping.unpack(cache_dir, file))
        shipping.remember(self.folder, cache_dir, self._given("key"), digest, result["entries"])
        return {"changed": True, "sha256": digest, "bytes": facts.st_size, **result}

    def bounded(self) -> dict[str, Any]:
        """Prunes the cache and brings it below `max_mb`."""
        report = uv_cache.bound(
            self._uv(),
            self.options["cache_dir"] or "",
            self.user,
            self.options["max_mb"],
            check=self.module.check_mode,
            outside=os.environ,
        )
        if report.note:
            self.module.warn(report.note)
        return {"changed": report.changed, "cache": report.to_dict()}

    def _uv(self) -> str:
        return uv.find_executable(self.options["executable"], os.environ.get("PATH", ""))

    def _find(self) -> tuple[process.Account, str]:
        try:
            account = process.find_account(self.user)
        except KeyError:
            raise shipping.ShippingError(
                f"There is no user {self.user} on this host.\nRule: uv's cache belongs to the application's user.\n"
                "Next step: run the step that makes it first (release with state prepared), or set app_user."
            ) from None
        cache_dir = uv_cache.find(self._uv(), self.options["cache_dir"] or "", account, os.environ)
        if not cache_dir:
            raise shipping.ShippingError("uv does not say where its cache is (uv cache dir).")
        return account, cache_dir

    def _given(self, name: str) -> str:
        value = self.options[name]
        if not value:
            raise shipping.ShippingError(
                f"{name} is missing: this state is for rollouts, whose controller fills it in."
            )
        return str(value)


def main() -> None:
    """Entry point."""
    os.umask(0o022)  # a host may have a stricter one, and the users of services read what is made here
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if module.check_mode and module.params["state"] in ("packed", "unpacked"):
        module.exit_json(changed=module.params["state"] == "unpacked")
    cache = Cache(module)
    try:
        result = getattr(cache, module.params["state"])()
    except uv.UvError as error:
        module.fail_json(msg=error.render())
    except (shipping.ShippingError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
