"""Runs one stage as a process: connects it, pulls its messages into `workers.loop`, and ends it cleanly."""

import argparse
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.api_core import exceptions as google_errors
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.subscriber.scheduler import ThreadScheduler

from messages.topics import subscription_path
from workers import logs, settings
from workers.engine import Engine, Policy
from workers.errors import SettingsError
from workers.intake import Intake, Reader, read_event
from workers.ledger import Ledger
from workers.loop import Loop
from workers.objects import StorageObjects
from workers.pipeline import Catalog
from workers.publisher import PubSubPublisher
from workers.settings import Settings
from workers.sources import StorageSources
from workers.stage import Stage
from workers.storage_rest import StorageRest

__all__ = ["Parts", "read_event", "run_worker"]

EXIT_OK = 0
EXIT_SETTINGS = 2
EXIT_SUBSCRIPTION = 3
_MESSAGE_THREADS = 4
_MESSAGES_HELD = 64  # each is held for the length of a claim, far below a second
# How soon a message comes again from a worker that died before its claim: Pub/Sub's floor, as a claim takes milliseconds.
_LEASE_S = 10
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


def build_parts(options: Settings, worker: str) -> Parts:
    """Connect to what every stage needs."""
    storage = StorageRest(options.storage_endpoint)
    objects = StorageObjects(storage, options.bucket)
    return Parts(
        settings=options,
        objects=objects,
        ledger=Ledger(objects),
        sources=StorageSources(storage),
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
    return _serve(Loop(stage, engine, intake, options), stage, parts)


def _serve(loop: Loop, stage: Stage, parts: Parts) -> int:
    log = logs.logger(stage=stage.name)
    subscriber = pubsub_v1.SubscriberClient()
    path = subscription_path(parts.settings.project, stage.subscription)
    pulling = subscriber.subscribe(
        path,
        callback=loop.on_message,
        flow_control=pubsub_v1.types.FlowControl(
            max_messages=_MESSAGES_HELD,
            min_duration_per_lease_extension=_LEASE_S,
            max_duration_per_lease_extension=_LEASE_S,
        ),
        scheduler=ThreadScheduler(ThreadPoolExecutor(_MESSAGE_THREADS, thread_name_prefix=f"{stage.name}-message")),
        await_callbacks_on_shutdown=True,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.stop())
    # The pull ends by itself only on an error that will not pass, such as a subscription that is not there.
    pulling.add_done_callback(lambda _: loop.stop())
    log.info("ready", subscription=path)
    loop.run()
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
