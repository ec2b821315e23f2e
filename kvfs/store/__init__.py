"""The store: the log and the table together.

`Store` is the key-value interface, `Files` the file interface that the mount
stands on; both work on one `Core`. Everything here is synchronous.
"""

from kvfs.store.files import Files
from kvfs.store.kv import Store
from kvfs.store.lock import Holder, holder_of
from kvfs.store.opening import init, open_store

__all__ = ["Files", "Holder", "Store", "holder_of", "init", "open_store"]
