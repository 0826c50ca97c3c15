"""Who does what with cases and labels: verdicts of second readers, marks of cases, leases, what is on whose screen."""
