"""mount(8), /etc/fstab and users: a store is mounted as any other file system."""

import os
import tempfile
from pathlib import Path

import pytest
from namespaces import run


@pytest.fixture
def place(tools):
    """Return a directory that all users may enter, with the maker of stores in it."""
    with tempfile.TemporaryDirectory() as name, tools.stores_below(Path(name)) as stores:
        os.chmod(name, 0o755)
        (Path(name) / "private").mkdir()
        yield stores


def prepared(stores, name="s", fstab="", conf=""):
    """Return a store that is not mounted, and the directory for scripts; FSTAB has STORE and MNT."""
    made = stores.make(name=name, mount=False)
    directory = stores.directory / "private"
    text = fstab.replace("STORE", escaped(made.store)).replace("MNT", escaped(made.path))
    (directory / "fstab").write_text(text)
    if conf:
        (directory / "fuse.conf").write_text(conf)
    return made, directory


def escaped(path):
    return str(path).replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011")


def test_mount_with_a_type(place):
    made, directory = prepared(place)
    out = run(
        f"""
        mount -t fuse.kvfs {made.store} {made.path} -o durability=always,no-busy-poll,noatime
        findmnt -no SOURCE,FSTYPE {made.path}
        findmnt -no OPTIONS {made.path} | grep -o nosuid,nodev
        df --output=source,target {made.path} | tail -n 1
        kvfs status --json {made.path} | grep durability
        echo 1 > {made.path}/a
        umount {made.path}
        kvfs get {made.store} a
        """,
        directory,
    )
    lines = [line.split() for line in out.splitlines()]
    assert lines == [
        [str(made.store), "fuse.kvfs"],
        ["nosuid,nodev"],
        [str(made.store), str(made.path)],
        ['"durability":', '"always",'],
        ["1"],
    ]


@pytest.mark.parametrize("name", ["s", "sto re\tü#"])
def test_a_line_in_fstab(place, name):
    """All is mounted once, however often; and one is mounted by its mountpoint, and unmounted."""
    line = "STORE MNT fuse.kvfs rw,nofail,_netdev,x-systemd.automount,comment=hi,umask=077 0 0\n"
    made, directory = prepared(place, name, line)
    out = run(
        f"""
        mount -a; mount -a
        findmnt -no TARGET '{made.path}' | wc -l
        echo 1 > '{made.path}/a'
        stat -c %a '{made.path}/a'
        umount '{made.path}'
        mount '{made.path}'
        cat '{made.path}/a'
        umount '{made.path}'
        findmnt -no SOURCE '{made.path}' || echo none
        """,
        directory,
    )
    assert out.split("\n") == ["1", "700", "1", "none", ""]


def test_noauto_and_the_past(place):
    made, directory = prepared(place, fstab="STORE MNT fuse.kvfs noauto,at=0 0 0\n")
    for value in ("old", "new"):
        made.cli("put", made.store, "a", value, ok=True)
    out = run(
        f"""
        mount -a
        findmnt -no TARGET {made.path} || echo none
        mount {made.path}
        kvfs status {made.path} | grep mode
        cat {made.path}/a
        umount {made.path}
        """,
        directory,
    )
    assert out.splitlines() == ["none", "mode:       read-only, as at 0", "old"]


def test_a_value_with_a_comma_is_quoted(place):
    made, directory = prepared(place)
    script = f"""
        mount -t fuse.kvfs {made.store} {made.path} -o 'keep-history="2d,1GiB",noexec'
        umount {made.path}
        """
    run(script, directory)
    assert 'keep_history = "2d,1GiB"' in (made.store / "store.toml").read_text()


def test_what_mount_calls_for_and_how_it_ends(place):
    """A failure is one line, with the statuses of mount(8): 1 for wrong words, 32 for all else."""
    made, directory = prepared(place)
    out = run(
        f"""
        m() {{ mount -t fuse.kvfs "$@" && echo 0 || echo $?; }}
        m {made.store} {made.path} -o wrong
        m -s {made.store} {made.path} -o wrong; umount {made.path}
        m {made.store} {made.path}/none
        m {made.store} {made.path}; m {made.store} {made.path}; umount {made.path}
        m -f {made.store} {made.path}; findmnt {made.path} || echo none
        m -v {made.store} {made.path}
        mount {made.path} -o remount,ro 2> /dev/null && echo 0 || echo refused
        umount {made.path}
        mount.fuse.kvfs && echo 0 || echo $?
        mount.fuse.kvfs -t nfs a b && echo 0 || echo $?
        """,
        directory,
    )
    found = out.splitlines()
    assert found[0].startswith("kvfs: unknown mount option 'wrong'; known are ")
    assert found[1:3] == ["1", "0"]
    assert "does not exist" in found[3]
    assert found[4:6] == ["32", "0"]
    assert "mounted already" in found[6] or "already mounted" in found[6]
    assert found[7:10] == ["32", "0", "none"]
    assert f"{made.store} mounted on {made.path}" in found[10]
    assert found[11:13] == ["0", "refused"]
    assert found[-1] == "1"
    assert "nfs" in found[-2]


def test_a_user_mounts_what_fstab_lets_them(place):
    """As a user, by name in fstab, then with fusermount3; who may not be let in is not."""
    made, directory = prepared(place, fstab="STORE MNT fuse.kvfs user,noauto 0 0\n")
    out = run(
        f"""
        chown -R 65534:65534 {made.store} {made.path}
        as_nobody mount {made.path}
        findmnt -no SOURCE,OPTIONS {made.path} | grep -oE "^.*store|noexec|user_id=[0-9]+"
        as_nobody sh -c 'echo 1 > {made.path}/a; cat {made.path}/a'
        kvfs status {made.path} > /dev/null && echo seen
        as_nobody "$PYTHON" -m kvfs status {made.path} | grep state
        as_nobody umount {made.path}
        as_nobody "$PYTHON" -m kvfs mount {made.store} {made.path}
        as_nobody cat {made.path}/a
        as_nobody "$PYTHON" -m kvfs mount -o allow_other {made.store} {made.path} || true
        as_nobody "$PYTHON" -m kvfs unmount {made.path}
        as_nobody "$PYTHON" -m kvfs mount -o allow_other {made.store} {made.path} || true
        chmod 600 /dev/fuse
        as_nobody "$PYTHON" -m kvfs mount {made.store} {made.path} || true
        """,
        directory,
    )
    lines = out.splitlines()
    assert lines[:3] == [str(made.store), "noexec", "user_id=65534"]
    assert lines[3:7] == ["1", "seen", "state:      alive", "1"]
    assert "mounted already" in lines[7]
    assert lines[8].startswith(f"kvfs: cannot mount at {made.path}: ")
    assert "user_allow_other" in lines[8]
    assert "/dev/fuse" in lines[9]
    assert "ermission denied" in lines[9]
    assert len(lines) == 10


def test_a_user_lets_others_in_where_the_machine_allows_it(place):
    made, directory = prepared(place, conf="user_allow_other\n")
    out = run(
        f"""
        chown -R 65534:65534 {made.store} {made.path}
        as_nobody "$PYTHON" -m kvfs mount -o allow_other,uid=0,umask=077 {made.store} {made.path}
        cat {made.path}/a 2> /dev/null || echo 1 > {made.path}/a
        stat -c %u:%a {made.path}/a
        as_nobody cat {made.path}/a 2> /dev/null || echo no
        as_nobody "$PYTHON" -m kvfs unmount {made.path}
        """,
        directory,
    )
    assert out.splitlines() == ["0:700", "no"]
