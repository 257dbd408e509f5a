#!/usr/bin/env bash
# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The main job, shown: boots a real systemd host, provisions it, prints the plan, deploys the FastAPI fixture, asks it.
# Called by `make demo`; `make demo-clean` removes the host again.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
export PATH="$root/.venv/bin:$PATH"
run="$root/.work/hosts/demo"
application="$root/.work/demo/fastapi"

say() { printf '\n== %s\n' "$*"; }

play() {
  ANSIBLE_CONFIG="$run/ansible.cfg" ANSIBLE_COLLECTIONS_PATH="$root/.work/collections" \
    ansible-playbook --inventory "$run/inventory/hosts.yml" --extra-vars "@$run/variables.json" "playbooks/$1.yml"
}

say "A host: a systemd machine in podman, Debian bookworm"
python tests/hosts/hosts.py up --run demo demo1=bookworm

say "The application: tests/fixtures/apps/fastapi, locked with uv"
rm -rf "$application"
python tests/tools/prepare_app.py tests/fixtures/apps/fastapi "$application"
cat > "$run/variables.json" << END
{
  "app_name": "demo",
  "app_source": {"path": "$application"},
  "app_env": {
    "CC_PYTHON_UV_RUN_COMMAND": "uv run uvicorn app.main:app --host 0.0.0.0 --port \$PORT",
    "CC_HEALTH_CHECK_PATH": "/health"
  }
}
END

say "Provision: trust, redirect table, uv, Python"
play provision
say "The plan: what a deployment would do"
play plan
say "Deploy"
play deploy
say "Status"
play status

address=$(python - "$run/inventory/hosts.yml" << 'END'
import sys
import yaml
hosts = yaml.safe_load(open(sys.argv[1], encoding="utf-8"))["all"]["children"]["python_hosts"]["children"]
print(hosts["bookworm"]["hosts"]["demo1"]["ansible_host"])
END
)
say "Its answer from http://$address:8080/"
curl --fail --silent --show-error --max-time 10 "http://$address:8080/"
echo
say "It keeps running at http://$address:8080/ (make demo-clean removes it)"
