"""What people submitted: labels, clicks, patients and splits."""
