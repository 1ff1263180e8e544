"""How good it is: agreement, sampling audits, suspicion, and the forensics of labelers."""
