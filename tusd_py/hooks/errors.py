"""How hooks end a request.

HookError
├── HookFailed               it could not be asked, or its answer is not one
└── HookRefusal              it said no; the answer is its own
    ├── UploadRejected       `pre-create`
    ├── TerminationRejected  `pre-terminate`
    └── UploadStopped        `post-receive`; the upload has been terminated
"""

from tusd_py.hooks.events import HttpResponse


class HookError(Exception):
    """Root of what hooks do to a request."""


class HookFailed(HookError):
    """The reason is for the log: it may speak of the application's own machines."""


class HookRefusal(HookError):
    """The hook's decision, with the answer it wants the client to get."""

    what = "the application refused it"

    def __init__(self, answer: HttpResponse) -> None:
        super().__init__(self.what)
        self.answer = answer


class UploadRejected(HookRefusal):
    """tusd: `ERR_UPLOAD_REJECTED`."""

    what = "the application refused this upload"


class TerminationRejected(HookRefusal):
    """tusd: `ERR_UPLOAD_TERMINATION_REJECTED`."""

    what = "the application keeps this upload"


class UploadStopped(HookRefusal):
    """tusd: `ERR_UPLOAD_STOPPED`."""

    what = "the application stopped this upload"
