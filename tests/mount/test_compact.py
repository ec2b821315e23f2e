"""`kvfs compact`: beside a mount and alone, and what it refuses."""

import json
import socket

from kvfs.config import load


def segments(mounted):
    return sum(file.stat().st_size for file in (mounted.store / "segments").iterdir())


def fill(mounted):
    for turn in range(3):
        for number in range(20):
            (mounted.path / f"f{number}").write_bytes(b"%d %d " % (turn, number) * 5000)
    for number in range(10):
        (mounted.path / f"f{number}").unlink()


def check(mounted):
    for number in range(10, 20):
        assert (mounted.path / f"f{number}").read_bytes() == b"2 %d " % number * 5000
    assert not (mounted.path / "f0").exists()


def test_beside_a_mount_and_alone(stores):
    mounted = stores.make("binary")
    fill(mounted)
    before = segments(mounted)
    shown = json.loads(stores.cli("compact", mounted.store, "--json", ok=True).stdout)
    assert shown["left"] is None
    assert segments(mounted) >= before - 1000  # the history of a day
    stores.cli("compact", mounted.store, "--keep-history", "0", ok=True)
    assert segments(mounted) < before / 2
    check(mounted)
    fill(mounted)
    mounted.umount()
    done = stores.cli("compact", mounted.store, "--keep-history", "0", ok=True)
    assert b" before, " in done.stdout
    assert segments(mounted) < before / 2
    mounted.mount()
    check(mounted)
    stat = json.loads(stores.cli("stat", mounted.store, "--json", ok=True).stdout)
    assert stat["live"] + stat["historic"] + stat["dead"] == stat["bytes"] == segments(mounted)
    assert stat["live"] > 200_000
    assert stat["since"] > 0
    stores.cli("get", mounted.store, "f10", "--at", "3", fails=1)


def test_how_much_is_kept_is_kept_in_the_store(stores):
    mounted = stores.make("binary", options=("--keep-history", "2h"))
    file = mounted.store / "store.toml"
    assert load(file.read_bytes(), str(file)).keep_history == "2h"
    mounted.remount()
    assert load(file.read_bytes(), str(file)).keep_history == "2h"


def test_a_text_store_is_compacted_alone(stores):
    mounted = stores.make("text")
    fill(mounted)
    before = segments(mounted)
    stores.cli("compact", mounted.store, fails=1)
    check(mounted)
    mounted.umount()
    stores.cli("compact", mounted.store, ok=True)
    assert segments(mounted) < before / 2
    mounted.mount()
    check(mounted)


def test_what_is_no_amount_and_what_is_no_request(stores, monkeypatch):
    mounted = stores.make("binary")
    for bad in ("", "1x", "1d,2d", "1d,0", "-1", "0,all"):
        stores.cli("compact", mounted.store, "--keep-history", bad, fails=1)
    stores.cli("compact", mounted.path / "nothing", fails=1)
    for line in (b"nonsense\n", b'{"compact": 5}\n', b"[" * 100_000 + b"\n", b"{}\n"):
        with socket.socket(socket.AF_UNIX) as connection:
            monkeypatch.chdir(mounted.store)  # a path that is not too long for a socket
            connection.connect("control")
            connection.sendall(line)
            with connection.makefile("rb") as answers:
                assert "not understood" in json.loads(answers.readline())["problem"]
    monkeypatch.undo()
    stores.cli("compact", mounted.store, ok=True)
