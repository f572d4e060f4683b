"""The tables of the records database, as typed SQLAlchemy rows; a row read outside its session is a plain value."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Float, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

ALIASES = ("production", "previous", "candidate", "canary")
ROLES = ("user", "operator")
RUNNING = "RUNNING"
ENDED = ("PROMOTED", "HELD", "ROLLED_BACK", "INCONCLUSIVE")
ARMS = ("production", "baseline", "canary")

Count = BigInteger().with_variant(Integer, "sqlite")
Digest = String(64)


class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
    """Base of every table. Times are seconds since the epoch (UTC)."""


class Pointer(Base):
    """An alias and the release it names; `release` None after the alias was cleared."""

    __tablename__ = "pointers"
    alias: Mapped[str] = mapped_column(String(32), primary_key=True)
    release: Mapped[str | None] = mapped_column(Digest)
    updated: Mapped[float] = mapped_column(Float)


class PointerMove(Base):
    """One move of an alias: from what, to what, when and why."""

    __tablename__ = "pointer_history"
    __table_args__ = ({"sqlite_autoincrement": True},)
    id: Mapped[int] = mapped_column(Count, primary_key=True, init=False)
    alias: Mapped[str] = mapped_column(String(32))
    old: Mapped[str | None] = mapped_column(Digest)
    new: Mapped[str | None] = mapped_column(Digest)
    reason: Mapped[str] = mapped_column(Text)
    at: Mapped[float] = mapped_column(Float)


class ReleaseRecord(Base):
    """A registered release: its whole bundle as JSON, the gate report behind it and where it stands."""

    __tablename__ = "releases"
    digest: Mapped[str] = mapped_column(Digest, primary_key=True)
    release: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[float] = mapped_column(Float)
    gate_report: Mapped[str] = mapped_column(Digest, default="")
    state: Mapped[str] = mapped_column(String(32), default="REGISTERED")


class Placement(Base):
    """The engine that serves a release: OpenAI base address and the model name to ask for.

    `pools` are all of its engines, in the fields of `models.serving.pools.Place`, where there are more than that one.
    """

    __tablename__ = "placements"
    release: Mapped[str] = mapped_column(Digest, primary_key=True)
    base_url: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    updated: Mapped[float] = mapped_column(Float)
    pools: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default_factory=list)


class Rollout(Base):
    """A canary: `share` of traffic goes to each of the baseline and canary arm while the state is RUNNING."""

    __tablename__ = "rollouts"
    __table_args__ = (
        Index(
            "one_running_rollout",
            "state",
            unique=True,
            sqlite_where=text("state = 'RUNNING'"),
            postgresql_where=text("state = 'RUNNING'"),
        ),
    )
    id: Mapped[str] = mapped_column(Digest, primary_key=True)
    baseline: Mapped[str] = mapped_column(Digest)
    canary: Mapped[str] = mapped_column(Digest)
    policy: Mapped[str] = mapped_column(Digest)
    share: Mapped[float] = mapped_column(Float)
    step: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str] = mapped_column(Text)
    started: Mapped[float] = mapped_column(Float)
    updated: Mapped[float] = mapped_column(Float)


class Trace(Base):
    """One answered request, redacted before it comes here. `seq` is the order of arrival.

    `request_key` with `release` is unique: a repeated request is kept once. `unsafe` is set when an output guard
    had to block the answer. Passages are (number, document, chunk, title, text) as shown to the model. `caller` is the
    beginning of the key's digest, `path` is answers, chat or embeddings, `cost` is in the currency of the policy,
    `engine` is the pool and model that wrote the answer, `cache` is exact or semantic for one taken from the cache,
    `tools` are the calls that were made or refused. `finish_reason` is content_filter where a guard stopped the
    request, error where the answer broke off. `body_digest` tells whether a caller's idempotency key came again
    with the same request. `urgent` traces are exported first: errors, guard events, canary traffic and what was rated.
    `left_out` are those that the export passed over because it could not keep up.
    """

    __tablename__ = "traces"
    __table_args__ = (
        UniqueConstraint("request_key", "release", name="one_answer_a_request"),
        Index("traces_created", "created"),
        Index("traces_rollout", "rollout", "seq"),
        Index("traces_exported", "exported", "urgent", "seq"),
        Index("traces_left_out", "seq", sqlite_where=text("left_out IS 1"), postgresql_where=text("left_out IS true")),
        Index("traces_caller", "caller", "created"),
        {"sqlite_autoincrement": True},
    )
    seq: Mapped[int] = mapped_column(Count, primary_key=True, init=False)
    trace_id: Mapped[str] = mapped_column(String(32), unique=True)
    created: Mapped[float] = mapped_column(Float)
    release: Mapped[str] = mapped_column(Digest)
    arm: Mapped[str] = mapped_column(String(16))
    rollout: Mapped[str] = mapped_column(String(64), default="")
    session: Mapped[str] = mapped_column(Digest, default="")
    request_key: Mapped[str | None] = mapped_column(String(128), default=None)
    question: Mapped[str] = mapped_column(Text, default="")
    answer: Mapped[str] = mapped_column(Text, default="")
    refused: Mapped[bool] = mapped_column(default=False)
    unsafe: Mapped[bool] = mapped_column(default=False)
    latency_ms: Mapped[float] = mapped_column(Float, default=0.0)
    prompt_tokens: Mapped[int] = mapped_column(Integer, default=0)
    completion_tokens: Mapped[int] = mapped_column(Integer, default=0)
    cached_tokens: Mapped[int] = mapped_column(Integer, default=0)
    error: Mapped[str] = mapped_column(Text, default="")
    guards: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default_factory=list)
    spans: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default_factory=list)
    passages: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default_factory=list)
    citations: Mapped[list[int]] = mapped_column(JSON, default_factory=list)
    retrieved: Mapped[list[str]] = mapped_column(JSON, default_factory=list)
    exported: Mapped[bool] = mapped_column(default=False)
    tenant: Mapped[str] = mapped_column(String(64), default="default")
    caller: Mapped[str] = mapped_column(String(16), default="")
    path: Mapped[str] = mapped_column(String(16), default="answers")
    cost: Mapped[float] = mapped_column(Float, default=0.0)
    engine: Mapped[str] = mapped_column(String(128), default="")
    cache: Mapped[str] = mapped_column(String(16), default="")
    tools: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default_factory=list)
    finish_reason: Mapped[str] = mapped_column(String(16), default="stop")
    urgent: Mapped[bool] = mapped_column(default=False)
    left_out: Mapped[bool] = mapped_column(default=False)
    body_digest: Mapped[str] = mapped_column(Digest, default="")


class Feedback(Base):
    """A rating of one answer: -1 or 1, perhaps with a correction. `simulated` marks a user that is a program."""

    __tablename__ = "feedback"
    __table_args__ = (
        Index("feedback_trace", "trace_id"),
        Index("feedback_exported", "exported", "id"),
        {"sqlite_autoincrement": True},
    )
    id: Mapped[int] = mapped_column(Count, primary_key=True, init=False)
    trace_id: Mapped[str] = mapped_column(String(32))
    created: Mapped[float] = mapped_column(Float)
    rating: Mapped[int] = mapped_column(Integer)
    correction: Mapped[str] = mapped_column(Text, default="")
    reason: Mapped[str] = mapped_column(Text, default="")
    simulated: Mapped[bool] = mapped_column(default=False)
    exported: Mapped[bool] = mapped_column(default=False)


class ApiKey(Base):
    """A caller's key: only its sha256 is kept. `access` are the labels of the documents the caller may see.

    Traces, feedback and cached answers of one tenant are out of reach of every other. `limits` are what this key may
    use, in the fields of `models.serving.limits.Limits`; what is left out holds as the policy says.
    """

    __tablename__ = "api_keys"
    digest: Mapped[str] = mapped_column(Digest, primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    role: Mapped[str] = mapped_column(String(16))
    access: Mapped[list[str]] = mapped_column(JSON)
    created: Mapped[float] = mapped_column(Float)
    tenant: Mapped[str] = mapped_column(String(64), default="default")
    limits: Mapped[dict[str, Any]] = mapped_column(JSON, default_factory=dict)


class AddedCase(Base):
    """A case made from production: a confirmed failure or a correction."""

    __tablename__ = "cases_added"
    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    trace_id: Mapped[str] = mapped_column(String(32))
    case: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[float] = mapped_column(Float)
    reason: Mapped[str] = mapped_column(Text, default="")


class Proposal(Base):
    """A tool call that a caller was asked to confirm. `key` is the digest of the id that confirms it.

    `result` is what the call said once it was made; an empty one waits until `expires`.
    """

    __tablename__ = "proposals"
    key: Mapped[str] = mapped_column(Digest, primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))
    caller: Mapped[str] = mapped_column(Digest)
    tool: Mapped[str] = mapped_column(String(64))
    arguments: Mapped[dict[str, Any]] = mapped_column(JSON)
    expires: Mapped[float] = mapped_column(Float)
    result: Mapped[str] = mapped_column(Text, default="")


class Ticket(Base):
    """A ticket that a user opened. `key` is the proposal it comes from: one ticket each."""

    __tablename__ = "tickets"
    __table_args__ = ({"sqlite_autoincrement": True},)
    number: Mapped[int] = mapped_column(Count, primary_key=True, init=False)
    key: Mapped[str] = mapped_column(Digest, unique=True)
    tenant: Mapped[str] = mapped_column(String(64))
    caller: Mapped[str] = mapped_column(Digest)
    subject: Mapped[str] = mapped_column(Text)
    created: Mapped[float] = mapped_column(Float)
