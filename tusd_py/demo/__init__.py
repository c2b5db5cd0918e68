"""What a newcomer sees: the page, the embedded S3 engine, and `tusd-py dev` that joins them."""
