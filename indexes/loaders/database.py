"""Database reader: every row of a named table becomes one document, through SQLAlchemy."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import MetaData, Table, create_engine, inspect, select
from sqlalchemy.engine import URL, Engine, RowMapping, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from indexes.loaders.extracted import fold, humanize, row_line
from indexes.loaders.spec import SqlTable
from infra.errors import InputError, PolicyError
from infra.store import value_digest

_MAGIC = b"SQLite format 3\x00"


class Row(NamedTuple):
    """One row as a document: stable id, title, readable line, digest of its content."""

    id: str
    title: str
    text: str
    digest: str


def source_name(spec: SqlTable) -> str:
    """`registry.sqlite#pump_stations`: the part of the ids that names the table."""
    url = _url(spec)
    name = Path(url.database or "database")
    return f"{name.as_posix() if not name.is_absolute() else name.name}#{spec.table}"


def read_table(spec: SqlTable, root: Path) -> Iterator[Row]:
    """Rows in the order of their key. Names are checked against the schema, so nothing of the spec becomes SQL text.

    Raises: InputError when the database cannot be read; PolicyError when table or columns do not exist.
    """
    engine = _engine(spec, root)
    try:
        table = _table(engine, spec)
        with engine.connect() as connection:
            for row in connection.execute(select(table).order_by(table.c[spec.key])).mappings():
                yield _document(row, spec)
    except SQLAlchemyError as error:
        place = _url(spec).render_as_string(hide_password=True)
        raise InputError(f"{place} cannot be read ({error.__class__.__name__}: {_first_line(error)})") from error
    finally:
        engine.dispose()


def _url(spec: SqlTable) -> URL:
    try:
        return make_url(spec.url)
    except ArgumentError as error:
        raise PolicyError("corpus.sql: url is no SQLAlchemy URL such as sqlite:///registry.sqlite") from error


def _engine(spec: SqlTable, root: Path) -> Engine:
    url = _url(spec)
    try:
        if url.get_backend_name() != "sqlite":
            return create_engine(url)
        path = (root / (url.database or "")).resolve()
        if not path.is_relative_to(root.resolve()):
            raise PolicyError(f"corpus.sql: {url.database} lies outside the documents folder")
        if not path.is_file():
            raise InputError("missing: the policy names it and the documents folder has no such file")
        with path.open("rb") as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                raise InputError("not a SQLite file, or a damaged one: restore it")
        return create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise PolicyError(f"corpus.sql: no driver for {url.drivername} is installed: {error}") from error


def _table(engine: Engine, spec: SqlTable) -> Table:
    schema = inspect(engine)
    names = sorted([*schema.get_table_names(), *schema.get_view_names()])
    if spec.table not in names:
        raise PolicyError(f"corpus.sql: table {spec.table!r} does not exist; there are {', '.join(names) or 'none'}")
    columns = [column["name"] for column in schema.get_columns(spec.table)]
    for name in (spec.key, *spec.title):
        if name not in columns:
            raise PolicyError(f"corpus.sql: {spec.table} has no column {name!r}; it has {', '.join(columns)}")
    return Table(spec.table, MetaData(), autoload_with=engine)


def _document(row: RowMapping, spec: SqlTable) -> Row:
    values = {name: "" if value is None else fold(str(value)) for name, value in row.items()}
    shown = [name for name in values if name != spec.key or not isinstance(row[name], int)]
    label = humanize(spec.table)
    text = row_line([name.replace("_", " ") for name in shown], [values[name] for name in shown], label)
    title = " ".join(values[name] for name in spec.title if values[name])
    identity = f"{source_name(spec)}/{values[spec.key]}"
    return Row(identity, f"{label}: {title}" if title else label, text, value_digest([spec.table, values]))


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
