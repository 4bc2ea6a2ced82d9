"""How good samples are: torch-fidelity's metrics, and exact distances where the truth is known."""
