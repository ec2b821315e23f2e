"""What can be left of the changes that a power cut meets: one class for each way to lose them.

Each tells which changes of names survive, and what is found in a file.
"""

import random

from forgetful import SECTOR


class Loss:
    """All that was not synced is lost, or, with `everything`, nothing."""

    lenient = False
    """Whether what is found may be damage beyond what recovery can tell from a torn end."""

    def __init__(self, *, names=False, data=False, sizes=None):
        self.names = names
        self.data = data
        self.sizes = data if sizes is None else sizes

    def keeps_name(self, time):
        return self.names

    def content(self, file):
        if self.data:
            return bytes(file.content)
        return file.durable.ljust(len(file.content), b"\0") if self.sizes else file.durable


class Prefix(Loss):
    """What happened before one instant survives, and part of the write that was under way."""

    def __init__(self, seed, now):
        self._random = random.Random(seed)
        self.time = self._random.randrange(max(now - 40, 0), now + 1)

    def keeps_name(self, time):
        return time <= self.time

    def content(self, file):
        data = bytearray(file.durable)
        for time, at, new in file.changes:
            if time > self.time + 1:
                break
            if new is None:
                del data[at:]
                data.extend(bytes(at - len(data)))
                continue
            part = new if time <= self.time else new[: self._random.randrange(len(new) + 1)]
            data.extend(bytes(max(at - len(data), 0)))
            data[at : at + len(part)] = part
        return bytes(data)


class Scattered(Loss):
    """Each name, each sector and each size is of any time since it was synced.

    What was never written is zeros. `share` is how much of it is of the latest time.
    """

    def __init__(self, seed, share=0.5):
        self._random = random.Random(seed)
        self._share = share

    def keeps_name(self, time):
        return self._random.random() < self._share

    def content(self, file):
        sizes = file.sizes()
        if len(sizes) == 1:
            return file.durable
        size = self._size([size for _, size in sizes])
        times = [time for time, _ in sizes]
        parts = []
        for number in range(-(-size // SECTOR)):
            late = self._random.random() < self._share
            until = times[-1] if late else self._random.choice(times)
            sector, written = file.sector(number, until)
            parts.append(sector if written else self._unwritten())
        return b"".join(parts)[:size]

    def _size(self, sizes):
        if self._random.random() < self._share:
            return sizes[-1]
        low, high = min(sizes), max(sizes)
        return self._random.choice([*sizes, self._random.randint(low, high)])

    def _unwritten(self):
        return bytes(SECTOR)


class Garbage(Scattered):
    """As `Scattered`, but what was never written is whatever the disk had there before."""

    lenient = True

    def _unwritten(self):
        return self._random.randbytes(SECTOR)


class GarbageTail(Loss):
    """The sizes have arrived, the data have not: whole sectors of what the disk had before."""

    def __init__(self, seed):
        super().__init__(names=True)
        self._random = random.Random(seed)

    def content(self, file):
        size = len(file.content)
        whole = min(-(-len(file.durable) // SECTOR) * SECTOR, size)
        data = file.durable[:size].ljust(whole, b"\0")
        return data + self._random.randbytes(size - len(data))


def losses(seed, now, *, checksums, many):
    """Return ways to lose what is not synced: the plain ones, and `many` of each other kind.

    Garbage is only for formats with checksums, which alone can tell it.
    """
    found = [
        Loss(),
        Loss(names=True, data=True),
        Loss(names=True),
        Loss(data=True),
        Loss(names=True, sizes=True),
    ]
    if checksums:
        found.append(GarbageTail(seed))
    for number in range(many):
        draw = f"{seed} {number}"
        found += [Prefix(draw, now), Scattered(draw), Scattered(draw, 0.8)]
        if checksums:
            found.append(Garbage(draw, 0.8))
    return found
