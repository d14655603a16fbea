"""Slices of concurrent requests, answered by one call of the model."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tumorflow.litert import Answer, Classifier
from tumorflow.native_output import STDERR, captured_output
from tumorflow.tensors import Tensor

TOLERANCE = 1e-5
"""Of a probability, between a slice that is answered alone and the same one among others."""


@dataclass(frozen=True)
class Batching:
    """How a model is called."""

    calls: int = 1
    """At a time, each by a copy of the model."""
    slices: int = 1
    """At most, in a call."""


class Answers(Protocol):
    """Who answers slices; not for several threads at once."""

    def answer_all(self, slices: Sequence[Tensor]) -> list[Answer]:
        """Returns what the model says of slices."""


class Batches:
    """Gathers the slices that wait while every copy of a model answers.

    Nobody waits for a batch to fill. There is no thread to end either: whoever asks takes its turn, and
    answers for those who wait, too. As everybody who waits has a turn still to come, nobody is forgotten.
    """

    def __init__(self, load: Callable[[], Answers], batching: Batching) -> None:
        """Begins with no copy of the model.

        Args:
            load: gives one more.
            batching: how many there are, and how much they take.
        """
        self._load = load
        self._slices = batching.slices
        self._turns = threading.Semaphore(batching.calls)
        self._idle: deque[Answers] = deque()
        self._waiting: deque[tuple[Tensor, Future[Answer]]] = deque()
        self._taking = threading.Lock()

    def add(self, classifier: Answers) -> None:
        """Adds a copy that answers from now on."""
        self._idle.append(classifier)

    def answer(self, pixels: Tensor) -> Answer:
        """Returns what the model says of a slice.

        Raises:
            Exception: what the model raised on the slices of a call.
        """
        answer: Future[Answer] = Future()
        self._waiting.append((pixels, answer))
        with self._turns:
            if taken := self._take():
                self._answer([each for each, _ in taken], [each for _, each in taken])
        return answer.result()

    def _take(self) -> list[tuple[Tensor, Future[Answer]]]:
        with self._taking:
            return [self._waiting.popleft() for _ in range(min(self._slices, len(self._waiting)))]

    def _find_idle(self) -> Answers | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _answer(self, slices: Sequence[Tensor], asked: Sequence[Future[Answer]]) -> None:
        try:
            classifier = self._find_idle() or self._load()
            answers = classifier.answer_all(slices)
        except Exception as error:  # noqa: BLE001 - is raised where each is waited for
            for each in asked:
                each.set_exception(error)
            return
        self.add(classifier)
        for each, answer in zip(asked, answers, strict=True):
            each.set_result(answer)


def takes_several(classifier: Classifier) -> bool:
    """Returns whether a model says of two slices at once what it says of each alone; it is used up then.

    Not every one does: its graph may hold the batch of one that it was exported with.
    """
    shape = classifier.input_shape
    rising = np.linspace(0, 255, int(np.prod(shape))).reshape(shape).astype(np.uint8)
    slices = [rising, rising[::-1]]
    alone = [classifier.answer(each) for each in slices]
    with suppress(RuntimeError, ValueError), captured_output(STDERR):
        together = classifier.answer_all(slices)
        return all(
            np.allclose(one.probabilities, other.probabilities, rtol=0, atol=TOLERANCE)
            for one, other in zip(alone, together, strict=True)
        )
    return False
