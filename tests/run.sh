#!/usr/bin/env bash
# Set up kvfs with its test tools and run every check and test; those build the documentation too.
# Arguments go to pytest: tests/run.sh tests/unit -k codec
# More kills than the usual 30: KVFS_KILLS=1000 tests/run.sh tests/mount/test_kill.py -n 2
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash mount.sh --setup '[dev]'
bin=$PWD/.venv/bin

# The programs that the tests run on a mount, or that take what kvfs prints; a package has the name of its program.
programs=(git rsync fio make gcc ar vim patch perl flock zsh fish groff)

# shellcheck disable=SC2329 # called by install_packages, by its name
missing_programs() {
    local program
    for program in "${programs[@]}"; do
        command -v "$program" >/dev/null && continue
        case $program in
            ar) echo binutils ;;
            flock) echo util-linux ;;
            groff) if [ "${1:-}" = apt-get ]; then echo groff-base; else echo groff; fi ;;
            *) echo "$program" ;;
        esac
    done | tr '\n' ' '
}

(
    # shellcheck source=mount.sh
    source mount.sh
    install_packages missing_programs
)
missing=$(missing_programs)
[ -z "$missing" ] || { echo "tests: these are not installed, and the tests need them: $missing" >&2; exit 1; }
[ -e /dev/fuse ] || { echo "tests: there is no /dev/fuse, and the tests need it" >&2; exit 1; }

if [ $# -eq 0 ]; then
    "$bin/ruff" check .
    "$bin/ruff" format --check .
    "$bin/mypy"
    "$bin/lint-imports"
    set -- -n 2
fi
exec "$bin/python" -m pytest "$@"
