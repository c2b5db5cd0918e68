"""The same faults for tusd-py and @tus/server, on the same real store, side by side.

make bench-reliability                       prints the table and writes RELIABILITY.md
make bench-reliability ARGS="--only 2b,3"    some of the scenarios, written nowhere
"""

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

from bench.processes import Failed
from bench.reliability.place import Engine, Place, place
from bench.reliability.scenarios import SCENARIOS, Scenario, Verdict
from bench.servers import Missing, Server, servers
from bench.stores import TMPFS
from tests.support.fake_s3 import fake_s3
from tusd_py.demo.engine import EmbeddedS3

OUTPUT = Path(__file__).resolve().parents[1] / "RELIABILITY.md"
PLAYED = ("tusd-py", "node")
FAILED = Verdict("not played")
Results = dict[tuple[str, str], Verdict]


def main() -> int:
    options = parse()
    options.cache.mkdir(parents=True, exist_ok=True)
    rows = [row for row in SCENARIOS if not options.only or row.number in options.only]
    columns, versions, results = [], {}, {}
    for server in (one for one in servers() if one.key in PLAYED):
        try:
            versions[server.title] = server.install(options.cache)
        except Missing as missing:
            print(f"{server.title} is left out: {missing}", file=sys.stderr)
            continue
        columns.append(server)
    folder = Path(tempfile.mkdtemp(prefix="reliability-", dir=options.cache))
    try:
        for server in columns:
            results |= play(server, rows, options.cache, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = page(rows, columns, versions, results)
    print(text)
    if not options.only:
        OUTPUT.write_text(text)
    ours = [results[columns[0].key, row.number] for row in rows]
    return 0 if all(verdict.word == "survived" for verdict in ours) else 1


def play(server: Server, rows: list[Scenario], cache: Path, folder: Path) -> Results:
    """Each scenario on a server of its own: one may leave what disturbs the next."""
    results: Results = {}
    data = Path(tempfile.mkdtemp(prefix="tusd-py-reliability-", dir=TMPFS))
    engine = EmbeddedS3.start(data, bucket="uploads")
    store = Engine(
        engine.endpoint, engine.bucket, engine.access_key, engine.secret_key, engine.region
    )
    try:
        for row in rows:
            where = folder / f"{server.key}-{row.number}"
            started = time.monotonic()
            with fake_s3(store.endpoint) as fake, place(server, cache, where, store, fake) as it:
                verdict = judged(row, it)
            results[server.key, row.number] = verdict
            took = time.monotonic() - started
            told = f"{server.key:8} {row.number:3} {verdict.word}: {verdict.seen} ({took:.0f} s)"
            print(told, file=sys.stderr, flush=True)
    finally:
        engine.stop()
        shutil.rmtree(data, ignore_errors=True)
    return results


def judged(row: Scenario, it: Place) -> Verdict:
    try:
        return row.play(it)
    except (AssertionError, Failed, OSError):
        traceback.print_exc()
        return FAILED


def page(
    rows: list[Scenario], columns: list[Server], versions: dict[str, str], results: Results
) -> str:
    """RELIABILITY.md."""
    lines = [
        "# The same faults, side by side",
        "",
        f"Written by `make bench-reliability` on {datetime.now(UTC):%Y-%m-%d}. Each row is one",
        "fault, played once against a fresh server with a real SeaweedFS behind it and a proxy in",
        "between that fails as told; then a client goes on as clients do (HEAD, then the rest),",
        "and the object is compared with what was sent. The scenarios are those of",
        "`tests/blackbox/test_known_failures.py`, in `bench/reliability/scenarios.py`.",
        "",
        *(f"- {title}: {version}" for title, version in versions.items()),
        "",
        "| | fault | " + " | ".join(server.title for server in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for row in rows:
        verdicts = [results[server.key, row.number] for server in columns]
        cells = [f"**{v.word}**" if v.word != "survived" else v.word for v in verdicts]
        lines.append(f"| {row.number} | {row.title} | " + " | ".join(cells) + " |")
    seen = [
        f"- {row.number}, {server.title}: {results[server.key, row.number].seen}"
        for row in rows
        for server in columns
        if results[server.key, row.number].word != "survived"
    ]
    return "\n".join([*lines, "", *(["What was seen:", "", *seen, ""] if seen else []), NOTES])


NOTES = """\
How to read it:

- *survived*: the file is in the bucket, byte for byte, or (7a, 7b) the client is told that it is
  not. *sent again*: nothing acknowledged is lost, but the client sends bytes again that had
  arrived. Everything else is a file or an upload that is lost or wrong.
- Each server has its defaults, but for parts of 5 MiB; in 6 the store takes 20 parts instead of
  10,000, and both servers are told so (`TUSD_MAX_PARTS`, `maxMultipartParts`). tusd-py gives up
  on a failing store after a second here, to make the run short.
- 1 ends for @tus/server as the parts happen to land. Seen over several runs: a file of the right
  length with the wrong content, one that is longer than what was sent, and no file at all.
- 4 is played with more slow clients than @tus/s3-store uploads parts at once by default
  (`maxConcurrentPartUploads`, 60); 40 did not stop it.
- 10 is played with two processes on one bucket. @tus/server's default locker is in memory and does
  not claim to hold between processes; tusd-py's lease is in its database, which both share.
- In 11 the hook of @tus/server is `onUploadFinish`, which it runs in the request. tusd-py writes a
  job in the transaction of the completion; counted is the job.
"""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-reliability")
    parser.add_argument("--only", type=lambda text: set(text.split(",")), default=set())
    cache = Path.home() / ".cache" / "tusd-py-bench"
    parser.add_argument("--cache", type=Path, default=cache, help="where peers are installed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
