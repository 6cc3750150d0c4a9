"""The driver's output for operators: structured logs, Prometheus metrics, named steps.

It may import: `errors`.
"""
