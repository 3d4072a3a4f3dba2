"""What the SQL components share: drivers behind one contract, connection fields, query building."""
