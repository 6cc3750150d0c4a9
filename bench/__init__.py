"""`make bench`: the driver beside the floor, the least that gives the same, in one run."""
