"""The words after `-o`: each does what it says, or is refused."""

import click
import pytest

from kvfs.cli.mount_options import with_words
from kvfs.serving import MountOptions
from kvfs.store.keeping import DEFAULT

NONE = MountOptions()


def parsed(*words, **kwargs):
    return with_words(NONE, words, **kwargs)


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("", {}),
        (",,rw,", {}),
        ("defaults,auto,noauto,user,nouser,users,owner,group,nofail,_netdev", {}),
        ("x-systemd.automount,X-mount.mkdir,comment=a=b,user=me,relatime,atime", {}),
        ("ro", {"read_only": True}),
        ("ro,rw", {}),
        ("sync", {"durability": "always"}),
        ("sync,async", {}),
        ("durability=always", {"durability": "always"}),
        ("no-busy-poll", {"busy_poll": False}),
        ("checkpoint-every=7", {"checkpoint_every": 7}),
        ("metrics=[::1]:9100", {"metrics": ("::1", 9100)}),
        ("keep-history=1d", {"keep_history": "1d"}),
        ('keep-history="1d,1GiB",ro', {"keep_history": "1d,1GiB", "read_only": True}),
        ("at=2h ago", {"at": "2h ago", "read_only": True}),
        ("at=0,rw", {"at": "0", "read_only": True}),
        ("compact-share=0.5", {"compact": DEFAULT._replace(share=0.5)}),
        ("compact-size=1MiB", {"compact": DEFAULT._replace(size=1 << 20)}),
        ("uid=0,gid=65534,umask=022", {"uid": 0, "gid": 65534, "umask": 0o22}),
        (
            "allow_other,noatime,nodev,exec",
            {"options": ("allow_other", "noatime", "nodev", "exec")},
        ),
    ],
)
def test_what_each_word_means(words, changes):
    assert parsed(words) == NONE._replace(**changes)


def test_lists_and_what_was_chosen_before_add_up():
    chosen = MountOptions(durability="always", options=("suid",))
    assert with_words(chosen, ["ro,nodev", "uid=5"]) == chosen._replace(
        read_only=True, uid=5, options=("suid", "nodev")
    )


@pytest.mark.parametrize(
    "word",
    [
        *("dirsync", "strictatime", "nodiratime", "ro=1", "uid", "umask", "durability", "at"),
        *("fsname=x", "subtype=y", "fd=3", "rootmode=40000", "user_id=0", "blksize=1", "Ro"),
    ],
)
def test_other_words_are_refused_with_those_that_there_are(word):
    with pytest.raises(click.UsageError) as refused:
        parsed(f"nodev,{word}")
    message = refused.value.message
    assert repr(word) in message
    for known in ("ro", "uid=", "durability=", "nofail", "x-*", "no-busy-poll"):
        assert known in message
    assert parsed(f"nodev,{word}", sloppy=True).options == ("nodev",)


@pytest.mark.parametrize(
    "word",
    [
        *("uid=", "uid=-1", "uid=root", "uid=4294967295", "gid=1.5", "umask=8", "umask=1000"),
        *(
            "umask=",
            "durability=never",
            "metrics=x",
            "checkpoint-every=0",
            "checkpoint-every=x",
            "uid=\u0663",
            "uid=" + "1" * 5000,
        ),
        *(
            "compact-share=2",
            "compact-share=nan",
            "compact-share=x",
            "compact-size=big",
            "umask=0o7",
        ),
    ],
)
def test_values_that_cannot_be_are_refused_with_what_is_wanted(word):
    for sloppy in (False, True):
        with pytest.raises(click.UsageError, match=r"it takes (an? |fsync)"):
            parsed(word, sloppy=sloppy)


def test_a_quote_that_is_not_closed_and_a_remount():
    with pytest.raises(click.UsageError, match="not closed"):
        parsed('keep-history="1d')
    with pytest.raises(click.UsageError, match="unmount it, and mount it again"):
        parsed("remount,ro")
