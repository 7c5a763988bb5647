"""The workers: one module per stage on one shared runtime.

A stage knows its own subscription, its own jobs and the one event it publishes; it does not know who listens. What the
stages share (claim, launch once, watch, publish once) is written once, in `engine` and `intake`, over the ledger.
"""
