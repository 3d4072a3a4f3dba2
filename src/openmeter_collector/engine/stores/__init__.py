"""Positions kept in one place for all replicas, guarded by the term of the leader that writes."""
