"""What a repr of a destination shows."""

from relay.config import DestinationConfig


def test_destination_shows_no_url_in_its_repr() -> None:
    made = DestinationConfig(
        name="up", endpoint="https://u:hunter2@h/?key=hunter2", proxy="http://u:hunter2@proxy"
    )

    assert "hunter2" not in repr(made)
