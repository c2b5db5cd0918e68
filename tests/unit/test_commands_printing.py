"""What commands print: names and errors of strangers never steer a terminal."""

import json

import pytest

from tests.support.state import NOW, a_session
from tusd_py.commands import import_tusd, jobs, running, uploads
from tusd_py.importing.takeover import Outcome
from tusd_py.operator import views
from tusd_storage.records import Job, JobState

NASTY = "\x1b]0;owned\x07 a\x9b2J \u202egnp.exe \ud800 ü 日本\x7f"
KEPT = ("ü", "日本", "gnp.exe")


def a_job(error: str, kind: str = "hook:x") -> Job:
    return Job(
        id="job-1",
        kind=kind,
        subject="s",
        payload={},
        state=JobState.DEAD,
        attempts=3,
        run_at=NOW,
        locked_by=None,
        locked_until=None,
        error=error,
        created_at=NOW,
        updated_at=NOW,
    )


def check(told: str, lines: int = 1) -> None:
    assert all(char.isprintable() or char == "\n" for char in told), ascii(told)
    assert told.count("\n") == lines
    assert all(text in told for text in KEPT)


def test_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    jobs._print(a_job(f"HookFailed: {NASTY}"))
    told = capsys.readouterr().out
    check(told)
    assert "HookFailed" in told
    jobs._print(a_job("one\r\ntwo"))
    assert capsys.readouterr().out.endswith("hook:x  one\n")


def test_uploads(capsys: pytest.CaptureFixture[str]) -> None:
    session = a_session(filename=NASTY, owner="\x1b[31m")
    uploads._print_row(uploads._cells(views.upload(session)))
    check(capsys.readouterr().out)


def test_json_stays_json_and_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    value = {NASTY: [NASTY, "two\nlines", "\\x1b", '"']}
    running.print_json(value)
    told = capsys.readouterr().out
    check(told, lines=8)
    assert json.loads(told) == value


def test_complaints_and_what_a_bucket_holds(capsys: pytest.CaptureFixture[str]) -> None:
    running.complain(NASTY)
    check(capsys.readouterr().err)
    running.print_line(import_tusd._line(Outcome(key=NASTY, id=None, code="busy"), apply=True))
    check(capsys.readouterr().out)
