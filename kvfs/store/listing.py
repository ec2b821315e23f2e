"""Keys, losses and changes as JSON can have them."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvfs.store.feed import Change
    from kvfs.store.pieces import Lost
    from kvfs.store.salvage import Fate


def field(name: str, data: bytes) -> dict[str, str]:
    """Return `data` as a member of a JSON object, in Base64 where it is no UTF-8."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def losses(lost: list[Lost], fates: list[Fate], directories: list[bytes]) -> dict[str, Any]:
    """Return what a repair could not keep, what became of the keys, and what it made."""
    return {
        "lost": [_members(entry._asdict()) for entry in lost],
        "keys": [_members(fate._asdict()) for fate in fates],
        "directories": [field("key", path) for path in directories],
    }


def _members(values: dict[str, Any]) -> dict[str, Any]:
    """Return `values` as JSON can have them; what is None or False is left out."""
    shown: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, bytes):
            shown |= field(name, value)
        elif isinstance(value, tuple):
            shown[name] = [field("key", key) for key in value]
        elif value is not None and value is not False:
            shown[name] = value
    return shown


def told(change: Change, *, values: bool = False) -> str:
    """Return `change` as a line of JSON, without its end; with `values`, the value that it left too."""
    shown: dict[str, Any] = {"seq": change.sequence, "time": change.time, "what": change.what}
    shown |= field("key", change.key)
    if change.new is not None:
        shown |= field("new", change.new)
    shown["directory"] = change.directory
    for name in ("offset", "size"):
        if (number := getattr(change, name)) is not None:
            shown[name] = number
    for name, detail in change.details.items():
        shown |= field(name, detail) if isinstance(detail, bytes) else {name: detail}
    if values and change.has_value:
        shown |= {"value": None} if change.value is None else field("value", change.value)
    return json.dumps(shown, ensure_ascii=False)
