"""What components that read objects of a store share: streams that survive a connection, deletion."""
