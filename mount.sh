#!/usr/bin/env bash
# Install what kvfs needs, make a store, mount it.
#
#   ./mount.sh [STORE] [MOUNTPOINT]   defaults: ./kvfs-store ./kvfs-mount
#   ./mount.sh --setup                install only
#   ./mount.sh --install              as root: put kvfs where all of the machine finds it
#   ./mount.sh --uninstall            take away what --install has put there
#
# What is there already is left alone, so a second call is fast.
set -euo pipefail

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
venv=$here/.venv

say() { printf 'kvfs: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# The packages that are missing, by the names of this machine's package manager.
missing_packages() {
    local manager=$1 missing=()
    command -v fusermount3 >/dev/null || missing+=(fuse3)
    if [ "$manager" = apt-get ] && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then missing+=(python3-venv); fi
    printf '%s ' "${missing[@]}"
}

find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            return
        fi
    done
    fail "Python 3.11 or later is needed and was not found"
}

# Install the packages that the function $1 prints for a package manager.
install_packages() {
    local manager packages sudo=() command update=
    for manager in apt-get dnf zypper pacman apk none; do
        command -v "$manager" >/dev/null && break
    done
    packages=$("$1" "$manager")
    [ -n "${packages// /}" ] || return 0
    read -ra packages <<<"$packages"
    case $manager in
        apt-get) command=(apt-get install -y --no-install-recommends) update="apt-get update && " ;;
        dnf) command=(dnf install -y) ;;
        zypper) command=(zypper install -y) ;;
        pacman) command=(pacman -S --noconfirm --needed) ;;
        apk) command=(apk add) ;;
        none) fail "install these and try again: ${packages[*]}" ;;
    esac
    if [ "$(id -u)" != 0 ]; then
        if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
            sudo=(sudo)
        else
            fail "system packages are missing; run this as root and try again: $update${command[*]} ${packages[*]}"
        fi
    fi
    say "installing ${packages[*]}"
    if [ "$manager" = apt-get ]; then
        export DEBIAN_FRONTEND=noninteractive
        quietly "${sudo[@]}" apt-get update
    fi
    quietly "${sudo[@]}" "${command[@]}" "${packages[@]}"
}

# Run a command and show what it printed only if it fails.
quietly() {
    local output
    if ! output=$("$@" 2>&1); then
        printf '%s\n' "$output" >&2
        fail "this failed: $*"
    fi
}

# Tell whether all extras of $2, such as [a,b], are among those of $1.
has_extras() {
    local name
    for name in ${2//[][,]/ }; do
        case ",${1//[][]/}," in *",$name,"*) ;; *) return 1 ;; esac
    done
}

# kvfs is installed anew when its dependencies may have changed; its own code
# is used where it lies.
install_kvfs() {
    local extra=${1:-} stamp=$venv/.kvfs-installed wanted installed
    wanted="$(cksum <"$here/pyproject.toml") $here"
    if command -v fusermount3 >/dev/null && [ -x "$venv/bin/kvfs" ]; then
        # What was installed with the test tools serves without them too.
        installed=$(cat "$stamp" 2>/dev/null) || true
        case $installed in
            "$wanted" | "$wanted"\[*\]) has_extras "${installed#"$wanted"}" "$extra" && return 0 ;;
        esac
    fi
    find_python
    install_packages missing_packages
    say "setting up $venv"
    if ! "$venv/bin/python" -c '' 2>/dev/null; then
        rm -rf "$venv"
        quietly "$python" -m venv "$venv"
    fi
    quietly "$venv/bin/python" -m pip install --disable-pip-version-check \
        --config-settings editable_mode=compat -e "$here$extra"
    # Whoever runs it, it need not be compiled each time.
    "$venv/bin/python" -m compileall -q "$here/kvfs" || true
    printf '%s\n' "$wanted$extra" >"$stamp"
}

mount_store() {
    local store=$1 mountpoint=$2
    # A mountpoint left behind by a killed daemon exists but cannot be looked into.
    [ -e "$mountpoint" ] || mkdir -p "$mountpoint" 2>/dev/null || true
    if [ ! -e "$store/store.toml" ]; then
        mkdir -p "$(dirname "$store")"
        "$venv/bin/kvfs" init "$store"
        say "made the store $store"
    fi
    if "$venv/bin/python" -m kvfs.mounts "$store" "$mountpoint"; then
        say "$store is mounted at $mountpoint already"
    else
        "$venv/bin/kvfs" mount "$store" "$mountpoint"
    fi
    local kvfs
    printf -v kvfs %q "$venv/bin/kvfs"
    printf '%s is mounted at %s. Try:\n' "$store" "$mountpoint"
    printf -v store %q "$store"
    printf -v mountpoint %q "$mountpoint"
    cat <<END
    echo hello > $mountpoint/greeting
    cat $mountpoint/greeting
    $kvfs get $store greeting
Unmount with:
    $kvfs unmount $mountpoint
END
}

