"""One request that is sent twice begins one job."""

import threading
from concurrent.futures import ThreadPoolExecutor

from contract.records import JobHandle
from studio.jobs.idempotency import MOST_KEYS, Once


def test_the_same_key_of_the_same_owner_begins_one_job() -> None:
    once, begun = Once(), []

    def begin() -> JobHandle:
        begun.append(1)
        return JobHandle(id=f"job-{len(begun)}", position=0)

    with ThreadPoolExecutor(8) as pool:
        handles = list(pool.map(lambda _: once.begin("me", "k", begin), range(32)))
    assert {handle.id for handle in handles} == {"job-1"} and len(begun) == 1
    assert once.begin("you", "k", begin).id == "job-2" and once.begin("me", "other", begin).id == "job-3"
    assert once.begin("me", None, begin).id == "job-4" and once.begin("me", None, begin).id == "job-5"


def test_what_was_refused_may_be_sent_again() -> None:
    once = Once()

    def refuse() -> JobHandle:
        raise ValueError("no")

    for begin in (refuse, lambda: JobHandle(id="a", position=0)):
        try:
            handle = once.begin("me", "k", begin)
        except ValueError:
            continue
    assert handle.id == "a"


def test_only_the_newest_keys_are_kept() -> None:
    once = Once()
    for number in range(MOST_KEYS + 5):
        once.begin("me", str(number), lambda: JobHandle(id="x", position=0))
    assert len(once._begun) == MOST_KEYS


def test_a_slow_request_holds_up_no_other_key() -> None:
    once, goes_on = Once(), threading.Event()

    def slowly() -> JobHandle:
        goes_on.wait(10)
        return JobHandle(id="slow", position=0)

    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(once.begin, "me", "slow", slowly)
        assert pool.submit(once.begin, "me", "quick", lambda: JobHandle(id="quick", position=0)).result(5).id == "quick"
        goes_on.set()
        assert slow.result(5).id == "slow"
