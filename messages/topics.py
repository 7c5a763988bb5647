"""Names of the topics and subscriptions: the doors between rooms.

Every topic that a stage consumes has one subscription, that stage's own queue. What no stage could read goes to
`DEAD_LETTER`, which always has a subscription too: without one, Pub/Sub would drop it.
"""

DATA_READY = "data-ready"
PREPROCESS_DONE = "preprocess-done"
TRAIN_DONE = "train-done"
DEPLOY_DONE = "deploy-done"
STAGE_FAILED = "stage-failed"
DEAD_LETTER = "dead-letter"

TOPICS = (DATA_READY, PREPROCESS_DONE, TRAIN_DONE, DEPLOY_DONE, STAGE_FAILED, DEAD_LETTER)

# subscription -> topic it is attached to
SUBSCRIPTIONS = {
    "preprocess-worker": DATA_READY,
    "train-worker": PREPROCESS_DONE,
    "deploy-worker": TRAIN_DONE,
    "dead-letter-inbox": DEAD_LETTER,
}

DEAD_LETTER_SUBSCRIPTION = "dead-letter-inbox"

# A second subscription to each topic of events, which no worker reads: `baton audit` sees there what was published.
AUDIT_SUBSCRIPTIONS = {f"audit-{topic}": topic for topic in TOPICS if topic != DEAD_LETTER}


def stage_of(subscription: str) -> str:
    """Return the stage whose queue this is: `train` of `train-worker`."""
    return subscription.removesuffix("-worker")


def listeners(topic: str) -> list[str]:
    """Return the stages' queues on a topic; none where its events are outcomes."""
    return [name for name, of in SUBSCRIPTIONS.items() if of == topic and name != DEAD_LETTER_SUBSCRIPTION]


def topic_path(project: str, topic: str) -> str:
    """Return `projects/{project}/topics/{topic}`."""
    return f"projects/{project}/topics/{topic}"


def subscription_path(project: str, subscription: str) -> str:
    """Return `projects/{project}/subscriptions/{subscription}`."""
    return f"projects/{project}/subscriptions/{subscription}"
