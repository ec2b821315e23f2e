"""Export and import beside a mount: what `tar` makes of ours, and we of what `tar` makes."""

import json
import os
import subprocess

import pytest

ALL = """
    echo hello > a; mkdir -p d/e empty; echo x > d/e/f; ln a d/hard; ln -s ../a d/sym
    mkfifo d/fifo; mknod d/dev c 1 3; chmod 2750 d; chown 3:4 d/e/f; chmod 4755 d/e/f
    printf 'odd' > "$(printf 'n\\377\\n|')"; printf 'v' > .kvfs/keys/a%2F%2Fb
    truncate -s 3000000 d/hole; printf tail >> d/hole
    touch -d '2001-02-03 04:05:06.789' a d/e empty; touch -h -d '1971-01-01 23:00' d/sym
    python3 -c "import os; os.setxattr('d/e/f', 'user.x=y%', b'\\\\x00\\\\xff=')"
    python3 -c "import os; os.setxattr('empty', 'trusted.t', b'1')"
"""


def listing(path):
    """Return what is below `path`, as find shows it, with contents and extended attributes."""
    found = {}
    for top, names, files in os.walk(os.fsencode(path)):
        for name in [b".", *names, *files]:
            full = os.path.join(top, name)
            info = os.lstat(full)
            content = None
            if os.path.isfile(full) and not os.path.islink(full):
                with open(full, "rb") as file:
                    content = file.read()
            found[os.path.relpath(full, os.fsencode(path))] = (
                oct(info.st_mode),
                (info.st_uid, info.st_gid),
                info.st_mtime_ns,
                info.st_rdev,
                os.readlink(full) if os.path.islink(full) else None,
                content,
                {
                    n: os.getxattr(full, n, follow_symlinks=False)
                    for n in os.listxattr(full, follow_symlinks=False)
                },
                info.st_nlink if content is not None else None,
            )
    return {name: entry for name, entry in found.items() if not name.startswith(b".kvfs")}


