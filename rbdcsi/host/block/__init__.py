"""Block devices: their size and users, loop devices, and the signature found on a device."""
