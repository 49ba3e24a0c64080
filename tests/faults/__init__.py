"""Faults of servers, clients and disks, and what promad makes of them."""
