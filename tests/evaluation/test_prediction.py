import numpy as np

from tumorflow.evaluation import prediction


def test_patients_get_the_mean_of_their_slices():
    truth, groups = np.array([0, 0, 1]), np.array([0, 0, 1])
    answers = np.array([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9]])
    labels, pooled, left_out = prediction.pool_patients(truth, answers, groups)
    np.testing.assert_array_equal(labels, [0, 1])
    np.testing.assert_allclose(pooled, [[0.6, 0.4], [0.1, 0.9]])
    assert left_out == 0


def test_patients_with_different_labels_are_left_out_and_counted():
    labels, pooled, left_out = prediction.pool_patients(
        np.array([0, 1, 1]), np.full((3, 2), 0.5), np.array([0, 0, 1])
    )
    np.testing.assert_array_equal(labels, [1])
    assert pooled.shape == (1, 2)
    assert left_out == 1


def test_no_patients_are_no_error():
    labels, pooled, left_out = prediction.pool_patients(
        np.empty(0, np.int64), np.empty((0, 2)), np.empty(0, np.int64)
    )
    assert (len(labels), pooled.shape, left_out) == (0, (0, 2), 0)


def test_answers_that_are_no_numbers_become_uniform_and_are_counted():
    settled, count = prediction.settle(np.array([[0.7, 0.3], [np.nan, 0.5], [np.inf, 0.0]]))
    np.testing.assert_array_equal(settled, [[0.7, 0.3], [0.5, 0.5], [0.5, 0.5]])
    assert count == 2


def test_the_test_split_is_in_the_order_of_its_content(inputs):
    test = prediction.select_test(prediction.read_index(inputs["tensors"]))
    assert list(test.table["content_hash"]) == sorted(test.table["content_hash"])
    assert set(test.table["split"]) == {"test"}
    assert test.groups[0] == 0
    assert len(set(zip(test.table["group"], test.groups, strict=True))) == 24


def test_slices_come_in_the_order_of_the_table(inputs):
    import hashlib

    test = prediction.select_test(prediction.read_index(inputs["tensors"]))
    images = prediction.read_slices(inputs["tensors"], test.table)
    assert [hashlib.sha256(image.tobytes()).hexdigest() for image in images] == list(
        test.table["content_hash"]
    )
