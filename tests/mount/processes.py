"""Processes that do something at once."""

import multiprocessing
import traceback

FORK = multiprocessing.get_context("fork")
PATIENCE = 20.0  # seconds for what must happen soon


class Together:
    """Forked processes that start at once; used as a context, none of them is left."""

    def __init__(self, works):
        """Run each of `works`, a function that is given a way to say something early."""
        gate = FORK.Barrier(len(works))
        self._connections = []
        self.processes = []
        for work in works:
            ours, theirs = FORK.Pipe(duplex=False)
            process = FORK.Process(target=_run, args=(gate, work, theirs))
            process.start()
            theirs.close()
            self._connections.append(ours)
            self.processes.append(process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def said(self):
        """Return the next word of each process, what it said or at last returned."""
        words = []
        for connection in self._connections:
            assert connection.poll(PATIENCE), "a process has nothing to say"
            kind, word = connection.recv()
            assert kind == "said", word
            words.append(word)
        return words

    def kill(self):
        for process in self.processes:
            process.kill()
            process.join()
        for connection in self._connections:
            connection.close()


def _run(gate, work, connection):
    try:
        gate.wait(PATIENCE)
        connection.send(("said", work(lambda word: connection.send(("said", word)))))
    except BaseException:
        connection.send(("failed", traceback.format_exc()))


def together(works):
    """Run each of `works` in a process, all at once, and return what they returned."""
    with Together([lambda _, work=work: work() for work in works]) as started:
        return started.said()
