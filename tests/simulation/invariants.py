"""What must hold at the end of every history, however it went. Each check returns what is wrong, in a sentence."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

from messages.topics import DEAD_LETTER
from tests.simulation.faults import HOLDS
from tests.simulation.history import BACKOFF_S, World, unexplained_markers
from tests.simulation.jobs import Job
from tests.simulation.network import NET_S
from tests.simulation.worker import BEGINNING, NEWER_FIELD, NewerLedger
from workers.record import Outcome, StageRecord, State

# A request that took longer was held up by a frozen or stalled worker between its last look and its deed.
_LONGEST_WAY_S = NET_S + 0.01
_SKEW_S = 1.0
_LONGEST_TRY_S = 60.0  # as `workers.launching` counts a try
_CAUSES = ("job-failed", "job-vanished", "deadline", "bad-output")  # what fates of jobs and models lead to
_WORTH_ANOTHER = ("job-failed", "job-vanished", "deadline")  # as the jobs here fail
_SHORTEST_PAUSE_S = BACKOFF_S * 0.75 - 0.4  # the jitter, and two clocks that differ
_FATES = {"dead-letter": [{"dead-lettered"}], "filtered": [{"filtered"}]}
_STAGE_OF = {"preprocess-worker": "preprocess", "train-worker": "train", "deploy-worker": "deploy"}
Check = Callable[[World], Iterator[str]]


def judge(world: World) -> list[str]:
    """Return everything that is wrong with the history, each with the name of the promise that it breaks."""
    return [f"{check.__name__}: {wrong}" for check in CHECKS for wrong in check(world)]


def records(world: World) -> list[StageRecord]:
    """Return all records of the ledger."""
    names = [n for n in world.bucket.names("runs/") if not n.endswith("/cancelled.json")]
    return [StageRecord.from_json(world.bucket.contents[name].content) for name in names]


def everything_ends(world: World) -> Iterator[str]:
    """Once the faults stop, the history comes to rest."""
    if world.ended:
        return
    yield f"not at rest after {world.scheduler.now:.0f} s"
    for record in records(world):
        if record.state is not State.PUBLISHED:
            yield f"{record.stage} of {record.run_id} is still {record.state}: {record.history[-1]}"
    for delivery in world.broker.deliveries:
        if not delivery.is_settled:
            yield f"message {delivery.message.id} is still in flight on {delivery.subscription}"


def nothing_was_unexpected(world: World) -> Iterator[str]:
    """The workers met no error that their authors did not think of."""
    yield from world.parts.errors


def one_effective_job(world: World) -> Iterator[str]:
    """One job per run, stage and attempt; a second one only where a worker slept between look and deed, and cancelled."""
    for (run_id, stage, attempt), jobs in _by_attempt(world).items():
        punctual = [job for job in jobs if job.way <= _LONGEST_WAY_S]
        if len(punctual) > 1:
            yield f"{stage} of {run_id}, attempt {attempt}: launched {len(punctual)} times: {_ids(punctual)}"
        succeeded = [j for j in jobs if j.state in ("DONE", "SUCCEEDED") and j.way <= _LONGEST_WAY_S]
        if len(succeeded) > 1:
            yield f"{stage} of {run_id}, attempt {attempt}: {len(succeeded)} jobs succeeded: {_ids(succeeded)}"


def records_name_their_own_jobs(world: World) -> Iterator[str]:
    """A stage watches the job that was launched for just this run, stage and attempt."""
    jobs = {job.id: job for job in world.jobs}
    for record in records(world):
        for step in record.history:
            job = jobs.get(step.job_id) if step.state is State.RUNNING else None
            mine = (record.run_id, record.stage, str(step.attempt))
            if job is not None and mine != tuple(job.labels[f"baton-{key}"] for key in ("run", "stage", "attempt")):
                yield f"{record.stage} of {record.run_id}, attempt {step.attempt}, took {job.id} ({job.name}) for its own"


def one_attempt_at_a_time(world: World) -> Iterator[str]:
    """An attempt begins when the one before it has ended.

    Where one of its jobs was made late there may be two, and either may be the one that nobody counts on: it runs until its
    maker sees the other, or the search for strays stops it (`no_orphans`).
    """
    by_attempt = _by_attempt(world)
    for (run_id, stage, attempt), jobs in by_attempt.items():
        earlier = by_attempt.get((run_id, stage, attempt - 1), [])
        is_punctual = all(before.way <= _LONGEST_WAY_S for before in earlier)
        for before in earlier:
            for job in jobs:
                if is_punctual and job.created < before.ended_at:
                    yield (
                        f"{stage} of {run_id}: attempt {attempt} ({job.id}) began at {job.created:.1f}, "
                        f"{before.id} of the attempt before ended at {before.ended_at:.1f}"
                    )


def no_orphans(world: World) -> Iterator[str]:
    """No job is left running, and none that nobody recorded came to its natural end."""
    for job in world.jobs:
        if job.is_active:
            yield f"job {job.id} ({job.name}) is left {job.state}"


def one_outcome(world: World) -> Iterator[str]:
    """Each stage of each run ends in just one published outcome."""
    told: dict[str, set[tuple[str, bytes]]] = defaultdict(set)
    for message in world.broker.published:
        if "CloudPubSubDeadLetterSourceSubscription" not in message.attributes:
            told[message.attributes.get("ce-id", "")].add((message.topic, message.data))
    for record in records(world):
        if not record.trigger.id:
            continue  # closed without a claim, in a cancelled run: nothing to tell
        ids = {end: f"{record.run_id}.{record.stage}.{end}" for end in ("done", "failed")}
        outcomes = {end: told.get(id_, set()) for end, id_ in ids.items()}
        if sum(len(contents) for contents in outcomes.values()) != 1:
            yield f"{record.stage} of {record.run_id} has the outcomes {outcomes}, not one"
        elif bool(outcomes["done"]) != (record.outcome is Outcome.SUCCEEDED):
            yield f"{record.stage} of {record.run_id} ended {record.outcome} but told {outcomes}"


def every_event_is_accounted_for(world: World) -> Iterator[str]:
    """Each message ended consumed, a duplicate, filtered or dead-lettered, and nothing was acknowledged into the void."""
    known = {(record.run_id, record.stage) for record in records(world)}
    buried = {
        m.attributes.get("baton-dead-letter-message-id") for m in world.broker.published if m.topic == DEAD_LETTER
    }
    for delivery in world.broker.deliveries:
        message, stage = delivery.message, _STAGE_OF[delivery.subscription]
        expected = world.teller.expected.get(message.id) or message.attributes.get("ce-subject", "")
        if delivery.is_dead or expected == "filtered":
            continue
        if expected == "dead-letter":
            if message.id not in buried:
                yield f"message {message.id} was no event, but there is no dead letter of it"
        elif (expected, stage) not in known and f"runs/{expected}/cancelled.json" not in world.bucket.contents:
            yield f"message {message.id} was acknowledged, but {stage} of {expected} is in no record"


def the_ledger_tells_every_fate(world: World) -> Iterator[str]:
    """A message that was acknowledged is named in the record that it claimed, or has a note; `baton audit` counts them."""
    claimed = {(record.trigger.message_id, record.stage) for record in records(world)}
    for delivery in world.broker.deliveries:
        message, stage = delivery.message, _STAGE_OF[delivery.subscription]
        if delivery.is_dead:  # Pub/Sub itself gave it up
            continue
        note = world.bucket.contents.get(f"fates/{delivery.subscription}/{message.id}.json")
        told = {json.loads(note.content)["fate"]} if note else set[str]()
        if (message.id, stage) in claimed:
            told.add("accepted")
        expected = world.teller.expected.get(message.id) or message.attributes.get("ce-subject", "")
        allowed = _FATES.get(expected, [{"accepted"}, {"duplicate"}])
        if expected in world.cancelled:  # it may have been looked at twice at once, just before and just after
            allowed = [*allowed, {"filtered"}, {"accepted", "filtered"}]
        if told not in allowed:
            yield f"message {message.id} for {stage} ({expected}) was acked; the ledger says {told or 'nothing'} of it"


def each_claim_is_of_one_message(world: World) -> Iterator[str]:
    """Of all messages that tell of one stage of a run, just one is the one that was consumed; the others are duplicates."""
    told = {(d.message.id, _STAGE_OF[d.subscription]) for d in world.broker.deliveries}
    for record in records(world):
        if record.trigger.id and (record.trigger.message_id, record.stage) not in told:
            yield f"{record.stage} of {record.run_id} was claimed by {record.trigger.message_id}, which is no message of it"


def newer_fields_survive(world: World) -> Iterator[str]:
    """What a newer version of the workers wrote is still there after this version has moved the record."""
    for record in records(world):
        claimer = next(slot for slot in world.slots if record.history[0].by.startswith(f"{slot.name}."))
        if claimer.make.ledger is NewerLedger and getattr(record, NEWER_FIELD, None) != record.run_id:
            yield f"{record.stage} of {record.run_id} has lost the field of a newer version"


def failures_have_causes(world: World) -> Iterator[str]:
    """No stage fails of what the workers do to each other: nobody here refuses a request, or stops a job by hand.

    A worker that is held up again and again for longer than the stage's deadline in all gives its launch up, and says so.
    """
    vanished = {job.id for job in world.jobs if job.vanished_at is not None}
    for record in records(world):
        if record.outcome is not Outcome.FAILED or record.failure is None:
            continue
        reason, job = record.failure.reason, record.job.id if record.job else ""
        if reason == "launch-deadline" and _held_up_s(world, record.stage) > world.scenario.deadline_s:
            continue
        if reason not in _CAUSES or (reason == "job-vanished" and job not in vanished):
            yield f"{record.stage} of {record.run_id} failed for no cause: {record.failure}"


def _held_up_s(world: World, stage: str) -> float:
    """Return how long the stage's workers were frozen or stalled, each time as long as a try counts at most."""
    hits = [hit for key, hit in world.faults.happened.items() if key.actor.startswith(f"{stage}-")]
    return sum(min(hit.seconds, _LONGEST_TRY_S) for hit in hits if hit.kind in HOLDS)


