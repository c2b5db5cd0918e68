"""Telling what happens: logs, and later counters. Knows no use case."""
