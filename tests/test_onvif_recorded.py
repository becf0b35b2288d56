"""The recorded replies of a real camera, in a network of their own: found, asked for clock and stream, listened to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from agent.errors import RoomError
from agent.rooms.onvif import clock_offset, identify, stream_address, synchronize
from tests.onvif_cameras import ADDRESS, PASSWORD, USER, PrivateNetwork, private_network, start_recorded
from tests.servers import installed


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateNetwork]:
    with private_network(tmp_path_factory.mktemp("onvif") / "camera.log") as made:
        with installed():
            start_recorded(made)
        yield made


def test_its_stream(network: PrivateNetwork) -> None:
    found = network.run(stream_address(ADDRESS, 80, USER, PASSWORD))
    assert found == f"rtsp://{ADDRESS}/h264main"
    assert network.run(stream_address(ADDRESS, 80, USER, PASSWORD, "jpeg")) == found, "it has one reply"


def test_who_it_is(network: PrivateNetwork) -> None:
    found = network.run(identify(ADDRESS, 80, USER, PASSWORD))
    assert (found.manufacturer, found.model, found.serial) == ("Mockup Manufacturer", "Mockup Model", "00000000")


def test_its_clock_stands_still_in_2014(network: PrivateNetwork) -> None:
    reading = network.run(clock_offset(ADDRESS, 80))
    said = reading.at + timedelta(microseconds=reading.offset_us)
    assert abs(said - datetime(2014, 12, 24, 19, 14, 37, tzinfo=UTC)) < timedelta(seconds=60)
    assert 0 < reading.uncertainty_us < 60e6


def test_a_key_frame_can_t_be_asked_of_it(network: PrivateNetwork) -> None:
    """It has no reply to that, and gives what is no XML instead."""
    with pytest.raises(RoomError, match="no XML"):
        network.run(synchronize(ADDRESS, 80, USER, PASSWORD))