def attempts_are_used_and_no_more(world: World) -> Iterator[str]:
    """As many as the pipeline allows, each a pause after the one before; a stage that could be tried again does not fail."""
    allowed = world.scenario.attempts
    for record in records(world):
        where = f"{record.stage} of {record.run_id}"
        if record.attempt > allowed:
            yield f"{where} is at attempt {record.attempt}, of {allowed}"
        reason = record.failure.reason if record.failure and record.outcome is Outcome.FAILED else ""
        if reason in _WORTH_ANOTHER and record.attempt < allowed:
            yield f"{where} gave up at attempt {record.attempt} of {allowed}: {reason}"
    by_attempt = _by_attempt(world)
    for (run_id, stage, attempt), jobs in by_attempt.items():
        # The one that counted may be that of two which came late: the pause is one after the first end of any.
        before = [job.ended_at for job in by_attempt.get((run_id, stage, attempt - 1), [])]
        for job in jobs:
            if before and job.created < min(before) + _SHORTEST_PAUSE_S:
                yield f"{stage} of {run_id}: attempt {attempt} came {job.created - min(before):.2f} s after the one before"


def nothing_is_cancelled_unasked(world: World) -> Iterator[str]:
    """A stage ends as cancelled only where somebody cancelled its run."""
    for record in records(world):
        if record.outcome is Outcome.CANCELLED and record.run_id not in world.cancelled:
            yield f"{record.stage} of {record.run_id} was cancelled by nobody"


