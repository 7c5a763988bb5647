"""Serve one trained model over HTTP by Vertex AI's custom-container contract, locally and in the cloud.

Start it as `python -m serving`. It runs the LiteRT file that the training job exported and never imports TensorFlow,
which keeps a start under a second and an answer under a millisecond.
"""
