"""Execute a run, and read what it leaves. Nothing is loaded here: a mistake is refused before torch is."""
