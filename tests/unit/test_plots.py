"""Pictures that stand alone: real colours, and the same bytes for the same figures."""

from typing import Any
from xml.etree import ElementTree

from evaluation.plots import CANDIDATE, ON_WHITE, PALETTE, panels_of, picture


def test_a_picture_has_the_colours_of_a_page_of_its_own() -> None:
    def draw(width: float) -> Any:
        figure, (axis,) = panels_of(width, 2)
        axis.plot([1, 2], [3, 4], color=CANDIDATE, label="candidate")
        return figure

    first, second = picture("line", draw), picture("line", draw)
    assert first == second
    root = ElementTree.fromstring(first)  # noqa: S314 - our own file
    assert root.tag.endswith("svg")
    assert ON_WHITE[CANDIDATE] in first
    assert not any(stand_in in first for stand_in in PALETTE)
