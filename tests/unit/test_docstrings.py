"""The examples in docstrings do what they say."""

import doctest
import importlib
import pkgutil

import pytest

import kvfs

MODULES = ["kvfs"] + [
    found.name
    for found in pkgutil.walk_packages(kvfs.__path__, "kvfs.")
    if found.name != "kvfs.__main__"  # it runs the command
]
EXAMPLES = {
    test.name: test
    for name in MODULES
    for test in doctest.DocTestFinder().find(importlib.import_module(name))
    if test.examples
}


def test_there_are_some():
    assert "kvfs" in EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example(name, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(EXAMPLES[name], out=said.append)
    assert runner.failures == 0, "".join(said)
