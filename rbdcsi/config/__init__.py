"""The options of the process and the Ceph clusters it knows, read and checked once at start.

It may import: `telemetry`, `errors`.
"""
