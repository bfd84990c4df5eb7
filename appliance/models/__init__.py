"""Model versions: manifest, signature, parts, and the shelf that holds them."""
