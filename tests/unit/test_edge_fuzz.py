"""Whatever comes as a range, a JSON body, a unit or a setting: a value, or a known refusal."""

import contextlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tusd_py.http import session_views as views
from tusd_py.http.download import parse_range
from tusd_py.settings import Settings, SettingsError
from tusd_py.settings.sources import load
from tusd_py.units import parse_duration, parse_size

latin1 = st.binary(max_size=60).map(lambda raw: raw.decode("latin-1"))
ranges = st.tuples(st.sampled_from(["", "0", "5", "9" * 19, "9" * 30, "-1", "x"]), latin1).map(
    lambda pair: f"bytes={pair[0]}-{pair[1]}"
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["filename", "size", "profile", "strategy", "parts", "part_numbers", "etag", "x"]
            )
            | st.text(max_size=8),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
MODELS = [
    views.CreateSession,
    views.SignRequest,
    views.SignPartsRequest,
    views.CompleteRequest,
]


@given(ranges | latin1, st.integers(0, 10_000))
@settings(deadline=None, max_examples=300)
def test_ranges(text: str, length: int) -> None:
    found = parse_range(text, length)
    if found is not None:
        assert 0 <= found.first <= length and 0 <= found.size <= length - found.first


@given(st.sampled_from(MODELS), documents.map(json.dumps).map(str.encode) | st.binary(max_size=60))
@settings(deadline=None, max_examples=300)
def test_json_bodies(model: type[views.CreateSession], body: bytes) -> None:
    with contextlib.suppress(ValidationError):
        model.model_validate_json(body)


@given(st.text(max_size=20) | latin1 | st.integers() | st.floats() | st.none())
@settings(deadline=None, max_examples=300)
def test_units(value: object) -> None:
    for parse in (parse_size, parse_duration):
        with contextlib.suppress(ValueError):
            parse(value)


@given(
    st.dictionaries(
        st.sampled_from(sorted(Settings.model_fields)).map(lambda name: f"TUSD_{name.upper()}"),
        st.text(max_size=20).filter(lambda text: "\0" not in text)
        | st.sampled_from(["1", "{}", "a,b", "[", "-1s", "1e999"]),
        max_size=4,
    )
)
@settings(deadline=None, max_examples=150)
def test_settings_from_the_environment(environ: dict[str, str]) -> None:
    with contextlib.suppress(SettingsError):
        load(environ=environ)
