"""Files: atomic writes, locks between processes, checksums, private folders."""
