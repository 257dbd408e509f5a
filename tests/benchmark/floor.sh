# Copyright: (c) 2026, pyfleet.runtime contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The floor: the bare work of a deployment as one command over SSH; the source's tar file is on the standard input. It has no
# releases, no rollback, no checks worth the name and no report: it is here to show what cannot be saved.
#   sh -c "$(cat floor.sh)" floor NAME PORT DIGEST
set -eu
name=$1 port=$2 digest=$3
home=/srv/$name
healthy() { curl --fail --silent --output /dev/null "http://127.0.0.1:$port/health"; }
if [ "$(cat "$home/digest" 2> /dev/null)" = "$digest" ] && systemctl --quiet is-active "$name"; then
  healthy
  exit
fi
id "$name" > /dev/null 2>&1 || useradd --system --create-home --home-dir "$home" --shell /usr/sbin/nologin "$name"
mkdir -p "$home/app"
tar -xz --no-same-owner -C "$home/app"
chown -R "$name:$name" "$home/app"
cd "$home/app"
runuser -u "$name" -- env HOME="$home" uv sync --quiet --locked --no-dev --no-progress
if [ ! -e "/etc/systemd/system/$name.service" ]; then
  cat > "/etc/systemd/system/$name.service" << END
[Service]
User=$name
WorkingDirectory=$home/app
ExecStart=$home/app/.venv/bin/uvicorn app.main:app --host 0.0.0.0 --port $port
[Install]
WantedBy=multi-user.target
END
  systemctl daemon-reload
  systemctl --quiet enable "$name"
fi
systemctl restart "$name"
tries=0
until healthy; do
  tries=$((tries + 1))
  [ $tries -lt 600 ]
  sleep 0.1
done
echo "$digest" > "$home/digest"
