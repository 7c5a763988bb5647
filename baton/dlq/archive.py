"""Where dead letters are kept: one object a letter in the pipeline bucket, changed only by compare-and-set.

A subscription holds a message for a month at most, hides it while somebody looks, and can't be searched. So a letter is
written down once, `dead-letters/<key>.json`, and only then acknowledged. What a list shows stands in the object's custom
metadata: ten thousand letters are ten pages of names, not ten thousand reads.

Sources: Cloud Storage "request preconditions"; custom metadata may have 8 KiB an object.
"""

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from google.api_core import exceptions as google_errors
from google.cloud.storage.retry import DEFAULT_RETRY
from pydantic import ValidationError

from baton.dlq.letter import DeadLetter, LetterState
from baton.errors import NotKnown, Refused
from workers.errors import Conflict

PREFIX = "dead-letters/"
ABSENT = 0
_MOST_FORWARDED = 20  # a letter that came back more often than that has its newest arrivals in the list
_REASON_LIMIT = 400  # characters in the list; the letter itself has all of it
_RETRY = DEFAULT_RETRY.with_timeout(30.0)
_TIMEOUT_S = 20
_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")


class Forwarded(NamedTuple):
    """A message that Pub/Sub put aside itself: the queue it came from, when it was published, and its digest."""

    subscription: str
    published: str
    digest: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A letter as a list shows it; see `DeadLetter` for the fields."""

    key: str
    state: LetterState
    topic: str
    run_id: str
    reason: str
    time: datetime
    arrivals: int = 1
    is_edited: bool = False
    forwarded: tuple[Forwarded, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """A letter with the generation it was read or written at."""

    letter: DeadLetter
    generation: int


class Archive:
    """The letters of one bucket.

    Args:
        client: a `google.cloud.storage.Client`.
        bucket: the pipeline bucket's name.
    """

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = client.bucket(bucket)

    def read(self, key: str) -> Kept | None:
        """Return the letter, or None where there is none of that key.

        Raises:
            Refused: the object is there, and is no letter.
        """
        if not _KEY.fullmatch(key):
            return None  # a key from a command line never becomes another object's name
        blob = self._bucket.blob(_name(key))
        try:
            content = blob.download_as_bytes(retry=_RETRY, timeout=_TIMEOUT_S, raw_download=True, checksum=None)
        except google_errors.NotFound:
            return None
        try:
            return Kept(DeadLetter.model_validate_json(content), int(blob.generation or 0))
        except ValidationError as fault:
            told = fault.errors(include_url=False)[0]["msg"]
            place = f"gs://{self._bucket.name}/{_name(key)}"
            raise Refused(f"{place} is no dead letter ({told})", "delete it, or put it right by hand") from fault

    def get(self, key: str) -> Kept:
        """Return the letter.

        Raises:
            NotKnown: there is none of that key.
            Refused: the object is there, and is no letter.
        """
        kept = self.read(key)
        if kept is None:
            place = f"gs://{self._bucket.name}/{PREFIX}"
            raise NotKnown(
                f"dead letter {key!r} is not in {place}", "see `baton dlq ls --state all` for those that are"
            )
        return kept

    def write(self, letter: DeadLetter, generation: int) -> Kept:
        """Write a letter that is at `generation` (`ABSENT` = is not there yet).

        Raises:
            Conflict: somebody else wrote first.
        """
        letter = letter.model_copy(update={"writer": uuid.uuid4().hex})
        blob = self._bucket.blob(_name(letter.key))
        blob.metadata = _metadata(letter)
        try:
            blob.upload_from_string(
                letter.model_dump_json(exclude_none=True).encode(),
                content_type="application/json",
                if_generation_match=generation,
                retry=_RETRY,
                timeout=_TIMEOUT_S,
                checksum=None,
            )
        except google_errors.PreconditionFailed as fault:
            # An answer can be lost and the write be sent again by the client: then the "other" who won is ourselves.
            there = self.read(letter.key)
            if there is not None and there.letter.writer == letter.writer:
                return there
            raise Conflict(_name(letter.key), generation) from fault
        return Kept(letter, int(blob.generation or 0))

    def summaries(self) -> Iterator[Summary]:
        """Yield all letters, in the order of their keys."""
        fields = "items(name,metadata,timeCreated),nextPageToken"
        for blob in self._client.list_blobs(self._bucket, prefix=PREFIX, fields=fields, retry=_RETRY):
            key = blob.name.removeprefix(PREFIX).removesuffix(".json")
            if blob.name.endswith(".json") and _KEY.fullmatch(key):
                yield _summary(key, blob.metadata or {}, blob.time_created)


def _name(key: str) -> str:
    return f"{PREFIX}{key}.json"


def _metadata(letter: DeadLetter) -> dict[str, str]:
    forwarded = [(a.subscription, a.published, a.digest) for a in letter.arrivals if a.by == "pubsub"]
    return {
        "state": letter.state.value,
        "topic": letter.topic,
        "run": letter.run_id,
        "reason": letter.reason[:_REASON_LIMIT],
        "time": letter.time.isoformat(),
        "arrivals": str(len(letter.arrivals)),
        "edited": "yes" if letter.edited else "",
        "forwarded": json.dumps(forwarded[-_MOST_FORWARDED:]) if forwarded else "",
    }


def _summary(key: str, metadata: dict[str, str], created: datetime) -> Summary:
    """Read what `_metadata` wrote; a copy that lost it is listed all the same, and so is what somebody else wrote."""
    try:
        return _read_summary(key, metadata, created)
    except (ValueError, TypeError) as fault:
        return Summary(key, LetterState.OPEN, "", "", f"its metadata in the list cannot be read ({fault})", created)


def _read_summary(key: str, metadata: dict[str, str], created: datetime) -> Summary:
    time, arrivals = metadata.get("time"), metadata.get("arrivals", "")
    return Summary(
        key=key,
        state=LetterState(metadata.get("state", LetterState.OPEN)),
        topic=metadata.get("topic", ""),
        run_id=metadata.get("run", ""),
        reason=metadata.get("reason", ""),
        time=datetime.fromisoformat(time) if time else created,
        arrivals=int(arrivals) if arrivals.isdigit() else 1,
        is_edited=bool(metadata.get("edited")),
        forwarded=tuple(Forwarded(*found) for found in json.loads(metadata.get("forwarded") or "[]")),
    )
