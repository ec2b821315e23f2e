#!/usr/bin/env bash
# Set up kvfs with its test tools and run every check and test.
# Arguments go to pytest: tests/run.sh tests/unit -k codec
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash mount.sh --setup '[dev]'
bin=$PWD/.venv/bin

[ -e /dev/fuse ] || { echo "tests: there is no /dev/fuse, and the tests need it" >&2; exit 1; }

if [ $# -eq 0 ]; then
    "$bin/ruff" check .
    "$bin/ruff" format --check .
    "$bin/mypy"
    "$bin/lint-imports"
    set -- -n 2
fi
exec "$bin/python" -m pytest "$@"
