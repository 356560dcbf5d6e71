#!/usr/bin/env bash
# Runs the whole suite: first what needs the processor, a process for each, and beside it the checks; then the tests of
# the running program, which mostly wait, twice as many at once. Each process has a network of its own
# (tests/conftest.py), so none wants another's ports. Arguments: those tests alone, in one process, and options of pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
pytest=("${VENV:-.venv}/bin/pytest")

# Who is not root may make namespaces inside a user namespace of his own.
if ! unshare -n true 2>/dev/null && unshare -rn true 2>/dev/null; then
    pytest=(unshare -rn "${pytest[@]}")
fi
[ $# = 0 ] || exec "${pytest[@]}" "$@"

code=0
checked=$(mktemp)
trap 'rm -f "$checked"' EXIT
"${MAKE:-make}" --no-print-directory check >"$checked" 2>&1 &
checks=$!
"${pytest[@]}" -n auto --dist worksteal --ignore=tests/e2e || code=$?
wait $checks || code=$?
cat "$checked"
PYTEST_XDIST_AUTO_NUM_WORKERS=$((2 * $(nproc))) "${pytest[@]}" -n auto --dist worksteal tests/e2e || code=$?
exit $code
