"""The endpoints that Uppy's S3 plugin expects of a Companion server, below `/s3`.

`new Uppy().use(AwsS3, { companionEndpoint: "https://…" })` (@uppy/aws-s3 6), or `{ endpoint }` (up
to 5), then needs no Node server. Shapes as in transloadit/uppy, @uppy/aws-s3 `CompanionS3.ts` and
Companion's `controllers/s3.ts`. `uploadId` is the session's id: the plugin hands it back unread.

One thing is added, because nothing else would tell the broker that a small file has arrived:
`POST /s3/complete?key=…`, for the application's `upload-success` handler. Without it a sweep finds
the file when the session's time is over.
"""

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from tusd_py.broker.errors import SessionNotFound, UploadUnsupported
from tusd_py.broker.parts import MAX_PART_NUMBER, PartName
from tusd_py.broker.service import Broker
from tusd_py.http.auth import Action, Grant
from tusd_py.http.cors import Cors
from tusd_py.http.json_errors import InvalidQuery
from tusd_py.http.resource import Resource, read_json
from tusd_py.http.session_guard import SessionGuard
from tusd_py.protocol.metadata import is_media_type
from tusd_storage.ports import ObjectStore
from tusd_storage.records import UploadSession

PATH = "/s3"
MAX_NAME_LENGTH = 1024
MAX_BATCH = 1_000


class _Create(BaseModel):
    """POST /s3/multipart"""

    model_config = ConfigDict(extra="ignore")

    filename: str = Field(min_length=1, max_length=MAX_NAME_LENGTH)
    type: str | None = None
    # `metadata` is not kept: S3 would hand it out to whoever may read the object.


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")

    number: int = Field(alias="PartNumber")
    etag: str = Field(alias="ETag", max_length=256)


class _Complete(BaseModel):
    """POST /s3/multipart/{uploadId}/complete"""

    model_config = ConfigDict(extra="ignore")

    parts: list[_Part] = Field(max_length=MAX_PART_NUMBER + 1)


