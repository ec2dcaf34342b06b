from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dashboard.jobs import Job, Jobs, Task
from dashboard.store import Store
from explainer.errors import Cancelled, InvalidInput


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    made = Jobs(Store(), workers=2, patience=0.4)
    yield made
    made.close()


def _until(told: Callable[[], Any], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not told():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def _endless(started: threading.Event | None = None) -> Callable[[Any], Any]:
    def work(progress: Any) -> None:
        if started is not None:
            started.set()
        for k in range(100_000):
            progress(k, 100_000)
            time.sleep(0.005)

    return work


def test_the_answer_goes_to_the_store_and_is_then_instant(jobs: Jobs) -> None:
    calls: list[int] = []
    task = Task(("k",), "sum", lambda progress: calls.append(1) or 42)
    assert jobs.ask(task, "me", wait=5).value == 42
    again = jobs.ask(task, "you")
    assert (again.state, again.value) == ("done", 42)
    assert calls == [1]


def test_the_same_question_twice_is_one_job(jobs: Jobs) -> None:
    gate, calls = threading.Event(), []

    def work(progress: Any) -> str:
        calls.append(1)
        gate.wait(5)
        return "answer"

    first = jobs.ask(Task(("k",), "t", work), "me")
    second = jobs.ask(Task(("k",), "t", work), "you")
    assert first is second
    gate.set()
    assert jobs.ask(Task(("k",), "t", work), "me", wait=5).value == "answer"
    assert calls == [1]


def test_a_job_that_ends_between_two_looks_is_not_begun_again(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    task = Task(("k",), "t", lambda progress: calls.append(1) or 42)
    assert jobs.ask(task, "me", wait=5).value == 42
    kept, looks = jobs.store.get, iter([None])
    monkeypatch.setattr(jobs.store, "get", lambda key: next(looks, kept(key)))  # at the first look it had not ended
    assert jobs.ask(task, "you", wait=5).value == 42
    assert calls == [1]


def test_one_who_stops_does_not_stop_it_for_another(jobs: Jobs) -> None:
    started = threading.Event()
    task = Task(("k",), "t", _endless(started), lasting=True)
    job = jobs.ask(task, "me")
    jobs.ask(task, "you")
    started.wait(5)
    jobs.leave(("k",), "me")
    time.sleep(0.1)
    assert job.state == "running"
    jobs.leave(("k",), "you")
    assert job.state == "cancelled"


def test_work_ends_when_its_last_watcher_withdraws_and_can_be_asked_again(jobs: Jobs) -> None:
    ended = threading.Event()

    def work(progress: Any) -> None:
        try:
            _endless()(progress)
        finally:
            ended.set()

    first = jobs.ask(Task(("k",), "t", work), "me")
    _until(lambda: first.state == "running")
    jobs.leave(("k",), "me")
    assert ended.wait(5), "the work went on"
    second = jobs.ask(Task(("k",), "t", work), "me")
    assert second is not first and second.active


def test_the_part_that_work_gives_back_when_it_is_stopped_is_not_stored(jobs: Jobs) -> None:
    given = threading.Event()

    def work(progress: Any) -> str:
        try:
            _endless()(progress)
        except Cancelled:
            given.set()
        return "a part"

    job = jobs.ask(Task(("k",), "t", work), "me")
    _until(lambda: job.state == "running")
    jobs.leave(("k",), "me")
    assert given.wait(5)
    time.sleep(0.1)
    assert job.state == "cancelled" and jobs.store.get(("k",)) is None


def test_work_nobody_asks_about_any_more_is_given_up(jobs: Jobs) -> None:
    job = jobs.ask(Task(("k",), "t", _endless()), "gone")
    _until(lambda: job.state == "cancelled")


def test_asking_keeps_it_alive_and_so_does_touching(jobs: Jobs) -> None:
    task = Task(("k",), "t", _endless())
    job = jobs.ask(task, "me")
    for k in range(8):
        time.sleep(0.15)
        jobs.ask(task, "me") if k % 2 else jobs.touch("me")
    assert job.state == "running"


def test_lasting_work_goes_on_unwatched(jobs: Jobs) -> None:
    def work(progress: Any) -> str:
        for k in range(30):
            progress(k, 30)
            time.sleep(0.03)
        return "report"

    task = Task(("k",), "t", work, lasting=True)
    jobs.ask(task, "me")
    _until(lambda: jobs.store.get(("k",)) == "report")


def test_waiting_work_that_was_given_up_never_starts(jobs: Jobs) -> None:
    gates = [threading.Event() for _ in range(2)]
    for k, gate in enumerate(gates):
        jobs.ask(Task((k,), "block", lambda progress, gate=gate: gate.wait(5)), "me")
    ran: list[int] = []
    queued = jobs.ask(Task(("q",), "queued", lambda progress: ran.append(1)), "you")
    assert queued.state == "waiting"
    jobs.leave(("q",), "you")
    for gate in gates:
        gate.set()
    time.sleep(0.2)
    assert queued.state == "cancelled" and ran == []


def test_a_failure_is_told_and_not_repeated_until_asked(jobs: Jobs) -> None:
    calls: list[int] = []

    def work(progress: Any) -> Any:
        calls.append(1)
        raise InvalidInput("The text is empty.")

    task = Task(("k",), "t", work)
    job = jobs.ask(task, "me", wait=5)
    assert job.state == "failed" and str(job.error) == "The text is empty."
    assert jobs.ask(task, "me").state == "failed" and calls == [1]
    jobs.ask(task, "me", wait=5, again=True)
    assert calls == [1, 1]


def test_a_failing_job_does_not_take_its_thread_along(jobs: Jobs) -> None:
    for k in range(4):
        assert jobs.ask(Task((k,), "t", lambda progress: 1 / 0), "me", wait=5).state == "failed"
    assert jobs.ask(Task(("good",), "t", lambda progress: "fine"), "me", wait=5).value == "fine"


def test_time_left_follows_the_pace() -> None:
    job = Job(Task(("k",), "t", lambda progress: None), 1, "running", done=25, total=100, started=20.0, pace=(100.0, 5))
    assert job.left(now=110.0) == pytest.approx(10.0 * 75 / 20)
    job.done = 5
    assert job.left(now=110.0) is None  # nothing is known of the pace yet


def test_a_browser_sees_its_own_jobs_only_and_cannot_stop_others(jobs: Jobs) -> None:
    mine = jobs.ask(Task(("mine",), "m", _endless(), lasting=True), "me")
    theirs = jobs.ask(Task(("theirs",), "t", _endless(), lasting=True), "them")
    assert jobs.of("me") == [mine]
    assert jobs.others("me") == 1
    jobs.leave_number(theirs.number, "me")
    jobs.leave(("theirs",), "me")
    time.sleep(0.05)
    assert theirs.active
    jobs.leave_number(mine.number, "me")
    assert mine.state == "cancelled"
    assert [job.state for job in jobs.of("me")] == ["cancelled"]


def test_the_list_of_past_jobs_holds_no_results(jobs: Jobs) -> None:
    jobs.ask(Task(("k",), "t", lambda progress: "large"), "me", wait=5)
    assert [(job.state, job.value) for job in jobs.of("me")] == [("done", None)]


def test_closing_ends_running_work() -> None:
    jobs = Jobs(Store(), workers=1, patience=60)
    job = jobs.ask(Task(("k",), "t", _endless(), lasting=True), "me")
    _until(lambda: job.state == "running")
    jobs.close()
    _until(lambda: job.state == "cancelled")
