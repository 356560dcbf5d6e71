#!/usr/bin/env bash
# apt-install.sh PACKAGE…: install Debian packages as root or through a sudo that asks nothing.
# No system service is started by it. Exit 1 where that isn't possible here.
set -euo pipefail
command -v apt-get >/dev/null || { echo "apt-install: no apt-get on this machine" >&2; exit 1; }
as_root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null && sudo -n true 2>/dev/null || {
        echo "apt-install: not root, and no sudo without a password: can't install $*" >&2
        exit 1
    }
    as_root=(sudo -n)
fi

# invoke-rc.d and deb-systemd-invoke ask this file first; 101 means "don't". One that exists is somebody's own choice.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi

log=$(mktemp)
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@" </dev/null; }
install() { apt install -y --no-install-recommends "$@" >"$log" 2>&1; }
# A fresh machine has no package lists, an old one has stale ones.
if ! install "$@"; then
    apt update >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; exit 1; }
    install "$@" || { cat "$log" >&2; rm -f "$log"; exit 1; }
fi
rm -f "$log"
