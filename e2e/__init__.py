"""The test bed: what tests, demo and benchmarks run the driver on. Nothing of it is in the driver.

- `clusters`: Ceph clusters by kind, with verbs that freeze, fill and stop them;
- `driver`, `volume`, `pool`: the driver's processes, a volume's way through its calls, and how Ceph
  itself shows a pool;
- `sanity`: csi-sanity; `golang` builds it, and every other program in Go;
- `vm`: virtual machines with kernels of their own, for krbd and nbd;
- `kubernetes`: a whole Kubernetes whose nodes are such machines;
- `release`: the driver's image, the chart, and the tools that check them;
- `demo`: `make demo`.

`processes` starts children that die with their parent, `holder` what is to stay, `leftovers` counts
what a run left behind, `sweep` takes it away, `caches` keeps what is built. It raises errors of its
own (`errors`), never the driver's.
"""
