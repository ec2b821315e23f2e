"""rsync, tar and cp: a tree of everything, into a mount and out of it, and the same again."""

import os
import shutil
import subprocess

import pytest

MIB = 1024 * 1024


@pytest.fixture
def source(tmp_path, trees):
    """Return a varied tree on a plain disk."""
    path = tmp_path / "source"
    path.mkdir()
    trees.varied_tree(path)
    return path


def call(*command):
    """Run a program, which must succeed and complain of nothing; return its output."""
    done = subprocess.run(command, check=False, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b""), done
    return done.stdout


def differences(one, other):
    return call(
        "rsync", "-aHAXn", "--delete", "--checksum", "--itemize-changes", f"{one}/", f"{other}/"
    )


def test_rsync_there_and_back(mounted, source, trees, tmp_path):
    copy, back = mounted.path / "copy", tmp_path / "back"
    expected = trees.facts(source)
    call("rsync", "-aHAX", "--sparse", f"{source}/", f"{copy}/")
    assert trees.facts(copy) == expected
    assert differences(source, copy) == b""
    assert (copy / "sparse").stat().st_blocks * 512 < MIB
    mounted.remount()
    assert trees.facts(copy) == expected
    assert differences(source, copy) == b""
    call("rsync", "-aHAX", "--sparse", f"{copy}/", f"{back}/")
    assert differences(copy, back) == b""
    assert trees.facts(back) == expected


def test_rsync_transfers_only_what_changed(binary, source, trees):
    copy = binary.path / "copy"
    call("rsync", "-aHAX", f"{source}/", f"{copy}/")
    assert call("rsync", "-aHAX", "--itemize-changes", f"{source}/", f"{copy}/") == b""
    with open(source / "large", "r+b") as file:
        file.seek(MIB)
        file.write(b"changed")
    (source / "many" / "7").unlink()
    (source / "many" / "new").write_bytes(b"new")
    for options in (["--inplace", "--no-whole-file"], []):
        os.utime(source / "many", (1, 1))  # rsync lets a directory have a time of the same second
        call("rsync", "-aHAX", "--delete", *options, f"{source}/", f"{copy}/")
        assert trees.facts(copy) == trees.facts(source)
        for name in ("large", "many/8"):
            with open(source / name, "ab") as file:
                file.write(b"and grown")
    binary.remount()
    call("rsync", "-aHAX", "--append-verify", f"{source}/", f"{copy}/")
    assert differences(source, copy) == b""


def test_tar_there_and_back(binary, source, trees, tmp_path):
    expected = trees.facts(source)
    make = ["tar", "--create", "--format=posix", "--sparse", "--xattrs"]
    take = ["tar", "--extract", "--preserve-permissions", "--xattrs", "--numeric-owner"]
    take.append("--warning=no-timestamp")  # there are some before 1970 and after today
    archive, copy = binary.path / "all.tar", binary.path / "copy"
    copy.mkdir()
    call(*make, "-f", archive, "-C", source, ".")
    call(*take, "-f", archive, "-C", copy)
    assert trees.facts(copy) == expected
    assert call("tar", "--diff", "-f", archive, "-C", copy) == b""
    assert call("tar", "--diff", "-f", archive, "-C", source) == b""
    binary.remount()
    assert trees.facts(copy) == expected
    assert call("tar", "--diff", "-f", archive, "-C", copy) == b""

    again, back = tmp_path / "again.tar", tmp_path / "back"
    back.mkdir()
    call(*make, "-f", again, "-C", copy, ".")
    call(*take, "-f", again, "-C", back)
    assert trees.facts(back) == expected


def test_cp_and_mv_there_and_back(binary, source, trees, tmp_path):
    expected = trees.facts(source)
    call("cp", "-a", source, binary.path / "copy")
    assert trees.facts(binary.path / "copy") == expected
    call("cp", "-a", binary.path / "copy", binary.path / "second")
    call("mv", binary.path / "second", tmp_path / "back")
    assert not (binary.path / "second").exists()
    assert trees.facts(tmp_path / "back") == expected
    call("mv", tmp_path / "back", binary.path / "moved")
    binary.remount()
    for name in ("copy", "moved"):
        assert trees.facts(binary.path / name) == expected
    call("rm", "-r", binary.path / "copy", binary.path / "moved")
    assert os.listdir(binary.path) == []


