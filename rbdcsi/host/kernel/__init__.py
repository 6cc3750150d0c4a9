"""Small interfaces of the kernel: sysfs, block device events, control groups, files in memory."""
