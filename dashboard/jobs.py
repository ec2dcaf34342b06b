"""Work off the request path: a few threads, progress, time left, cancel; the same question asked twice is one job."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any, Literal

from dashboard.store import Key, Store
from explainer.errors import Cancelled

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
SERVER = "server"  # who asks for what is computed ahead
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
    pace: tuple[float, int] | None = None
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
        if self.state != "running" or self.pace is None or not self.pace[1] < self.done < self.total:
            return None
        since, before = self.pace
        return (now - since) * (self.total - self.done) / (self.done - before)


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
            if job is None or not (job.active or (job.state == "failed" and not again)):
                value = self.store.get(task.key)  # it may have ended since the first look
                if value is not None:
                    return Job(task, 0, "done", value=value)
                job = self._start(task)
            job.watchers[watcher] = time.monotonic()
            job.known.add(watcher)
        if job.active and wait:
            job.finished.wait(wait)
        return job

    def leave(self, key: Key, watcher: str) -> None:
        """``watcher`` no longer waits; the work goes on for the others, and ends when there are none."""
        with self._lock:
            job = self._jobs.get(key)
            if job is not None and job.watchers.pop(watcher, None) is not None and not job.watchers:
                self._finish(job, "cancelled")

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

    def waits(self, key: Key, watcher: str) -> bool:
        """Whether ``watcher`` waits for the job under ``key``, or was told that it failed."""
        with self._lock:
            return key in self._jobs and watcher in self._jobs[key].watchers

    def of(self, watcher: str) -> list[Job]:
        """What this browser asked for, newest first; other browsers' work is not shown."""
        with self._lock:
            return sorted((j for j in (*self._jobs.values(), *self._past) if watcher in j.known), key=lambda j: -j.number)

    def others(self, watcher: str) -> int:
        """How many jobs run or wait that this browser did not ask for."""
        with self._lock:
            return sum(j.active and watcher not in j.known and bool(j.known - {SERVER}) for j in self._jobs.values())

    def close(self) -> None:
        """Ask everything to stop; running work ends at its next progress report."""
        with self._lock:
            self._closed = True
            for _ in self._threads:
                self._queue.put(None)

    def _start(self, task: Task) -> Job:
        old = self._jobs.pop(task.key, None)
        if old is not None:
            self._remember(old)
        self._count += 1
        job = self._jobs[task.key] = Job(task, self._count, asked=time.monotonic())
        self._queue.put(job)
        if len(self._threads) < self._workers:
            thread = threading.Thread(target=self._serve, name=f"job-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return job

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            with self._lock:
                if not job.active:
                    continue
                if self._alone(job):
                    self._finish(job, "cancelled")
                    continue
                job.state, job.started = "running", time.monotonic()
            self._run(job)

    def _run(self, job: Job) -> None:
        def progress(done: int, total: int) -> None:
            with self._lock:
                job.done, job.total = int(done), int(total)
                # The first report sets the clock: what came before it (imports, loading) is no measure of the rest.
                job.pace = job.pace or (time.monotonic(), job.done)
                if job.active and self._alone(job):
                    self._finish(job, "cancelled")
                if not job.active:
                    raise Cancelled("Stopped: nobody waits for it any more.")

        try:
            value = job.task.work(progress)
        except Cancelled:
            self._finish(job, "cancelled")
        except Exception as error:  # the person who asked is shown it; the thread must live on
            log.info("job %r failed", job.task.title, exc_info=True)
            self._finish(job, "failed", error=error)
        else:
            if job.active:  # what came back after a stop is only a part, and nobody waits for it
                self.store.put(job.task.key, value)
                self._finish(job, "done", value=value)

    def _alone(self, job: Job) -> bool:
        """Whether nobody waits any more: all have withdrawn or, for work that is not lasting, have fallen silent."""
        now = time.monotonic()
        return self._closed or not any(job.task.lasting or now - seen < self._patience for seen in job.watchers.values())

    def _finish(self, job: Job, state: State, value: Any = None, error: Exception | None = None) -> None:
        with self._lock:
            if not job.active:
                return
            job.state, job.ended, job.value, job.error = state, time.monotonic(), value, error
            if state != "failed" and self._jobs.get(job.task.key) is job:
                del self._jobs[job.task.key]
                self._remember(job)
            job.finished.set()

    def _remember(self, job: Job) -> None:
        """Keep the line for the jobs page; the value belongs to the store alone."""
        self._past = [*self._past, replace(job, value=None)][-self._history :]
        failed = [old for old in self._jobs.values() if not old.active]
        for old in failed[: max(0, len(failed) - self._history)]:
            del self._jobs[old.task.key]
