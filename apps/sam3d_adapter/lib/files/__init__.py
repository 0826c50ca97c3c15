"""Files: written whole or not at all, locked between processes."""
