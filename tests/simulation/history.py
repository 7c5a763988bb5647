"""One history: a scenario played on the real workers over simulated services until it is quiet, then judged."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.simulation.dataflow import DataflowService, write_dataset
from tests.simulation.faults import Faults, Hit, Key
from tests.simulation.jobs import Job, Jobs
from tests.simulation.network import FAST, SLOW, Network, Trace
from tests.simulation.pubsub import Broker
from tests.simulation.rest import Resource
from tests.simulation.scenario import Run, Scenario
from tests.simulation.scheduler import Process, Scheduler
from tests.simulation.storage import Bucket, WorkerObjects
from tests.simulation.tellers import PIPELINE, Teller
from tests.simulation.vertex import VertexService, put_served, write_model
from tests.simulation.worker import BEGINNING, Make, MemoryCatalog, NewerLedger, Parts, Slot, settings
from workers.engine import Policy
from workers.errors import TransientError
from workers.ledger import Ledger
from workers.pipeline import PipelineSpec

LIMIT_S = 4 * 3600.0  # after the last fault everything has to end within this time
BACKOFF_S = 2.0  # before the second attempt
LOOK_S = 20.0  # how often somebody looks whether all is quiet
_SUBSCRIPTIONS = {"preprocess": "preprocess-worker", "train": "train-worker", "deploy": "deploy-worker"}
Script = dict[Key, Hit]


@dataclass(slots=True)
class World:
    """Everything that the invariants look at."""

    scenario: Scenario
    scheduler: Scheduler
    faults: Faults
    bucket: Bucket
    broker: Broker
    dataflow: Jobs
    vertex: VertexService
    teller: Teller
    slots: list[Slot]
    parts: Parts
    cancelled: dict[str, float] = field(default_factory=dict)  # run id -> when its cancellation was accepted
    told: int = 0  # messages from outside that are still to come, and people who still want to cancel
    calm: int = 0
    ended: bool = False

    @property
    def jobs(self) -> list[Job]:
        return [*self.dataflow.all.values(), *self.vertex.jobs.all.values()]


def build(
    scenario: Scenario, make: Make | None = None, script: Script | None = None, trace: Trace | None = None
) -> World:
    """Return a world in which nothing has happened yet."""
    scheduler, bucket, rng = Scheduler(), Bucket(), random.Random(scenario.seed + 1)
    faults = Faults(scenario.seed + 2, scenario.rate, scenario.kinds, scenario.until, script)
    broker = Broker(scheduler, faults, rng)
    serves_right: dict[str, bool] = {}

    def write_all(job: Job, bad: bool) -> None:
        write_model(bucket, job, bad)
        if not serves_right.get(job.labels["baton-run"], True):
            put_served(bucket, f"{job.output}/model", [7.5], [9.9])

    dataflow = Jobs(
        "dataflow", "DONE", scheduler, faults, rng, bucket, lambda job, bad: write_dataset(bucket, job, bad)
    )
    custom = Jobs("custom", "SUCCEEDED", scheduler, faults, rng, bucket, write_all)
    vertex = VertexService(custom, scheduler, faults, rng, bucket)
    timed: Trace | None = None if trace is None else lambda text: trace(f"{scheduler.now:9.3f} {text}")
    parts = Parts(
        scheduler, faults, rng, bucket, broker, Resource(DataflowService(dataflow, scheduler).handlers()),
        Resource(vertex.handlers()), MemoryCatalog({PIPELINE: _spec(scenario)}), SLOW if scenario.is_slow else FAST, timed,
    )  # fmt: skip
    slots = [
        _slot(parts, make or Make(), scenario, stage, n) for stage in scenario.stages for n in range(scenario.workers)
    ]
    teller = Teller(broker, bucket, _SUBSCRIPTIONS[scenario.stages[0]])
    serves_right.update({teller.run_id(run): run.serves_right for run in scenario.runs})
    return World(scenario, scheduler, faults, bucket, broker, dataflow, vertex, teller, slots, parts)


def play(world: World) -> None:
    """Let the history happen, to its end."""
    scenario, scheduler = world.scenario, world.scheduler
    for slot in world.slots:
        slot.start()
    for run in scenario.runs:
        _plan(world, run)
    for time, which in scenario.nonsense:
        _later(world, time, lambda which=which: world.teller.talk_nonsense(which))
    for time, which in scenario.kills:
        scheduler.at(time, lambda which=which: world.slots[which % len(world.slots)].process.kill())
    world.ended = scheduler.run(lambda: _is_over(world), scenario.until + LIMIT_S, LOOK_S)


def _plan(world: World, run: Run) -> None:
    """Have the run told, and cancelled where the plan says so."""
    ids: list[str] = []

    def tell() -> None:
        ids.append(world.teller.tell(run))

    def cancel() -> None:
        if run.told == "bare" and not ids:
            return  # nobody knows its id yet
        run_id = ids[0] if ids else world.teller.run_id(run)
        world.told += 1
        _canceller(world, run_id)

    for time in run.times:
        _later(world, time, tell)
    if run.cancel_at is not None:
        _later(world, run.cancel_at, cancel)


def _later(world: World, time: float, what: Callable[[], None]) -> None:
    world.told += 1

    def do() -> None:
        what()
        world.told -= 1

    world.scheduler.at(time, do)


def _canceller(world: World, run_id: str) -> None:
    """Cancel as a person does at the command line: again, if it did not work or the command died."""
    parts, scheduler = world.parts, world.scheduler
    process = Process("cli", lambda: scheduler.at(scheduler.now + 5.0, lambda: _canceller(world, run_id)))
    network = Network(scheduler, process, "cli", parts.faults, parts.random, parts.ways, parts.trace)
    ledger = Ledger(WorkerObjects(parts.bucket, network))

    def cancel() -> None:
        while run_id not in world.cancelled:
            try:
                ledger.cancel(run_id, "somebody", BEGINNING)
                world.cancelled[run_id] = scheduler.now
            except TransientError:
                scheduler.sleep(5.0)
        world.told -= 1

    scheduler.spawn(process, cancel)


def _is_over(world: World) -> bool:
    """Tell whether it has been quiet at two looks in a row: late twins and stray requests have had their chance."""
    world.calm = world.calm + 1 if _is_quiet(world) else 0
    return world.calm > 2


def _is_quiet(world: World) -> bool:
    if world.told or world.scheduler.now < world.scenario.until:
        return False
    if not all(delivery.is_settled for delivery in world.broker.deliveries):
        return False
    if not all(slot.is_awake() for slot in world.slots):
        return False
    if any(job.is_active for job in world.jobs) or not all(o.done for o in world.vertex.operations.values()):
        return False
    if unexplained_markers(world) or failed_deployments(world):
        return False
    for name, there in world.bucket.contents.items():
        if name.startswith("cancelling/"):
            return False
        if (
            name.startswith("runs/")
            and b'"state":"published"' not in there.content
            and not name.endswith("cancelled.json")
        ):
            return False
    return True


def unexplained_markers(world: World) -> list[str]:
    """Return the markers of work in flight, but for those of messages that were given up on before their claim.

    Such a message lies in the dead-letter inbox, from where it can be sent again; its marker is then used.
    """
    given_up = {(d.subscription, d.message.id): d for d in world.broker.deliveries if d.is_dead}
    runs = {world.teller.expected.get(message_id) or d.message.attributes.get("ce-subject")
            for (_, message_id), d in given_up.items()}  # fmt: skip
    return [
        name
        for name in world.bucket.names("inflight/")
        if name.rsplit("/", 1)[1] not in runs
        or f"runs/{name.rsplit('/', 1)[1]}/{name.split('/')[1]}.json" in world.bucket.contents
    ]


def failed_deployments(world: World) -> list[str]:
    """Return the deployed models whose rollout did not succeed."""
    found = []
    for endpoint in world.vertex.endpoints.values():
        for id_, body in endpoint.deployed.items():
            run_id = body["displayName"].removeprefix(f"{PIPELINE}-deploy-").rsplit("-a", 1)[0]
            there = world.bucket.contents.get(f"runs/{run_id}/deploy.json")
            if there is None or b'"outcome":"succeeded"' not in there.content:
                found.append(f"{id_} ({body['displayName']})")
    return found


def _slot(parts: Parts, make: Make, scenario: Scenario, stage: str, number: int) -> Slot:
    settle_s = scenario.settles_s[number % len(scenario.settles_s)]
    skew_s = (0.0, 0.2, -0.2)[number % 3]
    policy = Policy(settle_s=settle_s, backoff_first_s=BACKOFF_S)
    if scenario.is_mixed and number % 2 and make.ledger is Ledger:
        make = replace(make, ledger=NewerLedger)
    return Slot(
        f"{stage}-{number}",
        stage,
        parts,
        make,
        settings(
            settle_s=settle_s, sweep_s=scenario.sweep_s, cancel_s=scenario.cancel_s, strays_s=2 * scenario.sweep_s
        ),
        policy,
        skew_s,
    )


def _spec(scenario: Scenario) -> PipelineSpec:
    limits = {"attempts": scenario.attempts, "deadline_s": scenario.deadline_s}
    return PipelineSpec.model_validate(
        {
            "name": PIPELINE,
            "trigger": {"prefix": "incoming/"},
            "preprocess": {"template": "t.json", **limits},
            "train": {"image": "trainer", **limits},
            "deploy": {"image": "serving", "endpoint": "served", **limits},
        }
    )
