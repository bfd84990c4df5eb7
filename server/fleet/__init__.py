"""The fleet page: what people and joining cameras reach over HTTPS."""
