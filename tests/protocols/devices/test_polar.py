from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.devices import polar
from protocols.devices.polar import ECG_FRAME
from protocols.errors import DecodeError, DefinitionError

MICROVOLTS = st.lists(st.integers(-(2**23), 2**23 - 1), min_size=1, max_size=80)


@given(st.integers(0, 2**64 - 1), MICROVOLTS)
def test_an_ecg_frame_comes_back_as_it_was_sent(timestamp_ns, ecg):
    values = ECG_FRAME.decode(ECG_FRAME.encode({"timestamp_ns": timestamp_ns, "ecg": np.array(ecg)}))
    assert values["timestamp_ns"] == timestamp_ns
    assert values["ecg"].tolist() == ecg
    assert values["ecg"].dtype == np.int32


def test_73_samples_fill_a_notification_of_the_h10():
    assert len(ECG_FRAME.encode({"timestamp_ns": 0, "ecg": [0] * polar.ECG_SAMPLES_PER_FRAME})) == polar.MTU - 3


@pytest.mark.parametrize("ecg", [[2**23], [-(2**23) - 1], [], [[1]], [float("nan")], ["a"], None])
def test_samples_beyond_24_bits_or_without_shape_are_not_sent(ecg):
    with pytest.raises(DefinitionError, match="ecg"):
        ECG_FRAME.encode({"timestamp_ns": 0, "ecg": ecg})


def test_a_misspelt_value_is_refused():
    with pytest.raises(DefinitionError, match="value 'timestamp' of pmd_ecg"):
        ECG_FRAME.encode({"timestamp_ns": 0, "ecg": [1], "timestamp": 0})


@pytest.mark.parametrize("data", ["", "00", "00" * 10, "00" * 12, "01" + "00" * 12, "00" * 9 + "80" + "00" * 3])
def test_no_samples_half_samples_and_other_frame_types_are_refused(data):
    with pytest.raises(DecodeError, match="pmd_ecg"):
        ECG_FRAME.decode(bytes.fromhex(data))


def test_the_devices_clock_is_moved_from_the_last_to_the_first_sample():
    decoder = polar.polar_h10().new_decoder()
    data = ECG_FRAME.encode({"timestamp_ns": 10**18, "ecg": np.arange(131)})
    (samples,) = decoder.feed(polar.DATA_UUID, data).samples
    assert samples.device_ns == 10**18 - 10**9
    assert samples.values.dtype == np.int32
    assert samples.values.shape == (1, 131)


def test_the_start_command_asks_for_130_hz_at_14_bits():
    assert polar.START_ECG.hex() == "02000001820001010e00"
    assert polar.QUERY_ECG.hex() == "0100"
    assert polar.STOP_ECG.hex() == "0300"
    written = [write.data for write in polar.polar_h10().link.startup]
    assert written == [polar.QUERY_ECG, polar.START_ECG]


def test_a_started_device_answers_with_success_and_a_second_start_is_refused():
    reply = polar.control_reply(polar.START_ECG, streaming=False)
    assert reply.hex() == "f002000000"
    assert polar.ecg_streaming(reply, streaming=False)
    again = polar.control_reply(polar.START_ECG, streaming=True)
    assert again.hex() == "f0020006"
    assert polar.ecg_streaming(again, streaming=True)
    stop = polar.control_reply(polar.STOP_ECG, streaming=True)
    assert not polar.ecg_streaming(stop, streaming=True)


@pytest.mark.parametrize(
    ("request_hex", "options", "meaning"),
    [
        ("02000001820001010e00", {"streaming": True}, "already in state"),
        ("02000001820001010e00", {"streaming": False, "mtu": 23}, "invalid MTU"),
        ("02000001c80001010e00", {"streaming": False}, "invalid sample rate"),
        ("0200000182000101 1000".replace(" ", ""), {"streaming": False}, "invalid resolution"),
        ("0200", {"streaming": False}, "invalid sample rate"),
        ("020000", {"streaming": False}, "invalid parameter"),
        ("0201", {"streaming": False}, "not supported"),
        ("0277", {"streaming": False}, "invalid measurement type"),
        ("0900", {"streaming": False}, "invalid command"),
        ("02", {"streaming": False}, "invalid length"),
        ("", {"streaming": False}, "invalid length"),
        ("0300", {"streaming": False}, "already in state"),
    ],
)
def test_a_refused_command_surfaces_as_an_error_that_names_the_reason(request_hex, options, meaning):
    reply = polar.control_reply(bytes.fromhex(request_hex), **options)
    decoded = polar.polar_h10().new_decoder().feed(polar.CONTROL_UUID, reply)
    (error,) = decoded.errors
    assert meaning in str(error)
    assert polar.ecg_streaming(reply, streaming=options["streaming"]) == options["streaming"]


def test_a_status_that_nobody_has_documented_is_still_an_error():
    decoded = polar.polar_h10().new_decoder().feed(polar.CONTROL_UUID, bytes.fromhex("f002006300"))
    assert "status 99 (unknown status)" in str(decoded.errors[0])


def test_settings_and_features_become_properties():
    decoder = polar.polar_h10().new_decoder()
    offered = polar.control_reply(polar.QUERY_ECG, streaming=False)
    assert offered.hex() == "f0010000000001820001010e00"
    assert decoder.feed(polar.CONTROL_UUID, offered).properties == {"ecg_rates_hz": "130"}
    features = bytes.fromhex("0f05000000000000000000000000000000")
    assert decoder.feed(polar.CONTROL_UUID, features).properties == {"pmd_measurements": "ecg, acc"}


@given(st.dictionaries(st.sampled_from([0, 1, 2, 4]), st.integers(0, 255)))
def test_settings_come_back(settings):
    assert polar.decode_settings(polar.encode_settings(settings)) == {k: [v] for k, v in settings.items()}


@given(st.binary(max_size=20))
def test_arbitrary_requests_get_a_reply_that_can_be_decoded(request_bytes):
    polar.CONTROL_REPLY.decode(polar.control_reply(request_bytes, streaming=False))
