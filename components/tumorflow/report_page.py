"""A report as one HTML file that needs nothing else: no network, no script, no folder beside it."""

import base64
from collections.abc import Mapping
from math import isnan
from pathlib import Path
from typing import Any

from tumorflow.bootstrap import Estimate


def render_page(template: Path, **told: Any) -> str:
    """Returns a Jinja template as HTML; every text from outside is escaped, and what is not told is an error.

    Templates may include this folder's `report.css`, and have the filters `interval`, `difference`,
    `change`, `figure`, `picture` and `plainly`.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "interval": say_interval,
        "difference": say_difference,
        "change": say_change,
        "figure": say_figure,
        "picture": to_data_uri,
        "plainly": plainly,
    }
    return environment.get_template(template.name).render(told)


def say_interval(estimate: Estimate) -> str:
    """Returns `0.71 (0.62–0.80)`; what is undefined is said."""
    if isnan(estimate.value):
        return "undefined"
    if isnan(estimate.low):
        return f"{estimate.value:.2f} (no interval)"
    return f"{estimate.value:.2f} ({estimate.low:.2f}–{estimate.high:.2f})"


def say_difference(estimate: Estimate, digits: int = 2) -> str:
    """Returns `+0.02 (−0.03 to +0.07)`; what is undefined is said."""
    if isnan(estimate.value):
        return "undefined"
    # what rounds to nothing has no sign
    ends = (round(end, digits) + 0.0 for end in (estimate.value, estimate.low, estimate.high))
    value, low, high = (f"{end:+.{digits}f}".replace("-", "−") for end in ends)
    return f"{value} (no interval)" if isnan(estimate.low) else f"{value} ({low} to {high})"


def say_change(estimate: Estimate) -> str:
    """Returns `−0.0004 (−0.0012 to +0.0000)`: as `say_difference`, for what hardly differs."""
    return say_difference(estimate, digits=4)


def say_figure(value: float | int | None) -> str:
    """Returns a number as text: counts whole, others with three decimals, None as undefined."""
    if value is None:
        return "undefined"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def plainly(value: Any) -> str:
    """Returns a setting as one line of text: nested ones as `key: value` pairs."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {plainly(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(plainly(item) for item in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}".replace(",", "\u202f") if value >= 10_000 else str(value)
    return str(value) if value not in ("", None) else "none"


def to_data_uri(picture: bytes) -> str:
    """Returns a PNG picture as a data URI."""
    return "data:image/png;base64," + base64.b64encode(picture).decode("ascii")
