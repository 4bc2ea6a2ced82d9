"""Where the truth is known: mixtures and their probability flow, section 3.2's point mass, distances in closed form."""
