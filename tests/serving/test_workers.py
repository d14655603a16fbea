import pickle

import pytest

from tumorflow.serving import workers
from tumorflow.serving.model import load
from tumorflow.serving.prediction import too_long
from tumorflow.serving.problems import ProblemError
from tumorflow.serving.settings import Limits


def test_a_problem_crosses_to_another_process_whole():
    problem = too_long(Limits()).with_refused([{"file": 1}])
    copied = pickle.loads(pickle.dumps(problem))
    assert (copied.status, copied.rule, copied.detail) == (problem.status, problem.rule, problem.detail)
    assert (copied.retry_after_s, copied.more) == (5, {"refused": [{"file": 1}]})


def test_another_file_in_a_models_place_does_not_answer_for_it(write_model, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_models", {})
    reference = load(write_model(tmp_path / "model.tflite")).reference
    write_model(tmp_path / "model.tflite", model_hash="b2" * 32)
    with pytest.raises(ProblemError, match="stays as it is"):
        workers.take(reference)


def test_a_process_keeps_the_last_two_models(write_model, tmp_path, monkeypatch):
    kept = {}
    monkeypatch.setattr(workers, "_models", kept)
    references = [load(write_model(tmp_path / f"{number}.tflite")).reference for number in range(3)]
    for reference in references:
        workers.take(reference)
    assert list(kept) == references[1:]
