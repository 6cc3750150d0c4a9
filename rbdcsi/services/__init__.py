"""The CSI services: a protobuf request in, one call of the domain, a protobuf response out.

Protobuf and gRPC types stop here. It may import: `staging`, `volumes`, `attachments` and below.
"""
