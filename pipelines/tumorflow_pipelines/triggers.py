"""When a schedule starts runs: cron expressions and intervals, checked and in Kubeflow's form."""

import re
from calendar import monthrange
from collections.abc import Sequence
from datetime import timedelta

from tumorflow.errors import UsageError

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS: tuple[tuple[str, int, int, Sequence[str]], ...] = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of week", 0, 6, DAYS),
)
LEAP_YEAR = 2024
UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def parse_cron(expression: str) -> str:
    """Returns a cron expression of six fields, seconds first, as Kubeflow takes it; five get a second 0.

    Raises:
        UsageError: it is no cron expression, or a day that never comes.

    Example:
        >>> parse_cron("30 2 * * mon-fri")
        '0 30 2 * * mon-fri'
    """
    fields = expression.lower().split()
    if len(fields) == 5:
        fields = ["0", *fields]
    if len(fields) != len(FIELDS):
        raise _refuse(expression, f"{len(fields)} fields")
    values = [_parse_field(field, expression, *limits) for field, limits in zip(fields, FIELDS, strict=True)]
    days, months = values[3], values[4]
    by_weekday = fields[5] not in ("*", "?")
    if not by_weekday and min(days) > max(monthrange(LEAP_YEAR, month)[1] for month in months):
        raise _refuse(expression, "a day that these months do not have")
    return " ".join(fields)


def parse_interval(text: str) -> int:
    """Returns the seconds of an interval such as `30m`, `6h` or `1d`.

    Raises:
        UsageError: it is none, or less than a minute.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text.strip().lower())
    if not found:
        raise UsageError(
            f"--every is a number of minutes, hours or days: 30m, 6h, 1d. Received: '{text}'. "
            "For example: --every 6h"
        )
    return int(timedelta(**{UNITS[found[2]]: int(found[1])}).total_seconds())


def _parse_field(
    field: str, expression: str, name: str, low: int, high: int, names: Sequence[str]
) -> set[int]:
    """Returns the values that a field allows."""
    allowed: set[int] = set()
    for part in field.split(","):
        span, slash, step = part.partition("/")
        if slash and not (step.isascii() and step.isdigit() and int(step)):
            raise _refuse(expression, f"'{part}' as {name}")
        if span in ("*", "?"):
            first, last = low, high
        else:
            start, dash, end = span.partition("-")
            first = _parse_value(start, expression, name, low, high, names)
            last = _parse_value(end, expression, name, low, high, names) if dash else first
            last = high if slash and not dash else last
        if first > last:
            raise _refuse(expression, f"'{part}' as {name}, which runs backwards")
        allowed |= set(range(first, last + 1, int(step or 1)))
    return allowed


def _parse_value(text: str, expression: str, name: str, low: int, high: int, names: Sequence[str]) -> int:
    value = names.index(text) + low if text in names else -1
    if text.isascii() and text.isdigit():
        value = int(text)
    if not low <= value <= high:
        raise _refuse(expression, f"'{text}' as {name}, which is {low} to {high}")
    return value


def _refuse(expression: str, what: str) -> UsageError:
    return UsageError(
        "--cron has minute, hour, day of month, month and day of week, in UTC; seconds may come first. "
        f"Received: '{expression}', with {what}. For example: --cron '0 3 * * *'"
    )
