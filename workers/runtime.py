"""Runs one stage as a process: messages in, runs advanced on a few threads, jobs watched, the sweep, a clean end.

The loop owns the schedule and talks to the threads through one queue. Nothing here decides anything about a run: that is
`engine` and `intake`; here is only who calls them when.
"""

import argparse
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.api_core import exceptions as google_errors
from google.cloud import pubsub_v1, storage
from google.cloud.pubsub_v1.subscriber.scheduler import ThreadScheduler

from messages.topics import subscription_path
from workers import logs, settings
from workers.engine import Done, Engine, Later, Next, Policy, Watch
from workers.errors import SettingsError, TransientError
from workers.intake import Fate, Intake, Message, Reader, read_event
from workers.ledger import Ledger
from workers.objects import StorageObjects
from workers.pipeline import Catalog
from workers.publisher import PubSubPublisher
from workers.record import JobRef
from workers.schedule import Schedule, Watched
from workers.settings import Settings
from workers.sources import StorageSources
from workers.stage import JobStatus, Stage

__all__ = ["Parts", "Runtime", "read_event", "run_worker"]

EXIT_OK = 0
EXIT_SETTINGS = 2
EXIT_SUBSCRIPTION = 3
_IDLE_S = 0.5
_TRY_AGAIN_S = 1.0
_MESSAGES_HELD = 64  # each is held for the length of a claim, far below a second
_LEASE_S = 60  # how soon a message comes again from a worker that died before its claim
_STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a stage may be built from."""

    settings: Settings
    objects: StorageObjects
    ledger: Ledger
    sources: StorageSources
    catalog: Catalog
    publisher: PubSubPublisher
    worker: str


Build = Callable[[Parts], tuple[Any, Reader]]


class Runtime:
    """The loop of one worker process."""

    def __init__(self, stage: Stage, engine: Engine, intake: Intake, options: Settings) -> None:
        self._stage = stage
        self._engine = engine
        self._intake = intake
        self._options = options
        self._schedule = Schedule(options.poll_first_s, options.poll_max_s)
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix=f"{stage.name}-advance")
        self._poller = ThreadPoolExecutor(1, thread_name_prefix=f"{stage.name}-poll")
        self._polling = False
        self._stopping = threading.Event()
        self._log = logs.logger(stage=stage.name)

    def on_message(self, message: Any) -> None:
        """Pub/Sub's callback: claim, acknowledge, hand the run to the loop."""
        received = Message(message.data, dict(message.attributes), message.message_id, message.delivery_attempt)
        try:
            disposition = self._intake.accept(received)
        except TransientError as fault:
            self._log.warning("message-given-back", message_id=message.message_id, reason=str(fault))
            message.nack()
            return
        except Exception:  # noqa: BLE001 - the edge of the process
            # A defect of ours must not look like success: the message goes back and, in the end, to the dead letter.
            self._log.exception("message-failed", message_id=message.message_id)
            message.nack()
            return
        message.ack()
        if disposition.fate in (Fate.ACCEPTED, Fate.DUPLICATE):
            self._inbox.put(lambda: self._start(disposition.run_id))

    def run(self) -> None:
        """Work until `stop`."""
        next_sweep = time.monotonic()
        while not self._stopping.is_set():
            now = time.monotonic()
            if now >= next_sweep:
                self._pool.submit(self._sweep)
                next_sweep = now + self._options.sweep_s
            for run_id in self._schedule.due_runs(now):
                self._start(run_id)
            self._poll(now)
            self._take(min(next_sweep, self._schedule.next_due() or next_sweep))
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._poller.shutdown(wait=True, cancel_futures=True)

    def stop(self) -> None:
        """End the loop after the steps in hand; what is left is the sweep's, here or elsewhere."""
        self._stopping.set()
        self._inbox.put(None)

    def _take(self, until: float) -> None:
        timeout_s = min(max(until - time.monotonic(), 0.001), _IDLE_S)
        if self._polling:
            timeout_s = _IDLE_S  # the answer will wake us
        try:
            task = self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return
        while task is not None:
            task()
            try:
                task = self._inbox.get_nowait()
            except queue.Empty:
                return

    # -- advancing ---------------------------------------------------------------------------------------------------

    def _start(self, run_id: str) -> None:
        if self._schedule.begin(run_id):
            self._pool.submit(self._work, run_id, lambda: self._engine.advance(run_id))

    def _work(self, run_id: str, step: Callable[[], Next], before: Watched | None = None) -> None:
        """Make steps on a thread; whatever happens, the loop hears of it."""
        try:
            after = step()
        except TransientError as fault:
            self._log.info("not-yet", run_id=run_id, reason=str(fault))
            after = Later(_TRY_AGAIN_S if fault.retry_after_s is None else fault.retry_after_s)
        except Exception:  # noqa: BLE001 - the edge of a thread: logged, and tried again
            self._log.exception("advance-failed", run_id=run_id)
            after = Later(self._options.sweep_s)
        self._inbox.put(lambda: self._worked(run_id, after, before))

    def _worked(self, run_id: str, after: Next, before: Watched | None) -> None:
        again, now = self._schedule.end(run_id), time.monotonic()
        if again:
            self._start(run_id)
            return
        match after:
            case Later(wait_s):
                self._schedule.wait(run_id, now + wait_s)
            case Watch():
                self._schedule.watch(run_id, after, now, before)
            case Done():
                pass  # the run has left this stage

    # -- watching ----------------------------------------------------------------------------------------------------

    def _poll(self, now: float) -> None:
        if self._polling:
            return
        due = self._schedule.due_jobs(now)
        if due:
            self._polling = True
            self._poller.submit(self._ask, due)

    def _ask(self, due: dict[str, Watched]) -> None:
        """Ask for the state of all due jobs, phase by phase, and hand the answers to the loop."""
        by_phase: dict[int, dict[str, Watched]] = {}
        for run_id, watched in due.items():
            by_phase.setdefault(watched.watch.entry.record.phase, {})[run_id] = watched
        answers: dict[str, JobStatus] = {}
        try:
            for phase, group in by_phase.items():
                jobs: list[JobRef] = [watched.watch.job for watched in group.values()]
                statuses = self._stage.phases[phase].statuses(jobs)
                answers |= {r: statuses[w.watch.job.id] for r, w in group.items() if w.watch.job.id in statuses}
        except TransientError as fault:
            self._log.warning("poll-unanswered", reason=str(fault), jobs=len(due))
        except Exception:  # noqa: BLE001 - the edge of a thread: logged, and tried again
            self._log.exception("poll-failed", jobs=len(due))
        self._inbox.put(lambda: self._asked(due, answers))

    def _asked(self, due: dict[str, Watched], answers: dict[str, JobStatus]) -> None:
        self._polling = False
        now = time.monotonic()
        for run_id, watched in due.items():
            status = answers.get(run_id)
            if status is None:
                self._schedule.watch(run_id, watched.watch, now, watched)
            elif self._schedule.begin(run_id):
                self._pool.submit(self._note, run_id, watched, status)

    def _note(self, run_id: str, watched: Watched, status: JobStatus) -> None:
        """Tell the engine a job's state; one that still runs is asked for again, later than before."""
        self._work(run_id, lambda: self._engine.observe(watched.watch.entry, status), watched)

    def _sweep(self) -> None:
        """Take up every run that has a marker: whatever a dead worker left is carried on here."""
        try:
            marked = list(self._engine.ledger.marked(self._stage.name))
        except TransientError as fault:
            self._log.warning("sweep-unanswered", reason=str(fault))
            return
        except Exception:  # noqa: BLE001 - the edge of a thread: logged, and tried again
            self._log.exception("sweep-failed")
            return
        for run_id in marked:
            self._inbox.put(lambda r=run_id: None if r in self._schedule else self._start(r))  # type: ignore[misc]


