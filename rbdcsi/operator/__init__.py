"""What a person asks of the driver, by Ceph alone: lists, verbs for lost nodes, and the doctor.

`reading` reads a whole cluster into `facts`, past damage; the lists and the doctor's rules work on
these. `release` and `fences` change something. It may import: `staging`, `volumes`, `attachments`,
`nodes`, `ceph` and below, not the services or the server.
"""
