"""`kvfs stat --plot`: the segments as a picture."""

import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest

import kvfs


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "a $store$ <&>")
    with kvfs.open(path, max_segment_size=4096) as store:
        for number in range(60):
            store.put(f"key {number % 7}", str(number) * 200)
    return path


def stat(path, *args, code=""):
    command = [sys.executable, "-c", f"{code}\nfrom kvfs.cli import main; main()"]
    command += ["stat", path, *args]
    return subprocess.run(command, capture_output=True, check=False, timeout=120, text=True)


def test_an_svg(path, tmp_path):
    target = tmp_path / "x.SVG"
    done = stat(path, "--plot", str(target))
    assert (done.returncode, done.stderr) == (0, "")
    drawn = ET.parse(target).getroot()
    assert drawn.tag.endswith("svg")
    text = target.read_text()
    for colour in ("#2e7d32", "#f9a825", "#c62828"):
        assert colour in text


def test_a_png_of_an_empty_store(tmp_path):
    kvfs.open(tmp_path / "empty").close()
    target = tmp_path / "x.png"
    done = stat(str(tmp_path / "empty"), "--plot", str(target), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert target.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_said_in_one_line(path, tmp_path):
    for name, why in (("x.gif", "ends in none of .svg"), ("none/x.svg", "cannot be written")):
        done = stat(path, "--plot", str(tmp_path / name))
        assert done.returncode == 1
        assert why in done.stderr
        assert done.stderr.count("\n") == 1
    missing = "import sys; sys.modules['matplotlib'] = None"
    done = stat(path, "--plot", str(tmp_path / "x.svg"), code=missing)
    assert done.returncode == 1
    assert (
        done.stderr == "kvfs: drawing needs matplotlib; install it with: pip install 'kvfs[plot]'\n"
    )
