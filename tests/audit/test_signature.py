"""Signatures in MLflow's scheme."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumorflow.errors import ParameterError
from tumorflow.review.signature import SIGNATURE, TIMESTAMP, check_secret, sign, verify

SECRET = "0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000


def test_it_is_what_mlflow_would_send():
    from mlflow.webhooks.delivery import _generate_hmac_signature

    headers = sign(SECRET, "7-ab", NOW, b'{"a": 1}')
    assert headers[SIGNATURE] == _generate_hmac_signature(SECRET, "7-ab", str(NOW), '{"a": 1}')
    assert verify(SECRET, {name.lower(): value for name, value in headers.items()}, b'{"a": 1}', NOW)


@pytest.mark.parametrize(("late_s", "taken"), [(300, True), (-300, True), (301, False), (-301, False)])
def test_a_timestamp_is_good_for_five_minutes(late_s, taken):
    assert verify(SECRET, sign(SECRET, "7", NOW, b"body"), b"body", NOW + late_s) is taken


@given(st.binary(max_size=40), st.binary(max_size=40), st.text(max_size=10))
def test_another_body_secret_or_header_is_refused(body, other, text):
    headers = sign(SECRET, "7", NOW, body)
    assert verify(SECRET, headers, other, NOW) is (other == body)
    assert not verify(SECRET + "x", headers, body, NOW)
    assert not verify(SECRET, {}, body, NOW)
    for name in headers:
        changed = headers | {name: text}
        assert verify(SECRET, changed, body, NOW) is (changed == headers)


@pytest.mark.parametrize("timestamp", ["", "now", "-1", "1e9", "²", "9" * 5000])
def test_a_signed_timestamp_that_is_none_is_refused(timestamp):
    from tumorflow.review import signature

    headers = {
        "X-MLflow-Delivery-Id": "7",
        TIMESTAMP: timestamp,
        SIGNATURE: signature._signature(SECRET, "7", timestamp, b"body"),
    }
    assert not verify(SECRET, headers, b"body", NOW)


def test_a_short_secret_is_refused_without_being_told():
    with pytest.raises(ParameterError, match=r"at least 32 characters\. Received: 5") as caught:
        check_secret("quiet")
    assert "quiet" not in str(caught.value)