def no_marker_is_left(world: World) -> Iterator[str]:
    """The index of work in flight is empty in the end."""
    for name in unexplained_markers(world):
        yield f"marker {name} was left behind"


def cancelled_means_stopped(world: World) -> Iterator[str]:
    """A cancelled run starts nothing more."""
    for record in records(world):
        at = world.cancelled.get(record.run_id)
        if at is None:
            continue
        claimed = (record.history[0].time - BEGINNING).total_seconds()
        mine = [
            j for j in world.jobs if j.labels["baton-run"] == record.run_id and j.labels["baton-stage"] == record.stage
        ]
        if claimed > at + _SKEW_S and (mine or record.outcome is not Outcome.CANCELLED):
            yield f"{record.stage} of {record.run_id} began at {claimed:.1f} though cancelled at {at:.1f}: {_ids(mine)}"
        for job in mine:
            if job.created - job.way > at + 30.0:
                yield f"job {job.id} was launched at {job.created:.1f}, though the run was cancelled at {at:.1f}"


def rollouts_take_turns(world: World) -> Iterator[str]:
    """At most one run at a time works on the endpoint's deployments."""
    spans = sorted(span for record in records(world) if record.stage == "deploy" for span in _spans(record))
    for (_, end, run_id), (start, _, other) in pairwise(spans):
        if start < end - _SKEW_S and run_id != other:
            yield f"rollouts of {run_id} (until {end:.1f}) and {other} (from {start:.1f}) overlap"


