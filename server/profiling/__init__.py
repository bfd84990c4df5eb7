"""What the model takes: on this machine, measured, and on every camera, as the cameras told."""
