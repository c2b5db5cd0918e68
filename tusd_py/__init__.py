"""tusd-py: the tus 1.0.0 resumable-upload protocol in front of S3."""

__version__ = "0.1.0"
