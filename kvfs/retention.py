"""How much of its past a store keeps."""

from __future__ import annotations

from typing import NamedTuple

from kvfs.errors import ConfigError
from kvfs.units import parse_duration, parse_size

ALL = "all"


class Retention(NamedTuple):
    """Of the past, what is both younger than `time` and within the last `size` of the log.

    `time` is in nanoseconds, `size` in bytes; None is no bound.
    """

    time: int | None
    size: int | None

    @property
    def is_all(self) -> bool:
        """Whether everything is kept."""
        return self == (None, None)

    @classmethod
    def parse(cls, text: str) -> Retention:
        """Return what `text` says: `all`, `0`, a time (`1d`), a size (`1GiB`), or both (`1d,1GiB`).

        Raises `ConfigError`.
        """
        if text.strip() == ALL:
            return cls(None, None)
        if text.strip() == "0":
            return cls(0, 0)
        time = size = None
        for word in text.split(","):
            duration = parse_duration(word)
            # A bare letter that is a unit of both, as in 5m, is one of time.
            amount = parse_size(word) if duration is None else None
            if not (duration or amount):
                raise _none(text)
            if (duration and time is not None) or (amount and size is not None):
                raise _none(text)
            time = time if duration is None else duration
            size = size if amount is None else amount
        return cls(time, size)


NOTHING = Retention(0, 0)


def _none(text: str) -> ConfigError:
    message = (
        f"{text!r} does not say how much history to keep; write a time such as 1d, a size such as"
        " 1GiB, both as in 1d,1GiB, or one of 0 and all"
    )
    return ConfigError(message)
