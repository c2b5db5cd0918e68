"""What can be wrong with a JSON request before anybody looks at its meaning."""


class NotJson(Exception):
    """The body has another media type."""


class InvalidBody(Exception):
    """The body is not JSON, or not of the documented shape."""


class InvalidQuery(Exception):
    """A query parameter is missing or not of the documented shape."""


class BodyTooLarge(Exception):
    """The body is longer than any sensible request."""


class NoSuchPath(Exception):
    """Nothing is served there."""


class Overloaded(Exception):
    """There are too many such requests at the moment."""
