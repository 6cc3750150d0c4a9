"""A real Kubernetes on one machine: API server, kubelets, containerd, the real sidecars.

`python -m e2e.kubernetes start` makes one; `docs/reports/kubernetes.md` says of what.
"""
