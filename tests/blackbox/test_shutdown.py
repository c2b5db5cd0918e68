"""SIGTERM while the store does not answer: the request that waits gets an answer, not a crash."""

import json
import threading
from pathlib import Path

from tests.support.engines import Engine
from tests.support.fake_s3 import Hang, fake_s3
from tests.support.process import ServerProcess
from tests.support.tus import Bucket, TusClient
from tests.support.wire import Answer


def test_a_request_cut_off_by_the_shutdown_is_told_to_come_back(
    seaweed: Engine, tmp_path: Path
) -> None:
    prefix = seaweed.prefix()
    with fake_s3(seaweed.endpoint) as store:
        settings = {
            "TUSD_S3_ENDPOINT": store.endpoint,
            "TUSD_S3_PREFIX": prefix,
            "TUSD_SHUTDOWN_TIMEOUT": "1s",
        }
        with ServerProcess(tmp_path, seaweed, extra_env=settings) as server:
            tus = TusClient(server.uploads_url)
            url = tus.create(9)
            store.fail("PutObject", Hang())
            answers: list[Answer] = []
            sending = threading.Thread(
                target=lambda: answers.append(tus.patch(url, 0, b"all of it"))
            )
            sending.start()
            store.wait_for("PutObject")
            server.terminate()
            sending.join(60)
            (answer,) = answers
            assert answer.status == 503, answer
            assert json.loads(answer.body)["code"] == "shutting_down"
            assert "Exception in ASGI" not in server.log()
            server.start()
            offset = tus.offset(url)
            if offset < 9:
                assert tus.patch(url, offset, b"all of it"[offset:]).status == 204
    bucket = Bucket(seaweed, prefix)
    assert bucket.read(url) == b"all of it"
    bucket.close()
