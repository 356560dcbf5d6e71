#!/usr/bin/env bash
# Sees to it that every program of test-programs.txt is there; installs what is missing, starts no service.
# A program that can't be had fails here, with its name: no test is skipped for the lack of one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin
missing=() packages=()
look() {
    missing=() packages=()
    for folder in /usr/lib/postgresql/*/bin; do PATH=$PATH:$folder; done # where Debian keeps a server's programs
    while read -r program package; do
        case $program in '' | '#'*) continue ;; esac
        command -v "$program" >/dev/null || { missing+=("$program"); packages+=("$package"); }
    done <tools/test-programs.txt
}
look
[ ${#missing[@]} = 0 ] && exit 0
echo "test-programs: installing ${packages[*]} (for ${missing[*]})" >&2
tools/apt-install.sh "${packages[@]}" || true
look
[ ${#missing[@]} = 0 ] && exit 0
echo "test-programs: the tests need ${missing[*]}; as root: apt-get install ${packages[*]}" >&2
exit 1
