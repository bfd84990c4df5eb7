"""A whole site on one machine: server, cameras, one night. Real parts, but for the sensor: folders of pictures."""
