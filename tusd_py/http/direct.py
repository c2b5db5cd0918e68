"""All routes for uploads that go straight to the store."""

from starlette.routing import BaseRoute

from tusd_py.broker.service import Broker
from tusd_py.http import broker as sessions
from tusd_py.http import companion, openapi
from tusd_py.http.auth import Authorize
from tusd_py.http.broker import SessionsApi
from tusd_py.http.companion import Companion
from tusd_py.http.cors import Cors
from tusd_py.http.locations import Locations
from tusd_py.http.openapi import OpenApi
from tusd_py.http.session_guard import BeforeEnd, CheckRoom, SessionGuard
from tusd_storage.ports import ObjectStore

PREFIXES = (sessions.PATH, companion.PATH, openapi.PATH)
"""Paths that are not uploads, whatever the base path of the uploads."""


def routes(
    broker: Broker,
    *,
    objects: ObjectStore,
    companion_profile: str,
    locations: Locations,
    cors: Cors,
    authorize: Authorize | None,
    before_end: BeforeEnd | None = None,
    check_room: CheckRoom | None = None,
) -> list[BaseRoute]:
    """The routes, to be placed beside the application's own."""
    guard = SessionGuard(broker, authorize, before_end, check_room, signed=locations.signs)
    uppy = Companion(broker, guard, objects=objects, profile=companion_profile, cors=cors)
    return [
        *SessionsApi(broker, guard, locations=locations, cors=cors).routes(),
        *uppy.routes(),
        *OpenApi(cors).routes(),
    ]


def is_direct(path: str) -> bool:
    """Whether a path, without the root path, is one of these."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in PREFIXES)
