"""The report of one night as one self-contained HTML page: no script, no network, plots inline, everything escaped."""

import math
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from evaluation.plots import canary_plot, metrics_plot, training_plot
from evaluation.run_report import MetricLine, RunReport, words
from evaluation.types import Interval
from infra.store import write_atomic

TEMPLATE = "report.html.j2"
SHARES_LIE_IN = (0.0, 1.0)
ROUNDING = 1e-12
"""What floating-point arithmetic leaves of a zero."""
NEVER_A_SHARE = frozenset(("latency_ms", "tokens", "cost"))


def number(value: float | None) -> str:
    """Three significant digits, thousands grouped, powers of ten where small or large, `–` for none, `∞`."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if abs(value) < ROUNDING:
        return "0"
    if value == int(value) or abs(value) >= 1000:
        shown = f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.2e}".replace("e+0", "e").replace("e+", "e")
        return shown.replace("-", "−")
    if abs(value) < 0.001:
        return f"{value:.2e}".replace("e-0", "e-").replace("-", "−")
    digits = max(0, 2 - math.floor(math.log10(abs(float(f"{value:.3g}")))))
    return f"{value:,.{digits}f}".replace("-", "−")


def signed(value: float) -> str:
    """`number` with its sign."""
    return number(value) if value <= 0 else f"+{number(value)}"


def interval(value: Interval | None) -> str:
    """Mean with its interval."""
    return "–" if value is None else f"{number(value.mean)} [{number(value.low)}, {number(value.high)}]"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else str(timedelta(seconds=round(seconds)))


def bytes_shown(count: int) -> str:
    """Bytes in MB (10⁶)."""
    return f"{count / 1e6:.1f} MB"


def short(digest: str | None) -> str:
    """First twelve characters of a digest."""
    return (digest or "–")[:12]


def safe_link(url: str) -> str:
    """The address if a browser may open it without running anything, else an empty one."""
    return url if urlsplit(url).scheme in ("http", "https", "file") else ""


def is_share(line: MetricLine) -> bool:
    """Whether a metric can be drawn on an axis from 0 to 1."""
    low, high = SHARES_LIE_IN
    sides = [side for side in (line.candidate, line.production) if side]
    return line.metric not in NEVER_A_SHARE and all(low <= side.low and side.high <= high for side in sides)


def render(report: RunReport) -> str:
    """The page. Deterministic: the same report gives the same bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "signed": signed,
        "interval": interval,
        "duration": duration,
        "bytes_shown": bytes_shown,
        "short": short,
        "words": words,
        "safe_link": safe_link,
    }
    shares = [line for line in report.metrics if is_share(line)]
    plots = {
        "metrics": metrics_plot(shares) if shares else "",
        "canary": canary_plot(report.canary) if report.canary and report.canary.course else "",
        "training": training_plot(report.training_curve) if report.training_curve else "",
    }
    slowest = max((line.seconds for line in report.stages), default=1.0) or 1.0
    return environment.get_template(TEMPLATE).render(report=report, plots=plots, slowest=slowest)


def write_report(report: RunReport, path: Path) -> None:
    """Render to `path`, atomically."""
    write_atomic(path, render(report))
