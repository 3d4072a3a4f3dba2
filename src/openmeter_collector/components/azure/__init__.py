"""What components that speak with Azure share: the client, and blobs as objects of a store."""
