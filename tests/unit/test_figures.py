"""The text of `.kvfs/stats`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvfs.figures import from_text, to_text


def test_a_line_for_each_figure_and_an_empty_one_between_groups():
    figures = {
        "mount": {"mountpoint": "/a b\n", "pid": 7},
        "errors": {},
        "requests": {"read": {"count": 3, "seconds": 0.5, "buckets": [1, 0, 2]}},
    }
    assert to_text(figures) == (
        "mount.mountpoint /a\\040b\\012\n"
        "mount.pid 7\n"
        "\n"
        "requests.read.count 3\n"
        "requests.read.seconds 0.500000\n"
        "requests.read.buckets 1 0 2\n"
    )


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(),
    st.lists(st.integers(0, 2**64)),
    st.integers(-(10**6), 10**6),
)
def test_text_and_back(path, count, buckets, eighths):
    figures = {
        "store": {"path": path, "keys": count},
        "requests": {"read": {"buckets": buckets, "seconds": eighths / 8}},
    }
    assert from_text(to_text(figures)) == figures


def test_what_is_no_figure_is_refused():
    with pytest.raises(ValueError, match="no figure: keys many"):
        from_text("store.keys many\n")
