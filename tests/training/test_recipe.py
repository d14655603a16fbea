import numpy as np

from tumorflow.params import TrainParams
from tumorflow.training.batches import Source
from tumorflow.training.recipe import teach
from tumorflow.training.splits import read_tensors

CLASSES = ("normal", "benign", "malignant")


def rows_of(batches):
    return sorted(int(row) for rows, _ in batches for row in rows)


def make_source(data, views):
    """Batches that are the rows themselves."""
    labels = np.concatenate([data.training.labels, data.validation.labels])
    return Source(labels, views, lambda rows, epoch: iter([(rows, labels[rows % len(labels)])]))


def test_training_never_sees_a_validation_slice_in_any_view(tensors):
    data = read_tensors(tensors, CLASSES)  # 18 training slices, then 9 of validation
    lesson = teach(make_source(data, views=2), data, TrainParams())
    assert rows_of(lesson.training(1)) == [*range(18), *range(27, 45)]
    assert rows_of(lesson.validation()) == list(range(18, 27))


def test_a_refit_sees_both_and_no_test_slice(tensors):
    data = read_tensors(tensors, CLASSES)
    lesson = teach(make_source(data, views=2), data, TrainParams(), everything=True)
    assert rows_of(lesson.training(1)) == list(range(54))


def test_oversampling_repeats_training_rows_alone(tensors):
    data = read_tensors(tensors, CLASSES)
    lesson = teach(make_source(data, views=1), data, TrainParams(imbalance="oversampling"))
    assert set(rows_of(lesson.training(1))) == set(range(18))
    assert rows_of(lesson.validation()) == list(range(18, 27))
    assert lesson.class_weights.tolist() == [1, 1, 1]


def test_epochs_are_shuffled_anew_and_repeatable(tensors):
    data = read_tensors(tensors, CLASSES)
    lesson = teach(make_source(data, views=1), data, TrainParams())
    first, again, second = (next(lesson.training(epoch))[0].tolist() for epoch in (1, 1, 2))
    assert first == again != second
