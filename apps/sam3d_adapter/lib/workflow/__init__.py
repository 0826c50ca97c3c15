"""Cases and labels: review decisions of second readers, marks of cases, leases, what is on whose screen."""
