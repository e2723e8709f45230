"""What lies in a run folder, and what puts it there."""
