"""The tus use cases: create, append, finish, terminate, concatenate. Knows ports, no adapter."""
