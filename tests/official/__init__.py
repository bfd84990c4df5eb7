"""Our .eim in the hands of Edge Impulse's official clients, unmodified and pinned."""
