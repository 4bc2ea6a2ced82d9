"""Measurements of speed and memory that anyone can repeat: ``make bench`` on a CPU, ``make bench-gpu`` on a GPU."""