# What --install puts where: a source and a target on each line. What is in .venv is
# linked to, all else is copied.
installed_files() {
    cat <<END
$venv/bin/kvfs /usr/local/bin/kvfs
$venv/bin/mount.fuse.kvfs /sbin/mount.fuse.kvfs
$here/systemd/kvfs@.service /usr/local/lib/systemd/system/kvfs@.service
$here/systemd/kvfs@.service.d/system.conf /usr/local/lib/systemd/system/kvfs@.service.d/system.conf
$here/systemd/kvfs@.service /usr/local/lib/systemd/user/kvfs@.service
$venv/share/kvfs/kvfs.1 /usr/local/share/man/man1/kvfs.1
$venv/share/kvfs/kvfs.bash /usr/local/share/bash-completion/completions/kvfs
$venv/share/kvfs/kvfs.zsh /usr/local/share/zsh/site-functions/_kvfs
$venv/share/kvfs/kvfs.fish /usr/local/share/fish/vendor_completions.d/kvfs.fish
END
}

# Make what is made from the verbs: the manual page, and what completes them.
make_texts() {
    local shell directory=$venv/share/kvfs
    mkdir -p "$directory"
    "$venv/bin/kvfs" man >"$directory/kvfs.1"
    for shell in bash zsh fish; do
        "$venv/bin/kvfs" completion "$shell" >"$directory/kvfs.$shell"
    done
}

# The list of what --install has put there, one target a line.
manifest=/usr/local/share/kvfs/installed

# Put everything in its place, below $DESTDIR if that is set. What is there already and
# is not ours is left alone.
install_files() {
    local source target old=
    check_root
    [ -f "$DESTDIR$manifest" ] && old=$(<"$DESTDIR$manifest")
    while read_pair; do
        [ -e "$DESTDIR$target" ] || [ -L "$DESTDIR$target" ] || continue
        grep -qxF -- "$target" <<<"$old" || fail "$DESTDIR$target is there, and not from here; nothing was installed"
    done < <(installed_files)
    make_texts
    mkdir -p "$DESTDIR${manifest%/*}"
    # What may be there afterwards is noted first, so that nothing is left where this is cut off.
    { printf '%s\n' "$old"; while read_pair; do echo "$target"; done < <(installed_files); } | sed '/^$/d' | sort -u >"$DESTDIR$manifest.new"
    mv "$DESTDIR$manifest.new" "$DESTDIR$manifest"
    while read_pair; do
        put "$source" "$DESTDIR$target"
    done < <(installed_files)
    reload_units
}

# Read a line of installed_files: the target is its last word, the source may have spaces.
read_pair() {
    local line
    IFS= read -r line || return 1
    source=${line% *} target=${line##* }
}

put() {
    local source=$1 target=$2
    mkdir -p "${target%/*}"
    case $source in
        "$venv"/*)
            [ "$(readlink "$target")" = "$source" ] && return
            ln -sfn "$source" "$target"
            ;;
        *)
            cmp -s "$source" "$target" && [ ! -L "$target" ] && return
            install -m 644 "$source" "$target"
            ;;
    esac
    say "installed $target"
}

uninstall_files() {
    local target directory
    check_root
    [ -f "$DESTDIR$manifest" ] || { say "nothing is installed"; return; }
    while IFS= read -r target; do
        [ -e "$DESTDIR$target" ] || [ -L "$DESTDIR$target" ] || continue
        rm -f "$DESTDIR$target"
        say "removed $DESTDIR$target"
    done <"$DESTDIR$manifest"
    rm "$DESTDIR$manifest"
    for directory in "${manifest%/*}" /usr/local/lib/systemd/system/kvfs@.service.d; do
        rmdir "$DESTDIR$directory" 2>/dev/null || true
    done
    reload_units
}

check_root() {
    [ "$(id -u)" = 0 ] || [ -n "$DESTDIR" ] || fail "this writes to /usr/local and /sbin; run it as root, or set DESTDIR"
}

reload_units() {
    if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
}

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

wrong() {
    say "$1; see: $0 --help"
    exit 2
}

# tests/run.sh reads this file for its functions.
[ "${BASH_SOURCE[0]}" = "$0" ] || return 0

case ${1:-} in
    -h | --help) usage ;;
    --setup)
        case ${2:-} in '' | \[*\]) install_kvfs "${2:-}" ;; *) wrong "unknown argument $2" ;; esac
        ;;
    --install | --uninstall)
        [ $# -eq 1 ] || wrong "unknown argument $2"
        DESTDIR=${DESTDIR:-}
        if [ "$1" = --install ]; then
            install_kvfs
            install_files
        else
            uninstall_files
        fi
        ;;
    -*) wrong "unknown option $1" ;;
    *)
        [ $# -le 2 ] || wrong "too many arguments"
        install_kvfs
        mount_store "${1:-$here/kvfs-store}" "${2:-$here/kvfs-mount}"
        ;;
esac
