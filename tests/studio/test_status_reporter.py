"""What the engine says of itself reaches the page."""

from contract.records import EngineStatus
from studio.workers.child import StatusReporter
from tests.support.fakes import FakeEngine


class Offering(FakeEngine):
    def describe(self) -> EngineStatus:
        return super().describe().model_copy(update={"offer": "It could be faster."})


def test_an_offer_is_reported_with_every_state() -> None:
    seen: list[EngineStatus] = []
    reporter, engine = StatusReporter(seen.append), Offering({})
    reporter.started(engine)
    reporter.idle(engine)
    reporter.set("working", "Working")
    assert [status.offer for status in seen[-2:]] == ["It could be faster."] * 2
