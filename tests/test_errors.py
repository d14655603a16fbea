import pytest

from tumorflow import errors


def test_the_names_are_locked():
    assert errors.__all__ == [
        "DataError",
        "ParameterError",
        "RefusedError",
        "SliceError",
        "SourceError",
        "TumorflowError",
        "UnavailableError",
        "UsageError",
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.DataError, 1),
        (errors.RefusedError, 1),
        (errors.UnavailableError, 1),
        (errors.ParameterError, 2),
        (errors.SourceError, 2),
    ],
)
def test_exit_codes(error, code):
    assert error("message").exit_code == code
    assert isinstance(error("message"), errors.TumorflowError)
