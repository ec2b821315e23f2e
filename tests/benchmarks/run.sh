#!/usr/bin/env bash
# Set up kvfs with its peers and measure them: bash tests/benchmarks/run.sh --help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bin=$PWD/.venv/bin

note() { printf 'benchmarks: %s\n' "$*" >&2; }

# Packages of which one cannot be had must not keep the others away.
if ! bash mount.sh --setup '[dev,bench]'; then
    note "trying the peers one by one"
    bash mount.sh --setup '[dev]'
    "$bin/python" -c 'import tomllib
with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["project"]["optional-dependencies"]["bench"], sep="\n")' |
        while read -r package; do
            "$bin/python" -m pip install --disable-pip-version-check -q "$package" ||
                note "going on without $package"
        done
fi

# What is run on mounts, and what peers are made of.
# shellcheck disable=SC2329 # called by install_packages, by its name
missing_programs() {
    local manager=$1
    command -v git >/dev/null || printf 'git '
    command -v tar >/dev/null || printf 'tar '
    # The source of passthrough_ll comes with the headers of libfuse on Debian only.
    command -v gcc >/dev/null || printf 'gcc libc6-dev '
    if ! command -v pkg-config >/dev/null || ! pkg-config --exists fuse3; then
        case $manager in apt-get) printf 'pkg-config libfuse3-dev ' ;; esac
    fi
    if ! command -v redis-server >/dev/null && ! command -v redis-check-rdb >/dev/null; then
        # Debian's redis-tools has the program, and starts no service.
        case $manager in apt-get) printf 'redis-tools ' ;; *) printf 'redis ' ;; esac
    fi
}

(
    # shellcheck source=mount.sh
    source mount.sh
    install_packages missing_programs
) || note "going on with what is there"

exec "$bin/python" tests/benchmarks/bench.py "$@"
