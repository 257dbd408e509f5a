#!/usr/bin/python
# Copyright: (c) 2026, pyfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Prepares, switches, restarts, rolls back, prunes and removes the releases of an application
version_added: "0.1.0"
description:
  - A release carries all it needs, that is source, virtual environment, run script and variables, and one generic systemd unit per
    application runs any release of it. The links C(current) and C(previous) say which one serves and which one to go back to.
  - V(prepared) and the upload of the source are driven by the action plugin of the same name, which knows the plan.
  - V(active) starts the release beside the running one, checks its health, leads the public port to it and lets the old one
    drain, all in one call, so that the host finishes or reverts by itself when the controller goes away.
  - A run that touches several hosts holds a lease of the application on each of them, see O(lease). While a run holds it, no other
    run can act there, not even one that has no lease. In check mode no lease is taken or ended, and one of another run is a warning.
author:
  - pyfleet contributors (@pyfleet)
options:
  name:
    description: Name of the application.
    type: str
    required: true
  state:
    description:
      - V(leased) takes the lease, and does nothing else.
      - V(prepared) unpacks the source and writes the release's environment and scripts; nothing serves differently yet.
      - V(hooked) runs CC_PRE_RUN_HOOK of the prepared release, for all hosts of a fleet. Once it has succeeded for a release it is not
        run again for it by this state.
      - V(active) lets the release serve. Without O(lease), or with O(lease.end), it ends with what V(pruned) does.
      - V(rolled_back) lets O(release), or the previous release, serve again. Nothing changes when it serves already.
      - V(restarted) stops the release that serves and starts it again in place, workers included, and checks its health as a
        deployment does. Nginx and the chain in front of it go on, unless they are dead. Where systemd holds the backend's socket,
        requests wait in it and none is lost. A task (CC_TASK) cannot be restarted.
      - V(discarded) removes a release that could not be built, and marks it failed.
      - V(finished) ends the lease, and then does what V(pruned) does.
      - V(let_go) ends the lease, and does nothing else. A lease that is gone, or that another run has by now, is left alone.
      - V(pruned) removes releases beyond O(keep).
      - V(absent) stops the application and removes it from the host, its lease included.
    type: str
    choices: [leased, prepared, hooked, active, rolled_back, restarted, discarded, finished, let_go, pruned, absent]
    default: active
  release:
    description:
      - Id of the release, 12 hexadecimal digits.
      - V(rolled_back) takes the previous one when it is not given, or with O(withdraw) the one that served before the lease.
    type: str
  lease:
    description:
      - Which run acts here, and how its lease is taken. Made by the action plugin.
      - O(state=leased) takes the lease. V(prepared), V(hooked), V(active), V(rolled_back), V(restarted) and V(discarded) make sure that it
        still is this run's, and prolong it; where another run has it, or nobody, they fail and change nothing.
      - Without it nothing is taken, and the module fails where another run holds the application.
    type: dict
    suboptions:
      run:
        description: Id of the run.
        type: str
        required: true
      holder:
        description: Who runs it, as another run's messages say.
        type: str
        default: ""
      what:
        description: What the run does, in a word.
        type: str
        default: ""
      started:
        description:
          - When the run began, in seconds since the epoch. Of two runs that meet the older one waits, and the younger one gives up.
          - Without it the run begins now.
        type: float
      seconds:
        description: For how long the lease lasts after the last call that prolonged it.
        type: int
        default: 3600
      controller:
        description: What tells whether the run's process is alive, for later runs of the same controller.
        type: dict
        default: {}
      takeover:
        description: Id of a run that a person knows to be dead; its lease is taken over (C(app_lease_takeover)).
        type: str
        default: ""
      dead:
        description: Ids of runs that the controller knows to be dead; their leases are taken over.
        type: list
        elements: str
        default: []
      wait:
        description:
          - For how many seconds at most O(state=leased) waits for a run that began later to let go, and for a call that a dead run left
            behind to finish.
        type: float
        default: 30.0
      expect_current:
        description:
          - The release that served when the plan was made, and an empty text for none. The lease is not taken when it is another one now.
          - Without it nothing is expected.
        type: str
      target:
        description: The release that the run wants to serve, for the record.
        type: str
        default: ""
      claim:
        description: Let any of these states take the lease in passing, for a run on a single host.
        type: bool
        default: false
      end:
        description:
          - This is the run's last call on this host, so that the lease ends with it, whether it succeeds or fails.
        type: bool
        default: false
  pre_run:
    description:
      - Whether O(state=active) runs CC_PRE_RUN_HOOK. V(run) runs it here, as before every start of a new release.
      - V(elsewhere) says that V(hooked) ran it, on the host that O(pre_run_host) names. It is not run here; that it ran is recorded.
    type: str
    choices: [run, elsewhere]
    default: run
  pre_run_host:
    description:
      - Name of the host that runs, or ran, CC_PRE_RUN_HOOK, for the record.
      - Without it a run is recorded under the host's own name, and nothing is recorded with O(pre_run=elsewhere).
    type: str
  withdraw:
    description:
      - Why V(rolled_back) takes back the release that serves now. It is marked failed with these words, and the release before the one
        that serves again becomes the previous one, as it was before the lease, so that no later rollback leads to the one taken back.
    type: str
  user:
    description: User that builds and runs the application. Created when it is missing.
    type: str
  payload:
    description: What V(prepared) writes, as JSON text. Made by the action plugin.
    type: str
  archive:
    description: Path of the uploaded source on the host. Made by the action plugin.
    type: path
  archive_content:
    description: A small source as base64 text, instead of O(archive). Made by the action plugin.
    type: str
  keep:
    description: How many good releases stay besides the current, the previous, running and pinned ones.
    type: int
    default: 3
  cache_max_mb:
    description:
      - Megabytes that uv's cache alone may hold once the run has ended here. What releases share with it by hard links does not count.
      - A cache that a running service uses is left as it is. V(0) leaves every cache as it is.
    type: int
    default: 0
  cache_dir:
    description: uv's cache. By default uv's configuration on the host and the home of O(user) decide.
    type: path
  uv_executable:
    description: The uv that cleans its cache.
    type: path
    default: /usr/local/bin/uv
  force:
    description: Let V(rolled_back) take a release that failed.
    type: bool
    default: false
  remove_home:
    description: Let V(absent) also remove the user and its home, with whatever the application wrote there.
    type: bool
    default: false
  root:
    description: Folder that holds the applications.
    type: path
    default: /srv/pyfleet
  config:
    description: Folder that holds the applications' environments and run scripts.
    type: path
    default: /etc/pyfleet
