"""tus 1.0.0 as pure functions. Standard library only: no I/O, no clock, no framework.

Section names in the docstrings are those of the protocol text
(https://tus.io/protocols/resumable-upload, version 1.0.0).
"""
