"""Who is calling, what may they use, how much: decisions without I/O."""
