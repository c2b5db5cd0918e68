"""tusd-py: the tus 1.0.0 resumable-upload protocol in front of S3."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tusd_py.app import create_app

__version__ = "0.1.0"
__all__ = ["__version__", "create_app"]


def __getattr__(name: str) -> Any:
    """`create_app` is imported when first asked for: the version must not cost the whole server."""
    if name == "create_app":
        from tusd_py.app import create_app

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
