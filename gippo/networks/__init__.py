"""Networks, their gradients, their Adam steps, and the native passes that speed them up."""
