"""What robots observe, what rewards them and what ends their episodes."""