class Companion:
    """The handlers; all sessions are of one profile."""

    def __init__(
        self,
        broker: Broker,
        guard: SessionGuard,
        *,
        objects: ObjectStore,
        profile: str,
        cors: Cors,
    ) -> None:
        self._broker = broker
        self._guard = guard
        self._objects = objects
        self._profile = profile
        self._cors = cors

    def routes(self) -> list[BaseRoute]:
        """In the order in which they must be tried."""
        one = PATH + "/multipart/{upload_id}"
        table = {
            PATH + "/params": {"GET": self.params},
            PATH + "/complete": {"POST": self.complete_form},
            PATH + "/sts": {"GET": self.credentials},
            PATH + "/multipart": {"POST": self.create},
            one: {"GET": self.list_parts, "DELETE": self.abort},
            one + "/batch": {"GET": self.sign_batch},
            one + "/complete": {"POST": self.complete},
            one + "/{part_number}": {"GET": self.sign_part},
        }
        return [Route(path, Resource(handlers, self._cors)) for path, handlers in table.items()]

    async def params(self, request: Request) -> Response:
        """GET /s3/params: a form for a file that is sent in one piece."""
        grant = await self._may_create(request)
        session = await self._broker.initiate_session(
            self._profile,
            filename=_query(request, "filename"),
            content_type=_media_type(request.query_params.get("type")),
            owner=grant.owner,
            max_size=grant.max_size,
        )
        form = await self._broker.sign_form(session.id)
        return JSONResponse(
            {
                "method": "POST",
                "url": form.url,
                "fields": form.fields,
                "expires": form.expires_in_s,
                "sessionId": session.id,
            }
        )

    async def complete_form(self, request: Request) -> Response:
        """POST /s3/complete?key=…: the file of a form has arrived."""
        bucket = self._broker.profiles.bucket(self._profile)
        key = _query(request, "key")
        session = await self._broker.find_by_key(bucket, key) if key.isprintable() else None
        if session is None:
            raise SessionNotFound("there is no such session")
        await self._guard.check(request, session, Action.WRITE)
        done = (await self._broker.verify_completion(session.id)).session
        return await self._finished(done)

    async def credentials(self, request: Request) -> Response:
        """GET /s3/sts: not from here; every request is signed for one object instead."""
        raise UploadUnsupported("this server gives out no temporary credentials")

    async def create(self, request: Request) -> Response:
        """POST /s3/multipart"""
        grant = await self._may_create(request)
        wish = await read_json(request, _Create)
        made = await self._broker.initiate_multipart_session(
            self._profile,
            filename=wish.filename,
            content_type=_media_type(wish.type),
            owner=grant.owner,
            max_size=grant.max_size,
        )
        return JSONResponse(
            {
                "key": made.upload_key,
                "uploadId": made.session.id,
                "bucket": made.session.bucket,
            }
        )

    async def list_parts(self, request: Request) -> Response:
        """GET /s3/multipart/{uploadId}"""
        session = await self._find(request, Action.READ)
        parts = await self._broker.list_multipart_parts(session.id)
        return JSONResponse(
            [{"PartNumber": part.number, "Size": part.size, "ETag": part.etag} for part in parts]
        )

    async def sign_part(self, request: Request) -> Response:
        """GET /s3/multipart/{uploadId}/{partNumber}"""
        session = await self._find(request, Action.WRITE)
        number = _number(request.path_params["part_number"])
        signed = await self._broker.sign_multipart_part(session.id, number)
        return JSONResponse({"url": signed.presigned.url, "expires": signed.expires_in_s})

    async def sign_batch(self, request: Request) -> Response:
        """GET /s3/multipart/{uploadId}/batch?partNumbers=1,2,3"""
        session = await self._find(request, Action.WRITE)
        numbers = [_number(text) for text in _query(request, "partNumbers").split(",")]
        if len(numbers) > MAX_BATCH:
            raise InvalidQuery(f"partNumbers: more than {MAX_BATCH}")
        signed = [
            await self._broker.sign_multipart_part(session.id, number)
            for number in dict.fromkeys(numbers)
        ]
        return JSONResponse(
            {"presignedUrls": {str(part.part_number): part.presigned.url for part in signed}}
        )

    async def complete(self, request: Request) -> Response:
        """POST /s3/multipart/{uploadId}/complete"""
        session = await self._find(request, Action.WRITE)
        wish = await read_json(request, _Complete)
        names = [PartName(part.number, part.etag) for part in wish.parts]
        done = await self._broker.complete_multipart_upload(session.id, names)
        return await self._finished(done.session)

    async def abort(self, request: Request) -> Response:
        """DELETE /s3/multipart/{uploadId}"""
        session = await self._find(request, Action.TERMINATE)
        await self._guard.may_end(session)
        await self._broker.cancel_session(session.id)
        return JSONResponse({})

    async def _may_create(self, request: Request) -> Grant:
        self._guard.refuse_signed(request)
        grant = await self._guard.may_create(request)
        self._guard.check_profile(grant, self._profile)
        return grant

    async def _find(self, request: Request, action: Action) -> UploadSession:
        """By its id; the key must be its own."""
        session = await self._guard.find(request, request.path_params["upload_id"], action)
        if session.object_key != _query(request, "key"):
            raise SessionNotFound("there is no such session")
        return session

    async def _finished(self, session: UploadSession) -> Response:
        signed = await self._objects.presign_get(session.bucket, session.object_key, expires_in_s=1)
        return JSONResponse(
            {
                # The plain address: it opens nothing that the bucket does not let everybody read.
                "location": signed.partition("?")[0],
                "bucket": session.bucket,
                "key": session.object_key,
            }
        )


def _query(request: Request, name: str) -> str:
    """Raises: InvalidQuery."""
    value = request.query_params.get(name, "")
    if not value or len(value) > 10 * MAX_NAME_LENGTH:
        raise InvalidQuery(f"{name} must be given, and not be too long")
    return value[:MAX_NAME_LENGTH] if name == "filename" else value


def _number(text: str) -> int:
    """Raises: InvalidQuery."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 5):
        raise InvalidQuery("part numbers are 1 to 10000")
    return int(text)


def _media_type(text: str | None) -> str | None:
    """What browsers do not know they call nothing, or `undefined`."""
    return text if text and is_media_type(text) else None
