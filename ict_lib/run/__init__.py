"""Execute a run, and read what it leaves."""
