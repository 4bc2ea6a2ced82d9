"""What a run takes and how fast a machine is: planned before (plan), measured (bench), and lost to rounding."""
