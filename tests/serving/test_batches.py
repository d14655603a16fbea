import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ct_files import encode_ct
from service_client import SIZE, draw_body
from waiting import wait_until

from tumorflow.litert import Answer, Classifier
from tumorflow.serving.batches import Batches, Batching, takes_several
from tumorflow.serving.model import load


def slice_of(value):
    return np.full((2, 2, 3), value, np.uint8)


class Slow:
    """Stands for a copy of a model: it answers when it may, with each slice's own value."""

    def __init__(self, may_answer, calls):
        self.may_answer, self.calls = may_answer, calls

    def answer_all(self, slices):
        values = [int(each[0, 0, 0]) for each in slices]
        self.calls.append(values)
        assert self.may_answer.wait(60)
        if 13 in values:
            raise RuntimeError("no answer")
        return [Answer(np.array([float(value)]), None) for value in values]


@pytest.fixture
def ask_all():
    """Returns a function: slices are asked one after the other while the first call is held up."""

    def ask(values, batching):
        may_answer, calls, loaded = threading.Event(), [], []
        batches = Batches(lambda: loaded.append(1) or Slow(may_answer, calls), batching)
        with ThreadPoolExecutor(len(values)) as threads:
            asked = []
            for position, value in enumerate(values, start=1):
                asked.append(threads.submit(batches.answer, slice_of(value)))
                wait_until(lambda position=position: len(batches._waiting) + sum(map(len, calls)) == position)
            may_answer.set()
        return asked, calls, len(loaded)

    return ask


def test_slices_that_wait_are_answered_by_one_call_in_their_order(ask_all):
    asked, calls, loaded = ask_all([1, 2, 3, 4, 5, 6, 7], Batching(calls=1, slices=4))
    assert calls == [[1], [2, 3, 4, 5], [6, 7]]
    assert [each.result().probabilities.tolist() for each in asked] == [[float(n)] for n in range(1, 8)]
    assert loaded == 1


def test_a_slice_that_finds_a_copy_free_does_not_wait_for_others(ask_all):
    _, calls, loaded = ask_all([1, 2, 3], Batching(calls=2, slices=4))
    assert calls == [[1], [2], [3]]
    assert loaded == 2


def test_a_call_that_fails_costs_its_own_slices_and_its_copy_alone(ask_all):
    asked, calls, loaded = ask_all([1, 2, 13, 4, 5], Batching(calls=1, slices=3))
    assert calls == [[1], [2, 13, 4], [5]]
    assert [each.exception() is None for each in asked] == [True, False, False, False, True]
    assert loaded == 2, "the copy may be broken"


@pytest.mark.parametrize(("calls", "slices"), [(1, 1), (1, 5), (3, 4)])
def test_everybody_gets_their_own_answer_whoever_asks_at_the_same_time(calls, slices):
    may_answer = threading.Event()
    may_answer.set()
    batches = Batches(lambda: Slow(may_answer, []), Batching(calls=calls, slices=slices))
    values = [value for value in np.random.default_rng(4).integers(0, 256, 3000).tolist() if value != 13]
    with ThreadPoolExecutor(24) as threads:
        answers = threads.map(
            lambda value: batches.answer(slice_of(value)).probabilities[0], values, timeout=60
        )
        assert list(answers) == values


def test_an_answer_that_is_there_is_not_held_up_by_those_who_ask_on():
    may_answer, calls = threading.Event(), []

    class Quick(Slow):
        def answer_all(self, slices):
            time.sleep(0.005)
            return super().answer_all(slices)

    may_answer.set()
    batches = Batches(lambda: Quick(may_answer, calls), Batching(calls=1, slices=8))
    over, latest = threading.Event(), time.monotonic() + 20

    def ask_on():
        while not over.is_set() and time.monotonic() < latest:
            batches.answer(slice_of(1))

    with ThreadPoolExecutor(12) as threads:
        greedy = [threads.submit(ask_on) for _ in range(8)]
        seen = []
        for _ in range(20):
            before = len(calls)
            batches.answer(slice_of(2))
            seen.append(len(calls) - before)
        over.set()
        for each in greedy:
            each.result()
    # its own call, the one before, and some that were made until this thread ran again
    assert np.median(seen) <= 10
    assert np.mean([len(call) for call in calls[5:-5]]) > 2, "those who wait at a time share a call"


