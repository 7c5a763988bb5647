"""What the client offers for the day when something went wrong."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from baton.actor import whoami
from baton.audit.auditing import Audit
from baton.audit.report import Report
from baton.backfill.driver import Driver, Standing
from baton.backfill.plan import Plan, check_id, default_id
from baton.backfill.sources import names_in, sources_of
from baton.backfill.store import Store
from baton.connections import Connections, explaining
from baton.dlq.archive import Summary
from baton.dlq.desk import DeadLetters
from baton.dlq.letter import DeadLetter
from baton.dlq.redriving import Redriven
from baton.errors import HasEnded, NotKnown, Refused, RunFailed
from baton.replaying import Export, export_of, plan_replay, require_source
from baton.retrying import plan_retry, retries_of
from baton.runs import Run, RunState
from baton.telling import check, event_of, tell
from messages import DataReady

_LOOK_LOCAL_S = 0.5  # how often a backfill looks at what is in flight
_LOOK_CLOUD_S = 5.0


class Operations(ABC):
    """The part of `baton.Client` for operators."""

    connections: Connections

    @abstractmethod
    def look(self, run_id: str) -> Run:
        """Return one run; one that no worker has claimed yet is there too, as waiting."""

    @abstractmethod
    def publish_data_ready(
        self, source: str, pipeline: str = ..., *, params: Mapping[str, Any] | None = None, run_id: str | None = None
    ) -> str:
        """Say that new data lies at `source`; return the run's id."""

    # -- runs --------------------------------------------------------------------------------------------------------

    def cancel(self, run_id: str, *, unclaimed: bool = False) -> Run:
        """Cancel a run: its job is stopped, no later stage starts, and what a rollout has made is taken back.

        Returns at once; `wait` returns when nothing of it runs any more. Cancelling twice is as good as once.

        Args:
            unclaimed: also a run that no worker has claimed yet: whatever comes under this id will not begin.

        Raises:
            NotKnown: the ledger does not know the run.
            HasEnded: as it says.
        """
        run = self.look(run_id)
        if run.state is RunState.WAITING and not unclaimed:
            mend = "see `baton runs`; to stop one that was just published: baton cancel --unclaimed"
            raise NotKnown(f"run {run_id!r} is not in the ledger", mend)
        if run.state in (RunState.SUCCEEDED, RunState.FAILED):
            raise HasEnded(f"run {run_id} has {run.state.value} already", "there is nothing to cancel")
        with explaining(f"run {run_id}"):
            self.connections.ledger.cancel(run_id, whoami(), datetime.now(UTC))
        return self.look(run_id)

    def retry(self, run_id: str, from_stage: str | None = None) -> str:
        """Try a run again that failed or was cancelled, from the stage that did not succeed; return the new run's id.

        The new run is called `<run>-r2`, `-r3` …; what the earlier stages made is used as it is. The pipeline's TOML counts
        as it is now.

        Args:
            from_stage: preprocess, train or deploy; begin there instead. A run that succeeded needs it.

        Example:
            client.wait(client.retry("births-2022"))
        """
        with explaining(f"run {run_id}"):
            retry = plan_retry(self.look(run_id), self.connections.ledger.stages(run_id), self.look, from_stage)
        event = retry.event.event
        check(self.connections, event)
        tell(self.connections, event, retry.run_id, parent_run=retry.parent)
        return retry.run_id

    def retries(self, run_id: str) -> list[Run]:
        """Return the runs that tried this one again, in their order."""
        return retries_of(self.look(run_id), self.look)

    def export(self, run_id: str) -> Export:
        """Return a past run as a file holds it: its events, and what came of them.

        Example:
            Path("run.json").write_text(client.export("births-2022").model_dump_json(indent=2))
        """
        with explaining(f"run {run_id}"):
            records = self.connections.ledger.stages(run_id)
            return export_of(self.look(run_id), records, f"gs://{self.connections.profile.bucket}")

    def replay(
        self,
        export: Export,
        *,
        from_stage: str | None = None,
        source: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> str:
        """Play a past run again on the local cloud: publish its first recorded event under a new id; return that.

        Args:
            from_stage: begin at this stage's recorded event instead.
            source: read this in place of what the event names.
            params: set these over the recorded ones.

        Raises:
            Refused: this is not a local cloud, or what the event names does not lie in it.

        Example:
            client.replay(client.export("births-2022"))
        """
        if not self.connections.profile.get("PUBSUB_EMULATOR_HOST"):
            mend = (
                "take it along with `baton replay RUN --export FILE`, then `baton replay --file FILE` beside `baton up`"
            )
            raise Refused(
                "a replay runs on the local cloud alone: here it would publish to a project of Google's", mend
            )
        with explaining(f"replay of {export.run_id}"):
            replay = plan_replay(export, self.look, from_stage, source, params)
            check(self.connections, replay.event)
            require_source(self.connections, replay.event)
        tell(self.connections, replay.event, replay.run_id, parent_run=replay.parent)
        return replay.run_id

    def backfill(
        self,
        sources: Sequence[str],
        pipeline: str,
        *,
        concurrency: int = 4,
        params: Mapping[str, Any] | None = None,
        backfill_id: str | None = None,
        retry_failed: bool = False,
        report: Callable[[Standing], None] = lambda _: None,
    ) -> Standing:
        """Run the pipeline on many sources, `concurrency` at a time, and return how they ended.

        The same call again resumes: what has ended is not run again, what is in flight is watched.

        Args:
            sources: URIs, or patterns like `gs://my-data/2022-*.csv`.
            backfill_id: names it; by default a name that follows from pipeline, parameters and sources.
            retry_failed: try those again that ended without a served model.
            report: called with the standing at each look.

        Example:
            client.backfill(["gs://my-data/20*.csv"], "babyweight", concurrency=8).failed
        """
        plan = self.plan_backfill(sources, pipeline, params, backfill_id)
        return self.resume_backfill(plan, concurrency=concurrency, retry_failed=retry_failed, report=report)

    def plan_backfill(
        self,
        sources: Sequence[str],
        pipeline: str,
        params: Mapping[str, Any] | None = None,
        backfill_id: str | None = None,
    ) -> Plan:
        """Write a backfill down without starting it; see `backfill`.

        Raises:
            Refused: a source, the pipeline or a parameter cannot be used, or the id stands for something else.
        """
        with explaining("backfill"):
            found = sources_of(sources, names_in(self.connections))
            event = event_of(DataReady, pipeline, {"source": found[0]}, params)
            check(self.connections, event)
            plan = Plan(
                id=check_id(backfill_id or default_id(pipeline, params or {}, found)),
                pipeline=pipeline,
                params=dict(params or {}),
                sources=tuple(found),
                created=datetime.now(UTC),
                by=whoami(),
            )
            return self.backfills.keep_plan(plan)

    def backfill_standing(self, plan: Plan) -> Standing:
        """Return where a backfill stands, without driving it."""
        with explaining(f"backfill {plan.id}"):
            return self._driver(plan, 1, lambda _: None).standing_now()

    @cached_property
    def backfills(self) -> Store:
        """The backfills of this ledger."""
        return Store(self.connections.objects, whoami())

    def resume_backfill(
        self,
        plan: Plan,
        *,
        concurrency: int = 4,
        retry_failed: bool = False,
        take_over: bool = False,
        report: Callable[[Standing], None] = lambda _: None,
    ) -> Standing:
        """Go on with a backfill that is in the ledger: `client.backfills.plan(id)`; see `backfill`.

        Raises:
            InUse: another terminal drives it.
        """
        with explaining(f"backfill {plan.id}"):
            driver = self._driver(plan, concurrency, report)
            return driver.run(retry_failed=retry_failed, take_over=take_over)

    def cancel_backfill(self, plan: Plan, report: Callable[[Standing], None] = lambda _: None) -> Standing:
        """Cancel a backfill's runs that are in flight, and return when they have ended; what was not started stays so."""
        with explaining(f"backfill {plan.id}"):
            return self._driver(plan, 1, report).cancel()

    def _driver(self, plan: Plan, concurrency: int, report: Callable[[Standing], None]) -> Driver:
        look_s = _LOOK_LOCAL_S if self.connections.profile.get("PUBSUB_EMULATOR_HOST") else _LOOK_CLOUD_S
        return Driver(self, self.connections.objects, self.backfills, plan, concurrency, report, look_s)

    # -- events ------------------------------------------------------------------------------------------------------

    @cached_property
    def dead_letter_desk(self) -> DeadLetters:
        """All that can be done with dead letters; the methods below are the short way."""
        return DeadLetters(self.connections)

    def dead_letters(self, *, reason_contains: str = "", topic: str = "", run_id: str = "") -> list[Summary]:
        """Return the messages that no worker could use and that nobody has sent back yet, the newest first.

        Example:
            for letter in client.dead_letters():
                print(letter.key, letter.reason)
        """
        with explaining("dead letters"):
            self.dead_letter_desk.collect()
            return self.dead_letter_desk.find(reason_contains=reason_contains, topic=topic, run_id=run_id)

    def dead_letter(self, key: str) -> DeadLetter:
        """Return one dead letter, whole: `letter.content.data` and `.attributes`, `letter.arrivals` with the reasons.

        Raises:
            NotKnown: there is none of that key.
        """
        with explaining(f"dead letter {key}"):
            self.dead_letter_desk.collect()
            return self.dead_letter_desk.get(key)

    def redrive(self, *keys: str, anyway: bool = False, again: bool = False) -> list[Redriven]:
        """Send dead letters back to the topic that they came from; twice has one effect.

        Args:
            anyway: also those that the worker would refuse again.
            again: also those that were redriven already.

        Example:
            client.redrive(*(letter.key for letter in client.dead_letters(reason_contains="limt")))
        """
        with explaining("redriving"):
            return list(self.dead_letter_desk.redrive_all(keys, anyway=anyway, again=again))

    def audit(self, wait_s: float = 0.0) -> Report:
        """Account for every event that was published: `report.is_balanced` says whether none is missing.

        Args:
            wait_s: how long to wait, at most, until nothing is in flight any more.

        Example:
            assert client.audit().is_balanced
        """
        with explaining("audit"):
            return Audit(self.connections).until_settled(wait_s)

    def refuse_dead_letter(self, run_id: str) -> None:
        """Look whether the event that should start the run was put aside.

        Raises:
            RunFailed: it was; with the reason that the worker gave.
        """
        for letter in self.dead_letters(run_id=run_id):
            raise RunFailed(
                f"no worker could use the event of run {run_id}: {letter.reason}",
                f"mend it with `baton dlq edit {letter.key}` and send it back with `baton dlq redrive {letter.key}`",
            )
