"""See it, and step in: what the operator's page, its JSON and `tusd-py uploads` show and do.

`watcher` collects one picture a second while somebody looks; `service` finds, cancels and retries;
`access` knows the token; `web` is the page as it is served. Knows ports, no adapter and no HTTP:
the routes are in `tusd_py.http.operator`.
"""
