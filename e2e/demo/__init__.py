"""`make demo`: the driver's main job, shown step by step on a Ceph of its own."""
