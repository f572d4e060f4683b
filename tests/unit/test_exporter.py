"""The exporter: urgent traces first, a sample of the rest when it cannot keep up, counts, and a sink that goes away."""

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from infra.errors import TryAgainError
from infra.otlp import Collector
from infra.records import Records, Trace
from infra.settings import Settings
from models.tracing.exporter import Exporter, is_sampled, open_sink, to_leave_out
from models.tracing.mapping import exported
from models.tracing.process import Metrics, export_until, exporting_alone
from models.tracing.spec import TraceSpec
from tests.otlp_receiver import Receiver

SPEC = TraceSpec(keep_days=1, export_batch=10)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records.open(f"sqlite:///{tmp_path / 'records.sqlite'}")


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def name(number: int) -> str:
    """Trace ids whose first digits are spread evenly: every tenth is in a sample of a tenth."""
    return f"{number * 2654435761 % 2**32:08x}{number:024x}"


def trace(number: int, *, urgent: bool = False, error: str = "") -> Trace:
    return Trace(
        trace_id=name(number),
        created=1.0,
        release="a" * 64,
        arm="production",
        urgent=urgent or bool(error),
        error=error,
    )


def exporter(records: Records, receiver: Receiver, **changed: object) -> Exporter:
    return Exporter(records, Collector(receiver.address), SPEC.model_copy(update=changed))


def test_urgent_traces_go_first_each_kind_in_order(records: Records, receiver: Receiver) -> None:
    records.add_traces([trace(number, urgent=number % 10 == 0) for number in range(40)])
    records.add_feedback(name(33), -1, reason="wrong")
    with receiver.running():
        made = exporter(records, receiver)
        assert made.run() == 40
    urgent = [0, 10, 20, 30, 33]
    assert receiver.traces == [name(number) for number in (*urgent, *(n for n in range(40) if n not in urgent))]
    assert [spans[0].name for spans in receiver.batches].count("feedback") == 1
    assert (made.sent, made.rated, made.refused) == (40, 1, 0)
    state = records.export_state()
    assert (state.urgent, state.ordinary, state.ratings, state.left_out) == (0, 0, 0, 0)


def test_a_rating_that_comes_later_follows_its_trace(records: Records, receiver: Receiver) -> None:
    records.add_traces([trace(1)])
    with receiver.running():
        made = exporter(records, receiver)
        made.run()
        records.add_feedback(name(1), 1)
        assert records.export_state().ratings == 1
        assert made.run() == 0
    assert [len(spans) for spans in receiver.batches] == [1, 1]
    assert records.export_state().ratings == 0


def test_a_sink_that_is_away_for_an_hour_of_traffic_loses_nothing(records: Records, receiver: Receiver) -> None:
    with receiver.running():
        records.add_traces([trace(number) for number in range(5)])
        made = exporter(records, receiver, export_batch=500, most_waiting=10_000, sample=0.0)
        made.run()
    for start in range(5, 10_000, 500):  # as much as the policy lets wait
        records.add_traces([trace(number) for number in range(start, min(start + 500, 10_000))])
        with pytest.raises(TryAgainError):
            made.run()
    assert (made.state().ordinary, made.state().left_out) == (9995, 0)
    with receiver.running():
        made.run()
    assert receiver.traces == [name(number) for number in range(10_000)]


