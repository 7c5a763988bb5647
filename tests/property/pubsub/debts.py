"""The nouns of the model: messages, what is owed of each, and what subscriptions are asked to do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.property.pubsub.model import Subscription


class Status(Enum):
    """What a subscription owes for one message."""

    OWED = "it must come until it is acked"
    PENDING = "acked before an earlier message of its key: it counts once that one is acked"
    MAYBE = "it may come and need not"
    DONE = "it must not come"


@dataclass(eq=False, slots=True)
class Message:
    """A published message. A dead letter has no id until it is seen."""

    data: bytes
    attributes: dict[str, str]
    key: str
    published_s: float
    message_id: str = ""


@dataclass(slots=True)
class Lease:
    """A delivery in somebody's hands. Not `is_firm`: it may have ended already, without our knowing."""

    ack_id: str
    deadline_s: float
    is_firm: bool = True


@dataclass(eq=False, slots=True)
class Debt:
    """One message as one subscription sees it."""

    message: Message
    status: Status = Status.OWED
    lease: Lease | None = None
    not_before_s: float = 0.0
    surely_from_s: float = 0.0
    failures_low: int = 0
    failures_high: int = 0
    is_durable: bool = False
    deliveries: int = 0


@dataclass(frozen=True, slots=True)
class Config:
    """What a subscription is asked to do. Durations in seconds; `retry` is (minimum, maximum) backoff."""

    is_ordered: bool = False
    is_exactly_once: bool = False
    filter: str = ""
    matches: Callable[[Mapping[str, str]], bool] = lambda attributes: True
    dead_letter_topic: str = ""
    max_attempts: int = 5
    retry: tuple[float, float] | None = None
    retention_s: float = 7 * 86_400
    retains_acked: bool = False
    ack_deadline_s: float = 10


@dataclass(eq=False, slots=True)
class Topic:
    """A topic; another one of the same name is another topic."""

    name: str
    subscriptions: list["Subscription"] = field(default_factory=list)
    log: list[Message] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Snapshot:
    """What a subscription owed at a moment."""

    topic: Topic
    statuses: dict[Message, Status]
    known: set[Message]
