"""Pictures of the quantization sweep: quality against bytes, and tokens a second, as SVG files of their own."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.plots import BAD, CANDIDATE, GOOD, INK, LINE, PRODUCTION, panels_of, picture

Row = Mapping[str, Any]
"""A line of the sweep's table."""

COLOUR = {"PASS": GOOD, "FAIL": BAD, "UNDECIDED": PRODUCTION}


def quality_picture(rows: Sequence[Row], margin: float) -> str:
    """Difference in quality to bf16 with its interval, a line a precision, from the most bytes to the fewest."""
    shown = sorted((row for row in rows if row["difference"]), key=lambda row: row["bytes_on_disk"])

    def draw(width: float) -> Any:
        figure, (axis,) = panels_of(width, 1.4 + 0.36 * len(shown))
        axis.axvline(0, color=INK, linewidth=1)
        axis.axvline(-margin, color=BAD, linestyle=(0, (5, 3)), linewidth=1.4)
        for place, row in enumerate(shown):
            difference, colour = row["difference"], COLOUR[row["decision"]]
            axis.plot([difference["low"], difference["high"]], [place, place], color=colour, linewidth=2.4)
            face = colour if row["note"] == "" else "#ffffff"
            axis.plot([difference["mean"]], [place], "o", color=colour, markersize=6.5, markerfacecolor=face)
        axis.set_yticks(range(len(shown)), [_label(row) for row in shown])
        axis.set_ylim(-0.6, len(shown) - 0.4)
        axis.set_xlabel(f"correct answers, difference to bf16 with its interval; dashed: the margin, −{margin:.2f}")
        axis.grid(axis="y", visible=False)
        for decision, colour in COLOUR.items():
            axis.plot([], [], "o-", color=colour, label=decision)
        axis.plot([], [], "o", color=INK, markerfacecolor="#ffffff", label="quality only")
        figure.legend(loc="outside upper right", ncols=4)
        return figure

    return picture("precision-quality", draw)


def speed_picture(rows: Sequence[Row]) -> str:
    """Tokens a second of the precisions that the engine serves, bf16 first, with their bytes."""
    shown = [row for row in rows if row["tokens_per_s"] is not None][::-1]

    def draw(width: float) -> Any:
        figure, (axis,) = panels_of(width, 1.0 + 0.4 * len(shown))
        for place, row in enumerate(shown):
            colour = LINE if row["precision"] == "bf16" else CANDIDATE
            axis.barh(place, row["tokens_per_s"], height=0.6, color=colour)
            axis.text(row["tokens_per_s"], place, f" {row['tokens_per_s']:,.0f}", va="center", color=INK)
        axis.set_yticks(range(len(shown)), [_label(row) for row in shown])
        axis.set_axisbelow(True)
        axis.set_xlabel("output tokens a second under the same load")
        axis.grid(axis="y", visible=False)
        return figure

    return picture("precision-speed", draw)


def _label(row: Row) -> str:
    return f"{row['precision']}  {row['bytes_on_disk'] / 1e6:,.2f} MB"
