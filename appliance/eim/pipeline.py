"""Keeps the model busy: while it works on one picture, the answer about the one before is written down and sent.

Three threads: the caller's, which reads requests; one that does nothing but run the model; one that finishes answers.
The model's runtime lets go of Python's lock while it works, so the other two cost it nothing.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Pipeline(Generic[Job, Result]):
    """Runs jobs one after the other, in their order, and finishes each while the next one runs.

    Args:
        run: The model's part; an exception becomes the result.
        finish: The rest; its own exceptions end the pipeline and come out of :meth:`drain`.
    """

    def __init__(self, run: Callable[[Job], Result], finish: Callable[[Job, Result | Exception], None]) -> None:
        self._run = run
        self._finish = finish
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Job, Result | Exception] | None] = queue.SimpleQueue()
        self._idle = threading.Condition()
        self._under_way = 0
        self._failure: Exception | None = None
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._run_all, self._finish_all)]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Take a job; returns at once."""
        with self._idle:
            self._under_way += 1
        self._jobs.put(job)

    def drain(self) -> None:
        """Wait until every job is finished.

        Raises:
            Exception: What ``finish`` raised.
        """
        with self._idle:
            self._idle.wait_for(lambda: self._under_way == 0 or self._failure is not None)
            if self._failure:
                raise self._failure

    def close(self) -> None:
        """Let what is under way come to its end, and end."""
        self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _run_all(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                result: Result | Exception = self._run(job)
            except Exception as error:  # noqa: BLE001  # handed on: whoever asked is told
                result = error
            self._done.put((job, result))
        self._done.put(None)

    def _finish_all(self) -> None:
        while (done := self._done.get()) is not None:
            try:
                if self._failure is None:
                    self._finish(*done)
            except Exception as error:  # noqa: BLE001  # comes out of drain()
                self._failure = error
            with self._idle:
                self._under_way -= 1
                self._idle.notify_all()
