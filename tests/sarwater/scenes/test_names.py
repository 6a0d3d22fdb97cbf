"""Times and polarisations, as products and their tags write them."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sarwater.scenes.names import polarisation_in, polarisation_stated, sensing_start, time_in

WHEN = "2024-07-16T09:31:12Z"


@pytest.mark.parametrize(
    "text",
    [
        "K5_20240716093112_000000_05213_A_UH28_HH_GTC_B_L1D",
        "K5_20240716_093112_05213_A_UH28_HH",
        "2024-07-16-09-31-12_UMBRA-05_GEC.tif",
        "CAPELLA_C05_SM_GEO_HH_20240716093112_20240716093116.tif",
        "ICEYE_X7_GRD_SM_12345_20240716T093112.tif",
        "RS2_OK12345_PK67890_DK1_F2_20240716_093112_HH_SGF",
        "S1A_IW_GRDH_1SDV_20240716T093112_20240716T093137_054774_06ABCD_1234.SAFE",
        "s1a-iw-grd-vv-20240716t093112-20240716t093137-054774-06abcd-001.tiff",
        "OPERA_L2_RTC-S1_T126-269_20240716T093112Z_20240717T010203Z_S1A_30_v1.0_VV.tif",
        "2024-07-16T09:31:12Z",
        "2024-07-16T09:31:12",
        "2024-07-16 09:31:12 UTC",
        "2024:07:16 09:31:12",
        "2024-07-16T18:31:12+09:00",
        "2024-07-16 18:31:12 KST",
        "20240716T183112+0900",
        "2024-07-16T05:31:12-04:00",
        "16-JUL-2024 09:31:12.250000",
        "2024-07-16T09:31:12.25Z",
        "2024-07-16T18:31:12.25+09:00",
        "99999999_20240231093112_20240716093112",
        "2024-198T09:31:12",
        "2024-198T09:31:12.25Z",
        "2024198T093112",
        "2024:198:09:31:12",
        "X_2024-198T18:31:12+09:00",
    ],
)
def test_a_time_is_read_in_every_spelling(text: str) -> None:
    assert time_in(text) == WHEN


@pytest.mark.parametrize(
    "text",
    [
        "2024-07-16T09:31Z",
        "2024-07-16T09:31",
        "2024-07-16 09:31 UTC",
        "20240716T0931Z",
        "2024-07-16T18:31+09:00",
        "2024-198T09:31Z",
        "16-JUL-2024 09:31",
    ],
)
def test_a_time_without_seconds_is_the_full_minute(text: str) -> None:
    assert time_in(text) == "2024-07-16T09:31:00Z"


@pytest.mark.parametrize(
    "text",
    [
        "2023-366T09:31:00",
        "2024-000T09:31:00",
        "2024-198",
        "2024-07-16T0931123",
        "20240716 0931",
        "2024-07-16T09:61Z",
        "19000101T000000",
        "20990101T000000",
        "20240231T093112",
        "20241316T093112",
        "20240716T256112",
        "20240716",
        "",
        "0" * 14,
    ],
)
def test_impossible_times_are_none(text: str) -> None:
    assert time_in(text) is None


@given(st.datetimes(datetime(1979, 1, 1), datetime(2026, 1, 1)).map(lambda time: time.replace(tzinfo=timezone.utc)))
def test_iso_text_comes_back(when: datetime) -> None:
    whole = when.replace(microsecond=0, tzinfo=None).isoformat() + "Z"
    assert [time_in(text) for text in (when.isoformat(), f"X_{when:%Y%m%dT%H%M%S.%f}")] == [whole, whole]


@pytest.mark.parametrize(
    "key",
    [
        *("TIFFTAG_DATETIME", "PROCESSING_TIME", "processingDate", "CREATION_TIME", "GenerationTime", "PROC_TIME"),
        *("NC_GLOBAL#history", "history", "processing_lineage"),
    ],
)
def test_a_processing_time_is_no_acquisition(key: str) -> None:
    assert sensing_start("scene.tif", {key: "2025-01-01T00:00:00Z"}) is None
    assert sensing_start("scene.tif", {key: "2025-01-01T00:00:00Z", "ACQUISITION_TIME": WHEN}) == WHEN


def test_of_several_times_the_start_is_taken() -> None:
    tags = {"ACQUISITION_END_UTC": "2024-07-16T09:31:20Z", "ACQUISITION_START_UTC": WHEN}
    assert sensing_start("scene.tif", tags) == WHEN
    assert (
        sensing_start("a_20240716T093100.tif", {"last_line_time": "16-JUL-2024 09:31:20", "first_line_time": WHEN})
        == WHEN
    )
    assert sensing_start("a_20240716T093112.tif", {"SCENE_CENTRE_TIME": "2024-07-16T09:31:16Z"}) == WHEN  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("K5_20240716093112_000000_05213_A_UH28_HH_GTC_B_L1D", "hh"),
        ("s1a-iw-grd-vh-20240716t093112", "vh"),
        ("S1A_IW_GRDH_1SSV_20240716T093112", "vv"),
        ("S1A_IW_GRDH_1SSH_20240716T093112", "hh"),
        ("S1A_IW_GRDH_1SDV_20240716T093112", None),
        ("V:V", "vv"),
        ("H/V", "hv"),
        ("RCM1_OK1_PK1_SC_20240716_093112_HH_HV_GRD", None),
        ("Ahhhh", None),
    ],
)
def test_polarisations(text: str, expected: str | None) -> None:
    assert polarisation_in(text) == expected


CAPELLA = {
    "software_version": "2.60.0",
    "processing_time": "2024-07-17T02:00:00Z",
    "product_type": "GEO",
    "collect": {
        "local_datetime": "2024-07-16T18:31:12+0900",
        "start_timestamp": "2024-07-16T09:31:12.250000Z",
        "stop_timestamp": "2024-07-16T09:31:20.250000Z",
        "radar": {
            "transmit_polarization": "V",
            "receive_polarization": "V",
            "time_varying_parameters": [{"start_timestamps": ["2024-07-16T09:31:10Z"], "prf": 5000.0}],
        },
        "state": {"state_vectors": [{"time": "2024-07-16T09:30:00Z"}]},
        "image": {"scale_factor": 0.001, "radiometry": "sigma_nought", "calibration": "full"},
    },
}
ICEYE = {
    "iceye:processing_end_datetime": "2024-07-17T02:00:00.5Z",
    "sar:polarizations": ["VV"],
    "iceye:orbit_states": [{"time": "2024-07-16T09:30:00Z"}],
    "iceye:zero_doppler_end_datetime": "2024-07-16T09:31:20Z",
    "start_datetime": "2024-07-16T09:31:12.250000Z",
    "end_datetime": "2024-07-16T09:31:20Z",
    "iceye:calibration_factor": 1e-6,
}


@pytest.mark.parametrize(
    "tags",
    [
        {"TIFFTAG_IMAGEDESCRIPTION": json.dumps(CAPELLA), "TIFFTAG_DATETIME": "2024:07:17 02:00:00"},
        {"ICEYE_PROPERTIES": json.dumps(ICEYE)},
        {"ICEYE_PROPERTIES": json.dumps(ICEYE).replace('"', "&quot;")},
        {"ACQUISITION_START_UTC": "2024-07-16T09:31:12.25", "POLARIZATION": "VV", "PROC_TIME": "2024-07-17T02:00:00"},
        {"startTimeUTC": "2024-07-16T09:31:12Z", "POLARIZATIONS": "VV"},
        {"first_line_time": "16-JUL-2024 09:31:12.123456", "mds1_tx_rx_polar": "VV"},
        {"ACQUISITION_START_TIME": "2024-07-16T09:31:12Z", "TRANSMIT_POLARIZATION": "V", "RECEIVE_POLARIZATION": "V"},
    ],
)
def test_tags_of_vendors_tell_start_and_polarisation(tags: dict[str, str]) -> None:
    assert sensing_start("scene.tif", tags) == WHEN
    assert polarisation_stated(tags) == "vv"


@pytest.mark.parametrize("text", ["{", '{"a": ' * 5000, "{]}", '{"start_datetime": 5}', '{"start_datetime": null}'])
def test_json_that_is_none_says_nothing(text: str) -> None:
    assert sensing_start("scene.tif", {"ICEYE_PROPERTIES": text}) is None
    assert polarisation_stated({"ICEYE_PROPERTIES": text}) is None


@pytest.mark.parametrize("value", ["16-JUL-2024 09:31:12.250000", "2024-07-16T09:31:12Z"])
def test_the_start_that_snap_states_is_the_sensing_start(value: str) -> None:
    tags = {"PRODUCT_SCENE_RASTER_START_TIME": value, "PRODUCT_SCENE_RASTER_STOP_TIME": "16-JUL-2024 09:31:37.1"}
    assert sensing_start("subset.tif", tags) == WHEN


@pytest.mark.parametrize("key", ["PRODUCTION_TIME", "PRODUCED", "PRODUCT_TIME", "product_generation_start"])
def test_times_of_production_are_no_sensing_start(key: str) -> None:
    assert sensing_start("subset.tif", {key: WHEN}) is None
