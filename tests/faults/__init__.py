"""A misbehaving server of our own for each fault, and what promad does about it."""
