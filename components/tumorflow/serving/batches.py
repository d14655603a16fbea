"""Slices of concurrent requests, answered by one call of the model."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from tumorflow.litert import Answer, Classifier
from tumorflow.native_output import STDERR, captured_output
from tumorflow.tensors import Tensor

TOLERANCE = 1e-5
"""Between a slice that is answered alone and the same one among others."""


@dataclass(frozen=True)
class Batching:
    """How a model is called."""

    calls: int = 1
    """Calls at a time, each of a copy of the model."""
    slices: int = 1
    """At most, in a call."""


ALONE = Batching()


class Answers(Protocol):
    """Who answers slices; not for several threads at once."""

    def answer_all(self, slices: Sequence[Tensor]) -> list[Answer]:
        """Returns what the model says of slices."""


@dataclass(eq=False)
class Asked:
    """A slice, and its answer when there is one."""

    pixels: Tensor
    answer: Future[Answer] = field(default_factory=Future)
    taken: bool = False
    """By a call that is being made."""


class Batches:
    """Gathers the slices that wait while every copy of a model answers; none waits for others to come.

    There is no thread to end: whoever asks makes the call for those who wait, too, unless somebody else does.
    """

    def __init__(self, load: Callable[[], Answers], batching: Batching) -> None:
        """Begins with no copy of the model.

        Args:
            load: gives one more; holds nobody who holds this.
            batching: how many there are, and how much they take.
        """
        self._load = load
        self._slices = batching.slices
        self._free_calls = batching.calls
        self._idle: deque[Answers] = deque()
        self._waiting: deque[Asked] = deque()
        self._changed = threading.Condition()

    def add(self, classifier: Answers) -> None:
        """Adds a copy that answers from now on."""
        self._idle.append(classifier)

    def answer(self, pixels: Tensor) -> Answer:
        """Returns what the model says of a slice.

        Raises:
            Exception: what the model raised on the slices of a call.
        """
        own = Asked(pixels)
        with self._changed:
            self._waiting.append(own)
        while taken := self._take_turn(own):
            try:
                self._call(taken)
            finally:
                with self._changed:
                    self._free_calls += 1
                    self._changed.notify_all()
        return own.answer.result()

    def _take_turn(self, own: Asked) -> list[Asked]:
        """Returns the slices to call the model for; none when a slice has its answer."""
        with self._changed:
            self._changed.wait_for(lambda: own.answer.done() or (self._free_calls and not own.taken))
            if own.answer.done():
                return []
            self._free_calls -= 1
            taken = [self._waiting.popleft() for _ in range(min(self._slices, len(self._waiting)))]
            for each in taken:
                each.taken = True
            return taken

    def _call(self, taken: Sequence[Asked]) -> None:
        try:
            classifier = self._find_idle() or self._load()
            answers = classifier.answer_all([each.pixels for each in taken])
            answered = list(zip(taken, answers, strict=True))
        except Exception as error:  # noqa: BLE001 - is raised where each is waited for
            for each in taken:
                each.answer.set_exception(error)
            return
        self.add(classifier)
        for each, answer in answered:
            each.answer.set_result(answer)

    def _find_idle(self) -> Answers | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None


def takes_several(classifier: Classifier) -> bool:
    """Returns whether a model says of two slices at once what it says of each alone; it is used up then.

    Not every one does: its graph may hold the batch of one that it was exported with.
    """
    shape = classifier.input_shape
    rising = np.linspace(0, 255, int(np.prod(shape))).reshape(shape).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    alone = [classifier.answer(each) for each in (rising, noise)]
    with suppress(RuntimeError, ValueError), captured_output(STDERR):
        together = classifier.answer_all([rising, noise])
        return all(
            np.allclose(given, expected, rtol=TOLERANCE, atol=TOLERANCE)
            for one, other in zip(together, alone, strict=True)
            for given, expected in (
                (one.probabilities, other.probabilities),
                (one.feature_map, other.feature_map),
            )
            if given is not None and expected is not None
        )
    return False
