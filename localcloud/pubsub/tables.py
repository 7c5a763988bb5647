"""The tables on disk. A change of their form is a new `FORMAT`: an older file is then refused, not misread."""

FORMAT = 1

TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS topics (
    no INTEGER PRIMARY KEY, name TEXT NOT NULL, config BLOB NOT NULL, is_deleted INTEGER NOT NULL);

CREATE TABLE IF NOT EXISTS subscriptions (
    no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, topic_no INTEGER NOT NULL, config BLOB NOT NULL,
    start INTEGER NOT NULL, cursor INTEGER NOT NULL, active_us INTEGER NOT NULL);

-- id: topic number << 40 | sequence number
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY, published_us INTEGER NOT NULL, ordering_key TEXT, body BLOB NOT NULL);

-- messages acked out of order: those after the subscription's cursor
CREATE TABLE IF NOT EXISTS acks (
    sub_no INTEGER, seq INTEGER, PRIMARY KEY (sub_no, seq)) WITHOUT ROWID;

-- running leases of exactly-once subscriptions
CREATE TABLE IF NOT EXISTS leases (
    sub_no INTEGER, seq INTEGER, deadline_us INTEGER NOT NULL, ack_id TEXT NOT NULL,
    PRIMARY KEY (sub_no, seq)) WITHOUT ROWID;

-- how often the delivery of a message has failed, kept for the dead-letter policy
CREATE TABLE IF NOT EXISTS failures (
    sub_no INTEGER, seq INTEGER, count INTEGER NOT NULL, PRIMARY KEY (sub_no, seq)) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS snapshots (
    no INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, topic_no INTEGER NOT NULL, config BLOB NOT NULL,
    cursor INTEGER NOT NULL);

CREATE TABLE IF NOT EXISTS snapshot_acks (
    snapshot_no INTEGER, seq INTEGER, PRIMARY KEY (snapshot_no, seq)) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS schemas (
    name TEXT NOT NULL, revision_id TEXT NOT NULL, no INTEGER NOT NULL, config BLOB NOT NULL,
    PRIMARY KEY (name, revision_id)) WITHOUT ROWID;
"""
