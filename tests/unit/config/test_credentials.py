import pytest

from rbdcsi.config import credentials


@pytest.mark.parametrize("text", ["rbdcsi", "client.rbdcsi", "csi-rbd.node@a", "utilisateur-é"])
def test_a_user_is_named_with_or_without_client(text: str) -> None:
    assert credentials.user(text) == text.removeprefix("client.")


@pytest.mark.parametrize(
    "text", ["", "client.", "a,b", "a b", "a\n", "a\nkeyring=/etc/shadow", "a=b", "[a]"]
)
def test_a_user_that_would_part_a_configuration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a Ceph user; give a name such as"):
        credentials.user(text)
