"""The options of the process and the configured Ceph clusters, read and checked once at start.

It may import: `telemetry`, `errors`.
"""
