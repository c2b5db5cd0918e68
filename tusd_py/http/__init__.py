"""Starlette and ASGI at the rim: requests in, use cases called, answers out. No tus rule here."""
