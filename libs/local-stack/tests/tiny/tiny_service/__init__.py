"""The smallest program that the supervisor takes for a service."""
