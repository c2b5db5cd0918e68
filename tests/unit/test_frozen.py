"""Records: equal, hashable, and changed by copy only."""

from dataclasses import fields, replace

import pytest

from tests.support.state import a_part, a_session
from tusd_storage.frozen import changed, maker
from tusd_storage.records import SessionState, UploadSession


def test_a_changed_record_is_the_one_that_replace_makes() -> None:
    session = a_session()
    values = {"offset": 5, "length": 9, "state": SessionState.UPLOADING}
    assert changed(session, **values) == replace(session, **values)  # type: ignore[arg-type]
    assert changed(session) == session
    assert session.offset == 0


def test_a_record_has_no_other_fields() -> None:
    with pytest.raises(KeyError):
        changed(a_part(1), colour="red")


def test_a_record_is_made_of_all_its_values_in_order() -> None:
    session = a_session()
    values = [getattr(session, field.name) for field in fields(UploadSession)]
    assert maker(UploadSession)(values) == session
    with pytest.raises(ValueError, match="unpack"):
        maker(UploadSession)(values[:-1])


def test_equal_records_are_one_in_a_set() -> None:
    assert len({a_part(1), a_part(1), a_part(2)}) == 2
