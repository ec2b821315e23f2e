"""CRC-32C, from the extension of the package `crc32c`, without the package around it.

That asks for its own version when it is imported, by `importlib.metadata`, which
takes some 50 ms: as long as all else that `kvfs get` does.
"""

from __future__ import annotations

from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crc32c import crc32c
else:

    def _extension() -> Any:
        package = PathFinder.find_spec("crc32c")
        name = "crc32c._crc32c"
        found = PathFinder.find_spec(name, package.submodule_search_locations) if package else None
        if found is None or found.loader is None:
            raise ImportError("the package crc32c is missing, or another than it was", name=name)
        module = found.loader.create_module(found)
        found.loader.exec_module(module)
        return module

    crc32c = _extension().crc32c

__all__ = ["crc32c"]
