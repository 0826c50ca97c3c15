"""The server's log: its form, and no patient data in it."""
