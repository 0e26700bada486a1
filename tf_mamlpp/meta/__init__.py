"""The algorithm: MAML and MAML++ on any Keras model."""