def build_parts(options: Settings, worker: str) -> Parts:
    """Connect to what every stage needs."""
    client = storage.Client(project=options.project)
    objects = StorageObjects(client, options.bucket)
    return Parts(
        settings=options,
        objects=objects,
        ledger=Ledger(objects),
        sources=StorageSources(client),
        catalog=Catalog(options.pipelines_dir),
        publisher=PubSubPublisher(options.project),
        worker=worker,
    )


def run_worker(name: str, build: Build) -> int:
    """Run the worker `name` until SIGTERM or SIGINT; return its exit code."""
    arguments = _parser(name).parse_args()
    worker = settings.worker_id()
    logs.configure(arguments.log_level, worker=worker)
    try:
        options = Settings.from_environment()
    except SettingsError as fault:
        logs.logger(stage=name).error("settings", reason=str(fault))
        return EXIT_SETTINGS
    parts = build_parts(options, worker)
    stage, read = build(parts)
    clock = _now
    policy = Policy(settle_s=options.settle_s, backoff_first_s=options.backoff_first_s)
    engine = Engine(stage, parts.ledger, parts.publisher, clock, worker, policy)
    intake = Intake(stage, parts.ledger, parts.publisher, parts.catalog, clock, worker, read)
    return _serve(Runtime(stage, engine, intake, options), stage, parts)


def _serve(runtime: Runtime, stage: Stage, parts: Parts) -> int:
    log = logs.logger(stage=stage.name)
    subscriber = pubsub_v1.SubscriberClient()
    path = subscription_path(parts.settings.project, stage.subscription)
    pulling = subscriber.subscribe(
        path,
        callback=runtime.on_message,
        flow_control=pubsub_v1.types.FlowControl(
            max_messages=_MESSAGES_HELD,
            min_duration_per_lease_extension=_LEASE_S,
            max_duration_per_lease_extension=_LEASE_S,
        ),
        scheduler=ThreadScheduler(ThreadPoolExecutor(4, thread_name_prefix=f"{stage.name}-message")),
        await_callbacks_on_shutdown=True,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runtime.stop())
    # The pull ends by itself only on an error that will not pass, such as a subscription that is not there.
    pulling.add_done_callback(lambda _: runtime.stop())
    log.info("ready", subscription=path)
    runtime.run()
    code = EXIT_OK
    if pulling.done() and (fault := pulling.exception()) is not None:
        mend = "create topics and subscriptions with `baton setup`" if isinstance(fault, google_errors.NotFound) else ""
        log.error("pull-ended", subscription=path, reason=repr(fault), mend=mend)
        code = EXIT_SUBSCRIPTION
    pulling.cancel()
    try:
        pulling.result(timeout=_STOP_S)
    except Exception as fault:  # noqa: BLE001 - we are leaving; said, not raised
        log.info("pull-closed", reason=repr(fault))
    subscriber.close()
    parts.publisher.close()
    log.info("stopped")
    return code


def _now() -> datetime:
    return datetime.now(UTC)


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m workers.{name}",
        description=f"The {name} worker: listens, launches a job, watches it, publishes the next event.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="settings (environment variables):\n"
        + settings.help_text()
        + f"\n\nexit codes: {EXIT_OK} stopped, {EXIT_SETTINGS} bad setting, {EXIT_SUBSCRIPTION} subscription unusable"
        + f"\n\nexamples:\n  GOOGLE_CLOUD_PROJECT=my-project BATON_BUCKET=my-bucket python -m workers.{name}\n"
        + "  baton up            # the local cloud and all workers",
    )
    parser.add_argument("--log-level", choices=sorted(logs.LEVELS), default="info")
    return parser
