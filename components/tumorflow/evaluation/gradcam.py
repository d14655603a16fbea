"""Grad-CAM: where the model looked (Selvaraju et al. 2017, arXiv 1610.02391).

Explained is the class that the model predicts, by the gradient of its score before the softmax.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tumorflow.explanation import find_feature_map, weigh
from tumorflow.metrics import Floats, Integers

if TYPE_CHECKING:
    import keras


def choose_slices(truth: Integers, probabilities: Floats, groups: Integers, count: int) -> Integers:
    """Returns at most `count` positions: each class in turn, right and wrong, the most certain first.

    No group is shown twice. The choice depends on nothing but its arguments.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    surest_first = np.argsort(-confidence, kind="stable")
    waiting = [
        [int(at) for at in surest_first if truth[at] == label and (predicted[at] == label) == right]
        for right in (True, False)
        for label in range(probabilities.shape[1])
    ]
    chosen: list[int] = []
    shown: set[int] = set()
    while len(chosen) < count and any(waiting):
        for queue in waiting:
            while queue and int(groups[queue[0]]) in shown:
                queue.pop(0)
            if queue and len(chosen) < count:
                chosen.append(queue.pop(0))
                shown.add(int(groups[chosen[-1]]))
    return np.array(chosen, dtype=np.int64)


def explain(model: "keras.Model", images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32] | None:
    """Returns heat maps (n, height, width) float32, 0 to 1, of the predicted class; None where impossible.

    `images` is (n, height, width, 3) uint8. A map is all zero where nothing speaks for the class.
    """
    import keras
    import tensorflow as tf

    feature_map, last = find_feature_map(model), model.layers[-1]
    if feature_map is None or not isinstance(last, keras.layers.Dense) or len(images) == 0:
        return None
    maps = tf.convert_to_tensor(
        keras.Model(model.inputs, feature_map).predict_on_batch(images.astype(np.float32))
    )
    head = keras.Model(feature_map, last.input)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        scores = tf.linalg.matmul(head(maps, training=False), last.kernel) + last.bias
        # slices do not influence each other, so that one sum gives the gradient of each
        predicted = tf.reduce_sum(tf.reduce_max(scores, axis=1))
    gradients = np.asarray(tape.gradient(predicted, maps))
    height, width = images.shape[1:3]
    return np.stack([weigh(*pair, height, width) for pair in zip(np.asarray(maps), gradients, strict=True)])
