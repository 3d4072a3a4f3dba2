"""How streams of bytes become messages."""
