"""Work off the request path: a few threads, progress, time left, cancel; the same question asked twice is one job."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Literal

from dashboard.store import Key, Store
from explainer.errors import Cancelled

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
State = Literal["waiting", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Task:
    """A question: the key its answer is stored under, a title for people, and the work.

    ``lasting`` work goes on when nobody watches (a report); other work is given up once its watchers are gone.
    """

    key: Key
    title: str
    work: Callable[[Progress], Any]
    lasting: bool = False


@dataclass(eq=False)
class Job:
    """One run of a task. ``watchers`` are browsers still waiting for it, with the time they last asked."""

    task: Task
    number: int
    state: State = "waiting"
    done: int = 0
    total: int = 0
    asked: float = 0.0
    started: float | None = None
    ended: float | None = None
    value: Any = None
    error: Exception | None = None
    watchers: dict[str, float] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    finished: threading.Event = field(default_factory=threading.Event)

    @property
    def active(self) -> bool:
        return self.state in ("waiting", "running")

    def seconds(self, now: float) -> float:
        """How long it has run (since asked, while it waits)."""
        since = self.asked if self.started is None else self.started
        return (now if self.ended is None else self.ended) - since

    def left(self, now: float) -> float | None:
        """Seconds left, from the pace so far; None while that cannot be told."""
        if self.state != "running" or not 0 < self.done < self.total:
            return None
        return self.seconds(now) * (self.total - self.done) / self.done


class Jobs:
    """Runs tasks on daemon threads and puts their answers into the store.

    A job belongs to everybody who watches it: one browser that stops waiting withdraws itself only, and the work is
    ended when the last one has withdrawn or has not asked for ``patience`` seconds.
    """

    def __init__(self, store: Store, workers: int = 3, patience: float = 8.0, history: int = 100) -> None:
        self.store = store
        self._workers = workers
        self._patience = patience
        self._history = history
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._jobs: dict[Key, Job] = {}
        self._past: list[Job] = []
        self._threads: list[threading.Thread] = []
        self._count = 0
        self._lock = threading.RLock()
        self._closed = False

    def ask(self, task: Task, watcher: str, wait: float = 0.0, again: bool = False) -> Job:
        """The answer, or the job that works on it (started now if nobody asked before), after at most ``wait`` seconds.

        A job that failed is not run again unless ``again``.
        """
        value = self.store.get(task.key)
        if value is not None:
            return Job(task, 0, "done", value=value)
        with self._lock:
            job = self._jobs.get(task.key)
            if job is None or job.state == "cancelled" or (job.state == "done") or (again and job.state == "failed"):
                job = self._start(task)
            job.watchers[watcher] = time.monotonic()
            job.known.add(watcher)
        if job.active and wait:
            job.finished.wait(wait)
        return job

    def leave(self, key: Key, watcher: str) -> None:
        """``watcher`` no longer waits; the work goes on for the others."""
        with self._lock:
            if key in self._jobs:
                self._jobs[key].watchers.pop(watcher, None)
                self._end_if_alone(self._jobs[key], withdrawn=True)

    def leave_number(self, number: int, watcher: str) -> None:
        """As :meth:`leave`, by the number the jobs page shows; a job this browser never asked for is left alone."""
        for job in self.of(watcher):
            if job.number == number:
                self.leave(job.task.key, watcher)

    def touch(self, watcher: str) -> None:
        """Tell that this browser is still there, for all it waits for."""
        with self._lock:
            for job in self._jobs.values():
                if watcher in job.watchers:
                    job.watchers[watcher] = time.monotonic()

    def of(self, watcher: str) -> list[Job]:
        """What this browser asked for, newest first; other browsers' work is not shown."""
        with self._lock:
            return sorted((j for j in (*self._jobs.values(), *self._past) if watcher in j.known), key=lambda j: -j.number)

    def others(self, watcher: str) -> int:
        """How many jobs run or wait that this browser did not ask for."""
        with self._lock:
            return sum(j.active and watcher not in j.known for j in self._jobs.values())

    def close(self) -> None:
        """Ask everything to stop; running work ends at its next progress report."""
        with self._lock:
            self._closed = True
            for _ in self._threads:
                self._queue.put(None)

    def _start(self, task: Task) -> Job:
        old = self._jobs.pop(task.key, None)
        if old is not None:
            self._past = [*self._past, old][-self._history :]
        self._count += 1
        job = self._jobs[task.key] = Job(task, self._count, asked=time.monotonic())
        self._forget()
        self._queue.put(job)
        if len(self._threads) < self._workers:
            thread = threading.Thread(target=self._serve, name=f"job-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return job

    def _forget(self) -> None:
        """Move ended jobs out of the table, oldest first, so that neither grows without bound."""
        ended = [job for job in self._jobs.values() if not job.active]
        for job in ended[: max(0, len(ended) - self._history)]:
            self._past = [*self._past, self._jobs.pop(job.task.key)][-self._history :]

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            with self._lock:
                if not job.active or self._end_if_alone(job):
                    continue
                job.state, job.started = "running", time.monotonic()
            self._run(job)

    def _run(self, job: Job) -> None:
        def progress(done: int, total: int) -> None:
            job.done, job.total = int(done), int(total)
            if self._end_if_alone(job):
                raise Cancelled("Stopped: nobody waits for it any more.")

        try:
            value = job.task.work(progress)
        except Cancelled:
            self._finish(job, "cancelled")
        except Exception as error:  # the person who asked is shown it; the thread must live on
            log.info("job %r failed", job.task.title, exc_info=True)
            job.error = error
            self._finish(job, "failed")
        else:
            self.store.put(job.task.key, value)
            job.value = value
            self._finish(job, "done")

    def _end_if_alone(self, job: Job, withdrawn: bool = False) -> bool:
        with self._lock:
            now = time.monotonic()
            if not self._closed and any(job.task.lasting or now - seen < self._patience for seen in job.watchers.values()):
                return False
            if job.active and (job.state == "running" or withdrawn or self._closed or not job.watchers or self._abandoned(job, now)):
                self._finish(job, "cancelled")
            return job.state == "cancelled"

    def _abandoned(self, job: Job, now: float) -> bool:
        return all(now - seen >= self._patience for seen in job.watchers.values())

    def _finish(self, job: Job, state: State) -> None:
        with self._lock:
            if job.active:
                job.state, job.ended = state, time.monotonic()
            if job.state != "done":
                job.value = None
            else:
                # The store owns the value from here on; a caller that waits has it already through ask().
                self._jobs.pop(job.task.key, None) if self._jobs.get(job.task.key) is job else None
                self._past = [*self._past, job][-self._history :]
            job.finished.set()
