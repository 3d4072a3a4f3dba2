"""Leader election: who of several replicas fetches, and how the others are kept from writing."""
