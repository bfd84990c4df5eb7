"""Edge Impulse Studio, by its official SDK: profiles, builds for Linux, model testing. Off until a key is set."""
