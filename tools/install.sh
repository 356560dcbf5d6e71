#!/usr/bin/env bash
# Makes .venv with the program in it; `install.sh dev` adds what the tests need.
# Does nothing when the same was done before for this folder, this interpreter and the same things to build.
# Environment: PYTHON (default python3), VENV (default .venv); pip reads its own settings as always.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3} venv=${VENV:-.venv} extras=fast,postgresql
[ "${1:-}" = dev ] && extras=fast,postgresql,dev

say() { printf '%s\n' "$*" >&2; }
die() { say "install: $*"; exit 1; }
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# The newest that fits, where the asked-for one is too old or absent.
if ! new_enough "$python"; then
    found=
    for candidate in python3.13 python3.12 python3.11; do
        if new_enough "$candidate"; then found=$candidate; break; fi
    done
    asked=$("$python" --version 2>&1) || asked="no such program"
    [ -n "$found" ] || die "CallGate needs Python 3.11 or newer; $python: $asked. Install one, or name it: make install PYTHON=…"
    say "install: $python: $asked; CallGate needs 3.11 or newer, using $found"
    python=$found
fi

# A .venv copied along with the tree still points to the old place: hence the folder in the stamp.
stamp=$venv/.callgate-install
to_build=$(find pyproject.toml setup.py src -maxdepth 3 \( -name pyproject.toml -o -name setup.py -o -name '*.c' \) | sort)
interpreter=$("$python" -c 'import sys; print(sys.base_prefix, *sys.version_info[:2])')
# shellcheck disable=SC2086  # file names of this tree, without blanks
want="$PWD $interpreter $(cat $to_build | sha256sum)"
if [ -x "$venv/bin/python" ] && [ -f "$stamp" ]; then
    done_extras=$(sed -n 2p "$stamp")
    if [ "$(sed -n 1p "$stamp")" = "$want" ] && case ",$done_extras," in *",$extras,"*) true ;; *) false ;; esac; then
        exit 0
    fi
fi

usable() { "$venv/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

if ! usable; then
    rm -rf "$venv"
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if ! "$python" -m venv "$venv" >/dev/null 2>&1 || ! usable; then
        # Debian splits `ensurepip` off into python3-venv, which a bare machine lacks.
        rm -rf "$venv"
        if tools/apt-install.sh "python$version-venv" && "$python" -m venv "$venv" && usable; then
            :
        else
            say "install: no ensurepip for $python; fetching pip itself from pip's configured package index"
            rm -rf "$venv"
            "$python" -m venv --without-pip "$venv" || die "'$python -m venv --without-pip $venv' failed"
            "$venv/bin/python" tools/bootstrap_pip.py ||
                die "could not get pip; as root: apt-get install python$version-venv, then again"
        fi
    fi
fi

# For the tests nothing is compiled beforehand: of these libraries they load a small part, which is kept then.
compile=()
case ,$extras, in *,dev,*) compile=(--no-compile) ;; esac
pip_install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${compile[@]}" "$@"; }

# What the program can do without, as ready wheels only: uvloop (it runs on asyncio, slower) and psycopg's own libpq.
have() { pip_install --only-binary uvloop,psycopg-binary --editable ".${1:+[$1]}"; }
without() { printf ',%s,' "$extras" | sed "s/,$1,/,/; s/^,//; s/,$//"; }
if ! have "$extras"; then
    say "install: trying again without uvloop"
    if ! have "$(without fast)"; then
        say "install: trying again without psycopg"
        have "$(extras=$(without fast) && without postgresql)" ||
            die "pip could not install the program and what it needs (see above)"
    fi
    "$venv/bin/python" -c 'import uvloop' 2>/dev/null ||
        say "install: WARNING: uvloop can't be installed here; the gate will run on plain asyncio, slower"
    "$venv/bin/python" -c 'import psycopg' 2>/dev/null ||
        say "install: WARNING: psycopg can't be installed here; call records can go to SQLite only"
fi
printf '%s\n%s\n' "$want" "$extras" >"$stamp"
