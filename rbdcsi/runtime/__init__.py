"""Time and threads for every layer: deadlines of calls, periodic work, the wall clock.

It may import: `telemetry`, `errors`.
"""
