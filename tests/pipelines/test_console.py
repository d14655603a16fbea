import io

import pytest

from tumorflow_pipelines.console import Console

LINES = """\
12:00:00 - INFO - Executing task 'ingest'
    step ingest: started
    ingest: 3/9 slices
    note: 2 files were refused
    some library said something of SOURCE
    step ingest: finished in 1.2 s
    step validate: started
    step train: started
    step validate: failed {"exit_code": 1, "message": "no"}
    step finish: started
    step finish: failed {"exit_code": 1, "message": "and no"}
    summary written to /runs/summary.json
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_only_what_matters_is_shown_and_everything_is_logged():
    log, screen = io.StringIO(), io.StringIO()
    with Console(log, screen, hidden="Doe^Jane") as console:
        for character in LINES.replace("SOURCE", "Doe^Jane"):  # however the lines are cut
            console.write(character)
        assert log.getvalue() == LINES
    assert screen.getvalue().splitlines() == [
        "ingest …",
        "  ingest: 3/9 slices",
        "  2 files were refused",
        "ingest: done in 1.2 s",
        "validate …",
        "train …",
        "validate: failed",
        "finish: failed",
    ]
    assert console.progress.started == ["ingest", "validate", "train", "finish"]
    assert console.progress.unfinished() == ["train"]
    assert console.progress.summary == "/runs/summary.json"
    assert console.progress.failure == {"exit_code": 1, "message": "no"}


@pytest.mark.parametrize("done", [3, 9])
def test_a_terminal_gets_a_bar(done):
    screen = Terminal()
    with Console(io.StringIO(), screen) as console:
        console.write(f"ingest: {done}/9 slices\n")
    assert f"{done}/9" in screen.getvalue()
    assert "\r" in screen.getvalue()
