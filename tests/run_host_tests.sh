#!/usr/bin/env bash
# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Tests on real hosts: molecule's scenarios, then the end-to-end tests, on one set of hosts; then what needs a browser or a
# terminal. All of them run, also when the first ones fail. RUN names the hosts, KEEP=1 leaves them for the next time.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 2
export PYFLEET_TESTBED_RUN=${RUN:-test}

finish() {
  local status=$?
  trap - EXIT
  if [ "${KEEP:-}" = 1 ]; then
    echo "The hosts stay: tests/hosts/hosts.py list; make hosts-down RUN=$PYFLEET_TESTBED_RUN"
  else
    tests/hosts/hosts.py down --run "$PYFLEET_TESTBED_RUN" || status=1
    # of tests/hosts_e2e/test_rollout_under_load.py, should it not have come to that itself
    tests/hosts/hosts.py down --run "$PYFLEET_TESTBED_RUN-load" || status=1
  fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

failed=()
tests/hosts/hosts.py up --run "$PYFLEET_TESTBED_RUN" || exit 1
tests/molecule.sh test --all --destroy never --no-command-borders || failed+=(molecule)
if [ -d tests/hosts_e2e ]; then
  .venv/bin/python -m pytest -v --tb=short --durations=10 tests/hosts_e2e || failed+=(hosts_e2e)
fi
.venv/bin/python -m pytest -v --tb=short tests/browser tests/terminal || failed+=(browser_and_terminal)
if [ ${#failed[@]} -gt 0 ]; then
  echo "tests on hosts failed: ${failed[*]}" >&2
  exit 1
fi
echo "tests on hosts: all good"
