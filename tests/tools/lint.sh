#!/usr/bin/env bash
# Copyright: pyfleet contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Every static check, each with the time it took; all run, then the failed ones are named.
#   tests/tools/lint.sh                 all of them
#   tests/tools/lint.sh mypy sanity     some of them
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root" || exit 2
export PATH="$root/.venv/bin:$PATH"
export ANSIBLE_COLLECTIONS_PATH="$root/.work/collections"
export NO_COLOR=1

namespace=.work/collections/ansible_collections/pyfleet/runtime
[ -x .venv/bin/python ] && [ -L "$namespace" ] || {
  echo "lint.sh: there is no .venv or no $namespace yet: run 'make setup' first." >&2
  exit 2
}

step_ruff() { ruff check --output-format concise . ; }
step_format() { ruff format --check --output-format concise . ; }

# plugins/ is checked as the oldest Python that mypy knows (hosts may have 3.9, which ansible-test compiles for), tests/ as the
# Python they run on. Paths go through `.work/collections`, which gives every file its name below ansible_collections.
step_mypy() {
  local status=0 path
  local -a tests=()
  for path in tests molecule; do
    # Not through a pipe into `grep -q`, whose early end would count as find's failure now and then.
    if [ -n "$(find "$path" -name '*.py' -not -path '*/fixtures/*' -print -quit)" ]; then tests+=("$namespace/$path"); fi
  done
  MYPYPATH=.work/collections mypy --python-version 3.10 "$namespace/plugins" || status=1
  if [ ${#tests[@]} -gt 0 ]; then
    MYPYPATH=.work/collections mypy --python-version 3.11 "${tests[@]}" || status=1
  fi
  return $status
}

step_yamllint() { yamllint --strict . ; }
step_ansible_lint() { ansible-lint --offline -q ; }
step_changelog() { antsibull-changelog lint ; }

step_shell() {
  local file status=0
  while IFS= read -r -d '' file; do
    [ -f "$file" ] || continue
    bash -n "$file" || status=1
  done < <(git ls-files -co --exclude-standard -z -- '*.sh' .ci/run)
  return $status
}

# Compile and import run on every Python from 3.9 on that is at hand.
step_sanity() { PYTHONPATH=.work/collections python -m ansible_collections.pyfleet.runtime.tests.tools.sanity ; }

all=(ruff format mypy yamllint ansible_lint changelog shell sanity)
steps=("${@//-/_}")
[ ${#steps[@]} -gt 0 ] || steps=("${all[@]}")
for step in "${steps[@]}"; do
  if ! declare -F "step_$step" >/dev/null; then
    echo "lint.sh: there is no step '${step//_/-}'. There are: ${all[*]//_/-}" >&2
    exit 2
  fi
done

timed() {
  local start status=0
  echo "── ${1//_/-}"
  start=$(date +%s%N)
  "step_$1" || status=1
  printf '   %s: %d.%d s\n' "${1//_/-}" $((($(date +%s%N) - start) / 1000000000)) $((($(date +%s%N) - start) / 100000000 % 10))
  return $status
}

# The slowest by far, and it uses one core: it runs beside the others, and is told at its place.
beside=
if [[ ${#steps[@]} -gt 1 && " ${steps[*]} " == *" sanity "* ]]; then
  output=$(mktemp)
  trap 'rm -f "$output"' EXIT
  timed sanity >"$output" 2>&1 &
  beside=$!
fi
failed=()
for step in "${steps[@]}"; do
  if [ "$step" = sanity ] && [ -n "$beside" ]; then
    wait "$beside" || failed+=(sanity)
    cat "$output"
  else
    timed "$step" || failed+=("${step//_/-}")
  fi
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "lint failed: ${failed[*]}" >&2
  exit 1
fi
echo "lint: all good"
