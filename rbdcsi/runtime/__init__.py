"""Time and threads for every layer: deadlines of calls, periodic tasks, the wall clock.

It may import: `telemetry`, `errors`.
"""
