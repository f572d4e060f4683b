"""A real PostgreSQL goes away under the gateway and comes back: it serves, holds the traces, catches up."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from infra.records import Records
from tests.contract.conftest import POSTGRESQL
from tests.live_gateway import QUESTION, RELEASE, USER, in_process, make_app, until_ready


@contextmanager
def gone(url: str) -> Iterator[None]:
    """The server ends every connection to this database and takes none."""
    name = make_url(url).database
    admin = create_engine(POSTGRESQL, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        ended = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
        connection.execute(ended, {"name": name})
        try:
            yield
        finally:
            connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    admin.dispose()


async def test_answers_go_on_while_postgresql_is_away_and_no_trace_is_missing(postgresql_url: str) -> None:
    records = Records.open(postgresql_url)
    records.add_key("user-key", "user", "user", ["public"])
    records.place(RELEASE, "http://127.0.0.1:1", "m")
    records.promote(RELEASE, None)
    async with in_process(make_app(records)) as client:
        await until_ready(client)
        before = await client.post("/v1/answers", json=QUESTION, headers=USER)
        rating = {"trace_id": before.json()["trace_id"], "rating": 1}
        with gone(postgresql_url):
            during = [await client.post("/v1/answers", json=QUESTION, headers=USER) for _ in range(5)]
            refused = await client.post("/v1/feedback", json=rating, headers=USER)
            assert (await client.get("/health")).status_code == 200
        after = await client.post("/v1/answers", json=QUESTION, headers=USER)
        async with asyncio.timeout(60):
            while (rated := await client.post("/v1/feedback", json=rating, headers=USER)).status_code == 503:
                assert int(rated.headers["retry-after"]) == 1  # the answer's trace is still on its way
                await asyncio.sleep(0.05)
        unknown = await client.post("/v1/feedback", json={"trace_id": "f" * 32, "rating": 1}, headers=USER)
    assert [reply.status_code for reply in (before, *during, after, rated)] == [200] * 8
    assert unknown.status_code == 404
    assert (refused.status_code, refused.json()["error"]["code"]) in (
        (503, "unavailable"),
        (503, "records_unavailable"),
    )
    answered = [reply.json()["trace_id"] for reply in (before, *during, after)]
    assert [row.trace_id for row in records.traces()] == answered
    records.close()
