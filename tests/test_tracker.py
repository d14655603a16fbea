import pytest

from tumorflow.errors import ParameterError
from tumorflow.tracker import RegisteredVersion, split_reference


@pytest.mark.parametrize("reference", ["", "tiny", "tiny/", "/3", "tiny/three", "a/b/3", "tiny/3 "])
def test_a_version_reads_name_and_number(reference):
    with pytest.raises(ParameterError, match=r"NAME/VERSION\. Received"):
        split_reference(reference)


def test_a_reference_can_be_split_again():
    version = RegisteredVersion("lung CT", "12")
    assert version.reference == "lung CT/12"
    assert split_reference(version.reference) == ("lung CT", "12")
