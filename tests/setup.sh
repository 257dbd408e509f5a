#!/usr/bin/env bash
# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sets a machine and this checkout up for `make test`. Each step does nothing when its work is done already.
#   tests/setup.sh packages     Debian packages of the test bed (as root)
#   tests/setup.sh python       .venv with the development tools that pyproject.toml pins
#   tests/setup.sh collection   this checkout as ansible_collections/pyfleet/runtime below .work/
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# Nothing but the machine's own trust store knows the certificates of a company's index.
export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-1}
if [ -z "${PIP_CERT:-}" ] && [ -f /etc/ssl/certs/ca-certificates.crt ]; then
  export PIP_CERT=/etc/ssl/certs/ca-certificates.crt
fi

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
    die "'$*' needs root, and there is no sudo. Next step: run it as root, then 'make setup' again."
  fi
}

packages() {
  local -a wanted=(
    podman runc netavark iptables conmon   # hosts: containers on a network of their own
    mmdebstrap debian-archive-keyring      # images, from packages
    nftables                               # cutting hosts off
    openssh-client iproute2 procps ca-certificates git
    wrk                                    # load, to see that a switch loses no request
    nginx-light haproxy varnish            # unit tests ask the real servers; their services stay off
    chromium fonts-dejavu-core             # opens the report of a rollout
    python3 python3-apt python3-venv
  )
  local name
  local -a missing=()
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    for name in podman mmdebstrap nft ssh ssh-keygen ip sysctl git wrk nginx haproxy varnishd chromium; do
      PATH="$PATH:/usr/sbin:/sbin" command -v "$name" >/dev/null || missing+=("$name")
    done
    [ ${#missing[@]} = 0 ] || die "this is not Debian, so please install by yourself: ${missing[*]}"
    return
  fi
  for name in "${wanted[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null || true)" = installed ] || missing+=("$name")
  done
  if [ ${#missing[@]} = 0 ]; then return; fi
  say "installing Debian packages as root: ${missing[*]}"
  as_root apt-get -qq update
  # This is somebody's machine, not a web server: what is installed here is started by tests, with their own settings.
  local policy=/usr/sbin/policy-rc.d service
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root install -m 0755 /dev/stdin "$policy"
    # shellcheck disable=SC2064 # the path as it is now
    trap "$([ "$(id -u)" = 0 ] || echo sudo) rm -f $policy" EXIT
  fi
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -qqy -o Dpkg::Use-Pty=0 install --no-install-recommends "${missing[@]}" >/dev/null
  for service in nginx:nginx-light haproxy:haproxy varnish:varnish; do
    if [[ " ${missing[*]} " == *" ${service#*:} "* ]] && [ -d /run/systemd/system ]; then
      as_root systemctl --quiet disable "${service%:*}.service" || true
    fi
  done
}

# The distribution's Python first: one of pyenv's may go away, and with it the environment.
find_python() {
  local candidate
  for candidate in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  die "no Python 3.11 or later with the venv module. Next step: install one (Debian: python3 and python3-venv)."
}

python() {
  local interpreter pin uv
  pin=$(sed -n 's/^ *"uv==\([^"]*\)".*/\1/p' pyproject.toml)
  [ -n "$pin" ] || die "pyproject.toml pins no uv."
  interpreter=$(find_python)
  uv=.venv/bin/uv
  if [ "$("$uv" --version 2>/dev/null | cut -d' ' -f2)" != "$pin" ]; then
    uv=.work/bootstrap/bin/uv
    if [ "$("$uv" --version 2>/dev/null | cut -d' ' -f2)" != "$pin" ]; then
      say "installing uv $pin into .work/bootstrap, with $interpreter"
      "$interpreter" -m venv --clear .work/bootstrap
      .work/bootstrap/bin/python -m pip --quiet --disable-pip-version-check install "uv==$pin"
    fi
  fi
  say "development tools into .venv, with $interpreter"
  "$uv" sync --quiet --python "$interpreter"
  # uv does not compile, and every start of Ansible would: half a second each time
  .venv/bin/python -m compileall -q .venv/lib >/dev/null || say "some files of .venv do not compile; they are not needed"
}

collection() {
  local link=.work/collections/ansible_collections/pyfleet/runtime
  mkdir -p "$(dirname "$link")"
  ln -sfn ../../../.. "$link"
}

for step in "${@:-all}"; do
  case $step in
    packages | python | collection) "$step" ;;
    all) packages; collection; python ;;
    *) die "there is no step '$step'. There are: packages, python, collection" ;;
  esac
done