def test_a_copy_that_forgets_a_slice_leaves_nobody_waiting():
    class Forgetful:
        def answer_all(self, slices):
            return []

    with pytest.raises(ValueError, match="shorter"):
        Batches(Forgetful, Batching()).answer(slice_of(1))


@pytest.mark.parametrize("slices", [1, 4])
def test_a_model_ends_with_its_last_request(write_model, tmp_path, slices):
    model = load(write_model(tmp_path / "model.tflite"), batching=Batching(slices=slices))
    model.answer(np.zeros((SIZE, SIZE, 3), np.uint8))
    gone = weakref.ref(model)
    gc.collect()
    gc.freeze()  # as a service does: what only the collector would find stays for good
    try:
        del model
        assert gone() is None
    finally:
        gc.unfreeze()


def convert_network(answer):
    from tumorflow.export.conversion import convert
    from tumorflow.tensorflow_runtime import configure

    keras = configure(seed=9)
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(pixels))
    x = keras.layers.Dense(3, activation="softmax")(answer(keras, x))
    return Classifier(convert(keras.Model(pixels, x), "float32"))


def test_a_model_takes_several_slices_at_once_when_it_says_the_same_of_each():
    assert takes_several(convert_network(lambda keras, x: keras.layers.GlobalAveragePooling2D()(x)))


def test_a_model_whose_graph_holds_a_batch_of_one_does_not(capfd):
    classifier = convert_network(lambda keras, x: keras.ops.reshape(x, (1, 144)))
    capfd.readouterr()
    assert not takes_several(classifier)
    assert capfd.readouterr() == ("", ""), "the runtime's complaint is nobody's trouble"


class Mixing:
    """Stands for a model in which a slice's answer depends on those beside it."""

    input_shape = (2, 2, 3)

    def answer(self, pixels):
        return self.answer_all([pixels])[0]

    def answer_all(self, slices):
        return [Answer(np.array([0.5, 0.5]) + 1e-4 * (len(slices) - 1), None) for _ in slices]


def test_a_model_in_which_slices_change_each_others_answers_does_not():
    assert not takes_several(Mixing())


def test_a_slice_among_others_is_answered_as_alone(write_model, tmp_path):
    model = load(write_model(tmp_path / "model.tflite"), batching=Batching(calls=1, slices=4))
    generator = np.random.default_rng(6)
    slices = [(generator.random((SIZE, SIZE, 3)) * top).astype(np.uint8) for top in range(40, 256, 9)]
    alone = Classifier(model.content)
    with ThreadPoolExecutor(8) as threads:
        for pixels, answer in zip(slices, threads.map(model.answer, slices), strict=True):
            expected = alone.answer(pixels)
            assert answer.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
            assert answer.feature_map == pytest.approx(expected.feature_map, abs=1e-5)


def test_concurrent_requests_get_the_answers_to_their_own_files(serve, write_model, tmp_path):
    client = serve(write_model(tmp_path / "model.tflite"))
    files = [encode_ct(draw_body(brightness)) for brightness in range(-100, 200, 10)]
    alone = [client.predict(file).json["probabilities"] for file in files]
    assert np.ptp([each["malignant"] for each in alone]) > 0.01, "equal answers would test nothing"
    with ThreadPoolExecutor(12) as threads:
        for _ in range(3):
            for one, expected in zip(threads.map(client.predict, files), alone, strict=True):
                assert one.json["probabilities"] == pytest.approx(expected, abs=1e-6)


def test_a_batch_has_a_size_that_threads_can_fill(tmp_path, write_model, capsys):
    from tumorflow.cli import main

    options = ["serve", "--model", str(write_model(tmp_path / "model.tflite"))]
    for more, said in (
        (["--batch", "0"], "--batch is at least 1. Received: 0."),
        (["--batch", "17"], "--batch is at most 16; larger calls are slower. Received: 17."),
        (["--batch", "2", "--worker-processes"], "--batch gathers slices in one process."),
    ):
        assert main([*options, *more]) == 2
        assert said in capsys.readouterr().err
