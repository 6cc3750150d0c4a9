"""Pure values and rules: identities, names, sizes, layouts, capabilities, StorageClasses.

Nothing here touches Ceph, the host, a clock or a file. It may import: `errors`.
"""
