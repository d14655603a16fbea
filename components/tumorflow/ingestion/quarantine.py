"""The list of refused files: where, by which rule, why, and what to do."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tumorflow.errors import SliceError

COLUMNS = ("file", "rule", "reason", "remedy")


@dataclass(frozen=True)
class Refusal:
    """One refused file (or frame of a file), named by its place in the sorted listing."""

    position: int
    file: str
    rule: str
    reason: str
    remedy: str

    @classmethod
    def of(cls, position: int, file: str, error: SliceError) -> "Refusal":
        """Returns the row for what `error` says about `file`."""
        return cls(position, file, error.rule, error.reason, error.remedy)


def count_rules(refusals: Iterable[Refusal]) -> Mapping[str, int]:
    """Returns rule → refused files, the commonest first."""
    return dict(sorted(Counter(row.rule for row in refusals).items(), key=lambda item: (-item[1], item[0])))


def describe_rules(refusals: Iterable[Refusal]) -> str:
    """Returns the three commonest rules in words, such as `not_ct: 12, localizer: 2`."""
    counts = list(count_rules(refusals).items())
    return ", ".join(f"{rule}: {count}" for rule, count in counts[:3]) or "none"


def to_csv(refusals: Sequence[Refusal]) -> str:
    """Returns the text of quarantine.csv, in the order of the listing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in sorted(refusals, key=lambda row: row.position):
        writer.writerow([row.file, row.rule, row.reason, row.remedy])
    return text.getvalue()