def test_du_and_df_tell_holes_from_data(binary):
    with open(binary.path / "hole", "wb") as file:
        file.truncate(64 * MIB)
    (binary.path / "data").write_bytes(os.urandom(2 * MIB))
    os.link(binary.path / "data", binary.path / "link")
    used = int(call("du", "-s", "-B1", binary.path).split()[0])
    assert 2 * MIB <= used < 3 * MIB
    apparent = int(call("du", "-s", "-B1", "--apparent-size", binary.path).split()[0])
    assert 66 * MIB <= apparent < 67 * MIB
    shown = call("df", "-B1", "--output=source,target", binary.path).decode().splitlines()[1]
    assert shown.split() == [str(binary.store), str(binary.path)]
    inodes = call("df", "--output=iused", binary.path).split()
    assert int(inodes[-1]) >= 2


def test_copies_with_holes(binary, tmp_path):
    data = b"head".ljust(MIB, b"\0") + b"middle".ljust(6 * MIB, b"\0") + b"tail"
    (tmp_path / "local").write_bytes(data)
    (binary.path / "full").write_bytes(data)
    call("cp", "--sparse=always", tmp_path / "local", binary.path / "in")
    call("cp", "--sparse=always", binary.path / "full", binary.path / "within")
    call("cp", "--sparse=auto", binary.path / "in", binary.path / "auto")
    call("cp", "--sparse=never", binary.path / "in", binary.path / "never")
    call("cp", "--sparse=always", binary.path / "in", tmp_path / "out")
    binary.remount()
    for name in ("in", "within", "auto", "never"):
        assert (binary.path / name).read_bytes() == data, name
    assert (tmp_path / "out").read_bytes() == data
    for name in ("in", "within"):
        assert (binary.path / name).stat().st_blocks * 512 < MIB, name
    assert (binary.path / "never").stat().st_blocks * 512 >= len(data)


def test_reflinks_are_refused_or_done_without(binary):
    (binary.path / "a").write_bytes(b"content" * 1000)
    call("cp", "--reflink=auto", binary.path / "a", binary.path / "b")
    assert (binary.path / "b").read_bytes() == b"content" * 1000
    done = subprocess.run(
        ["cp", "--reflink=always", "a", "c"],
        cwd=binary.path,
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert b"not supported" in done.stderr
    assert (binary.path / "a").read_bytes() == b"content" * 1000
    assert (binary.path / "b").read_bytes() == b"content" * 1000


def copied(function, source, target, size):
    """Copy `size` bytes with a function like `copy_file_range`."""
    with open(source, "rb") as reading, open(target, "wb") as writing:
        done = 0
        while done < size:
            count = function(reading.fileno(), writing.fileno(), size - done, done)
            assert count > 0
            done += count


@pytest.mark.parametrize("size", [1000, 3 * MIB + 7])
def test_copies_that_the_kernel_makes(binary, tmp_path, size):
    def send(reading, writing, count, offset):
        return os.sendfile(writing, reading, offset, count)

    def copy_range(reading, writing, count, offset):
        return os.copy_file_range(reading, writing, count, offset, offset)

    local, a = tmp_path / "local", binary.path / "a"
    data = os.urandom(size)
    local.write_bytes(data)
    copied(send, local, a, size)
    copied(send, a, binary.path / "b", size)
    copied(send, a, tmp_path / "back", size)
    copied(copy_range, a, binary.path / "c", size)
    shutil.copyfile(a, binary.path / "d")
    binary.remount()
    for name in "abcd":
        assert (binary.path / name).read_bytes() == data, name
    assert (tmp_path / "back").read_bytes() == data
