"""The training loop: interactions with a simulated user, several processes, a state to resume from."""
