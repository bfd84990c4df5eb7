"""What runs all day on the Pi. Knows nothing of Flower or TensorFlow."""

__version__ = "0.1.0"
