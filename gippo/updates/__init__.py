"""Ways to move an actor: what they are given, steps along gradients, retried fits and ascents."""
