"""The Beam pipelines that Dataflow, or the local runner, executes. This folder installs alone."""
