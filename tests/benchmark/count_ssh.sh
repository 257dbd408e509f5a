#!/bin/sh
# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Stands in for ssh, scp and sftp (ANSIBLE_SSH_EXECUTABLE and its kin): writes down the last two arguments, which for ssh
# are the host and the remote command, and becomes the program that it is called like. `counting.py` reads the file.
if [ -n "${PYFLEET_SSH_COUNT:-}" ]; then
  host='' command=''
  for word do
    host=$command command=$word
  done
  printf '%s\0%s\0%s\0' "${0##*/}" "$host" "$command" >> "$PYFLEET_SSH_COUNT"
fi
exec "${0##*/}" "$@"
