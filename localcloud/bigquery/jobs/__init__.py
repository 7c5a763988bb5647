"""Jobs: accepted once per id, run in threads, finished in one commit together with their effect."""
