"""A thin client of the Kubernetes API: lists in pages, watches, leases; no library, no cache.

Shared by the inputs that read from a cluster, by leader election and by positions kept in a cluster.
"""
