"""Many runs of one pipeline, a few at a time: planned in the ledger, driven from here, resumed by anybody."""
