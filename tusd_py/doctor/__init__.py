"""Finds out what is wrong before users do. Each module looks at one thing; `examine` runs them all.

Knows ports, no adapter. Leaves nothing behind but what it could not delete, and says so.
"""
