"""The exported model as one file for LiteRT (TensorFlow Lite)."""
