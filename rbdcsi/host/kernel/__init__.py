"""Small interfaces of the kernel: sysfs, udev events, control groups, anonymous files."""