def the_last_rollout_serves(world: World) -> Iterator[str]:
    """Traffic goes to the model of the last rollout that succeeded; the one before it is still there to go back to."""
    done = sorted(
        (record for record in records(world) if record.stage == "deploy" and record.outcome is Outcome.SUCCEEDED),
        key=lambda record: next(step.time for step in record.history if step.state is State.FINISHED),
    )
    deployed = {record.run_id: record.yields["deploy"]["deployed_model_id"] for record in done}
    for endpoint in world.vertex.endpoints.values():
        serving = {id_: percent for id_, percent in endpoint.split.items() if percent}
        wanted = {deployed[done[-1].run_id]: 100} if done else {}
        if serving != wanted:
            yield f"traffic is {serving}, the last rollout that succeeded wants {wanted}"
        kept = {deployed[record.run_id] for record in done[-2:]}
        for id_ in kept - endpoint.deployed.keys():
            yield f"deployed model {id_} is gone, though it serves or is the way back"
        for id_, body in endpoint.deployed.items():
            is_excused = id_ in deployed.values() and id_ in world.vertex.stuck  # the next rollout tries again
            if id_ not in kept and body["way"] <= _LONGEST_WAY_S and not is_excused:
                yield f"deployed model {id_} ({body['displayName']}) was left behind"


def _spans(record: StageRecord) -> Iterator[tuple[float, float, str]]:
    start = None
    for step in record.history:
        if start is None and step.phase == "deploy":
            start = (step.time - BEGINNING).total_seconds()
        if step.state is State.FINISHED and start is not None:
            yield start, (step.time - BEGINNING).total_seconds(), record.run_id


def _by_attempt(world: World) -> dict[tuple[str, str, int], list[Job]]:
    found: dict[tuple[str, str, int], list[Job]] = defaultdict(list)
    for job in world.jobs:
        found[job.labels["baton-run"], job.labels["baton-stage"], int(job.labels["baton-attempt"])].append(job)
    return found


def _ids(jobs: list[Job]) -> str:
    return ", ".join(f"{job.id} ({job.state}, created {job.created:.1f}, way {job.way:.1f} s)" for job in jobs)


CHECKS: tuple[Check, ...] = (
    everything_ends,
    nothing_was_unexpected,
    one_effective_job,
    records_name_their_own_jobs,
    one_attempt_at_a_time,
    no_orphans,
    one_outcome,
    every_event_is_accounted_for,
    the_ledger_tells_every_fate,
    each_claim_is_of_one_message,
    failures_have_causes,
    attempts_are_used_and_no_more,
    newer_fields_survive,
    no_marker_is_left,
    cancelled_means_stopped,
    nothing_is_cancelled_unasked,
    rollouts_take_turns,
    the_last_rollout_serves,
)