attributes:
  check_mode:
    description: Tells what would change.
    support: full
  diff_mode:
    description: Shows the current release, and the releases that exist, before and after.
    support: full
"""

EXAMPLES = r"""
- name: Go back to the previous release
  pyfleet.runtime.release:
    name: shop
    state: rolled_back

- name: Start the release that serves anew
  pyfleet.runtime.release:
    name: shop
    state: restarted

- name: Keep five good releases besides the current and the previous one
  pyfleet.runtime.release:
    name: shop
    state: pruned
    keep: 5
"""

RETURN = r"""
release:
  description: Id of the release that was acted upon.
  returned: always
  type: str
  sample: 0123456789ab
before:
  description: Id of the release that served before this call; null when none did.
  returned: always
  type: str
lease:
  description:
    - The lease as it is after this call. RV(lease.before) and RV(lease.before_previous) are the releases that the links C(current) and
      C(previous) named before the run, or before an earlier run that broke off. RV(lease.taken_over) says from which run the lease was
      taken, and why; an empty text when it was free. RV(lease.ended) says that it ended with this call, see O(lease.end).
  returned: when O(lease) is given and the lease is this run's
  type: dict
  contains:
    run: {description: Id of the run., type: str}
    holder: {description: Who runs it., type: str}
    what: {description: What the run does., type: str}
    started: {description: When the run began, type: float}
    expires: {description: When the lease ends by itself, type: float}
    before: {description: Release that served before., type: str}
    before_previous: {description: Release before that one., type: str}
    target: {description: Release that the run wants to serve., type: str}
    taken_over: {description: The run that the lease was taken from., type: str}
    ended: {description: Whether the lease ended with this call., type: bool}
held_by:
  description: The lease of another run that is in the way, as RV(lease), with C(controller) and C(expired).
  returned: failure, when another run holds the application
  type: dict
log:
  description: Health lines in the contract's words, and the output of hooks.
  returned: O(state=active), O(state=rolled_back), O(state=restarted) or O(state=hooked)
  type: list
  elements: str
  sample: ["Response from GET /health is 200"]
journal:
  description: Last words of a release that does not serve.
  returned: failure
  type: list
  elements: str
port:
  description: Port on which the release listens.
  returned: O(state=active), O(state=rolled_back) or O(state=restarted)
  type: int
gap_seconds:
  description: For how long nobody served, at a switch in place or a restart.
  returned: O(state=active), O(state=rolled_back) or O(state=restarted)
  type: float
drained:
  description: Releases that still have clients and stop when those are gone, or after the drain's time.
  returned: O(state=active) or O(state=rolled_back)
  type: str
uv_cache:
  description:
    - What became of uv's cache. Its C(state) is one of unbounded, missing, in_use, bounded and too_large. Sizes are in bytes, C(own) is
      what the cache alone holds, C(shared) what releases hold, too. C(note) says why it was left as it is.
  returned: O(state=finished), and O(state=active) that ends the run, with O(cache_max_mb)
  type: dict
  sample: {state: bounded, max_mb: 4096, before: {own: 1048576, shared: 0}, after: {own: 1048576, shared: 0}, removed: [], note: ''}
removed:
  description: Releases, or folders, that were removed.
  returned: O(state=active), O(state=finished), O(state=pruned) or O(state=absent)
  type: list
  elements: str
