"""Looking into topics and subscriptions: what waits there, what is published, and dropping it."""