def tar(*words, cwd=None):
    options = ["--xattrs", "--xattrs-include=*"]
    done = subprocess.run(["tar", *options, *words], cwd=cwd, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    return done.stdout


@pytest.fixture
def full(stores):
    """Return a mounted store with something of everything."""
    mounted = stores.make("binary", name="full")
    mounted.run(ALL)
    mounted.run("sync -f .")
    return mounted


@pytest.fixture(params=["mounted", "alone"])
def other(request, stores):
    """Return another store, mounted or not."""
    return stores.make("binary", name="other", mount=request.param == "mounted")


def seen(mounted):
    """Return what is in the mount, which is made if need be, and the key aside."""
    if mounted.daemon is None:
        mounted.mount()
    aside = (mounted.path / ".kvfs" / "keys" / "a%2F%2Fb").read_bytes()
    return listing(mounted.path), aside


def test_tar_reads_what_we_write(full, tmp_path):
    for name in ("x.tar", "x.tar.xz"):
        full.cli("export", full.store, tmp_path / name, ok=True)
        out = tmp_path / f"{name}.out"
        out.mkdir()
        tar("-C", out, "-xpf", tmp_path / name)
        assert listing(out) == listing(full.path)
        assert (out / ".kvfs" / "keys" / "a%2F%2Fb").read_bytes() == b"v"
    assert os.stat(out / "d" / "hole").st_blocks < 100


@pytest.mark.parametrize("form", ["pax", "gnu"])
def test_we_read_what_tar_writes(full, other, tmp_path, form):
    forms = ["--format=pax"] if form == "pax" else ["--format=pax", "-S"]
    tar(*forms, "-C", full.path, "-cf", tmp_path / "x.tar", ".", ".kvfs/keys")
    other.cli("import", other.store, tmp_path / "x.tar", ok=True)
    assert seen(other) == seen(full)
    assert os.lstat(other.path / "a").st_ino == os.lstat(other.path / "d" / "hard").st_ino


@pytest.mark.parametrize("name", ["x.tar", "x.tgz", "tree/"])
def test_stores_move_whole(full, other, tmp_path, name):
    file = f"{tmp_path}/{name}"
    full.cli("export", full.store, file, ok=True)
    done = other.cli("import", other.store, file, "--json", ok=True)
    assert json.loads(done.stdout) == {"keys": 6, "bytes": 3_000_016, "skipped": 0}
    assert seen(other) == seen(full)
    # Again, over what is there.
    other.cli("import", other.store, file, ok=True)
    assert seen(other) == seen(full)
    other.umount()
    other.cli("check", other.store, ok=True)


def test_a_mount_is_a_tree_too(full, other, tmp_path):
    other.cli("import", other.store, full.path, ok=True)
    assert seen(other) == seen(full)


def test_a_tree_is_like_cp(full, tmp_path):
    full.cli("export", full.store, tmp_path / "ours", "--format", "tree", ok=True)
    subprocess.run(["cp", "-a", full.path, tmp_path / "theirs"], check=True)
    assert listing(tmp_path / "ours") == listing(tmp_path / "theirs")


def test_what_is_in_the_way_beside_a_mount(full, tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "d").write_bytes(b"")
    (tmp_path / "t" / "new").write_bytes(b"")
    before = listing(full.path)
    full.cli("import", full.store, tmp_path / "t", fails=1)
    assert listing(full.path) == before
    (tmp_path / "t" / "d").unlink()
    (tmp_path / "t" / "a").mkdir()
    (tmp_path / "t" / "empty").write_bytes(b"2")
    full.cli("import", full.store, tmp_path / "t", ok=True)
    assert full.run("ls -F; cat empty d/hard").splitlines()[0] == b"a/"
    assert full.run("cat empty d/hard") == b"2hello\n"


def test_a_text_store_takes_archives(stores, full, tmp_path):
    full.cli("export", full.store, tmp_path / "x.tar", ok=True)
    text = stores.make("text", name="text", mount=False)
    text.cli("import", text.store, tmp_path / "x.tar", ok=True)
    assert seen(text) == seen(full)


def test_standard_input_and_output(full, other):
    for form in ("tar", "text"):
        out = full.cli("export", full.store, "-", "--format", form, ok=True).stdout
        other.cli(
            "import", other.store, "-", "--format", form, "--prefix", f"{form}/", stdin=out, ok=True
        )
    if other.daemon is None:
        other.mount()
    assert other.run("cat tar/a text/a tar/d/e/f text/d/e/f") == b"hello\nhello\nx\nx\n"
    bad = other.cli("import", other.store, "-", "--format", "tar", stdin=b"x" * 600, fails=1)
    assert b"standard input" in bad.stderr


def test_sockets_and_a_moment(binary, tmp_path):
    binary.run(
        "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('s')\"; echo 1 > a; sync -f ."
    )
    binary.run("echo 2 > a; sync -f .")
    done = binary.cli("export", binary.store, tmp_path / "x.tar")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"kvfs: passed over: 1 sockets, which no archive can hold\n"
    done = binary.cli("export", binary.store, tmp_path / "x.tar", "--json", "--at", "1", ok=True)
    assert json.loads(done.stdout) == {"keys": 1, "bytes": 2, "skipped": 1}
    assert tar("-xOf", tmp_path / "x.tar", "./a") == b"1\n"


def test_wrong_usage(binary, tmp_path):
    (tmp_path / "f").write_bytes(b"")
    for words in (
        ["export", binary.store, tmp_path / "f", "--format", "redis"],
        ["export", binary.store, "-", "--format", "tree"],
        ["import", binary.store, tmp_path / "f", "--format", "zip"],
        ["import", binary.store, "-", "--format", "dbm"],
    ):
        binary.cli(*words, fails=2)
    binary.cli("import", binary.store, tmp_path / "gone", fails=1)
    binary.cli("export", binary.store, tmp_path, fails=1)
    binary.cli("export", binary.store, tmp_path / "no" / "x.tar", fails=1)
    binary.cli("export", binary.store, tmp_path / "no" / "tree", "--format", "tree", fails=1)
