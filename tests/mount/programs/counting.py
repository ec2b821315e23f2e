"""Serve a mount as the daemon does, and answer each line on standard input with what it holds."""

import json
import sys
import threading

import kvfs.filesystem
from kvfs.serving import MountOptions, run

served = []


class Filesystem(kvfs.filesystem.Filesystem):
    """The file system of the mount, within reach."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        served.append(self)


def answer():
    for _ in sys.stdin:
        filesystem = served[0]
        files, content = filesystem._files, filesystem._content
        counts = {
            "references": dict(files._references),
            "opens": dict(files._opens),
            "orphans": list(files._orphans),
            "pending": list(content._pending),
            "scratch": list(content._scratch._fds),
            "handles": list(filesystem._handles._handles),
            "listings": list(filesystem._listings),
            "nodes": len(files._table.nodes),
        }
        print(json.dumps(counts), flush=True)


kvfs.filesystem.Filesystem = Filesystem
threading.Thread(target=answer, daemon=True).start()
run(sys.argv[1], sys.argv[2], MountOptions(), lambda: print("ready", flush=True))
