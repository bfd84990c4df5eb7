"""The page's routes, one module per noun."""
