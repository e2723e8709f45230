"""What a window of experience gave: rollout, advantages, critic, statistics."""
