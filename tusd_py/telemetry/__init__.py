"""Telling what happens: logs, events, metrics, traces. Knows no use case."""
