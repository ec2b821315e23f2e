"""The words after `-o`, for `kvfs mount`, mount(8) and /etc/fstab alike.

Each word has one entry in one of the tables here; a word without one is refused,
since an option that does nothing is worse than none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kvfs.errors import ConfigError
from kvfs.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kvfs.metrics import Address
    from kvfs.serving import MountOptions

_FLAGS: dict[str, tuple[str, Any]] = {
    "rw": ("read_only", False),
    "ro": ("read_only", True),
    "sync": ("durability", "always"),
    "async": ("durability", "fsync"),
    "busy-poll": ("busy_poll", True),
    "no-busy-poll": ("busy_poll", False),
}
"""Words that set a field of `MountOptions`."""
_PASSED_ON = frozenset(
    {
        *("allow_other", "allow_root", "default_permissions", "noatime"),
        *("nodev", "nosuid", "noexec", "exec", "suid", "dev"),
    }
)
"""Words for FUSE, or for the kernel."""
_FOR_OTHERS = frozenset(
    {
        *("defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group"),
        *("nofail", "_netdev", "atime", "relatime"),
    }
)
"""Words for mount(8) and systemd, and those that say what is so anyway."""
_MOST_DIGITS = 20
_STARTS = ("x-", "X-", "comment=", "user=")
"""How more words for others start."""


def _durability(text: str) -> str:
    if text not in ("fsync", "always"):
        raise ValueError("fsync or always")
    return text


def _count(text: str) -> int:
    return _number(text, 1, 1 << 62, "a number from 1 on")


def _owner(text: str) -> int:
    return _number(text, 0, (1 << 32) - 2, "a number, as id prints it")


def _number(text: str, least: int, most: int, wanted: str) -> int:
    digits = len(text) <= _MOST_DIGITS and text.isascii() and text.isdigit()
    if not (digits and least <= int(text) <= most):
        raise ValueError(wanted)
    return int(text)


def _umask(text: str) -> int:
    if not text or set(text) - set("01234567") or int(text, 8) > 0o777:  # noqa: PLR2004 - all bits of a mode
        raise ValueError("an octal number up to 777")
    return int(text, 8)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError("a number from 0 to 1")
    return share


def _size(text: str) -> int:
    size = parse_size(text)
    if size is None:
        raise ValueError("a size such as 64MiB")
    return size


def _address(text: str) -> Address:
    from kvfs.metrics import Address

    try:
        return Address.parse(text)
    except ConfigError:
        raise ValueError("an address such as 9100 or 127.0.0.1:9100") from None


_VALUES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "at": ("at", str),
    "durability": ("durability", _durability),
    "checkpoint-every": ("checkpoint_every", _count),
    "keep-history": ("keep_history", str),
    "compact-share": ("compact.share", _share),
    "compact-size": ("compact.size", _size),
    "metrics": ("metrics", _address),
    "uid": ("uid", _owner),
    "gid": ("gid", _owner),
    "umask": ("umask", _umask),
}
"""Words with a value: the field of `MountOptions`, and what makes its value of text.

That raises `ValueError` with what is wanted instead."""


def with_words(chosen: MountOptions, words: Iterable[str], *, sloppy: bool = False) -> MountOptions:
    """Return `chosen` as `words` change it; each is a list as it comes after `-o`.

    With `sloppy`, words that nobody knows are passed over. Raises `click.UsageError`.
    """
    passed = list(chosen.options)
    for word in (word for text in words for word in _split(text)):
        name, equals, value = word.partition("=")
        if word in _FLAGS:
            field, flag = _FLAGS[word]
            chosen = _set(chosen, field, flag)
        elif word in _PASSED_ON:
            passed.append(word)
        elif equals and name in _VALUES:
            chosen = _set(chosen, *_converted(name, value))
        elif word not in _FOR_OTHERS and not word.startswith(_STARTS) and not sloppy:
            raise click.UsageError(_unknown(word))
    return chosen._replace(
        read_only=chosen.read_only or chosen.at is not None, options=tuple(passed)
    )


def _converted(name: str, value: str) -> tuple[str, Any]:
    field, convert = _VALUES[name]
    try:
        return field, convert(value)
    except ValueError as error:
        message = f"mount option {name}={value}: it takes {error}"
        raise click.UsageError(message) from None


def _set(chosen: MountOptions, field: str, value: Any) -> MountOptions:
    outer, _, inner = field.partition(".")
    if inner:
        value = getattr(chosen, outer)._replace(**{inner: value})
    return chosen._replace(**{outer: value})


def _split(text: str) -> Iterator[str]:
    """Yield the words of a list; within double quotes, a comma is part of a value."""
    word, quoted = "", False
    for letter in text:
        if letter == '"':
            quoted = not quoted
        elif letter == "," and not quoted:
            yield from filter(None, [word])
            word = ""
        else:
            word += letter
    if quoted:
        message = f"mount options {text}: a double quote is not closed"
        raise click.UsageError(message)
    yield from filter(None, [word])


def _unknown(word: str) -> str:
    if word == "remount":
        return "a mount cannot be changed; unmount it, and mount it again"
    known = sorted({*_FLAGS, *_PASSED_ON, *_FOR_OTHERS, *(f"{name}=" for name in _VALUES)})
    return f"unknown mount option {word!r}; known are {', '.join(known)}, x-*"
