"""Promise 2 as a command: every event is consumed, a duplicate, filtered, dead-lettered, an outcome, or in flight."""
