"""How the tasks are put together from the presets and the server's ``--conf`` values."""
