"""Where the truth is known: mixtures, their probability flow, section 3.2's point mass, and distances in closed form."""
