"""Uploads that go from the client straight to the store: sessions, signatures, verification.

`Broker` is the door; see `service`. It knows ports, no adapter and no HTTP.
"""
