"""What every open store is, whatever it is used by: its files, and how it is looked after."""

from __future__ import annotations

from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any, Self

from kvfs.store.content import Content
from kvfs.store.files import Files

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from kvfs.config import Config
    from kvfs.retention import Retention
    from kvfs.store.background import Background, Keeper
    from kvfs.store.core import Core
    from kvfs.store.feed import Feed
    from kvfs.store.keeping import Policy
    from kvfs.store.transaction import Transaction
    from kvfs.table import Table


class Opened:
    """An open store, without its keys and values: see `Store`."""

    def __init__(self, core: Core, policy: Policy) -> None:
        """Wrap an open core; use `kvfs.open`."""
        self._core = core
        self._content = Content(core)
        self.files = Files(core, self._content)
        """The file interface, for the mount."""
        core.nameless = self.files.nameless_segments
        self._policy = policy
        self._keeper: Keeper | None = None
        core.on_roll = self._note_roll

    @property
    def path(self) -> str:
        """The directory of the store."""
        return self._core.path

    @property
    def config(self) -> Config:
        """What the store is: its format, segment size and id."""
        return self._core.config

    @property
    def table(self) -> Table:
        """The state itself, for those who only look at it and hold `lock`."""
        return self._core.table

    @property
    def expires(self) -> bool:
        """Whether what has expired counts as gone, which it does not in the past."""
        return self._core.expires

    @property
    def lock(self) -> AbstractContextManager[object]:
        """What keeps the threads apart that use the store; for those who use `files`."""
        return self._core.lock

    def sync(self) -> None:
        """Return once everything put or deleted so far survives a power cut.

        Raises `StoreFailedError` if the disk could not promise it.
        """
        with self._core.lock:
            self._core.check(write=True)
            self._content.commit_all()
        self._core.log.sync()

    @property
    def position(self) -> int:
        """How many records the log has."""
        return self._core.log.sequence

    @property
    def checkpointed(self) -> int:
        """How many records of the log come before the checkpoint that the store was opened from."""
        return self._core.checkpointed

    def live(self) -> Counter[int]:
        """Return how many bytes of each segment, by number, the values of now take."""
        with self._core.lock:
            return self._core.live_bytes()

    @property
    def lost(self) -> int:
        """How many bytes the log is shorter than it was when it was last closed."""
        return self._core.log.lost

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return what the store is, and what it has done since it was opened; see `figures`."""
        from kvfs.store.figures import figures

        return figures(self._core, self.background)

    @property
    def synced(self) -> int:
        """How many records of the log survive a power cut."""
        return self._core.log.synced

    def sync_log(self) -> None:
        """Bring what is logged to stable storage; may run in another thread."""
        self._core.log.sync()

    def check_healthy(self) -> None:
        """Raise `StoreFailedError` if the store takes no more writes after a failure."""
        self._core.log.check_writable()

    def compact(
        self,
        retention: Retention | None = None,
        progress: Callable[[int, int], object] = lambda _done, _total: None,
    ) -> str | None:
        """Give back the space of what is dead; return what was left undone, and why.

        `retention` is how much of the past is kept, if not as the store says;
        `progress` is called with the files seen to and those there are. Nobody
        else can use the store meanwhile. Raises what the log and the disk say.
        """
        from kvfs.store.compaction import compact

        with self._core.lock:
            self._core.check(write=True)
            self._content.commit_all()
            return compact(self._core, retention, progress)

    @cached_property
    def background(self) -> Background:
        """What is due beside all else; who only reads for a moment does without."""
        from kvfs.store.background import Background

        return Background(self._core, self._policy)

    def changes(
        self, from_: int | None = None, *, values: bool = False, timeout: float | None = None
    ) -> Feed:
        """Return an iterator over what changes, whoever changes it, from now on or from change `from_` on.

        It waits for the next change; without one for `timeout` seconds, it ends. With
        `values`, each has the value that it left. It is a context too, which ends it, and goes
        on when the store is closed. Whoever begins with the `sequence` of a change and one goes on behind that.
        Raises `PastGoneError` where the log does not go back to `from_`, `ConfigError` where it has
        no such change yet; the iteration also where it was not fast enough.

        >>> import kvfs, tempfile
        >>> store = kvfs.open(tempfile.mkdtemp() + "/store")
        >>> with store.changes(values=True, timeout=0) as changes:
        ...     store.put("greeting", "hello")
        ...     [(change.sequence, change.what, change.key, change.value) for change in changes]
        [(0, 'put', b'greeting', b'hello')]
        >>> store.close()
        """
        from kvfs.store.feed import Feed

        return Feed(self.path, from_, values=values, timeout=timeout, disk=self._core.disk)

    def transaction(self) -> Transaction:
        """Begin a transaction. Raises `KvfsError` EOPNOTSUPP for a text store."""
        from kvfs.store.transaction import Transaction

        self._core.check(write=True)
        return Transaction(self._core, self.files)

    def maintain(self) -> float:
        """Do what is due in the background; return the seconds until it is to be called again.

        For who keeps the store open and calls it for as long.
        """
        self._core.on_roll = lambda: None
        self._stop_keeper()
        return self.background.tick() if self._core.writable else inf

    def _note_roll(self) -> None:
        """See to what is due, where nobody calls `maintain`."""
        if self._keeper is None and self.background.watch.is_full():
            from kvfs.store.background import Keeper

            self._keeper = Keeper(self.background.tick)

    def _stop_keeper(self) -> None:
        if self._keeper:
            self._keeper.stop()
            self._keeper = None

    def note_mounted(self) -> None:
        """Tell others, in the lock file, that the mount that holds the store is there.

        And set room aside, so that files can be removed on a full disk.
        """
        self.background.watch.set_aside()
        self._core.note_mounted()

    def close(self) -> None:
        """Sync and close; nothing if closed already."""
        if self._core.writable:
            self.background.stop_soon()
        self._stop_keeper()
        with self._core.lock:
            if self._core.closed:
                return
            full = False
            try:
                if self._core.writable:
                    full = self.background.watch.is_full()
                    self.background.stop()
                    self._content.commit_all()
                    self.files.access_times.commit()
            finally:
                self._content.close()
                self._core.close(full=full)

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()
