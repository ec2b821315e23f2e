"""What `keys`, `values` and `items` of a store return: views, as those of a dict, but sorted."""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, ValuesView
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.store.kv import Store

Key = bytes | str


class Keys(KeysView[Key]):
    """The keys that start with `prefix`, as they are when they are asked for."""

    def __init__(self, store: Store, prefix: bytes) -> None:
        """Look at `store`."""
        super().__init__(store)
        self._store = store
        self._prefix = prefix

    def __iter__(self) -> Iterator[bytes]:
        """Yield them, sorted."""
        return iter(self._store.sorted_keys(self._prefix))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._store.sorted_keys(self._prefix)) if self._prefix else len(self._store)

    def __contains__(self, key: object) -> bool:
        """Tell whether `key` is one of them."""
        text = key.encode() if isinstance(key, str) else key
        return isinstance(text, bytes) and text.startswith(self._prefix) and text in self._store

    def __repr__(self) -> str:
        """Return what `list` gives."""
        return f"{type(self).__name__}({list(self)!r})"


class Items(ItemsView[Key, bytes]):
    """The keys that start with `prefix`, with their values, read as they are reached."""

    def __init__(self, store: Store, prefix: bytes) -> None:
        """Look at `store`."""
        super().__init__(store)
        self._store = store
        self._prefix = prefix

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield them, sorted by key; a key that is deleted meanwhile is left out."""
        for key in self._store.sorted_keys(self._prefix):
            value = self._store.get(key)
            if value is not None:
                yield key, value

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._store.keys(self._prefix))

    def __contains__(self, item: Any) -> bool:
        """Tell whether `item` is a key that starts with the prefix, and its value."""
        key, value = item
        return key in self._store.keys(self._prefix) and self._store.get(key) == value


class Values(ValuesView[bytes]):
    """The values, by their keys."""

    def __init__(self, store: Store) -> None:
        """Look at `store`."""
        super().__init__(store)
        self._items = Items(store, b"")

    def __iter__(self) -> Iterator[bytes]:
        """Yield them, sorted by key."""
        return (value for _, value in self._items)

    def __contains__(self, value: object) -> bool:
        """Tell whether a key has `value`."""
        return any(found == value for found in self)