"""

import os
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pyfleet.runtime.plugins.module_utils.lease import LeaseError, Leases, Request
from ansible_collections.pyfleet.runtime.plugins.module_utils.redirect import RedirectError
from ansible_collections.pyfleet.runtime.plugins.module_utils.release_states import (
    PATIENCE,
    WITHDRAWAL_PATIENCE,
    Guard,
    Releases,
    acting,
    locked,
)
from ansible_collections.pyfleet.runtime.plugins.module_utils.releases import RELEASE_ID, Layout, SwitchError
from ansible_collections.pyfleet.runtime.plugins.module_utils.systemd import SystemdError

STATES = [
    "leased",
    "prepared",
    "hooked",
    "active",
    "rolled_back",
    "restarted",
    "discarded",
    "finished",
    "let_go",
    "pruned",
    "absent",
]
LEASE: dict[str, Any] = {
    "run": {"type": "str", "required": True},
    "holder": {"type": "str", "default": ""},
    "what": {"type": "str", "default": ""},
    "started": {"type": "float"},
    "seconds": {"type": "int", "default": 3600},
    "controller": {"type": "dict", "default": {}},
    "takeover": {"type": "str", "default": ""},
    "dead": {"type": "list", "elements": "str", "default": []},
    "wait": {"type": "float", "default": 30.0},
    "expect_current": {"type": "str"},
    "target": {"type": "str", "default": ""},
    "claim": {"type": "bool", "default": False},
    "end": {"type": "bool", "default": False},
}


def act(module: AnsibleModule, releases: Releases) -> dict[str, Any]:
    """Carries the state out, under the lease and the lock. Both are left behind whatever happens, as far as this call may.

    Raises:
        LeaseError, SwitchError: with a complete message.
    """
    guard = releases.guard
    state: Callable[[], dict[str, Any]] = getattr(releases, module.params["state"])
    if module.check_mode:
        warning = guard.warning()
        if warning:
            module.warn(warning)
        return state()
    guard.take()
    if module.params["state"] in ("leased", "let_go"):  # another run's call may go on meanwhile
        return state()
    try:
        with locked(releases.layout, WITHDRAWAL_PATIENCE if module.params["withdraw"] else PATIENCE):
            guard.hold()
            return state()
    finally:
        guard.leave()


def main() -> None:
    """Entry point."""
    os.umask(0o022)  # a host may have a stricter one, and the users of services read what is made here
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": STATES, "default": "active"},
            "release": {"type": "str"},
            "lease": {"type": "dict", "options": LEASE},
            "pre_run": {"type": "str", "choices": ["run", "elsewhere"], "default": "run"},
            "pre_run_host": {"type": "str"},
            "withdraw": {"type": "str"},
            "user": {"type": "str"},
            "payload": {"type": "str", "no_log": True},
            "archive": {"type": "path"},
            "archive_content": {"type": "str", "no_log": True},
            "keep": {"type": "int", "default": 3},
            "cache_max_mb": {"type": "int", "default": 0},
            "cache_dir": {"type": "path"},
            "uv_executable": {"type": "path", "default": "/usr/local/bin/uv"},
            "force": {"type": "bool", "default": False},
            "remove_home": {"type": "bool", "default": False},
            "root": {"type": "path", "default": "/srv/pyfleet"},
            "config": {"type": "path", "default": "/etc/pyfleet"},
        },
        required_if=[
            ("state", "leased", ("lease",)),
            ("state", "prepared", ("release",)),
            ("state", "hooked", ("release",)),
            ("state", "active", ("release",)),
            ("state", "discarded", ("release",)),
            ("state", "finished", ("lease",)),
            ("state", "let_go", ("lease",)),
        ],
        supports_check_mode=True,
    )
    params = module.params
    if params["release"] and not RELEASE_ID.match(params["release"]):
        module.fail_json(
            msg=f"{params['release']!r} is not the id of a release.\nVariable: app_release\nValue: {params['release']}\nRule: an id is "
            "12 hexadecimal digits.\nNext step: the playbook status.yml lists the releases."
        )
    layout = Layout(params["name"], params["root"], params["config"])
    before = layout.linked("current")
    leases = Leases(layout, busy=lambda: acting(layout))
    guard = Guard(leases, Request.of(params["lease"]), params["state"])
    releases = Releases(module, layout, guard)
    failure: dict[str, Any] = {}
    result: dict[str, Any] = {}
    try:
        result = act(module, releases)
    except LeaseError as error:
        failure = {"msg": str(error), **({"held_by": error.held} if error.held else {})}
    except SwitchError as error:
        failure = {"msg": str(error), "log": error.log, "journal": error.journal}
    except (SystemdError, RedirectError, OSError, ValueError) as error:
        failure = {"msg": f"{params['name']}: {error}"}
    facts = {"release": releases.release, "before": before, **guard.facts()}
    if failure:
        module.fail_json(**facts, **failure)
    module.exit_json(**facts, **result)


if __name__ == "__main__":
    main()
