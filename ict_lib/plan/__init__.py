"""What a run would take on this machine or another, before anything is trained."""