def test_the_process_goes_on_when_the_sink_comes_back(
    records: Records, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.tracing.process.RETRY_S", 0.01)
    monkeypatch.setattr("models.tracing.process.LOOK_S", 0.01)
    with receiver.running():
        pass  # takes a port and leaves it
    stop, metrics = threading.Event(), Metrics()
    made = exporter(records, receiver)
    worker = threading.Thread(target=export_until, args=(stop, made, metrics))
    records.add_traces([trace(number) for number in range(25)])
    worker.start()
    while metrics.registry.get_sample_value("sluice_export_failures_total") == 0:
        stop.wait(0.01)
    with receiver.running():
        while made.state().ordinary:
            stop.wait(0.01)
        stop.set()
        worker.join()
    assert receiver.traces == [name(number) for number in range(25)]
    metrics.show(made)
    assert metrics.registry.get_sample_value("sluice_export_sent") == 25
    assert metrics.registry.get_sample_value("sluice_export_waiting", {"kind": "ordinary"}) == 0


def test_what_cannot_be_kept_up_with_is_sampled_and_counted(records: Records, receiver: Receiver) -> None:
    records.add_traces([trace(number, error="engine: away" if number == 7 else "") for number in range(1000)])
    with receiver.running():
        made = exporter(records, receiver, most_waiting=100, sample=0.1)
        made.run()
        left = records.export_state().left_out
        assert made.sent + left == 1000
        kept = [row for row in records.traces() if row.left_out]
        assert len(kept) == left == pytest.approx(899, abs=10)
        assert not any(is_sampled(row.trace_id, 0.1) for row in kept)
        assert receiver.traces[0] == name(7)
        records.add_feedback(kept[0].trace_id, -1)
        assert made.run() == 1
    assert kept[0].trace_id in receiver.traces
    assert records.export_state().left_out == left - 1


@given(
    ids=some.lists(some.uuids().map(lambda one: one.hex), max_size=50),
    waiting=some.integers(0, 100),
    most=some.integers(0, 100),
    sample=some.floats(0, 1),
)
def test_only_the_excess_outside_the_sample_is_left_out(ids: list[str], waiting: int, most: int, sample: float) -> None:
    spec = SPEC.model_copy(update={"most_waiting": most, "sample": sample})
    left = to_leave_out(ids, waiting, spec)
    assert len(left) <= max(0, waiting - most)
    assert not any(is_sampled(one, sample) for one in left)
    outside = [one for one in ids if not is_sampled(one, sample)]
    assert left == outside[: len(left)]
    assert len(left) == min(len(outside), max(0, waiting - most))
    assert to_leave_out(ids, waiting, SPEC) == []


def test_one_trace_that_the_sink_refuses_holds_nothing_up(records: Records, receiver: Receiver) -> None:
    records.add_traces([trace(number) for number in range(12)])
    receiver.poison = name(3)
    with receiver.running():
        made = exporter(records, receiver)
        assert made.run() == 11
    assert sorted(receiver.traces) == sorted(name(number) for number in range(12) if number != 3)
    assert (made.refused, records.export_state().left_out) == (1, 1)


def test_two_processes_do_not_export_at_once(tmp_path: Path) -> None:
    with exporting_alone(tmp_path) as first, exporting_alone(tmp_path) as second:
        assert (first, second) == (True, False)
    with exporting_alone(tmp_path) as again:
        assert again


def test_the_settings_choose_the_sink(tmp_path: Path) -> None:
    far = Settings(home=tmp_path, otlp_url="http://collector:4318/v1/traces", otlp_headers="authorization=x")
    assert isinstance(sink := open_sink(far), Collector)
    assert sink.address == "http://collector:4318"
    assert "authorization=x" not in repr(far)
    assert sink.__class__ is not open_sink(Settings(home=tmp_path)).__class__


def test_a_trace_says_all_that_it_cost() -> None:
    row = trace(1)
    row.spans = [{"name": "generate", "start_ns": 5, "end_ns": 9, "attributes": {"model": "m"}}]
    row.cost, row.cached_tokens, row.prompt_tokens = 0.25, 3, 7
    sent = exported(row)
    assert sent.root.attributes.items() >= {"sluice.cost": 0.25, "sluice.release": "a" * 64}.items()
    assert sent.root.attributes["gen_ai.usage.cache_read.input_tokens"] == 3
    assert sent.children[0].attributes == {"mlflow.spanType": "LLM", "model": "m"}
    assert (sent.root.start_ns, sent.root.end_ns) == (5, 9)
