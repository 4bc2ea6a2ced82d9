"""Raw networks F(x, c_noise, label): no scalings inside."""
