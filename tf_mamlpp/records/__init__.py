"""What runs leave in their folders, read again.  Imports no TensorFlow."""
