"""The night shift on the Pi: features, head training and the Flower client."""
