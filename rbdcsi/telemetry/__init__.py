"""How an operator sees the driver: structured logs, Prometheus metrics, named steps.

It may import: `errors`.
"""
