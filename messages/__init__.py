"""The events that travel between stages: types, codec, topic names, and what a bucket notification means.

The bottom of the house: this room imports nothing of ours, and every other room speaks through it.
"""

from messages.codec import Envelope, decode, encode
from messages.errors import DecodeError, Filtered
from messages.events import DataReady, DeployDone, Event, Parameters, PreprocessDone, StageFailed, TrainDone

__all__ = [
    "DataReady",
    "DecodeError",
    "DeployDone",
    "Envelope",
    "Event",
    "Filtered",
    "Parameters",
    "PreprocessDone",
    "StageFailed",
    "TrainDone",
    "decode",
    "encode",
]
