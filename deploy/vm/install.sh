#!/bin/sh
# install.sh FOLDER: installs rswarm, rswarm-shim and rswarm.service from FOLDER on this machine and
# starts the daemon. Debian 12 or newer, Ubuntu 22.04 or newer; run as root. Running it again upgrades:
# the containers run on.
set -eu
folder=${1:?usage: install.sh FOLDER}
[ "$(id -u)" = 0 ] || { echo "install.sh: needs root; run it with sudo" >&2; exit 1; }
for file in rswarm rswarm-shim rswarm.service; do
  [ -f "$folder/$file" ] || { echo "install.sh: $folder/$file is not there" >&2; exit 1; }
done
command -v nft > /dev/null && command -v ip > /dev/null || {
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends nftables iproute2
}
# install(1) replaces the file: a running program keeps the old one.
install -m 755 "$folder/rswarm" "$folder/rswarm-shim" /usr/local/bin/
install -m 644 "$folder/rswarm.service" /etc/systemd/system/rswarm.service
systemctl daemon-reload
systemctl enable -q rswarm
systemctl restart rswarm
for _ in $(seq 100); do
  [ -S /run/rswarm/rswarm.sock ] && rswarm version > /dev/null 2>&1 && exit 0
  sleep 0.2
done
echo "install.sh: the daemon does not answer after 20 s; see: journalctl -u rswarm" >&2
exit 1
