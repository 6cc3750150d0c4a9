"""The CSI services: each method parses a protobuf request, calls the domain once, and responds.

Only this package and `server` use types of protobuf and gRPC.
It may import: `staging`, `volumes`, `attachments` and below.
"""
