"""Block devices: their sizes and users, loop devices, and the signatures on them."""
