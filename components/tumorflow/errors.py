"""Everything tumorflow raises on purpose.

    TumorflowError             exit code 1
    ├── UsageError             exit code 2: the caller can mend it
    │   ├── ParameterError     unknown parameter or impossible value
    │   └── SourceError        source, labels or artifact missing or unreadable
    ├── DataError              the data cannot carry the run: validation stopped it
    ├── SliceError             one slice cannot be used: it goes to quarantine
    ├── RefusedError           the registry's policy forbids it
    └── UnavailableError       something from outside cannot be had: weights, server, disk space

A message holds the rule, what was received, the file or tag, and the remedy; never patient data.
"""

__all__ = [
    "DataError",
    "ParameterError",
    "RefusedError",
    "SliceError",
    "SourceError",
    "TumorflowError",
    "UnavailableError",
    "UsageError",
]


class TumorflowError(Exception):
    """A failure that tumorflow explains in one message."""

    exit_code = 1


class UsageError(TumorflowError):
    """The command, its parameters or its input are wrong; nothing was run."""

    exit_code = 2


class ParameterError(UsageError):
    """A parameter is unknown or its value is impossible."""


class SourceError(UsageError):
    """A source, label file or artifact is missing or unreadable."""


class DataError(TumorflowError):
    """The data, taken together, cannot carry the run."""


class SliceError(TumorflowError):
    """One slice cannot be used.

    `rule` is a short stable code for the quarantine list (`not_dicom`, `truncated_pixels`, …).
    """

    def __init__(self, rule: str, reason: str, remedy: str) -> None:
        super().__init__(f"{reason} {remedy}")
        self.rule = rule
        self.reason = reason
        self.remedy = remedy


class RefusedError(TumorflowError):
    """The registry's policy forbids it; the message names the rule."""


class UnavailableError(TumorflowError):
    """Something from outside this process cannot be had."""
