"""What a history is about: which stages, how many workers, which runs, and what is to go wrong; all from one seed."""

import random
from dataclasses import dataclass, replace

from tests.simulation.faults import PROCESS, WRITE, Kind

SHAPES = {"preprocess": ("preprocess",), "train": ("train",), "deploy": ("deploy",),
          "chain": ("preprocess", "train", "deploy")}  # fmt: skip
_RATES = (0.0, 0.005, 0.015, 0.04, 0.08)


@dataclass(frozen=True, slots=True)
class Run:
    """One run that is asked for.

    Args:
        times: when it is told; more than once is the same fact told again.
        told: how: our event, a bucket's notification, bare JSON or a trigger file.
        cancel_at: when somebody cancels it, or None.
        serves_right: whether its model answers, once it serves, as it did in training.
    """

    id: str
    times: tuple[float, ...]
    told: str = "event"
    cancel_at: float | None = None
    serves_right: bool = True


@dataclass(frozen=True, slots=True)
class Scenario:
    """One history's plan.

    Args:
        workers: how many worker processes each stage has.
        kills: (when, which slot) of processes that are killed at an instant, whatever they do.
        nonsense: (when, which) of messages that are no events.
        settles_s: per slot: two versions side by side may be set differently.
        is_mixed: whether every other slot runs a newer version, which writes a field that this one does not know.
    """

    seed: int
    shape: str
    workers: int
    runs: tuple[Run, ...]
    rate: float
    kinds: tuple[Kind, ...]
    until: float
    kills: tuple[tuple[float, int], ...] = ()
    nonsense: tuple[tuple[float, int], ...] = ()
    is_slow: bool = False
    attempts: int = 2
    deadline_s: float = 900.0
    settles_s: tuple[float, ...] = (10.0,)
    sweep_s: float = 30.0
    cancel_s: float = 30.0
    is_mixed: bool = False

    @property
    def stages(self) -> tuple[str, ...]:
        return SHAPES[self.shape]


def draw(seed: int) -> Scenario:
    """Return the scenario that belongs to the seed."""
    rng = random.Random(seed)
    shape = rng.choices(tuple(SHAPES), (25, 30, 28, 17))[0]
    until = rng.choice((40.0, 100.0, 200.0, 500.0))
    workers = rng.choice((1, 2, 2, 3))
    runs = tuple(_run(rng, f"r{n + 1}", shape, until) for n in range(rng.choice((1, 1, 2, 3))))
    return Scenario(
        seed=seed,
        shape=shape,
        workers=workers,
        runs=runs,
        rate=rng.choice(_RATES),
        kinds=_kinds(rng),
        until=until,
        kills=tuple((rng.uniform(0, until), rng.randrange(9)) for _ in range(rng.choice((0, 0, 1, 3)))),
        nonsense=tuple((rng.uniform(0, until / 2), rng.randrange(9)) for _ in range(rng.choice((0, 0, 0, 2)))),
        is_slow=rng.random() < 0.25,
        attempts=rng.choice((1, 2, 2, 3)),
        deadline_s=rng.choice((200.0, 900.0)),
        is_mixed=rng.random() < 0.3,
        sweep_s=rng.choice((20.0, 40.0, 60.0)),
        cancel_s=rng.choice((15.0, 60.0, 90.0)),
        settles_s=rng.choice(((10.0,), (10.0,), (10.0, 25.0))),
    )


def draw_crowded(seed: int) -> Scenario:
    """Return another scenario of the seed: three rollouts at once to one endpoint, and mostly workers that are held up."""
    rng = random.Random(f"crowded {seed}")
    runs = tuple(
        Run(
            f"r{number}",
            (rng.uniform(0, 30.0),),
            cancel_at=rng.uniform(0, 700.0) if rng.random() < 0.25 else None,
            serves_right=rng.random() > 0.15,
        )
        for number in range(1, 4)
    )
    return replace(
        draw(seed),
        shape="deploy",
        workers=3,
        runs=runs,
        rate=rng.choice((0.02, 0.04, 0.08)),
        kinds=rng.choice(((Kind.STALL_BEFORE,), (Kind.STALL_BEFORE, Kind.STALL_AFTER), PROCESS, (*PROCESS, *WRITE))),
        until=700.0,
        kills=(),
    )


def _kinds(rng: random.Random) -> tuple[Kind, ...]:
    """Return most of the kinds, or only two or three: then each of them hits often, and upon itself."""
    if rng.random() < 0.6:
        return tuple(kind for kind in Kind if rng.random() < 0.7)
    return tuple(rng.sample(tuple(Kind), rng.choice((2, 3, 4))))


def _run(rng: random.Random, run_id: str, shape: str, until: float) -> Run:
    first = rng.uniform(0, 30.0)
    again = tuple(rng.uniform(first, until) for _ in range(rng.choice((0, 0, 0, 1, 2))))
    told = "event"
    if "preprocess" in SHAPES[shape]:
        told = rng.choice(("event", "event", "notification", "trigger", "bare"))
    return Run(
        id=run_id,
        times=(first, *again) if told != "bare" else (first,),  # bare JSON names no fact: told twice, it is two runs
        told=told,
        cancel_at=rng.uniform(0, rng.choice((60.0, 600.0))) if rng.random() < 0.25 else None,
        serves_right=rng.random() > 0.15,
    )
