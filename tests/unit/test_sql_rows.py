"""Records survive the way to a row and back."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given, settings
from hypothesis import strategies as st

from tusd_storage.records import Job, JobState, UploadSession
from tusd_storage.sql.rows import JOB, SESSION, Mapper, micros, moment

times = st.datetimes(
    min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(time=times)
def test_times_keep_their_microseconds(time: datetime) -> None:
    assert moment(micros(time)) == time
    elsewhere = time.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert micros(elsewhere) == micros(time)


@given(
    session=st.builds(
        UploadSession,
        lease_until=st.none() | times,
        created_at=times,
        updated_at=times,
        expires_at=st.none() | times,
        completed_at=st.none() | times,
        deleted_at=st.none() | times,
    )
)
@settings(max_examples=30, deadline=None)
def test_sessions_survive(session: UploadSession) -> None:
    params = SESSION.params(session)
    assert list(params) == list(SESSION.columns)
    assert all(value is None or isinstance(value, (int, str)) for value in params.values())
    assert SESSION.read(list(params.values())) == session


@given(
    job=st.builds(
        Job,
        payload=st.dictionaries(st.text(), json_values, max_size=4),
        state=st.sampled_from(JobState),
        run_at=times,
        locked_until=st.none() | times,
        created_at=times,
        updated_at=times,
    )
)
@settings(max_examples=30, deadline=None)
def test_jobs_survive(job: Job) -> None:
    mapper: Mapper[Job] = JOB
    assert mapper.read(list(mapper.params(job).values())) == job
