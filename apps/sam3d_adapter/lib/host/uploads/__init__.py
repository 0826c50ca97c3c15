"""What clients send as files."""
