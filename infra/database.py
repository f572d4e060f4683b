"""The records database: SQLite in WAL mode or PostgreSQL, migrated when opened, safe for many processes."""

import fcntl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
    StatementError,
)
from sqlalchemy.orm import Session, sessionmaker

from infra.errors import InputError, PolicyError, SetupError, SluiceError, TryAgainError
from infra.tables import Base

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
BUSY_TIMEOUT_S = 30
MIGRATION_LOCK = 0x51_1C_E0
"""Key of the PostgreSQL advisory lock under which one process at a time migrates."""


def translated(error: OperationalError, url: URL) -> SluiceError:
    """What a database failure means for the caller: try again, or mend the machine."""
    said = str(error.orig)
    place = url.render_as_string(hide_password=True)
    if "disk is full" in said or "readonly" in said or "unable to open" in said:
        return SetupError(f"records database {place}: {said}; free space or fix the permissions of its folder")
    return TryAgainError(f"records database {place}: {said}")


def parse_url(url: str) -> URL:
    """The address with its driver. Raises PolicyError for anything but SQLite in a file and PostgreSQL."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise PolicyError(f"SLUICE_DATABASE: {url!r} is not an address such as sqlite:///records.sqlite") from error
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
        return parsed
    raise PolicyError(f"SLUICE_DATABASE: {url!r} is not supported; give a SQLite file or a postgresql:// address")


def _on_sqlite_connect(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's BEGIN below is the only one
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    connection.execute("PRAGMA journal_mode = WAL")  # changes the file once, under the migration's lock
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _on_sqlite_begin(connection: Connection) -> None:
    """A writer takes the lock at once: two deferred transactions that both upgrade would fail instead of waiting."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _to_json(value: object) -> str:
    return orjson.dumps(value).decode()


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _migrate_sqlite(engine: Engine, file: Path) -> None:
    lock = _file_lock(file.with_name(file.name + ".lock"))
    with lock, engine.execution_options(writes=True).begin() as connection:
        _upgrade(connection)


def _migrate_postgresql(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        _upgrade(connection)


def open_database(url: str) -> Engine:
    """An engine on the migrated database.

    Raises: PolicyError for an address that is not supported, SetupError for a missing driver or a folder that cannot
    be written, TryAgainError when the server does not answer.
    """
    parsed = parse_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    try:
        engine = create_engine(
            parsed, pool_pre_ping=not sqlite, json_serializer=_to_json, json_deserializer=orjson.loads
        )
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise SetupError(f"no driver for {parsed.drivername}: pip install 'psycopg[binary]'") from error
    try:
        if sqlite:
            event.listen(engine, "connect", _on_sqlite_connect)
            event.listen(engine, "begin", _on_sqlite_begin)
            _migrate_sqlite(engine, Path(str(parsed.database)))
        else:
            _migrate_postgresql(engine)
    except OperationalError as error:
        engine.dispose()
        raise translated(error, parsed) from error
    except OSError as error:
        engine.dispose()
        raise SetupError(f"records database {parsed.database}: {error.strerror}; choose another SLUICE_HOME") from error
    return engine


class Database:
    """Sessions on the database: base of the classes that read and write the records.

    Raises: TryAgainError when the database stays busy or away, SetupError when its disk is full or not writable.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._readers = sessionmaker(engine, expire_on_commit=False)
        self._writers = sessionmaker(engine.execution_options(writes=True), expire_on_commit=False)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    @contextmanager
    def _session(self, maker: sessionmaker[Session]) -> Iterator[Session]:
        try:
            with maker.begin() as session:
                yield session
        except OperationalError as error:
            raise translated(error, self._engine.url) from error
        except (DataError, StatementError) as error:
            if isinstance(error, DBAPIError) and not isinstance(error, DataError):
                raise
            raise InputError(f"the records do not take this value: {str(error.orig)[:300]}") from error

    def _reading(self) -> AbstractContextManager[Session]:
        """One read transaction."""
        return self._session(self._readers)

    def _writing(self) -> AbstractContextManager[Session]:
        """One write transaction, committed when the block ends well."""
        return self._session(self._writers)

    def _insert(self, table: type[Base]) -> sqlite.Insert | postgresql.Insert:
        """INSERT with ON CONFLICT in the database's dialect."""
        return sqlite.insert(table) if self._engine.dialect.name == "sqlite" else postgresql.insert(table)
