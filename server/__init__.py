"""The site's server: the fleet's keys, its nights, its models."""
