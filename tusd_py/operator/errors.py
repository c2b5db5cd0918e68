"""Why the operator's wish is refused. The statuses are in `tusd_py.http.errors` alone.

OperatorError
├── NoSuchUpload        no upload's id begins so
├── AmbiguousRef        several do
├── NoSuchJob           there is no such job
├── NotRetriable        there is nothing to try again
└── TooManyViewers      as many look at the page as one process shows it to
"""


class OperatorError(Exception):
    """Root."""


class NoSuchUpload(OperatorError):
    """No upload's id is, or begins with, what was asked for."""


class AmbiguousRef(OperatorError):
    """More than one upload's id begins so."""


class NoSuchJob(OperatorError):
    """There is no job with this id."""


class NotRetriable(OperatorError):
    """It is running, it is done, or it lacks bytes that only its client has."""


class TooManyViewers(OperatorError):
    """As many look already as one process shows the page to."""
