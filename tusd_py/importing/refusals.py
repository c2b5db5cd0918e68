"""Why an upload is not taken over. `code` is stable, the text is for people."""


class NotTaken(Exception):
    """It stays where it is; nothing was changed."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
