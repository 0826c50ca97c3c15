"""How good a task's masks are: a simulated user, metrics, statistics, and what is written of them."""
