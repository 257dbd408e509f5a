#!/usr/bin/env bash
# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Molecule with the settings it needs here. While you work on one scenario, its hosts are kept:
#   tests/molecule.sh create -s default          hosts of all suites (kept when they are there)
#   tests/molecule.sh converge -s provision      and idempotence, verify, check, cleanup (virgin hosts again)
#   tests/molecule.sh destroy -s default
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
export PATH="$root/.venv/bin:$PATH"
export PYFLEET_TESTBED_RUN=${PYFLEET_TESTBED_RUN:-test}
export MOLECULE_GLOB='molecule/*/molecule.yml'
# molecule names its own directory after the checkout's folder only, and two checkouts would share it
export MOLECULE_EPHEMERAL_DIRECTORY="$root/.work/molecule/$PYFLEET_TESTBED_RUN"
# what it remembers of hosts that are gone would keep it from making them again
[ -e ".work/hosts/$PYFLEET_TESTBED_RUN/state.json" ] || rm -rf "$MOLECULE_EPHEMERAL_DIRECTORY"
mkdir -p "$MOLECULE_EPHEMERAL_DIRECTORY"
# the application of the scenario `site`
if [ ! -e .work/applications/guide-simple/uv.lock ]; then
  rm -rf .work/applications/guide-simple
  python tests/tools/prepare_app.py tests/fixtures/apps/guide-simple "$root/.work/applications/guide-simple" >/dev/null
fi
exec molecule "$@"
