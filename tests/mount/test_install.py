"""`mount.sh --install`: what it puts where, below DESTDIR, and that all of it goes again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = {
    "usr/local/bin/kvfs",
    "sbin/mount.fuse.kvfs",
    "usr/local/lib/systemd/system/kvfs@.service",
    "usr/local/lib/systemd/system/kvfs@.service.d/system.conf",
    "usr/local/lib/systemd/user/kvfs@.service",
    "usr/local/share/kvfs/installed",
    "usr/local/share/man/man1/kvfs.1",
    "usr/local/share/bash-completion/completions/kvfs",
    "usr/local/share/zsh/site-functions/_kvfs",
    "usr/local/share/fish/vendor_completions.d/kvfs.fish",
}


@pytest.fixture
def call(tmp_path):
    """Return a function that runs `mount.sh` with a DESTDIR."""

    def run(*args, fails=0):
        done = subprocess.run(
            [ROOT / "mount.sh", *args],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "DESTDIR": str(tmp_path / "d e s t")},
        )
        assert done.returncode == fails, done
        return done

    run.top = tmp_path / "d e s t"
    return run


def there(top):
    return {
        str(path.relative_to(top)) for path in top.rglob("*") if path.is_symlink() or path.is_file()
    }


def test_install_twice_and_uninstall(call):
    first = call("--install").stderr
    assert PLACES <= there(call.top)
    for name in there(call.top) - {"usr/local/share/kvfs/installed"}:
        assert f"installed {call.top}/{name}\n" in first
    assert call("--install").stderr == ""
    for name in ("usr/local/bin/kvfs", "sbin/mount.fuse.kvfs"):
        out = subprocess.run([call.top / name, "--help"], capture_output=True, check=True)
        assert b"Usage: " in out.stdout
        assert os.readlink(call.top / name).startswith(str(Path(sys.executable).parent))
    assert ".TH" in (call.top / "usr/local/share/man/man1/kvfs.1").read_text()
    unit = call.top / "usr/local/lib/systemd/user/kvfs@.service"
    assert unit.read_bytes() == (ROOT / "systemd/kvfs@.service").read_bytes()
    (call.top / "usr/local/bin/other").write_text("of somebody else")
    unit.write_text("changed meanwhile")
    assert call("--install").stderr == f"kvfs: installed {unit}\n"
    assert call("--uninstall").stderr.count("removed") == len(there_before(first))
    assert there(call.top) == {"usr/local/bin/other"}
    assert call("--uninstall").stderr == "kvfs: nothing is installed\n"


def there_before(said):
    return [line for line in said.splitlines() if "installed" in line]


def test_what_is_of_somebody_else_stays(call):
    place = call.top / "usr/local/bin/kvfs"
    place.parent.mkdir(parents=True)
    place.write_text("theirs")
    done = call("--install", fails=1)
    assert f"{place} is there, and not from here" in done.stderr
    assert there(call.top) == {"usr/local/bin/kvfs"}
    call("--uninstall")
    assert place.read_text() == "theirs"


def test_wrong_usage(call):
    assert "unknown argument x" in call("--install", "x", fails=2).stderr
    assert not call.top.exists()
