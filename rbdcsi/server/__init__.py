"""The process around the CSI services: wiring, gRPC server, interceptors, health, shutdown.

It may import everything but `cli`.
"""
