"""A laptop-sized Google Cloud: Pub/Sub, Storage, BigQuery, Dataflow and Vertex AI on the loopback address."""
