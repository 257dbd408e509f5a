#!/usr/bin/env bash
# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Tests on real hosts: molecule's scenarios, then the end-to-end tests and what needs a browser or a terminal, in several lanes with hosts
# of their own, because Ansible waits as often as it computes; last, by itself, what measures. All of them run, also when the first
# ones fail. RUN names the hosts, LANES says how many files run at the same time, KEEP=1 leaves the hosts for the next time.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 2
export PYFLEET_TESTBED_RUN=${RUN:-test}
lanes=${LANES:-2}

finish() {
  local status=$?
  trap - EXIT
  if [ "${KEEP:-}" = 1 ]; then
    echo "The hosts stay: tests/hosts/hosts.py list; make hosts-down RUN=$PYFLEET_TESTBED_RUN"
  else
    tests/hosts/hosts.py down --run "$PYFLEET_TESTBED_RUN" || status=1
  fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

failed=()
tests/hosts/hosts.py up --run "$PYFLEET_TESTBED_RUN" || exit 1
tests/molecule.sh test --all --destroy never --no-command-borders || failed+=(molecule)
pytest() { .venv/bin/python -m pytest -v --tb=short "$@"; }
# Which file runs in which lane: tests/lanes.py.
pytest --durations=10 -m 'not alone' -n "$lanes" --no-loadscope-reorder \
  tests/hosts_e2e tests/browser tests/terminal || failed+=(lanes)
pytest --durations=10 -m alone tests/hosts_e2e || failed+=(alone)
if [ ${#failed[@]} -gt 0 ]; then
  echo "tests on hosts failed: ${failed[*]}" >&2
  exit 1
fi
echo "tests on hosts: all good"
