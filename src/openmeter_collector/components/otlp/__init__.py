"""What inputs and outputs that speak OTLP share: the protocol's records as plain values, and back."""
